"""The short form of the simulation, and that nothing of the ledger is left out of it.

`make simulate` is the long form. A failure prints its seed: `python tests/simulation/run.py --seed S --rounds 1`, with
the number of runs and steps given here, runs it again.
"""

import pytest

from feiqian.testing.simulation.machine import machine_of, simulate
from feiqian.testing.simulation.world import LAYERED, MEMORY, STORE, parts, record_rules, registry, rules, trigger_rules

RUNS, STEPS = 120, 120
SEED = 20_261_122
"""The short form plays the same runs each time, so that a change of the rules alone can fail it; `make simulate` draws
fresh seeds."""


@pytest.mark.slow
@pytest.mark.parametrize("modes", [(MEMORY,), (LAYERED, STORE)], ids=["in memory", "on disk"])
def test_ledger_and_plain_model_agree_on_random_blocks(modes: tuple[str, ...]) -> None:
    seed = SEED
    print(f"shortened form: seed {seed}, {RUNS} runs of up to {STEPS} steps, state {' and '.join(modes)}")
    simulate(seed, RUNS, STEPS, *modes)


def test_every_module_message_trigger_and_table_takes_part() -> None:
    """A new message, trigger or table without its part in `modules/<name>/tests/simulation.py` fails here."""
    known = registry()
    assert set(parts()) == {module.name for module in known.modules}
    assert set(rules()) == set(known.handlers)
    assert set(trigger_rules()) == set(known.triggers)
    assert set(record_rules()) == set(known.tables)
    steps = {tag.replace(".", "_") for tag in known.message_types}
    assert steps <= set(dir(machine_of())), "each message type is a step of the state machine"


def test_who_must_sign_is_what_the_messages_claim() -> None:
    """The model's claims are written by hand; the opening of every run has at least one message of each module."""
    from feiqian.testing.simulation.world import World

    world = World(MEMORY)
    for part in parts().values():
        for message in [] if part.opening is None else part.opening(world.names):
            claims = tuple((claim.account, claim.asset, claim.amount_minor) for claim in message.claims())
            assert rules()[type(message)].claims(message) == claims
    world.close()
