"""Any sequence of messages against a plain model of who has what; a batch against the same transfers one by one."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from feiqian.core.errors import InvalidTransaction
from feiqian.ledger.events import HoldExpired
from feiqian.ledger.holds import ExpireHold
from feiqian.modules.assets.messages import (
    BatchLeg,
    BatchTransfer,
    ForcedTransfer,
    ForcedVoidHold,
    Freeze,
    Issue,
    PlaceHold,
    PostHold,
    Redeem,
    Release,
    Transfer,
    VoidHold,
)

EUR = "EUR.harbour-bank"
HOLDERS = ("ada", "bo", "cy")
CAP_MINOR = 1_000_000
MINUTE_MS = 60_000

holders = st.sampled_from(HOLDERS)
amounts = st.one_of(st.integers(1, 400_00), st.integers(1, CAP_MINOR), st.sampled_from([1, 2**62]))
batches = st.lists(st.tuples(holders, st.integers(1, 300_00)), min_size=1, max_size=8)


def accepted(world, message) -> bool:
    before = dict(world.state.written)
    try:
        world.run(message)
    except InvalidTransaction:
        assert world.state.written == before
        return False
    return True


@pytest.mark.parametrize("limits", [(None, None), (150_00, None), (None, 400_00), (150_00, 400_00)])
def test_a_batch_is_its_transfers_one_by_one(new_bare_world, limits):
    @settings(max_examples=25, deadline=None)
    @given(
        legs=st.lists(st.tuples(st.sampled_from(["bo", "cy"]), st.integers(1, 200_00)), min_size=1, max_size=6),
        frozen=st.sampled_from([None, None, *HOLDERS]),
    )
    def compare(legs, frozen):
        one, other = new_bare_world(), new_bare_world()
        for world in (one, other):
            world.run(world.definition(transfer_limit_minor=limits[0], daily_limit_minor=limits[1]))
            world.run(Issue(world["vault"], world["ada"], EUR, 500_00, b""))
            if frozen is not None:
                world.run(Freeze(world["court"], world[frozen], EUR, "FRAUD"))
        start = one.posted("vault", *HOLDERS)
        batch = tuple(BatchLeg(one[payee], amount_minor, b"") for payee, amount_minor in legs)
        is_batch_done = accepted(one, BatchTransfer(one["ada"], EUR, batch))
        singles = [Transfer(other["ada"], other[payee], EUR, amount_minor, b"") for payee, amount_minor in legs]
        are_singles_done = all(accepted(other, single) for single in singles)
        assert is_batch_done == are_singles_done
        assert one.posted("vault", *HOLDERS) == (other.posted("vault", *HOLDERS) if is_batch_done else start)

    compare()


class Model(RuleBasedStateMachine):
    """EUR of harbour-bank, capped at 10,000.00: what each holder has, what is held for whom, who is frozen."""

    def __init__(self):
        super().__init__()
        self.world = self.new_world()
        self.world.run(self.world.definition())
        self.posted = Counter(dict.fromkeys(("vault", *HOLDERS), 0))
        self.frozen: set[str] = set()
        self.holds: dict[bytes, list] = {}

    def new_world(self) -> Any:
        raise NotImplementedError

    def available(self, name):
        return self.posted[name] - sum(hold[2] for hold in self.holds.values() if hold[0] == name)

    def expect(self, message, is_allowed):
        assert accepted(self.world, message) == is_allowed
        return is_allowed

    def move(self, payer, payee, amount_minor):
        self.posted[payer] -= amount_minor
        self.posted[payee] += amount_minor

    @rule(payee=holders, amount_minor=amounts)
    def issue(self, payee, amount_minor):
        message = Issue(self.world["vault"], self.world[payee], EUR, amount_minor, b"")
        if self.expect(message, payee not in self.frozen and amount_minor - self.posted["vault"] <= CAP_MINOR):
            self.move("vault", payee, amount_minor)

    @rule(holder=holders, amount_minor=amounts)
    def redeem(self, holder, amount_minor):
        message = Redeem(self.world[holder], EUR, amount_minor, b"")
        if self.expect(message, holder not in self.frozen and amount_minor <= self.available(holder)):
            self.move(holder, "vault", amount_minor)

    @rule(payer=holders, payee=holders, amount_minor=amounts)
    def transfer(self, payer, payee, amount_minor):
        message = Transfer(self.world[payer], self.world[payee], EUR, amount_minor, b"")
        may_move = payer != payee and not self.frozen & {payer, payee}
        if self.expect(message, may_move and amount_minor <= self.available(payer)):
            self.move(payer, payee, amount_minor)

    @rule(payer=holders, legs=batches)
    def batch(self, payer, legs):
        batch = tuple(BatchLeg(self.world[payee], amount_minor, b"") for payee, amount_minor in legs)
        payees = {payee for payee, _ in legs}
        may_move = payer not in payees and not self.frozen & {payer, *payees}
        total = sum(amount_minor for _, amount_minor in legs)
        if self.expect(BatchTransfer(self.world[payer], EUR, batch), may_move and total <= self.available(payer)):
            for payee, amount_minor in legs:
                self.move(payer, payee, amount_minor)

    @rule(payer=holders, payee=holders, amount_minor=amounts)
    def force(self, payer, payee, amount_minor):
        accounts = (self.world["court"], self.world[payer], self.world[payee])
        message = ForcedTransfer(*accounts, EUR, amount_minor, "COURT_ORDER", b"")
        if self.expect(message, payer != payee and amount_minor <= self.available(payer)):
            self.move(payer, payee, amount_minor)

    @rule(holder=holders)
    def freeze(self, holder):
        message = Freeze(self.world["court"], self.world[holder], EUR, "FRAUD")
        if self.expect(message, holder not in self.frozen):
            self.frozen.add(holder)

    @rule(holder=holders)
    def release(self, holder):
        message = Release(self.world["court"], self.world[holder], EUR, "ORDER_LIFTED")
        if self.expect(message, holder in self.frozen):
            self.frozen.remove(holder)

    @rule(payer=holders, payee=holders, amount_minor=amounts, minutes=st.integers(0, 5))
    def place(self, payer, payee, amount_minor, minutes):
        expires_at_ms = self.world.time_ms + minutes * MINUTE_MS
        message = PlaceHold(self.world[payer], self.world[payee], EUR, amount_minor, expires_at_ms, b"")
        may_hold = payer != payee and payer not in self.frozen and minutes > 0
        is_allowed = may_hold and amount_minor <= self.available(payer)
        if not is_allowed:
            self.expect(message, False)
            return
        self.holds[self.world.run(message)[-1].hold] = [payer, payee, amount_minor, expires_at_ms]

    @rule(place=st.integers(0, 3), amount_minor=st.integers(1, 300_00), is_final=st.booleans(), by=holders)
    def post(self, place, amount_minor, is_final, by):
        if place >= len(self.holds):
            return
        hold_id = list(self.holds)[place]
        payer, payee, held_minor, _ = self.holds[hold_id]
        message = PostHold(hold_id, self.world[by], EUR, amount_minor, is_final)
        may_post = by == payee and not self.frozen & {payer, payee}
        if self.expect(message, may_post and amount_minor <= held_minor):
            self.move(payer, payee, amount_minor)
            self.holds[hold_id][2] -= amount_minor
            if is_final or amount_minor == held_minor:
                del self.holds[hold_id]

    @rule(place=st.integers(0, 3), by=st.sampled_from([*HOLDERS, "court"]))
    def void(self, place, by):
        if place >= len(self.holds):
            return
        hold_id = list(self.holds)[place]
        if by == "court":
            message, is_allowed = ForcedVoidHold(self.world["court"], hold_id, EUR, "INSOLVENCY"), True
        else:
            message, is_allowed = VoidHold(hold_id, self.world[by]), by == self.holds[hold_id][1]
        if self.expect(message, is_allowed):
            del self.holds[hold_id]

    @rule(minutes=st.integers(1, 3))
    def wait(self, minutes):
        self.world.time_ms += minutes * MINUTE_MS
        for hold_id in [key for key, hold in self.holds.items() if hold[3] <= self.world.time_ms]:
            (event,) = self.world.expire(ExpireHold(hold_id))
            assert isinstance(event, HoldExpired)
            del self.holds[hold_id]

    @invariant()
    def the_ledger_agrees(self):
        for name in ("vault", *HOLDERS):
            balance = self.world.balance(name)
            assert balance.posted_minor == self.posted[name]
            assert balance.posted_minor - balance.held_minor == self.available(name)
            assert balance.is_frozen == (name in self.frozen)
        assert sum(self.posted.values()) == 0


def test_any_sequence_agrees_with_the_model(new_bare_world):
    class Run(Model):
        def new_world(self):
            return new_bare_world()

    run_state_machine_as_test(Run, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))
