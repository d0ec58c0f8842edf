"""What was accepted and then dropped, as the node tells it: kept for a while, for who asks after such a transaction."""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from feiqian.api.access import Parties
from feiqian.core.wire import Drop

KEPT_DROPS = 50_000
KEPT_S = 600.0
"""A transaction may wait no longer than the replay window, ten minutes at most, and so may who waits for it."""

PartiesOf = Callable[[Iterable[bytes], Iterable[str]], Parties]
"""Returns whom these accounts, and these members, are."""


class KeptDrop(NamedTuple):
    """One dropped transaction; `place` orders them, `parties` are whom it concerns."""

    place: int
    at_s: float
    drop: Drop
    parties: Parties


class Drops:
    """The latest drops, bounded by number and age. Lives on the event loop."""

    def __init__(self, parties: PartiesOf, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._parties = parties
        self._clock_s = clock_s
        self._kept: OrderedDict[bytes, KeptDrop] = OrderedDict()
        self.count = 0
        """How many came since this gateway began."""

    def add(self, drops: Iterable[Drop]) -> None:
        """Keep what the node told; what it tells again, after a connection was lost, changes nothing."""
        for drop in drops:
            known = self._kept.get(drop.tx_id)
            if known is not None and known.drop == drop:
                continue
            self.count += 1
            kept = KeptDrop(self.count, self._clock_s(), drop, self._parties(drop.accounts, [drop.sponsor]))
            self._kept[drop.tx_id] = kept
            self._kept.move_to_end(drop.tx_id)
        self._forget_old()

    def find(self, tx_id: bytes) -> KeptDrop | None:
        """Return what is known of a dropped transaction."""
        self._forget_old()
        return self._kept.get(tx_id)

    def has_since(self, count: int) -> bool:
        """Say whether any came after this many."""
        return self.count > count

    def since(self, count: int) -> list[KeptDrop]:
        """Return those that came after this many, oldest first."""
        found: list[KeptDrop] = []
        if self.has_since(count):
            newest_first: Iterator[KeptDrop] = reversed(self._kept.values())
            for kept in newest_first:
                if kept.place <= count:
                    break
                found.append(kept)
        return found[::-1]

    def forget(self, tx_ids: Iterable[bytes], until: int) -> None:
        """Forget what was sent again and accepted again; not what was dropped after this many."""
        if not self._kept:
            return
        for tx_id in tx_ids:
            kept = self._kept.get(tx_id)
            if kept is not None and kept.place <= until:
                del self._kept[tx_id]

    def _forget_old(self) -> None:
        oldest_s = self._clock_s() - KEPT_S
        while self._kept:
            first = next(iter(self._kept.values()))
            if len(self._kept) <= KEPT_DROPS and first.at_s >= oldest_s:
                return
            del self._kept[first.drop.tx_id]
