"""Holds: placed, posted in part and whole, voided, expired."""

import pytest

from feiqian.ledger import errors
from feiqian.ledger.accounts import set_frozen
from feiqian.ledger.balances import balance_key, get_balance
from feiqian.ledger.context import Event
from feiqian.ledger.events import HoldExpired, HoldPlaced, HoldPosted, HoldVoided, Posted
from feiqian.ledger.holds import HOLD_COUNTS, HOLDS, ExpireHold, expire, place, post_hold, require_hold, void
from feiqian.ledger.postings import Balance, Leg, post, set_asset_frozen, set_limit
from feiqian.ledger.records import BY_GOVERNANCE, Hold
from feiqian.ledger.triggers import SCHEDULED, due, remove
from feiqian.testing import TIME_MS, Bench

MAX = 2**62


class Holders(Bench):
    """Ann has 1,000 of CNY, which may be frozen; Bob has nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.member("harbour", "bank")
        names = ("issuance", "ann's key", "bob's key")
        self.issuance, self.ann, self.bob = (self.account("harbour", name) for name in names)
        self.asset("CNY", "harbour", self.issuance, controller=self.issuance, is_freezable=True)
        self.issue("CNY", self.issuance, self.ann, 1_000)


@pytest.fixture
def bench() -> Holders:
    return Holders()


def hold(bench: Holders, amount: int = 600, expires_at_ms: int = TIME_MS + 1_000) -> bytes:
    return place(bench.context(), bench.ann, "CNY", amount, "assets", b"order 7", expires_at_ms)


def balance(bench: Holders, account: bytes) -> tuple[int, int]:
    found = get_balance(bench.state, account, "CNY")
    return found.posted_minor, found.held_minor


def pay(bench: Holders, hold_id: bytes, amount: int, is_final: bool = False):
    ctx = bench.context()
    post_hold(ctx, hold_id, (Leg(bench.bob, "CNY", amount),), is_final=is_final)
    return ctx


def test_placing_reserves(bench: Holders) -> None:
    ctx = bench.context()
    hold_id = place(ctx, bench.ann, "CNY", 600, "assets", b"order 7", TIME_MS + 1_000)
    key = (TIME_MS + 1_000).to_bytes(8, "big") + bytes(8)
    assert HOLDS.get(bench.state, hold_id) == Hold(
        bench.ann, None, "CNY", 600, "assets", b"order 7", TIME_MS + 1_000, key
    )
    assert get_balance(bench.state, bench.ann, "CNY") == Balance(1_000, 600, 0, False, False)
    assert ctx.events == [HoldPlaced(hold_id, bench.ann, None, "CNY", 600, "assets", b"order 7", TIME_MS + 1_000)]
    with pytest.raises(errors.InsufficientAvailable):
        post(bench.context(), (Leg(bench.ann, "CNY", -401), Leg(bench.bob, "CNY", 401)))
    with pytest.raises(errors.InsufficientAvailable, match=r"hold of 401 .* which has 400 free"):
        hold(bench, 401)
    assert hold(bench, 400) != hold_id
    assert balance(bench, bench.ann) == (1_000, 1_000)


def test_placing_may_use_the_limit(bench: Holders) -> None:
    set_limit(bench.context(), bench.ann, "CNY", 50)
    hold_id = hold(bench, 1_050)
    with pytest.raises(errors.InsufficientAvailable):
        hold(bench, 1)
    with pytest.raises(errors.LimitBelowUse):
        set_limit(bench.context(), bench.ann, "CNY", 49)
    pay(bench, hold_id, 1_050)
    assert balance(bench, bench.ann) == (-50, 0)


def test_posting_in_part_then_the_rest(bench: Holders) -> None:
    hold_id = hold(bench)
    ctx = pay(bench, hold_id, 250)
    assert balance(bench, bench.ann) == (750, 350)
    assert balance(bench, bench.bob) == (250, 0)
    assert require_hold(bench.state, hold_id).amount_minor == 350
    assert ctx.events == [
        Posted((Leg(bench.ann, "CNY", -250), Leg(bench.bob, "CNY", 250))),
        HoldPosted(hold_id, bench.ann, None, "CNY", 250, 0, 350),
    ]
    ctx = pay(bench, hold_id, 350)
    assert balance(bench, bench.ann) == (400, 0)
    assert ctx.events[1] == HoldPosted(hold_id, bench.ann, None, "CNY", 350, 0, 0)
    assert list(SCHEDULED.scan(bench.state)) == []
    with pytest.raises(errors.HoldUnknown, match=hold_id.hex()):
        pay(bench, hold_id, 1)
    with pytest.raises(errors.HoldUnknown):
        void(bench.context(), hold_id)


def test_posting_in_part_for_good_frees_the_rest(bench: Holders) -> None:
    hold_id = hold(bench)
    ctx = pay(bench, hold_id, 1, is_final=True)
    assert balance(bench, bench.ann) == (999, 0)
    assert ctx.events[1] == HoldPosted(hold_id, bench.ann, None, "CNY", 1, 599, 0)
    assert list(HOLDS.scan(bench.state)) == []
    assert list(SCHEDULED.scan(bench.state)) == []


def test_posting_to_several_and_partly_back(bench: Holders) -> None:
    hold_id = hold(bench)
    shares = (Leg(bench.bob, "CNY", 100), Leg(bench.ann, "CNY", 200), Leg(bench.issuance, "CNY", 300))
    post_hold(bench.context(), hold_id, shares, is_final=False)
    assert balance(bench, bench.ann) == (600, 0)
    assert balance(bench, bench.bob) == (100, 0)
    assert balance(bench, bench.issuance) == (-700, 0)


def test_malformed_postings(bench: Holders) -> None:
    bench.asset("EUR", "harbour", bench.issuance)
    hold_id = hold(bench)
    for legs in (
        (),
        (Leg(bench.bob, "CNY", 601),),
        (Leg(bench.bob, "CNY", 300), Leg(bench.issuance, "CNY", 301)),
        (Leg(bench.bob, "CNY", 0),),
        (Leg(bench.bob, "CNY", 10), Leg(bench.ann, "CNY", -5)),
        (Leg(bench.bob, "EUR", 10),),
    ):
        with pytest.raises(errors.MalformedHold):
            post_hold(bench.context(), hold_id, legs, is_final=True)
    with pytest.raises(errors.EntryMovesNothing):
        post_hold(bench.context(), hold_id, (Leg(bench.ann, "CNY", 600),), is_final=True)
    assert balance(bench, bench.ann) == (1_000, 600)


def test_malformed_holds(bench: Holders) -> None:
    for amount in (0, -1, MAX + 1):
        with pytest.raises(errors.MalformedHold):
            hold(bench, amount)
    for controller, reference in (("", b""), ("m" * 33, b""), ("assets", bytes(513))):
        with pytest.raises(errors.MalformedHold):
            place(bench.context(), bench.ann, "CNY", 1, controller, reference, TIME_MS + 1)
    for expires_at_ms in (TIME_MS, TIME_MS - 1, 0, 2**53 + 1):
        with pytest.raises(errors.TriggerNotAhead):
            hold(bench, 1, expires_at_ms)
    with pytest.raises(errors.AssetUnknown):
        place(bench.context(), bench.ann, "USD", 1, "assets", b"", TIME_MS + 1)
    with pytest.raises(errors.AccountUnknown):
        place(bench.context(), bytes(32), "CNY", 1, "assets", b"", TIME_MS + 1)


def test_held_amounts_stay_within_range(bench: Holders) -> None:
    bench.issue("CNY", bench.issuance, bench.ann, MAX - 1_000)
    set_limit(bench.context(), bench.ann, "CNY", MAX)
    hold(bench, MAX)
    with pytest.raises(errors.BalanceOutOfRange):
        hold(bench, 1)


def test_frozen_accounts_place_and_post_nothing_but_void_and_expire(bench: Holders) -> None:
    first, second = hold(bench, 100), hold(bench, 200)
    set_asset_frozen(bench.context(), bench.ann, "CNY", True)
    with pytest.raises(errors.AssetFrozenForAccount):
        hold(bench, 1)
    with pytest.raises(errors.AssetFrozenForAccount):
        pay(bench, first, 1)
    set_asset_frozen(bench.context(), bench.ann, "CNY", False)
    set_frozen(bench.context(), bench.ann, True, BY_GOVERNANCE, "order 9")
    with pytest.raises(errors.AccountFrozen):
        hold(bench, 1)
    with pytest.raises(errors.AccountFrozen):
        pay(bench, first, 1)
    void(bench.context(), first)
    expire(bench.context(), ExpireHold(second))
    assert balance(bench, bench.ann) == (1_000, 0)


def test_voiding_gives_back(bench: Holders) -> None:
    hold_id = hold(bench)
    pay(bench, hold_id, 100)
    ctx = bench.context()
    void(ctx, hold_id)
    assert balance(bench, bench.ann) == (900, 0)
    assert ctx.events == [HoldVoided(hold_id, bench.ann, None, "CNY", 500)]
    assert list(HOLDS.scan(bench.state)) == []
    assert list(SCHEDULED.scan(bench.state)) == []
    with pytest.raises(errors.HoldUnknown):
        void(bench.context(), hold_id)


def test_expiry_at_the_exact_millisecond(bench: Holders) -> None:
    hold_id = hold(bench, 600, TIME_MS + 1_000)
    bench.time_ms = TIME_MS + 999
    assert due(bench.state, bench.time_ms, 10) == []
    pay(bench, hold_id, 1)
    bench.time_ms = TIME_MS + 1_000
    with pytest.raises(errors.HoldPastExpiry, match="block time is"):
        pay(bench, hold_id, 1)  # not yet expired by its trigger, as behind a backlog of others
    [(key, trigger)] = due(bench.state, bench.time_ms, 10)
    # MessagePack by hand: array of tag "ledger.ExpireHold" (17 characters) and the id, bin of 32.
    assert (trigger.tag, trigger.data) == ("ledger.ExpireHold", b"\x92\xb1ledger.ExpireHold\xc4\x20" + hold_id)
    remove(bench.state, key)
    ctx = bench.context()
    expire(ctx, ExpireHold(hold_id))
    assert ctx.events == [HoldExpired(hold_id, bench.ann, None, "CNY", 599, "assets", b"order 7")]
    assert balance(bench, bench.ann) == (999, 0)
    with pytest.raises(errors.HoldUnknown):
        pay(bench, hold_id, 1)


def test_a_holds_beneficiary_may_read_what_becomes_of_it(bench: Holders) -> None:
    def placed() -> tuple[bytes, list[Event]]:
        ctx = bench.context()
        arguments = (bench.ann, "CNY", 5, "assets", b"", TIME_MS + 1_000)
        return place(ctx, *arguments, beneficiary=bench.bob), ctx.events

    first, events = placed()
    assert events == [HoldPlaced(first, bench.ann, bench.bob, "CNY", 5, "assets", b"", TIME_MS + 1_000)]
    assert require_hold(bench.state, first).beneficiary == bench.bob
    events += pay(bench, first, 2).events[1:]
    assert require_hold(bench.state, first).beneficiary == bench.bob
    ctx = bench.context()
    void(ctx, first)
    events += ctx.events
    second, _ = placed()
    ctx = bench.context()
    expire(ctx, ExpireHold(second))
    events += ctx.events
    assert events[1:] == [
        HoldPosted(first, bench.ann, bench.bob, "CNY", 2, 0, 3),
        HoldVoided(first, bench.ann, bench.bob, "CNY", 3),
        HoldExpired(second, bench.ann, bench.bob, "CNY", 5, "assets", b""),
    ]
    assert {event.accounts() for event in events} == {(bench.ann, bench.bob)}
    with pytest.raises(errors.AccountUnknown):
        place(bench.context(), bench.ann, "CNY", 5, "assets", b"", TIME_MS + 1_000, beneficiary=bytes(32))


def test_so_many_holds_are_open_at_once(bench: Holders) -> None:
    bench.asset("EUR", "harbour", bench.issuance)
    bench.issue("EUR", bench.issuance, bench.ann, 1)
    bench.issue("CNY", bench.issuance, bench.bob, 1)
    bench.issue("CNY", bench.issuance, bench.ann, 9)
    ids = [hold(bench, 1) for _ in range(1_000)]
    ends = (
        lambda: void(bench.context(), ids.pop()),
        lambda: expire(bench.context(), ExpireHold(ids.pop())),
        lambda: pay(bench, ids.pop(), 1),
    )
    for end in ends:
        with pytest.raises(errors.TooManyHolds, match="has 1000 open holds of CNY; at most 1000"):
            hold(bench, 1)
        end()
        ids.append(hold(bench, 1))
    for account, code in ((bench.ann, "EUR"), (bench.bob, "CNY")):
        place(bench.context(), account, code, 1, "assets", b"", TIME_MS + 1_000)
    assert {key: count.open for key, count in HOLD_COUNTS.scan(bench.state)} == {
        balance_key(bench.ann, "CNY"): 1_000,
        balance_key(bench.ann, "EUR"): 1,
        balance_key(bench.bob, "CNY"): 1,
    }
    for hold_id in ids:
        void(bench.context(), hold_id)
    assert HOLD_COUNTS.get(bench.state, balance_key(bench.ann, "CNY")) is None


def test_a_late_hold_may_still_be_voided(bench: Holders) -> None:
    hold_id = hold(bench, 600, TIME_MS + 1)
    bench.time_ms = TIME_MS + 1
    void(bench.context(), hold_id)
    assert due(bench.state, bench.time_ms, 10) == []


def test_holds_belong_to_their_module(bench: Holders) -> None:
    hold_id = hold(bench)
    assert require_hold(bench.state, hold_id, "assets").reference == b"order 7"
    with pytest.raises(errors.NotHoldController, match="belongs to assets, not to payments"):
        require_hold(bench.state, hold_id, "payments")
