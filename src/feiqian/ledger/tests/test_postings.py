"""Postings: what moves, and each rule that keeps it from moving."""

import pytest

from feiqian.ledger import errors
from feiqian.ledger.accounts import set_frozen
from feiqian.ledger.balances import get_balance
from feiqian.ledger.events import AssetFreezeSet, LimitSet, ListingSet, Posted
from feiqian.ledger.holds import place
from feiqian.ledger.metering import WORK_PER_POSTING
from feiqian.ledger.postings import (
    MAX_LEGS,
    OUTFLOWS,
    Balance,
    Leg,
    available_minor,
    balance_key,
    post,
    set_asset_frozen,
    set_limit,
    set_listed,
)
from feiqian.ledger.records import BY_GOVERNANCE, DayOutflow
from feiqian.state.tables import Overlay
from feiqian.testing import TIME_MS, Bench

MAX = 2**62


class Ledger(Bench):
    """A bank that issues, and three holders of one of its customers."""

    def __init__(self, **asset) -> None:
        super().__init__()
        self.member("harbour", "bank")
        self.member("ferry", "company")
        self.issuance = self.account("harbour", "issuance")
        self.controller = self.account("harbour", "controller")
        self.ann, self.bob, self.cyd = (self.account("ferry", name) for name in ("ann's key", "bob's key", "cyd's key"))
        self.asset("CNY", "harbour", self.issuance, controller=self.controller, **asset)

    def move(self, *moves: tuple[bytes, int], code: str = "CNY", **options):
        """Post legs on an overlay that is kept if nothing is refused; return the context."""
        ctx = self.context(state=Overlay(self.state))
        post(ctx, tuple(Leg(account, code, amount) for account, amount in moves), **options)
        ctx.state.keep()
        return ctx

    def posted(self, *accounts: bytes) -> list[int]:
        return [get_balance(self.state, account, "CNY").posted_minor for account in accounts]


def funded(**asset) -> Ledger:
    ledger = Ledger(**asset)
    ledger.move((ledger.issuance, -1_000), (ledger.ann, 1_000))
    return ledger


def test_a_transfer_moves_and_says_so() -> None:
    ledger = funded()
    legs = (Leg(ledger.ann, "CNY", -300), Leg(ledger.bob, "CNY", 300))
    ctx = ledger.context()
    post(ctx, legs)
    assert ledger.posted(ledger.issuance, ledger.ann, ledger.bob) == [-1_000, 700, 300]
    assert ctx.events == [Posted(legs)]
    assert ctx.events[0].accounts() == (ledger.ann, ledger.bob)
    assert ctx.work == 2 * WORK_PER_POSTING
    assert get_balance(ledger.state, ledger.bob, "CNY") == Balance(300, 0, 0, False, False)


def test_two_assets_move_in_one_entry_or_not_at_all() -> None:
    ledger = funded()
    ledger.asset("EUR", "harbour", ledger.issuance)
    ledger.issue("EUR", ledger.issuance, ledger.bob, 50)
    legs = (
        Leg(ledger.ann, "CNY", -400),
        Leg(ledger.bob, "EUR", -50),
        Leg(ledger.bob, "CNY", 400),
        Leg(ledger.ann, "EUR", 50),
    )
    post(ledger.context(), legs)
    assert ledger.posted(ledger.ann, ledger.bob) == [600, 400]
    assert get_balance(ledger.state, ledger.ann, "EUR").posted_minor == 50
    before = dict(ledger.state.written)
    with pytest.raises(errors.InsufficientAvailable):
        post(ledger.context(), (legs[0], legs[2], Leg(ledger.bob, "EUR", -1), Leg(ledger.ann, "EUR", 1)))
    assert ledger.state.written == before


def test_repeated_accounts_are_netted_and_the_final_balance_decides() -> None:
    ledger = funded()
    # Bob has nothing; 900 pass through him. Ann appears three times: -900 + 200 - 300 = -1000.
    ledger.move(
        (ledger.bob, -900), (ledger.cyd, 1_000), (ledger.ann, -900), (ledger.bob, 900), (ledger.ann, 200),
        (ledger.ann, -300),
    )  # fmt: skip
    assert ledger.posted(ledger.ann, ledger.bob, ledger.cyd) == [0, 0, 1_000]
    with pytest.raises(errors.InsufficientAvailable, match="would pay 1 of CNY; it has 0 available and a limit of 0"):
        ledger.move((ledger.ann, 5), (ledger.ann, -6), (ledger.bob, 1))


def test_the_last_minor_unit_and_one_more() -> None:
    ledger = funded()
    with pytest.raises(errors.InsufficientAvailable):
        ledger.move((ledger.ann, -1_001), (ledger.bob, 1_001))
    ledger.move((ledger.ann, -1_000), (ledger.bob, 1_000))
    assert ledger.posted(ledger.ann, ledger.bob) == [0, 1_000]


