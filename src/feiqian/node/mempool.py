"""Transactions that wait for a block: bounded, fair between sponsors, known by their whole signed bytes.

What is here was decoded, verified and admitted once; nothing is done twice. A copy with other signatures is another
entry, so that it cannot stand in the true one's way.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from typing import NamedTuple

from feiqian.core.errors import InvalidTransaction
from feiqian.execution.admission import Prepared
from feiqian.ledger.errors import TransactionExpired
from feiqian.node.errors import NodeError, PoolFull, SponsorShareFull, TooLargeForBlock

QUANTUM_BYTES = 4096
"""What a sponsor may put into a block at each of its turns; what it leaves is credited to its next turn."""

BUNDLING_BYTES = 5
"""What a bundle adds to a transaction at most: the head of a MessagePack byte string."""

ENTRY_BYTES = 2048
"""What an entry costs in memory beside its signed bytes: the decoded transaction, its keys, its places in the pool."""


class PoolSize(NamedTuple):
    """What the pool holds, transactions on their way into a block included."""

    transactions: int
    bytes: int


class Left(NamedTuple):
    """A transaction that left the pool and may stand in no block, with the rule that says so."""

    prepared: Prepared
    refusal: InvalidTransaction


class _Sponsor:
    """One sponsor's transactions in order of arrival, and what it holds altogether."""

    __slots__ = ("credit_bytes", "held_bytes", "held_transactions", "queue")

    def __init__(self) -> None:
        self.queue: OrderedDict[bytes, Prepared] = OrderedDict()
        self.held_transactions = 0
        self.held_bytes = 0
        self.credit_bytes = 0


