"""The pool: bounds, room for newcomers, turns between sponsors, expiry, and copies with other signatures."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from feiqian.core.signatures import ED25519, PublicKey
from feiqian.core.transactions import Transaction
from feiqian.execution.admission import Prepared
from feiqian.ledger.errors import NotAuthorised
from feiqian.node.errors import PoolFull, SponsorShareFull
from feiqian.node.mempool import BUNDLING_BYTES, ENTRY_BYTES, QUANTUM_BYTES, Left, Mempool

NOW_MS = 1_800_000_000_000
MANY = 2**40
KEY = PublicKey(ED25519, bytes(range(32)))


def entry(sponsor: str, number: int, *, size_bytes: int = 200, expires_at_ms: int = NOW_MS + 1000) -> Prepared:
    signed = f"{sponsor}/{number}/".encode().ljust(size_bytes, b".")
    transaction: Transaction[Any] = Transaction(1, "pool-1", sponsor, expires_at_ms, bytes(8), ())
    return Prepared(signed, number.to_bytes(32, "big"), transaction, frozenset([KEY]), 1_000 + size_bytes)


def pool_of(*entries: Prepared, transactions: int = 10_000, size_bytes: int = 2**24) -> Mempool:
    pool = Mempool(transactions, size_bytes)
    for each in entries:
        assert pool.add(each) is None
    return pool


def cut(pool: Mempool, *, max_bytes: int = MANY, max_work: int = MANY, time_ms: int = NOW_MS) -> list[Prepared]:
    return pool.cut(time_ms, max_bytes, max_work)


def test_one_sponsor_is_served_in_order_of_arrival() -> None:
    entries = [entry("oak", number) for number in range(5)]
    assert cut(pool_of(*entries)) == entries


def test_sponsors_are_served_in_turn_however_much_one_sends() -> None:
    flood = [entry("oak", number) for number in range(300)]
    pool = pool_of(*flood, entry("elm", 1), entry("ash", 1))
    # A turn is 4,096 bytes: 19 transactions of 205 bytes as they stand in a bundle, and some credit is left over.
    chosen = cut(pool, max_bytes=QUANTUM_BYTES * 2)
    sponsors = [each.transaction.sponsor for each in chosen]
    assert sponsors[:21] == ["oak"] * 19 + ["elm", "ash"]
    assert set(sponsors[21:]) == {"oak"}


def test_a_sponsor_of_large_transactions_gets_no_more_bytes_than_one_of_small_ones() -> None:
    large = [entry("oak", number, size_bytes=16_000) for number in range(20)]
    small = [entry("elm", number, size_bytes=500) for number in range(600)]
    chosen = cut(pool_of(*large, *small), max_bytes=200_000)
    held = {
        name: sum(len(each.signed) for each in chosen if each.transaction.sponsor == name) for name in ("oak", "elm")
    }
    assert abs(held["oak"] - held["elm"]) <= 16_000 + QUANTUM_BYTES
    assert sum(held.values()) + BUNDLING_BYTES * len(chosen) <= 200_000


def test_the_next_block_begins_with_the_sponsor_after_the_last_one() -> None:
    pool = pool_of(*[entry(name, number) for name in ("oak", "elm") for number in range(40)])
    first = cut(pool, max_bytes=QUANTUM_BYTES)
    second = cut(pool, max_bytes=QUANTUM_BYTES)
    assert {each.transaction.sponsor for each in first} == {"oak"}
    assert second[0].transaction.sponsor == "elm"


def test_work_bounds_a_cut() -> None:
    # One signature is 1,000 units, a byte 1: 1,200 for each of these; the one that crosses the bound still goes in.
    entries = [entry("oak", number) for number in range(10)]
    assert cut(pool_of(*entries), max_work=3_500) == entries[:3]


def test_the_pool_never_holds_more_than_its_bounds() -> None:
    pool = Mempool(10, 2**24)
    verdicts = [pool.add(entry(f"s{number}", number)) for number in range(12)]
    assert [type(verdict) for verdict in verdicts] == [type(None)] * 10 + [PoolFull] * 2
    small = Mempool(1000, 3 * (200 + ENTRY_BYTES))
    verdicts = [small.add(entry(f"s{number}", number)) for number in range(4)]
    assert [type(verdict) for verdict in verdicts] == [type(None)] * 3 + [PoolFull]


def test_one_sponsor_cannot_fill_the_pool_and_a_newcomer_finds_room() -> None:
    pool = Mempool(100, 2**24)
    taken = sum(pool.add(entry("oak", number)) is None for number in range(200))
    assert taken == 50  # Half: what it holds may not exceed what is free.
    assert isinstance(pool.add(entry("oak", 999)), SponsorShareFull)
    taken = sum(pool.add(entry("elm", number)) is None for number in range(200))
    assert taken == 25
    assert pool.add(entry("ash", 1)) is None


def test_bytes_count_towards_a_sponsors_share() -> None:
    pool = Mempool(1000, 40 * 10_000)
    taken = sum(pool.add(entry("oak", number, size_bytes=10_000 - ENTRY_BYTES)) is None for number in range(40))
    assert taken == 20
    assert pool.add(entry("elm", 1, size_bytes=100)) is None


def test_room_comes_back_when_a_block_has_taken_what_was_there() -> None:
    pool = Mempool(4, 2**24)
    entries = [entry("oak", number) for number in range(2)]
    assert [pool.add(each) for each in entries] == [None, None]
    assert isinstance(pool.add(entry("oak", 9)), SponsorShareFull)
    chosen = cut(pool)
    assert isinstance(pool.add(entry("oak", 9)), SponsorShareFull)  # Taken into a block is not yet gone.
    pool.settle(chosen)
    assert pool.size == (0, 0)
    assert pool.add(entry("oak", 9)) is None


def test_the_same_bytes_are_held_once_and_known_until_they_are_settled() -> None:
    one = entry("oak", 1)
    pool = pool_of(one, one)
    assert pool.size.transactions == 1
    assert cut(pool) == [one]
    assert pool.find(one.signed) is one
    assert pool.add(one) is None
    assert cut(pool) == []
    pool.settle([one])
    assert pool.find(one.signed) is None


def test_a_copy_with_other_signatures_does_not_stand_in_the_true_ones_way() -> None:
    true = entry("oak", 1)
    altered = replace(true, signed=true.signed + b"altered")
    pool = pool_of(altered, true)
    assert cut(pool) == [altered, true]
    pool.settle([altered])
    assert pool.find(true.signed) is true


def test_the_expired_are_dropped_from_a_cut_and_by_eviction() -> None:
    dead, live = entry("oak", 1, expires_at_ms=NOW_MS - 1), entry("oak", 2, expires_at_ms=NOW_MS)
    pool = pool_of(dead, live)
    assert cut(pool) == [live]
    assert pool.find(dead.signed) is None
    pool = pool_of(dead, live)
    assert pool.evict_expired(NOW_MS) == 1
    assert pool.size.transactions == pool.waiting == 1
    assert pool.evict_expired(NOW_MS + 1) == 1
    assert pool.size == (0, 0)
    assert cut(pool) == []


def test_what_waits_apart_is_evicted_when_it_has_expired_too() -> None:
    early = entry("oak", 1, expires_at_ms=NOW_MS + 100)
    pool = pool_of()
    assert pool.add(early, not_before_ms=NOW_MS + 50) is None
    assert (pool.evict_expired(NOW_MS + 49), pool.evict_expired(NOW_MS + 100)) == (0, 0)
    assert pool.evict_expired(NOW_MS + 101) == 1
    assert pool.size == (0, 0)


def test_what_was_dropped_is_handed_out_once_with_the_rule_that_says_why() -> None:
    dead = [entry("oak", number, expires_at_ms=NOW_MS - 1) for number in range(3)]
    huge, live, unwanted = (
        entry("elm", 4, size_bytes=5000),
        entry("elm", 5),
        entry("elm", 6),
    )
    pool = pool_of(*dead, huge, live, unwanted)
    assert pool.take_left() == []
    assert cut(pool, max_bytes=4000) == [live, unwanted]
    refusal = NotAuthorised("no rule allows it")
    pool.drop([Left(unwanted, refusal)])
    left = pool.take_left()
    assert [each.prepared for each in left] == [*dead, huge, unwanted]
    rules = [(each.refusal.codespace, each.refusal.number) for each in left]
    assert rules == [("ledger", 38)] * 3 + [("node", 3), ("ledger", 10)]
    assert left[0].refusal.message == f"transaction expired at {NOW_MS - 1} ms; block time is {NOW_MS}"
    assert pool.take_left() == []
    # What a block has taken is held until it is on disk.
    assert pool.held_ids() == {live.tx_id}
    pool.settle([live])
    assert pool.held_ids() == set()
    assert pool.take_left() == []


def test_what_comes_too_early_is_kept_apart_until_its_time() -> None:
    early, now = entry("oak", 1, expires_at_ms=NOW_MS + 5_000), entry("oak", 2)
    pool = pool_of(now)
    assert pool.add(early, not_before_ms=NOW_MS + 100) is None
    assert (pool.waiting, pool.size.transactions, pool.next_early_ms) == (1, 2, NOW_MS + 100)
    assert cut(pool, time_ms=NOW_MS + 99) == [now]
    assert cut(pool, time_ms=NOW_MS + 100) == [early]
    assert pool.next_early_ms is None


def test_what_is_being_checked_counts_until_it_is_not_whatever_happens() -> None:
    pool = Mempool(10, 2**24)

    def fail() -> None:
        with pool.expect(2):
            assert pool.checking == 5
            raise RuntimeError

    with pool.expect(3), pytest.raises(RuntimeError):
        fail()
    assert (pool.checking, pool.waiting, pool.size.transactions) == (0, 0, 0)


def test_what_had_no_room_comes_first_next_time() -> None:
    entries = [entry("oak", number) for number in range(6)]
    pool = pool_of(*entries)
    chosen = cut(pool)
    pool.put_back(chosen[2:])
    pool.settle(chosen[:2])
    assert cut(pool) == entries[2:]


def test_what_no_block_can_hold_blocks_nobody() -> None:
    huge, small = entry("oak", 1, size_bytes=5000), entry("oak", 2)
    pool = pool_of(huge, small)
    assert cut(pool, max_bytes=4000) == [small]
    assert pool.find(huge.signed) is None


@given(
    st.lists(
        st.tuples(st.sampled_from(["oak", "elm", "ash"]), st.integers(1, 6000), st.integers(-50, 50)), max_size=60
    ),
    st.integers(100, 40_000),
)
def test_cutting_until_nothing_is_left_gives_every_live_transaction_once(
    arrivals: list[tuple[str, int, int]], max_bytes: int
) -> None:
    entries = [
        entry(sponsor, number, size_bytes=size_bytes, expires_at_ms=NOW_MS + lifetime_ms)
        for number, (sponsor, size_bytes, lifetime_ms) in enumerate(arrivals)
    ]
    pool = pool_of(*entries, size_bytes=2**30)
    seen: list[Prepared] = []
    while chosen := cut(pool, max_bytes=max_bytes):
        assert sum(len(each.signed) + BUNDLING_BYTES for each in chosen) <= max_bytes
        seen += chosen
        pool.settle(chosen)
    fitting = [
        each
        for each in entries
        if each.transaction.expires_at_ms >= NOW_MS and len(each.signed) + BUNDLING_BYTES <= max_bytes
    ]
    assert sorted(seen, key=lambda each: each.tx_id) == fitting
    for name in ("oak", "elm", "ash"):
        mine = [each.tx_id for each in seen if each.transaction.sponsor == name]
        assert mine == sorted(mine)
    assert pool.size == (0, 0)
    assert pool.waiting == 0


def test_what_another_nodes_block_took_is_cut_no_more() -> None:
    taken, early, left = entry("oak", 1), entry("oak", 2), entry("oak", 3)
    pool = pool_of(taken, left)
    assert pool.add(early, NOW_MS + 10) is None
    pool.settle([taken, early, entry("elm", 9)])
    assert (pool.waiting, pool.size.transactions, pool.find(taken.signed)) == (1, 1, None)
    assert cut(pool, time_ms=NOW_MS + 20) == [left]
    pool.settle([left])
    assert pool.size == (0, 0)
