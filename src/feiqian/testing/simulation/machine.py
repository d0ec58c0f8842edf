"""The state machine: one rule for each message type of the registry, found and not listed, and rules for time."""

import os
import random
from typing import Any

from hypothesis import HealthCheck, Phase, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from feiqian.core.signatures import PublicKey
from feiqian.execution.registry import tag_of
from feiqian.ledger.context import Message
from feiqian.ledger.validators import DUPLICATE_VOTE, LIGHT_CLIENT_ATTACK, Misbehaviour
from feiqian.testing.simulation import reference
from feiqian.testing.simulation.consortium import NETWORK_KEYS
from feiqian.testing.simulation.model import wanted_signers
from feiqian.testing.simulation.picking import PUBLIC_KEYS, Pick
from feiqian.testing.simulation.world import LAYERED, MEMORY, STORE, Sent, World, parts, registry, rules

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
PAUSES_MS = (1, 1_000, 2_000, 7_000)
JUMPS_MS = (60_001, HOUR_MS, 6 * HOUR_MS, DAY_MS, 2 * DAY_MS + 1, 400 * DAY_MS)
SOURCES = st.binary(min_size=4, max_size=4)
"""What a step's choices follow from: drawn evenly, while of integers Hypothesis has its favourites."""
EXPIRIES_MS = (55_000, 60_000, 61_000, 500, 90_000, 0)


class SimulationMachine(RuleBasedStateMachine):
    """Random transactions in random blocks. Rules for messages are added by `machine_of`."""

    modes: tuple[str, ...] = (MEMORY, MEMORY, LAYERED, STORE)

    @initialize(source=SOURCES)
    def found(self, source: bytes) -> None:
        """Start a ledger of one of the modes."""
        self.world = World(self.modes[source[0] % len(self.modes)])
        self.world.open_business()
        self.queue: list[Sent] = []
        self.history: list[Sent] = []

    @rule(source=SOURCES)
    def replay(self, source: bytes) -> None:
        """Send again what was sent before, as it was, or signed by others, or with a broken signature."""
        if self.history and not self.world.has_stopped:
            pick = self._pick(source)
            self._add(pick, self._other_copy(pick))

    @rule(jump_ms=st.sampled_from(JUMPS_MS), source=SOURCES)
    def pass_time(self, jump_ms: int, source: bytes) -> None:
        """Let hours or days go by, so that holds, approvals and proposals expire, some while they are asked for."""
        self._run(1_000, is_proposed=False)
        if not self.world.has_stopped:
            pick = self._pick(source)
            types = list(rules())
            self.queue = [self._transaction(pick, pick.one(types), jump_ms) for _ in range(pick.integer(0, 5))]
        self._run(jump_ms, is_proposed=False)

    @rule(source=SOURCES)
    def accuse(self, source: bytes) -> None:
        """Run what waits in a block that proves misbehaviour of validators, some of it proved before."""
        if self.world.has_stopped:
            return
        pick = self._pick(source)
        keys = [*NETWORK_KEYS.values()]
        proved = tuple(
            Misbehaviour(
                pick.one((DUPLICATE_VOTE, DUPLICATE_VOTE, LIGHT_CLIENT_ATTACK)),
                reference.comet_address(pick.one(keys)),
                pick.integer(1, 3),
                self.world.time_ms,
                pick.integer(1, 30),
            )
            for _ in range(pick.integer(1, 2))
        )
        self._run(1_000, is_proposed=pick.flag(), misbehaviour=proved)

    @rule(source=SOURCES)
    def crowd(self, source: bytes) -> None:
        """Send more than a block holds, and more than a sponsor may put into it."""
        large = [part.crowd for part in parts().values() if part.crowd is not None]
        if self.world.has_stopped or not large:
            return
        pick = self._pick(source)
        for _ in range(pick.integer(4, 14)):
            sent = self.world.send([pick.one(large)(pick)], expires_in_ms=EXPIRIES_MS[0])
            self.queue.append(sent)
        self._run(1_000, is_proposed=pick.flag())

    @rule(count=st.integers(1, 3))
    def idle(self, count: int) -> None:
        """Make blocks of what waits, then of nothing but due triggers."""
        for _ in range(count):
            self._run(1, is_proposed=False)

    def send(self, source: bytes, message_type: type[Message]) -> None:
        """Send a transaction that starts with a message of this type, perhaps others; perhaps end the block there."""
        if self.world.has_stopped:
            return
        pick = self._pick(source)
        self._add(pick, self._transaction(pick, message_type))
        while pick.rarely(6):
            self._add(pick, self._transaction(pick, pick.one(list(rules()))))

    def teardown(self) -> None:
        """Run what still waits."""
        if hasattr(self, "queue"):
            try:
                self._run(1, is_proposed=False)
            finally:
                self.world.close()

    def _add(self, pick: Pick, sent: Sent) -> None:
        note(f"  {sent!r}")
        self.queue.append(sent)
        self.history = [*self.history[-30:], sent]
        if pick.rarely(4) or len(self.queue) >= 12:
            self._run(pick.one(PAUSES_MS), is_proposed=pick.rarely(3))

    def _run(self, after_ms: int, *, is_proposed: bool, misbehaviour: tuple[Misbehaviour, ...] = ()) -> None:
        queue, self.queue = self.queue, []
        note(f"  block of {len(queue)} after {after_ms} ms {misbehaviour or ''}")
        self.world.run_block(queue, after_ms, misbehaviour=misbehaviour, is_proposed=is_proposed)

    def _pick(self, source: bytes) -> Pick:
        """Return choices that follow from the step's own source alone, so that a run shrinks step by step."""
        world = self.world
        return Pick(random.Random(source), world.model, world.names, _any_message, world.time_ms)

    def _transaction(self, pick: Pick, message_type: type[Message], ahead_ms: int = 0) -> Sent:
        messages = [rules()[message_type].draw(pick)]
        if pick.rarely(3):
            messages += [_any_message(pick) for _ in range(pick.integer(1, 3))]
        signers = wanted_signers(self.world.model, rules(), messages)
        if pick.rarely():
            signers = _other_signers(pick, signers)
        sponsor = pick.member() if pick.rarely() else None
        expires_in_ms = pick.one(EXPIRIES_MS) if pick.rarely(2) else EXPIRIES_MS[0]
        return self.world.send(messages, signers[:16], sponsor=sponsor, expires_in_ms=ahead_ms + expires_in_ms)

    def _other_copy(self, pick: Pick) -> Sent:
        sent = pick.one(self.history)
        kind = pick.integer(0, 3)
        if kind == 0:
            return sent
        if kind == 1:
            return self.world.forged(sent)
        if kind == 2:
            return self.world.signed_by(
                sent, wanted_signers(self.world.model, rules(), sent.messages) or PUBLIC_KEYS[:1]
            )
        return self.world.signed_by(sent, _other_signers(pick, sorted(sent.signers, key=lambda key: key.data)))