@pytest.mark.parametrize("amount", [0, MAX + 1, -MAX - 1, 2**63, -(2**63)])
def test_legs_of_zero_or_beyond_range(amount: int) -> None:
    ledger = funded()
    with pytest.raises(errors.MalformedEntry, match=str(amount)):
        ledger.move((ledger.ann, amount), (ledger.bob, -amount))


def test_entries_have_2_to_4000_legs() -> None:
    ledger = funded()
    for legs in ((), (Leg(ledger.ann, "CNY", 1),), (Leg(ledger.ann, "CNY", 1),) * (MAX_LEGS + 1)):
        with pytest.raises(errors.MalformedEntry):
            post(ledger.context(), legs)
    ledger.move(*[(ledger.issuance, -1), (ledger.bob, 1)] * (MAX_LEGS // 2))
    assert ledger.posted(ledger.issuance, ledger.bob) == [-3_000, 2_000]


def test_an_entry_sums_to_zero_in_each_asset() -> None:
    ledger = funded()
    ledger.asset("EUR", "harbour", ledger.issuance)
    with pytest.raises(errors.EntryNotBalanced, match="sum to -1"):
        ledger.move((ledger.ann, -300), (ledger.bob, 299))
    with pytest.raises(errors.EntryNotBalanced):
        post(ledger.context(), (Leg(ledger.ann, "CNY", -5), Leg(ledger.bob, "EUR", 5)))


def test_a_transfer_to_oneself_moves_nothing() -> None:
    ledger = funded()
    with pytest.raises(errors.EntryMovesNothing):
        ledger.move((ledger.ann, -5), (ledger.ann, 5))
    with pytest.raises(errors.EntryMovesNothing):
        ledger.move((ledger.ann, -5), (ledger.bob, 5), (ledger.ann, 5), (ledger.bob, -5))


def test_unknown_assets_and_accounts() -> None:
    ledger = funded()
    with pytest.raises(errors.AssetUnknown, match="'USD'"):
        ledger.move((ledger.ann, -5), (ledger.bob, 5), code="USD")
    with pytest.raises(errors.AccountUnknown):
        ledger.move((ledger.ann, -5), (bytes(32), 5))
    # Even where it would end with nothing.
    with pytest.raises(errors.AccountUnknown):
        ledger.move((ledger.ann, -5), (ledger.bob, 5), (bytes(32), 5), (bytes(32), -5))


def test_frozen_accounts_neither_send_nor_receive() -> None:
    ledger = funded()
    set_frozen(ledger.context(), ledger.ann, True, BY_GOVERNANCE, "order 7")
    for moves in (((ledger.ann, -5), (ledger.bob, 5)), ((ledger.issuance, -5), (ledger.ann, 5))):
        with pytest.raises(errors.AccountFrozen):
            ledger.move(*moves)
    ledger.move((ledger.ann, -5), (ledger.bob, 5), forced_by=ledger.controller)
    assert ledger.posted(ledger.ann, ledger.bob) == [995, 5]


def test_freezing_for_one_asset() -> None:
    ledger = funded(is_freezable=True)
    ctx = ledger.context()
    set_asset_frozen(ctx, ledger.ann, "CNY", True)
    assert ctx.events == [AssetFreezeSet(ledger.ann, "CNY", True)]
    assert get_balance(ledger.state, ledger.ann, "CNY") == Balance(1_000, 0, 0, True, False)
    for moves in (((ledger.ann, -5), (ledger.bob, 5)), ((ledger.issuance, -5), (ledger.ann, 5))):
        with pytest.raises(errors.AssetFrozenForAccount):
            ledger.move(*moves)
    ledger.move((ledger.ann, -5), (ledger.bob, 5), forced_by=ledger.controller)
    with pytest.raises(errors.NothingChanges):
        set_asset_frozen(ledger.context(), ledger.ann, "CNY", True)
    set_asset_frozen(ledger.context(), ledger.ann, "CNY", False)
    ledger.move((ledger.ann, -5), (ledger.bob, 5))
    assert ledger.posted(ledger.ann, ledger.bob) == [990, 10]


def test_assets_without_freezing_or_list() -> None:
    ledger = funded()
    with pytest.raises(errors.NotFreezable):
        set_asset_frozen(ledger.context(), ledger.ann, "CNY", True)
    with pytest.raises(errors.NotAllowListed):
        set_listed(ledger.context(), ledger.ann, "CNY", True)
    with pytest.raises(errors.AssetUnknown):
        set_asset_frozen(ledger.context(), ledger.ann, "USD", True)
    with pytest.raises(errors.AccountUnknown):
        set_listed(Ledger(is_allow_listed=True).context(), bytes(32), "CNY", True)


def test_only_listed_accounts_hold_a_listed_asset() -> None:
    ledger = Ledger(is_allow_listed=True)
    with pytest.raises(errors.HolderNotListed):
        ledger.move((ledger.issuance, -10), (ledger.ann, 10))
    ctx = ledger.context()
    set_listed(ctx, ledger.ann, "CNY", True)
    assert ctx.events == [ListingSet(ledger.ann, "CNY", True)]
    ledger.move((ledger.issuance, -10), (ledger.ann, 10))
    with pytest.raises(errors.HolderNotListed):
        ledger.move((ledger.ann, -1), (ledger.bob, 1))
    set_listed(ledger.context(), ledger.bob, "CNY", True)
    ledger.move((ledger.ann, -1), (ledger.bob, 1))
    # Taken off the list, what Ann has stands still; the controller may move it, but to listed accounts only.
    set_listed(ledger.context(), ledger.ann, "CNY", False)
    with pytest.raises(errors.NothingChanges):
        set_listed(ledger.context(), ledger.ann, "CNY", False)
    with pytest.raises(errors.HolderNotListed):
        ledger.move((ledger.ann, -1), (ledger.bob, 1))
    ledger.move((ledger.ann, -9), (ledger.bob, 9), forced_by=ledger.controller)
    with pytest.raises(errors.HolderNotListed):
        ledger.move((ledger.bob, -1), (ledger.cyd, 1), forced_by=ledger.controller)
    assert ledger.posted(ledger.ann, ledger.bob) == [0, 10]


def test_forced_movements_are_the_controllers_alone() -> None:
    ledger = funded()
    ledger.asset("EUR", "harbour", ledger.issuance)
    ledger.issue("EUR", ledger.issuance, ledger.ann, 5)
    for by in (ledger.issuance, ledger.ann, bytes(32)):
        with pytest.raises(errors.NotController):
            ledger.move((ledger.ann, -5), (ledger.bob, 5), forced_by=by)
    with pytest.raises(errors.NotController):
        ledger.move((ledger.ann, -5), (ledger.bob, 5), code="EUR", forced_by=ledger.controller)
    place(ledger.context(), ledger.ann, "CNY", 600, "assets", b"", TIME_MS + 1)
    with pytest.raises(errors.InsufficientAvailable):
        ledger.move((ledger.ann, -401), (ledger.bob, 401), forced_by=ledger.controller)
    ledger.move((ledger.ann, -400), (ledger.bob, 400), forced_by=ledger.controller)


def test_the_supply_cap_is_the_issuance_accounts_limit() -> None:
    ledger = Ledger(supply_cap_minor=1_000)
    ledger.move((ledger.issuance, -1_000), (ledger.ann, 1_000))
    with pytest.raises(errors.SupplyCapExceeded, match="issuing 1 of CNY; 0 are left below its cap of 1000"):
        ledger.move((ledger.issuance, -1), (ledger.ann, 1))
    ledger.move((ledger.ann, -1), (ledger.issuance, 1))
    ledger.move((ledger.issuance, -1), (ledger.bob, 1))
    assert ledger.posted(ledger.issuance, ledger.ann, ledger.bob) == [-1_000, 999, 1]


def test_the_largest_supply_and_one_more() -> None:
    ledger = Ledger(supply_cap_minor=MAX)
    ledger.move((ledger.issuance, -MAX), (ledger.ann, MAX))
    assert ledger.posted(ledger.issuance, ledger.ann) == [-MAX, MAX]
    with pytest.raises(errors.SupplyCapExceeded):
        ledger.move((ledger.issuance, -1), (ledger.ann, 1))
    # Credit could carry a balance past 2^62, were it not refused.
    set_limit(ledger.context(), ledger.bob, "CNY", MAX)
    with pytest.raises(errors.BalanceOutOfRange):
        ledger.move((ledger.bob, -1), (ledger.ann, 1))
    ledger.move((ledger.bob, -MAX), (ledger.cyd, MAX))
    with pytest.raises(errors.InsufficientAvailable):
        ledger.move((ledger.bob, -1), (ledger.cyd, 1))


def test_legs_that_overflow_64_bits_together() -> None:
    ledger = Ledger()
    with pytest.raises(errors.SupplyCapExceeded):
        ledger.move(*[(ledger.issuance, -MAX)] * 3, *[(ledger.ann, MAX)] * 3)


def test_credit_limits() -> None:
    ledger = funded()
    ctx = ledger.context()
    set_limit(ctx, ledger.bob, "CNY", 100)
    assert ctx.events == [LimitSet(ledger.bob, "CNY", 100)]
    ledger.move((ledger.bob, -100), (ledger.ann, 100))
    assert get_balance(ledger.state, ledger.bob, "CNY") == Balance(-100, 0, 100, False, False)
    assert available_minor(get_balance(ledger.state, ledger.bob, "CNY")) == -100
    with pytest.raises(errors.InsufficientAvailable):
        ledger.move((ledger.bob, -1), (ledger.ann, 1))
    with pytest.raises(errors.LimitBelowUse, match="uses 100"):
        set_limit(ledger.context(), ledger.bob, "CNY", 99)
    with pytest.raises(errors.NothingChanges):
        set_limit(ledger.context(), ledger.bob, "CNY", 100)
    for limit in (-1, MAX + 1):
        with pytest.raises(errors.BalanceOutOfRange):
            set_limit(ledger.context(), ledger.bob, "CNY", limit)
    with pytest.raises(errors.IssuanceLimitFixed):
        set_limit(ledger.context(), ledger.issuance, "CNY", 5)
    ledger.move((ledger.ann, -100), (ledger.bob, 100))
    set_limit(ledger.context(), ledger.bob, "CNY", 0)


def test_redeeming_on_credit_takes_supply_below_zero() -> None:
    ledger = Ledger(supply_cap_minor=100)
    set_limit(ledger.context(), ledger.bob, "CNY", 30)
    ledger.move((ledger.bob, -30), (ledger.issuance, 30))
    assert ledger.posted(ledger.issuance, ledger.bob) == [30, -30]
    ledger.move((ledger.issuance, -130), (ledger.ann, 130))
    with pytest.raises(errors.SupplyCapExceeded):
        ledger.move((ledger.issuance, -1), (ledger.ann, 1))


def test_the_limit_per_transfer() -> None:
    ledger = Ledger(transfer_limit_minor=100)
    ledger.move((ledger.issuance, -1_000), (ledger.ann, 1_000))  # issuing is no transfer
    ledger.move((ledger.ann, -100), (ledger.bob, 100))
    with pytest.raises(errors.TransferLimitExceeded, match="transfer of 101 of CNY; at most 100"):
        ledger.move((ledger.ann, -101), (ledger.bob, 101))
    # A batch: one debit of 200 pays two transfers of 100.
    ledger.move((ledger.ann, -200), (ledger.bob, 100), (ledger.cyd, 100))
    ledger.move((ledger.ann, -500), (ledger.issuance, 500))  # redeeming is no transfer
    with pytest.raises(errors.TransferLimitExceeded):
        ledger.move((ledger.ann, -102), (ledger.issuance, 1), (ledger.bob, 101))
    ledger.move((ledger.ann, -200), (ledger.bob, 200), forced_by=ledger.controller)


def test_the_limit_per_day_starts_again_at_midnight_utc() -> None:
    ledger = Ledger(daily_limit_minor=100)
    ledger.move((ledger.issuance, -1_000), (ledger.ann, 1_000))
    ledger.time_ms = 1_790_035_199_999  # 2026-09-21 23:59:59.999 UTC
    ledger.move((ledger.ann, -60), (ledger.bob, 60))
    ledger.move((ledger.ann, -40), (ledger.bob, 40))
    key = balance_key(ledger.ann, "CNY")
    assert OUTFLOWS.get(ledger.state, key) == DayOutflow(20_717, 100)  # days since 1970-01-01
    with pytest.raises(errors.DailyLimitExceeded, match=r"would send 101 .* at most 100, of which 0 are left"):
        ledger.move((ledger.ann, -1), (ledger.bob, 1))
    ledger.move((ledger.bob, -50), (ledger.ann, 50))  # each account has its own
    ledger.time_ms += 1
    ledger.move((ledger.ann, -100), (ledger.issuance, 100))
    assert OUTFLOWS.get(ledger.state, key) == DayOutflow(20_718, 100)
    with pytest.raises(errors.DailyLimitExceeded):
        ledger.move((ledger.ann, -1), (ledger.bob, 1))
    ledger.move((ledger.ann, -1), (ledger.bob, 1), forced_by=ledger.controller)
    assert OUTFLOWS.get(ledger.state, key) == DayOutflow(20_718, 100)


def test_what_is_netted_does_not_leave() -> None:
    ledger = Ledger(daily_limit_minor=100)
    ledger.move((ledger.issuance, -1_000), (ledger.ann, 1_000))
    ledger.move((ledger.ann, -500), (ledger.bob, 100), (ledger.ann, 400))
    assert OUTFLOWS.get(ledger.state, balance_key(ledger.ann, "CNY")) == DayOutflow(TIME_MS // 86_400_000, 100)


def test_a_batch_of_a_thousand() -> None:
    ledger = funded()
    holders = [ledger.account("ferry", f"holder {number:04}") for number in range(999)]
    ctx = ledger.move((ledger.ann, -999), *[(holder, 1) for holder in holders])
    assert ledger.posted(ledger.ann, *holders) == [1] + [1] * 999
    assert ctx.work == 1_000 * WORK_PER_POSTING