class Mempool:
    """The pool. Every method may be called from any thread.

    A sponsor is given room as long as it holds no more than what is free for everyone: alone it may fill half of the
    pool, two may fill a third each, and a newcomer always finds room (dynamic thresholds, Choudhury and Hahne 1998).
    """

    def __init__(self, max_transactions: int, max_bytes: int) -> None:
        self._max_transactions = max_transactions
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: dict[bytes, Prepared] = {}
        self._sponsors: dict[str, _Sponsor] = {}
        self._turns: deque[str] = deque()
        self._early: list[tuple[int, bytes]] = []
        self._left: list[Left] = []
        self._bytes = 0
        self._waiting = 0
        self._checking = 0

    @property
    def size(self) -> PoolSize:
        """What is held, what a block in the making has taken included."""
        return PoolSize(len(self._entries), self._bytes)

    @property
    def waiting(self) -> int:
        """How many transactions a block could be cut from."""
        return self._waiting

    @property
    def checking(self) -> int:
        """How many transactions are being checked, to wait here if nothing is wrong with them."""
        return self._checking

    @contextmanager
    def expect(self, count: int) -> Iterator[None]:
        """Let so many count as being checked meanwhile."""
        with self._lock:
            self._checking += count
        try:
            yield
        finally:
            with self._lock:
                self._checking -= count

    @property
    def next_early_ms(self) -> int | None:
        """When the next transaction that waits apart may stand in a block."""
        early = self._early
        return early[0][0] if early else None

    def find(self, signed: bytes) -> Prepared | None:
        """Return the entry with exactly these signed bytes, or None."""
        return self._entries.get(signed)

    def refusal(self, sponsor: str, size_bytes: int) -> NodeError | None:
        """Say why there is no room for a transaction of this sponsor now, or None if there is."""
        free_transactions = self._max_transactions - len(self._entries)
        free_bytes = self._max_bytes - self._bytes - size_bytes - ENTRY_BYTES
        if free_transactions < 1 or free_bytes < 0:
            return PoolFull(f"the pool holds {len(self._entries)} transactions, {self._bytes} bytes; send again later")
        held = self._sponsors.get(sponsor)
        if held and (held.held_transactions >= free_transactions or held.held_bytes > free_bytes):
            return SponsorShareFull(
                f"{held.held_transactions} transactions, {held.held_bytes} bytes of {sponsor!r} wait; send again later"
            )
        return None

    def add(self, prepared: Prepared, not_before_ms: int | None = None) -> NodeError | None:
        """Take an admitted transaction, or say why there is no room. Taking it twice changes nothing.

        `not_before_ms`: it may stand in no block before this time, and waits apart till then.
        """
        signed, sponsor = prepared.signed, prepared.transaction.sponsor
        with self._lock:
            if signed in self._entries:
                return None
            refusal = self.refusal(sponsor, len(signed))
            if refusal is not None:
                return refusal
            held = self._sponsors.setdefault(sponsor, _Sponsor())
            held.held_transactions += 1
            held.held_bytes += len(signed) + ENTRY_BYTES
            self._entries[signed] = prepared
            self._bytes += len(signed) + ENTRY_BYTES
            if not_before_ms is None:
                self._enqueue(prepared)
            else:
                heappush(self._early, (not_before_ms, signed))
        return None

    def cut(self, time_ms: int, max_bytes: int, max_work: int) -> list[Prepared]:
        """Return what the next block at `time_ms` may hold, sponsors served in turn; it stays in the pool meanwhile.

        `max_bytes` bounds the bundles, `max_work` the work of taking the transactions in. What has expired, or fits no
        block, is dropped.
        Hand back every transaction with `put_back` or `settle`.
        """
        chosen: list[Prepared] = []
        left_bytes, left_work = max_bytes, max_work
        with self._lock:
            self._release_early(time_ms)
            while self._turns:
                name = self._turns[0]
                sponsor = self._sponsors.get(name)
                credit = sponsor.credit_bytes + QUANTUM_BYTES if sponsor else 0
                while sponsor and sponsor.queue:
                    prepared = next(iter(sponsor.queue.values()))
                    size_bytes = len(prepared.signed) + BUNDLING_BYTES
                    if prepared.transaction.expires_at_ms < time_ms or size_bytes > max_bytes:
                        self._drop_waiting(prepared, time_ms)
                        continue
                    if size_bytes > left_bytes or left_work <= 0:
                        self._end_turn(name, 0)
                        return chosen
                    if size_bytes > credit:
                        break
                    del sponsor.queue[prepared.signed]
                    self._waiting -= 1
                    chosen.append(prepared)
                    left_bytes -= size_bytes
                    left_work -= prepared.admission_work
                    credit -= size_bytes
                self._end_turn(name, credit)
        return chosen

    def put_back(self, transactions: Iterable[Prepared]) -> None:
        """Return transactions that a block had no room for to the head of their sponsors' queues, in their order."""
        with self._lock:
            for prepared in reversed(list(transactions)):
                if prepared.signed in self._entries:
                    self._enqueue(prepared, at_head=True)

    def settle(self, transactions: Iterable[Prepared]) -> None:
        """Forget transactions that a block took, this node's or another's; those that were never here are no matter."""
        with self._lock:
            for prepared in transactions:
                sponsor = self._sponsors.get(prepared.transaction.sponsor)
                if sponsor is not None and sponsor.queue.pop(prepared.signed, None) is not None:
                    self._waiting -= 1
                self._remove(prepared)

    def drop(self, left: Iterable[Left]) -> None:
        """Forget transactions that were cut and may stand in no block."""
        with self._lock:
            for each in left:
                self._remove(each.prepared)
                self._left.append(each)

    def take_left(self) -> list[Left]:
        """Return what was dropped since this was last asked."""
        if not self._left:
            return []
        with self._lock:
            left, self._left = self._left, []
        return left

    def held_ids(self) -> set[bytes]:
        """Return the id of everything held; takes as long as that is much."""
        with self._lock:
            return {prepared.tx_id for prepared in self._entries.values()}

    def evict_expired(self, time_ms: int) -> int:
        """Drop every waiting transaction that expired before `time_ms`; return how many."""
        dropped = 0
        with self._lock:
            self._release_early(time_ms)
            for sponsor in list(self._sponsors.values()):
                expired = [entry for entry in sponsor.queue.values() if entry.transaction.expires_at_ms < time_ms]
                for prepared in expired:
                    self._drop_waiting(prepared, time_ms)
                dropped += len(expired)
        return dropped

    def _enqueue(self, prepared: Prepared, *, at_head: bool = False) -> None:
        name = prepared.transaction.sponsor
        sponsor = self._sponsors[name]
        if not sponsor.queue and name not in self._turns:
            self._turns.append(name)
        sponsor.queue[prepared.signed] = prepared
        if at_head:
            sponsor.queue.move_to_end(prepared.signed, last=False)
        self._waiting += 1

    def _end_turn(self, name: str, credit: int) -> None:
        self._turns.popleft()
        sponsor = self._sponsors.get(name)
        if sponsor is None:
            return
        sponsor.credit_bytes = credit if sponsor.queue else 0
        if sponsor.queue:
            self._turns.append(name)

    def _release_early(self, time_ms: int) -> None:
        while self._early and self._early[0][0] <= time_ms:
            prepared = self._entries.get(heappop(self._early)[1])
            if prepared is not None:
                self._enqueue(prepared)

    def _drop_waiting(self, prepared: Prepared, time_ms: int) -> None:
        expires_at_ms = prepared.transaction.expires_at_ms
        if expires_at_ms < time_ms:
            refusal: InvalidTransaction = TransactionExpired(
                f"transaction expired at {expires_at_ms} ms; block time is {time_ms}"
            )
        else:
            refusal = TooLargeForBlock(f"transaction of {len(prepared.signed)} bytes; no block has room for it")
        self._left.append(Left(prepared, refusal))
        del self._sponsors[prepared.transaction.sponsor].queue[prepared.signed]
        self._waiting -= 1
        self._remove(prepared)

    def _remove(self, prepared: Prepared) -> None:
        if self._entries.pop(prepared.signed, None) is None:
            return
        name = prepared.transaction.sponsor
        sponsor = self._sponsors[name]
        sponsor.held_transactions -= 1
        sponsor.held_bytes -= len(prepared.signed) + ENTRY_BYTES
        self._bytes -= len(prepared.signed) + ENTRY_BYTES
        if not sponsor.held_transactions:
            del self._sponsors[name]
