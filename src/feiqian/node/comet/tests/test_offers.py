"""Gossip: what is offered, how much at once, and when again."""

from collections.abc import Sequence

from feiqian.consensus.comet.gossip import MAX_GOSSIP_BYTES
from feiqian.node.comet.offers import BUNDLE_HEAD_BYTES, OFFER_AGAIN_FULL_BLOCKS, Offers

EVERYTHING = 2**30


class Pool(set[bytes]):
    """Signed transactions that wait for a block."""


def sealed(counter: int, transactions: Sequence[bytes]) -> bytes:
    return b"%d:" % counter + b"|".join(transactions)


def offers_of(pool: Pool) -> Offers:
    return Offers(sealed, 7, pool.__contains__)


def test_what_was_taken_in_is_offered_once() -> None:
    pool = Pool([b"a", b"b"])
    offers = offers_of(pool)
    offers.add([b"a", b"b"])
    assert offers.take(EVERYTHING) == [b"7:a|b"]
    assert offers.take(EVERYTHING) == []


def test_what_is_committed_before_it_was_sent_is_not_offered() -> None:
    pool = Pool([b"a", b"b"])
    offers = offers_of(pool)
    offers.add([b"a", b"b"])
    pool.remove(b"a")
    assert offers.take(EVERYTHING) == [b"7:b"]


def test_what_waits_three_blocks_is_offered_again_in_other_bytes() -> None:
    pool = Pool([b"a", b"b"])
    offers = offers_of(pool)
    offers.committed(10, had_room=True)
    offers.add([b"a", b"b"])
    assert offers.take(EVERYTHING) == [b"7:a|b"]
    pool.remove(b"a")
    for height in (11, 12):
        offers.committed(height, had_room=True)
        assert offers.take(EVERYTHING) == []
    offers.committed(13, had_room=True)
    assert offers.take(EVERYTHING) == [b"8:b"]
    for height in (14, 15, 16):
        offers.committed(height, had_room=True)
    assert offers.take(EVERYTHING) == [b"9:b"]
    pool.clear()
    for height in (17, 18, 19):
        offers.committed(height, had_room=True)
    assert offers.take(EVERYTHING) == []
    assert offers.told_again == 2


def test_what_full_blocks_leave_out_waits_for_its_turn_and_is_not_told_again() -> None:
    pool = Pool([b"a"])
    offers = offers_of(pool)
    offers.committed(10, had_room=True)
    offers.add([b"a"])
    assert offers.take(EVERYTHING) == [b"7:a"]
    for height in range(11, 21):
        offers.committed(height, had_room=height in (12, 15))
        assert offers.take(EVERYTHING) == []
    offers.committed(21, had_room=True)
    assert offers.take(EVERYTHING) == [b"8:a"]


def test_what_waits_while_all_blocks_are_full_is_told_again_now_and_then() -> None:
    pool = Pool([b"a"])
    offers = offers_of(pool)
    offers.committed(10, had_room=False)
    offers.add([b"a"])
    assert offers.take(EVERYTHING) == [b"7:a"]
    told: list[int] = []
    for height in range(11, 11 + 2 * OFFER_AGAIN_FULL_BLOCKS):
        offers.committed(height, had_room=False)
        if offers.take(EVERYTHING):
            told.append(height)
    assert told == [40, 70]


def test_a_peer_that_joins_is_offered_all_that_waits() -> None:
    pool = Pool([b"a", b"b"])
    offers = offers_of(pool)
    offers.add([b"a"])
    assert offers.take(EVERYTHING) == [b"7:a"]
    offers.add([b"b"])
    offers.peer_joined()
    assert offers.take(EVERYTHING) == [b"8:b|a"]


def test_bundles_are_cut_at_their_limit_and_what_is_left_follows() -> None:
    transactions = [bytes([number]) * (MAX_GOSSIP_BYTES // 3) for number in range(1, 6)]
    pool = Pool(transactions)
    offers = offers_of(pool)
    offers.add(transactions)
    first = offers.take(MAX_GOSSIP_BYTES + BUNDLE_HEAD_BYTES)
    assert first == [sealed(7, transactions[:2])]
    assert offers.take(EVERYTHING) == [sealed(8, transactions[2:4]), sealed(9, transactions[4:])]
