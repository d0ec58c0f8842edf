"""What this node took in and tells its peers of: in bundles that it signs, again when they stay uncommitted.

CometBFT sends a bundle to each peer once, without resending, and drops bytes that it has seen: the counter in a bundle
makes those that are offered again other bytes.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from feiqian.consensus.comet.gossip import MAX_GOSSIP_BYTES

OFFER_AGAIN_BLOCKS = 3
"""A bundle whose transactions are still pooled so many blocks with room after it was offered is offered again."""

OFFER_AGAIN_FULL_BLOCKS = 30
"""So many where blocks are full: what waits for its turn was not lost, and telling of it again takes from what is."""

BUNDLE_HEAD_BYTES = 256
ENTRY_HEAD_BYTES = 5


class _Offered(NamedTuple):
    """A bundle that peers were told of, after which block and after how many with room."""

    height: int
    with_room: int
    transactions: tuple[bytes, ...]


Seal = Callable[[int, Sequence[bytes]], bytes]
"""Makes the signed bundle of a counter and transactions."""


class Offers:
    """Belongs to one event loop. `is_pooled` says whether a transaction still waits for a block."""

    def __init__(self, seal: Seal, first_counter: int, is_pooled: Callable[[bytes], bool]) -> None:
        """`first_counter` is above every one that this node has used before."""
        self._seal = seal
        self._counter = first_counter
        self._is_pooled = is_pooled
        self._new: deque[bytes] = deque()
        self._offered: deque[_Offered] = deque()
        self._height = 0
        self._with_room = 0
        self.told_again = 0
        """Bundles whose transactions stayed uncommitted, and were offered again."""

    def add(self, transactions: Iterable[bytes]) -> None:
        """Offer transactions that were just taken in here."""
        self._new.extend(transactions)

    def take(self, max_bytes: int) -> list[bytes]:
        """Return bundles to be sent now, of at most so many bytes together; what is left comes with the next call."""
        bundles: list[bytes] = []
        while self._new:
            transactions = self._take_bundle(min(MAX_GOSSIP_BYTES, max_bytes) - BUNDLE_HEAD_BYTES)
            if not transactions:
                break
            bundle = self._seal(self._counter, transactions)
            self._counter += 1
            self._offered.append(_Offered(self._height, self._with_room, transactions))
            bundles.append(bundle)
            max_bytes -= len(bundle)
        return bundles

    def committed(self, height: int, *, had_room: bool) -> None:
        """Take note of a block: what was offered long ago and still waits is offered again.

        `had_room`: it holds all that its proposer knew of, so that what it lacks may not have reached that one.
        """
        self._height = height
        self._with_room += had_room
        while self._offered and (
            self._offered[0].with_room <= self._with_room - OFFER_AGAIN_BLOCKS
            or self._offered[0].height <= height - OFFER_AGAIN_FULL_BLOCKS
        ):
            self._offer_again(self._offered.popleft().transactions)

    def peer_joined(self) -> None:
        """Offer again whatever still waits: the peer has seen none of it."""
        while self._offered:
            self._offer_again(self._offered.popleft().transactions)

    def _offer_again(self, transactions: tuple[bytes, ...]) -> None:
        still_waiting = [signed for signed in transactions if self._is_pooled(signed)]
        self._new.extend(still_waiting)
        self.told_again += bool(still_waiting)

    def _take_bundle(self, max_bytes: int) -> tuple[bytes, ...]:
        transactions: list[bytes] = []
        while self._new and len(self._new[0]) + ENTRY_HEAD_BYTES <= max_bytes:
            signed = self._new.popleft()
            if self._is_pooled(signed):
                transactions.append(signed)
                max_bytes -= len(signed) + ENTRY_HEAD_BYTES
        return tuple(transactions)
