"""The short form of the simulation, and that nothing of the ledger is left out; `make simulate` is the long form."""

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from feiqian.modules.assets.messages import BatchLeg, BatchTransfer, Define
from feiqian.modules.governance.messages import ParameterChange, Propose, ScheduleUpgrade, SetParameters, Vote
from feiqian.testing.simulation.book import Book
from feiqian.testing.simulation.machine import machine_of, simulate
from feiqian.testing.simulation.model import Refusal, Run
from feiqian.testing.simulation.world import LAYERED, MEMORY, STORE, parts, record_rules, registry, rules, trigger_rules

RUN = Path(__file__).with_name("run.py")
SEED = 20_261_122
"""The short form plays the same runs each time, so that a change of the code alone can fail it; `make simulate` draws
fresh seeds."""


@pytest.mark.slow
@pytest.mark.parametrize("state", [(MEMORY,), (LAYERED, STORE)], ids=["in memory", "on disk"])
def test_ledger_and_plain_model_agree_on_random_blocks(state: tuple[str, ...]) -> None:
    """What a failure prints ends with the command that plays the same run again."""
    command = [sys.executable, str(RUN), "--runs", "100", "--seed", str(SEED), "--steps", "120", "--state", *state]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture
def run() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run", RUN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("state", "named"), [([], ""), (["--state", STORE, LAYERED], " --state store layered")])
def test_a_failure_ends_with_the_command_that_plays_it_again(
    run: ModuleType, state: list[str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    played: list[tuple[int, int, tuple[str, ...]]] = []

    def play(seed: int, steps: int, *modes: str) -> None:
        played.append((seed, steps, modes))
        assert seed < 8, "the ledger and the model differ"

    monkeypatch.setattr(run, "simulate", play)
    again = f"python tests/simulation/run.py --runs 1 --seed 8 --steps 50{named}"
    for arguments in (["--seed", "7", "--runs", "3", "--steps", "50", *state], again.split()[2:]):
        with pytest.raises(AssertionError, match="differ") as failed:
            run.main(arguments)
        assert failed.value.__notes__ == [f"To play it again: {again}"]
    modes = tuple(state[1:])
    assert played == [(7, 50, modes), (8, 50, modes), (8, 50, modes)]


def test_a_failure_shrinks_to_the_steps_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is shown of a run of 60 steps is its start, its end, and the one definition that the model has wrong."""

    def refuse_all(run: Run, message: Define) -> None:
        raise Refusal("assets", 99)

    def play() -> None:
        for place in range(20):
            simulate(SEED + place, 60, MEMORY)

    monkeypatch.setitem(rules(), Define, replace(rules()[Define], apply=refuse_all))
    with pytest.raises(AssertionError, match=r"result: ledger \| model") as failed:
        play()
    lines = "\n".join(failed.value.__notes__).splitlines()
    steps = [line.partition("(")[0] for line in lines if line.startswith("state.")]
    assert steps[0] == "state.found"
    assert steps[-1] == "state.teardown"
    assert len(steps) <= 6, steps


def test_every_module_message_trigger_and_table_takes_part() -> None:
    """A new message, trigger or table without its part in `modules/<name>/tests/simulation.py` fails here."""
    known = registry()
    assert set(parts()) == {module.name for module in known.modules}
    assert set(rules()) == set(known.handlers)
    assert set(trigger_rules()) == set(known.triggers)
    assert set(record_rules()) == set(known.tables)
    steps = {tag.replace(".", "_") for tag in known.message_types}
    assert steps <= set(dir(machine_of())), "each message type is a step of the state machine"


def test_a_rejection_decides_in_the_model_as_on_the_ledger() -> None:
    """Where fewer approvals are needed than when they were given; what it would carry out may be impossible by then."""
    book = Book()
    mint, north, south, watch = (book.names[name] for name in ("mint", "north", "south", "watch"))
    three, two = (SetParameters((ParameterChange("approvals_needed", number),)) for number in (3, 2))
    book.block(book.done(Propose(mint, three, "")))
    book.block(book.done(Vote(north, book.open_proposals()[0], True)))
    actions = (ScheduleUpgrade(500, 2), ScheduleUpgrade(600, 2), two)
    book.block(*[book.done(Propose(mint, action, "")) for action in actions])
    first, second, lowering = book.open_proposals()
    book.block(*[book.done(Vote(north, proposal, True)) for proposal in (first, second, lowering)])
    book.block(book.done(Vote(south, lowering, True)))
    book.block(book.done(Vote(watch, first, False)), book.refused("governance", 19, Vote(watch, second, False)))
    assert book.world.model.upgrade == {"height": 500, "version": 2}
    book.world.close()


def test_a_block_runs_by_the_limits_that_stood_at_its_start() -> None:
    book = Book()
    mint, north, mill, shop = (book.names[name] for name in ("mint", "north", "mill", "shop"))
    alone, more = (
        SetParameters((ParameterChange(name, value),))
        for name, value in (("approvals_needed", 1), ("sponsor_block_bytes", 2**18))
    )
    book.block(book.done(Propose(mint, alone, "")))
    book.block(book.done(Vote(north, book.open_proposals()[0], True)))
    # About 100 KiB: one goes into the 128 KiB that a sponsor has at first, two go into 256 KiB.
    large = BatchTransfer(mill, "OIL", (BatchLeg(shop, 1, bytes(64)),) * 1_000)
    book.block(book.done(Propose(mint, more, "")), book.refused("ledger", 19, large), book.refused("ledger", 41, large))
    book.block(book.refused("ledger", 19, large), book.refused("ledger", 19, large))
    book.world.close()


def test_who_must_sign_is_what_the_messages_claim() -> None:
    """The model's claims are written by hand; the opening of every run has at least one message of each module."""
    from feiqian.testing.simulation.world import World

    world = World(MEMORY)
    for part in parts().values():
        for message in [] if part.opening is None else part.opening(world.names):
            claims = tuple((claim.account, claim.asset, claim.amount_minor) for claim in message.claims())
            assert rules()[type(message)].claims(message) == claims
    world.close()