def _any_message(pick: Pick) -> Message:
    types = list(rules())
    return rules()[pick.one(types)].draw(pick)


def _other_signers(pick: Pick, signers: list[PublicKey]) -> list[PublicKey]:
    """Return signers with one left out, one added, or all others."""
    kind = pick.integer(0, 2)
    if kind == 0 and len(signers) > 1:
        return signers[1:]
    if kind == 1:
        return list(dict.fromkeys([*signers, pick.one(PUBLIC_KEYS)]))
    return [pick.one(PUBLIC_KEYS)]


def machine_of(*modes: str) -> type[SimulationMachine]:
    """Return the machine with one rule for each message type, for runs of these modes (all, if none is given)."""

    def rule_of(message_type: type[Message]) -> Any:
        def step(self: SimulationMachine, source: bytes) -> None:
            self.send(source, message_type)

        step.__name__ = tag_of(message_type).replace(".", "_")
        return rule(source=SOURCES)(step)

    steps = {tag.replace(".", "_"): rule_of(type_) for tag, type_ in sorted(registry().message_types.items())}
    members = {**steps, "modes": modes or SimulationMachine.modes, "__doc__": SimulationMachine.__doc__}
    return type("Simulation", (SimulationMachine,), members)


def simulate(seed_: int, steps: int, *modes: str) -> None:
    """Make one run of at most so many steps. The seed decides everything; a failure is shrunk and printed.

    Raises:
        AssertionError: the ledger and the model differ, or an invariant is broken.
    """
    machine = seed(seed_)(machine_of(*modes))
    how = settings(
        max_examples=2,  # the shortest run of all, then a random one; further ones would be variants of that one
        stateful_step_count=steps,
        deadline=None,
        derandomize=False,
        database=None,
        print_blob=True,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink) if "NO_SHRINK" not in os.environ else (Phase.generate,),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    )
    run_state_machine_as_test(machine, settings=how)


def fresh_seed() -> int:
    """Return a seed that nobody chose."""
    return random.SystemRandom().randrange(2**32)
