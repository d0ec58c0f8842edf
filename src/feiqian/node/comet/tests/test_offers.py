"""Gossip: what is offered, how much at once, and when again."""

from collections.abc import Sequence

from feiqian.consensus.comet.gossip import MAX_GOSSIP_BYTES
from feiqian.node.comet.offers import BUNDLE_HEAD_BYTES, Offers

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
    offers.committed(10)
    offers.add([b"a", b"b"])
    assert offers.take(EVERYTHING) == [b"7:a|b"]
    pool.remove(b"a")
    for height in (11, 12):
        offers.committed(height)
        assert offers.take(EVERYTHING) == []
    offers.committed(13)
    assert offers.take(EVERYTHING) == [b"8:b"]
    offers.committed(16)
    assert offers.take(EVERYTHING) == [b"9:b"]
    pool.clear()
    offers.committed(19)
    assert offers.take(EVERYTHING) == []
    assert offers.told_again == 2


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
