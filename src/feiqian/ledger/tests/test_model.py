"""Random use of postings, holds, limits and time against a plain model, every invariant checked after each step."""

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from feiqian.core.errors import InvalidTransaction
from feiqian.ledger import INVARIANTS
from feiqian.ledger.accounts import ADMINISTRATIONS
from feiqian.ledger.balances import BALANCES, balance_key, get_balance
from feiqian.ledger.errors import DailyLimitExceeded, TransferLimitExceeded
from feiqian.ledger.holds import HOLD_COUNTS, HOLDS, ExpireHold, expire, place, post_hold, void
from feiqian.ledger.invariants import (
    Scope,
    assets_sum_to_zero,
    balances_have_owners,
    balances_within_limits,
    expiries_are_scheduled,
    holds_are_counted,
    holds_match_held,
    members_have_administrations,
    supply_within_cap,
)
from feiqian.ledger.postings import Balance, Leg, post, set_limit
from feiqian.ledger.records import Administration, HoldCount
from feiqian.ledger.triggers import SCHEDULED, due, remove
from feiqian.state.tables import BlockState, Overlay, Table
from feiqian.testing import Bench, MemoryReader

CAP = 500
CODES = ("CNY", "EUR")
AMOUNTS = st.integers(-30, 200)
LEGS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(CODES), st.integers(-60, 60)), max_size=5)


def kept(state: BlockState) -> dict[bytes, bytes]:
    """Return the records that a block's writes leave."""
    return {key: data for key, data in state.changes().items() if data is not None}


class LedgerMachine(RuleBasedStateMachine):
    """Account 0 issues both assets. The model is three dicts: posted, limit, holds."""

    holds = Bundle("holds")

    @initialize()
    def found(self) -> None:
        self.bench = Bench()
        self.bench.member("harbour", "bank")
        self.accounts = [self.bench.account("harbour", f"account {number}") for number in range(4)]
        for code in CODES:
            self.bench.asset(code, "harbour", self.accounts[0], supply_cap_minor=CAP)
        self.posted = {(account, code): 0 for account in range(4) for code in CODES}
        self.limits = {(account, code): CAP if account == 0 else 0 for account in range(4) for code in CODES}
        self.open: dict[bytes, list[Any]] = {}
        self.reader = MemoryReader(kept(self.bench.state))
        self.before = BlockState(MemoryReader())

    def held(self, account: int, code: str) -> int:
        return sum(hold[2] for hold in self.open.values() if (hold[0], hold[1]) == (account, code))

    def attempt(self, is_allowed: bool, act) -> Any:
        """Run on an overlay; the ledger must allow exactly what the model does."""
        ctx = self.bench.context(state=Overlay(self.bench.state))
        if not is_allowed:
            with pytest.raises(InvalidTransaction):
                act(ctx)
            return None
        answer = act(ctx)
        ctx.state.keep()
        return answer

    @rule(legs=LEGS)
    def post_legs(self, legs: list[tuple[int, str, int]]) -> None:
        self.enter(legs)

    @rule(payer=st.integers(0, 3), payee=st.integers(0, 3), code=st.sampled_from(CODES), amount=AMOUNTS)
    def transfer(self, payer: int, payee: int, code: str, amount: int) -> None:
        self.enter([(payer, code, -amount), (payee, code, amount)])

    def enter(self, legs: list[tuple[int, str, int]]) -> None:
        nets: dict[tuple[int, str], int] = {}
        for account, code, amount in legs:
            nets[account, code] = nets.get((account, code), 0) + amount
        is_allowed = (
            len(legs) >= 2
            and all(amount for _, _, amount in legs)
            and any(nets.values())
            and all(sum(net for (_, other), net in nets.items() if other == code) == 0 for code in CODES)
            and all(
                net >= 0 or self.posted[place] + net - self.held(*place) >= -self.limits[place]
                for place, net in nets.items()
            )
        )
        entry = tuple(Leg(self.accounts[account], code, amount) for account, code, amount in legs)
        self.attempt(is_allowed, lambda ctx: post(ctx, entry))
        if is_allowed:
            for key, net in nets.items():
                self.posted[key] += net

    @rule(account=st.integers(1, 3), code=st.sampled_from(CODES), limit=st.integers(0, 100))
    def agree_limit(self, account: int, code: str, limit: int) -> None:
        key = (account, code)
        is_allowed = self.posted[key] - self.held(*key) >= -limit and limit != self.limits[key]
        self.attempt(is_allowed, lambda ctx: set_limit(ctx, self.accounts[account], code, limit))
        if is_allowed:
            self.limits[key] = limit

    @rule(target=holds, account=st.integers(0, 3), code=st.sampled_from(CODES), amount=AMOUNTS, ms=st.integers(-1, 20))
    def place_hold(self, account: int, code: str, amount: int, ms: int) -> bytes:
        key = (account, code)
        is_allowed = ms >= 1 and 1 <= amount <= self.posted[key] - self.held(*key) + self.limits[key]
        expires_at_ms = self.bench.time_ms + ms
        hold_id = self.attempt(
            is_allowed,
            lambda ctx: place(ctx, self.accounts[account], code, amount, "assets", b"", expires_at_ms),
        )
        if hold_id is None:
            return b"\x00" * 32
        self.open[hold_id] = [account, code, amount, expires_at_ms]
        return hold_id

    @rule(hold=holds, payee=st.integers(0, 3), amount=st.integers(-1, 100), is_final=st.booleans())
    def pay_from_hold(self, hold: bytes, payee: int, amount: int, is_final: bool) -> None:
        found = self.open.get(hold)
        is_allowed = found is not None and 1 <= amount <= found[2] and payee != found[0]
        code = found[1] if found else "CNY"
        credit = (Leg(self.accounts[payee], code, amount),)
        self.attempt(is_allowed, lambda ctx: post_hold(ctx, hold, credit, is_final=is_final))
        if found and is_allowed:
            self.posted[found[0], code] -= amount
            self.posted[payee, code] += amount
            found[2] = 0 if is_final else found[2] - amount
            if not found[2]:
                del self.open[hold]

    @rule(hold=consumes(holds))
    def void_hold(self, hold: bytes) -> None:
        self.attempt(hold in self.open, lambda ctx: void(ctx, hold))
        self.open.pop(hold, None)

    @rule(ms=st.integers(1, 10))
    def pass_time(self, ms: int) -> None:
        self.bench.time_ms += ms
        for key, _ in due(self.bench.state, self.bench.time_ms, 100):
            remove(self.bench.state, key)
        late = [hold for hold, found in self.open.items() if found[3] <= self.bench.time_ms]
        for hold in late:
            expire(self.bench.context(), ExpireHold(hold))
            del self.open[hold]

    @invariant()
    def balances_are_the_models(self) -> None:
        for (account, code), posted in self.posted.items():
            balance = get_balance(self.bench.state, self.accounts[account], code)
            figures = (balance.posted_minor, balance.held_minor, balance.limit_minor)
            assert figures == (posted, self.held(account, code), self.limits[account, code])
        assert {key for key, _ in HOLDS.scan(self.bench.state)} == set(self.open)
        assert len(list(SCHEDULED.scan(self.bench.state))) == len(self.open)

    @invariant()
    def invariants_hold_over_this_step_and_over_all(self) -> None:
        changes = self.bench.state.changes()
        before = BlockState(self.reader)
        after = self.bench.state
        touched = [key for key, data in changes.items() if self.reader.get(key) != data]
        for scope in (Scope(before, after, touched), Scope(before, after, None)):
            for claim in INVARIANTS:
                assert list(claim(scope)) == []
        self.reader = MemoryReader(kept(self.bench.state))


LedgerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestLedgerMachine = LedgerMachine.TestCase


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 60), st.integers(0, 12 * 3_600_000)), max_size=20),
    st.integers(1, 50),
    st.integers(1, 100),
)
def test_transfer_and_daily_limits_bind_as_the_reference_does(
    transfers: list[tuple[int, int, int]], transfer_limit: int, daily_limit: int
) -> None:
    """Transfers of (payer, amount, ms since the last one); what a payer sent is kept by calendar date in UTC."""
    bench = Bench()
    bench.member("harbour", "bank")
    accounts = [bench.account("harbour", f"account {number}") for number in range(5)]
    bench.asset("CNY", "harbour", accounts[4], transfer_limit_minor=transfer_limit, daily_limit_minor=daily_limit)
    for account in accounts[:4]:
        bench.issue("CNY", accounts[4], account, 10_000)
    sent: dict[tuple[int, date], int] = {}
    for payer, amount, pause_ms in transfers:
        bench.time_ms += pause_ms
        day = (payer, datetime.fromtimestamp(bench.time_ms // 1000, UTC).date())
        legs = (Leg(accounts[payer], "CNY", -amount), Leg(accounts[(payer + 1) % 4], "CNY", amount))
        if amount > transfer_limit:
            with pytest.raises(TransferLimitExceeded):
                post(bench.context(), legs)
        elif sent.get(day, 0) + amount > daily_limit:
            with pytest.raises(DailyLimitExceeded):
                post(bench.context(), legs)
        else:
            post(bench.context(), legs)
            sent[day] = sent.get(day, 0) + amount


# --- the invariants themselves see what is wrong ---


def broken_bench() -> tuple[Bench, bytes, bytes]:
    bench = Bench()
    bench.member("harbour", "bank")
    issuance, ann = bench.account("harbour", "issuance"), bench.account("harbour", "ann's key")
    bench.asset("CNY", "harbour", issuance, supply_cap_minor=CAP)
    bench.issue("CNY", issuance, ann, 100)
    place(bench.context(), ann, "CNY", 40, "assets", b"", bench.time_ms + 5)
    return bench, issuance, ann


def test_a_scope_gives_each_touched_record_once_for_all_who_ask() -> None:
    bench, issuance, ann = broken_bench()
    records = kept(bench.state)
    before, after = BlockState(MemoryReader(records)), BlockState(MemoryReader(records))
    new = Balance(7, 0, 0, False, False)
    keys = sorted([balance_key(ann, "CNY"), balance_key(ann, "USD")])
    BALANCES.put(after, balance_key(ann, "USD"), new)
    BALANCES.delete(after, balance_key(ann, "CNY"))
    # Its table's name begins as that of balances does.
    beside = Table(BALANCES.name + ".2", Balance)
    beside.put(after, b"1", new)
    scope = Scope(before, after, after.changes())
    found = {key: (new, old) for key, new, old in scope.changes(BALANCES)}
    assert list(found) == keys
    assert found == {
        balance_key(ann, "CNY"): (None, Balance(100, 40, 0, False, False)),
        balance_key(ann, "USD"): (new, None),
    }
    assert scope.changes(BALANCES) is scope.changes(BALANCES)
    assert list(scope.changes(beside)) == [(b"1", new, None)]
    assert list(scope.changes(HOLDS)) == []
    assert [scope.reaches(table) for table in (BALANCES, beside, HOLDS)] == [True, True, False]
    assert scope.reaches(HOLDS, BALANCES)
    everything = Scope(before, after, None)
    assert everything.reaches(HOLDS)
    assert [key for key, _, _ in everything.changes(BALANCES)] == sorted(
        [balance_key(issuance, "CNY"), balance_key(ann, "USD")]
    )
    assert {old for _, _, old in everything.changes(BALANCES)} == {None}


def violations(bench: Bench, claim, change) -> tuple[list[str], list[str]]:
    """Return what the claim says of the change by itself and of all state after it."""
    records = kept(bench.state)
    before, after = BlockState(MemoryReader(records)), BlockState(MemoryReader(records))
    change(after)
    return list(claim(Scope(before, after, after.changes()))), list(claim(Scope(before, after, None)))


@pytest.mark.parametrize(
    ("claim", "balance", "what"),
    [
        (assets_sum_to_zero, Balance(101, 40, 0, False, False), "1, not 0"),
        (balances_within_limits, Balance(39, 40, 0, False, False), "below minus the limit"),
        (balances_within_limits, Balance(2**62 + 1, 40, 0, False, False), "out of range"),
        (balances_within_limits, Balance(100, -1, 0, False, False), "out of range"),
        (holds_match_held, Balance(100, 41, 0, False, False), "differ by 1"),
    ],
)
def test_an_invariant_sees_a_wrong_balance(claim, balance: Balance, what: str) -> None:
    bench, _, ann = broken_bench()
    for found in violations(bench, claim, lambda after: BALANCES.put(after, balance_key(ann, "CNY"), balance)):
        assert len(found) == 1
        assert what in found[0]


def test_invariants_see_what_was_deleted_or_never_was() -> None:
    bench, issuance, ann = broken_bench()
    hold_id = next(key for key, _ in HOLDS.scan(bench.state))
    record = HOLDS.get(bench.state, hold_id)
    assert record is not None
    partial, full = violations(bench, holds_match_held, lambda after: HOLDS.delete(after, hold_id))
    assert "differ by 40" in partial[0]
    assert "differ by 40" in full[0]
    partial, _ = violations(
        bench, balances_within_limits, lambda after: BALANCES.delete(after, balance_key(ann, "CNY"))
    )
    assert "was deleted" in partial[0]
    stranger = Balance(0, 0, 0, False, False)
    for key in (bytes(32) + b"CNY", b"\xff" * 32 + b"CNY", ann + b"USD"):
        for found in violations(bench, balances_have_owners, lambda after, key=key: BALANCES.put(after, key, stranger)):
            assert "no open account or no defined asset" in found[0]
            assert len(found) == 1
    partial, full = violations(
        bench,
        supply_within_cap,
        lambda after: BALANCES.put(after, balance_key(issuance, "CNY"), Balance(1, 0, CAP + 1, False, False)),
    )
    for found in (partial, full):
        assert "issuance limit 501, cap 500" in found[0]
        assert len(found) == 1
    counts = balance_key(ann, "CNY")
    for wrong in (0, 2, 1_001):
        for found in violations(
            bench, holds_are_counted, lambda after, n=wrong: HOLD_COUNTS.put(after, counts, HoldCount(n))
        ):
            assert f"differ by {wrong - 1}" in found[-1]
            assert len(found) == (1 if wrong == 2 else 2)
    for change in (
        lambda after: ADMINISTRATIONS.delete(after, b"harbour"),
        lambda after: ADMINISTRATIONS.put(after, b"harbour", Administration(bytes(32))),
    ):
        for found in violations(bench, members_have_administrations, change):
            assert "speaks for it" in found[0] or "spoken for by no account of its own" in found[0]
    # The trigger alone is deleted: seen over all state, and when the hold is touched.
    partial, full = violations(bench, expiries_are_scheduled, lambda after: SCHEDULED.delete(after, record.expiry_key))
    assert partial == []
    assert "no trigger" in full[0]
