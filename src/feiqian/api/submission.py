"""Takes batches of signed transactions to the node and waits, if asked, until each is committed or provable."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum

import msgspec

from feiqian.api.drops import Drops
from feiqian.api.node_link import NodeLink
from feiqian.api.problems import NodeAway, TooBusy
from feiqian.api.store_watch import StoreWatch
from feiqian.core.wire import Committed, Drop, Verdict
from feiqian.execution.blocks import RESULT, RESULTS_CODEC

MAX_BATCH_TRANSACTIONS = 5_000
MAX_PENDING_BYTES = 64 * 1024 * 1024
"""Bytes of submissions that this gateway holds for a node that has not answered; more is refused, never queued."""

REMEMBERED_RESULTS = 50_000
"""Results kept at hand, for a submitter whose block was quicker than the node's verdict."""

Lookup = Callable[[list[bytes]], Mapping[bytes, tuple[int, bytes]]]
"""Finds (height, encoded Result) of those ids that are on the ledger; may take long, so it is run on a thread."""


class Wait(Enum):
    """How far a submitter wants to see its transactions."""

    NOTHING = ""
    COMMITTED = "committed"
    PROVABLE = "provable"


class ErrorBody(msgspec.Struct):
    """The rule that a transaction broke."""

    codespace: str
    number: int
    message: str


class Outcome(msgspec.Struct, omit_defaults=True):
    """What is known of one submitted transaction.

    `status`: `refused` (never entered the pool; see `error`), `later` (no room now: send the same again after
    `retry_after_ms`), `accepted` (in the pool), `dropped` (was in the pool and left it for no block; see `error`),
    `committed` at `height`, `provable`. Of a committed one `error` says which rule refused it on the ledger, where one
    did. `tx_id` is hex, empty where the bytes are no transaction.
    """

    tx_id: str
    status: str
    height: int = 0
    error: ErrorBody | None = None
    retry_after_ms: int = 0


class _Found(msgspec.Struct, frozen=True, gc=False):
    height: int
    result: bytes


class _Waiter:
    """One request's transactions that are not on the ledger yet; one future for all, since each costs microseconds."""

    __slots__ = ("all_found", "dropped", "found", "missing")

    def __init__(self, tx_ids: Iterable[bytes], all_found: asyncio.Future[None]) -> None:
        self.missing = set(tx_ids)
        self.found: dict[bytes, _Found] = {}
        self.dropped: dict[bytes, Drop] = {}
        self.all_found = all_found

    def tell(self, tx_id: bytes, found: _Found) -> None:
        self.missing.discard(tx_id)
        self.found[tx_id] = found
        if not self.missing and not self.all_found.done():
            self.all_found.set_result(None)

    def tell_dropped(self, drop: Drop) -> None:
        self.missing.discard(drop.tx_id)
        self.dropped[drop.tx_id] = drop
        if not self.missing and not self.all_found.done():
            self.all_found.set_result(None)


class Submitter:
    """Lives on the event loop, beside the node's stream, whose every block it is given."""

    def __init__(self, link: NodeLink, height: int, archive: StoreWatch, lookup: Lookup, drops: Drops) -> None:
        """`height` is the last committed one; `archive` waits for heights whose header is there."""
        self._link = link
        self._archive = archive
        self._lookup = lookup
        self._drops = drops
        self._waiting: dict[bytes, list[_Waiter]] = {}
        self._recent: dict[bytes, _Found] = {}
        self._recent_blocks: deque[list[bytes]] = deque()
        self._pending_bytes = 0
        self._looking: asyncio.Task[None] | None = None
        self.height = height
        """The last committed height that this gateway has heard of."""

    @property
    def pending_bytes(self) -> int:
        """Bytes of submissions that the node has not answered yet."""
        return self._pending_bytes

    def saw_block(self, block: Committed) -> None:
        """Tell those who wait for this block."""
        height = block.height
        found = {entry.id: _Found(height, entry.result) for entry in RESULTS_CODEC.decode_trusted(block.results)}
        self.height = max(self.height, height)
        # After a connection was lost, some come again.
        self._recent_blocks.append([tx_id for tx_id in found if tx_id not in self._recent])
        self._recent.update(found)
        while len(self._recent) > REMEMBERED_RESULTS and len(self._recent_blocks) > 1:
            for tx_id in self._recent_blocks.popleft():
                self._recent.pop(tx_id, None)
        if self._waiting:
            for tx_id in found.keys() & self._waiting.keys():
                self._tell(tx_id, found[tx_id])

    def saw_dropped(self, drops: tuple[Drop, ...]) -> None:
        """Tell those who wait for what was dropped, and remember it for who asks later."""
        # Another copy of the same transaction, with other signatures, may have been committed.
        lost = [drop for drop in drops if drop.tx_id not in self._recent]
        self._drops.add(lost)
        for drop in lost:
            for waiter in self._waiting.pop(drop.tx_id, []):
                waiter.tell_dropped(drop)

    def reconnected(self, height: int) -> None:
        """Note that blocks after this height will be streamed, and look on the ledger for everything waited for."""
        self.height = max(self.height, height)
        if self._waiting:
            self._looking = asyncio.get_running_loop().create_task(self._look_for_missed())

    async def _look_for_missed(self) -> None:
        found = await asyncio.to_thread(self._lookup, list(self._waiting))
        for tx_id, (height, result) in found.items():
            self._tell(tx_id, _Found(height, result))

    async def submit(self, batch: tuple[bytes, ...], wait: Wait, timeout_s: float) -> list[Outcome]:
        """Hand a batch on and return what became of each, in order, within about `timeout_s`.

        Raises:
            NodeAway: the node did not take it, or it is not known whether it did; sending it again is safe.
            TooBusy: this gateway or the pool is full for all of it.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        dropped_before = self._drops.count
        verdicts = await self._hand_on(batch)
        self._drops.forget((verdict.tx_id for verdict in verdicts if not verdict.number), dropped_before)
        outcomes = [_of_verdict(verdict) for verdict in verdicts]
        if outcomes and all(outcome.status == "later" for outcome in outcomes):
            retry_ms = min(outcome.retry_after_ms for outcome in outcomes)
            first = verdicts[0]
            raise TooBusy(
                f"{first.codespace} {first.number}: {first.message}", retry_after_s=math.ceil(retry_ms / 1000)
            )
        await self._find_known(verdicts, outcomes)
        if wait is not Wait.NOTHING:
            await self._wait_committed(verdicts, outcomes, deadline, dropped_before)
        if wait is Wait.PROVABLE:
            await self._wait_provable(outcomes, deadline)
        return outcomes

    async def _hand_on(self, batch: tuple[bytes, ...]) -> tuple[Verdict, ...]:
        size_bytes = sum(map(len, batch))
        if self._pending_bytes and self._pending_bytes + size_bytes > MAX_PENDING_BYTES:
            raise TooBusy("this gateway holds as many submissions as it may until the node takes them", retry_after_s=1)
        self._pending_bytes += size_bytes
        try:
            verdicts = await self._link.submit(batch)
        finally:
            self._pending_bytes -= size_bytes
        if len(verdicts) != len(batch):
            raise NodeAway("the node's answer does not fit the submission; send the same again", retry_after_s=1)
        return verdicts

    async def _find_known(self, verdicts: tuple[Verdict, ...], outcomes: list[Outcome]) -> None:
        """Give what was refused, yet stands on the ledger, the outcome that it had there: sending twice is harmless."""
        refused = [
            verdict.tx_id
            for verdict, outcome in zip(verdicts, outcomes, strict=True)
            if outcome.status == "refused" and verdict.tx_id
        ]
        if not refused:
            return
        found = {tx_id: known for tx_id in refused if (known := self._recent.get(tx_id)) is not None}
        unknown = [tx_id for tx_id in refused if tx_id not in found]
        if unknown:
            found.update(
                {key: _Found(*value) for key, value in (await asyncio.to_thread(self._lookup, unknown)).items()}
            )
        for place, verdict in enumerate(verdicts):
            if outcomes[place].status == "refused" and verdict.tx_id in found:
                outcomes[place] = _of_found(verdict.tx_id, found[verdict.tx_id])

    async def _wait_committed(
        self, verdicts: tuple[Verdict, ...], outcomes: list[Outcome], deadline: float, dropped_before: int
    ) -> None:
        loop = asyncio.get_running_loop()
        places: dict[bytes, list[int]] = {}
        for place, verdict in enumerate(verdicts):
            if outcomes[place].status == "accepted":
                places.setdefault(verdict.tx_id, []).append(place)
        waiter = _Waiter([tx_id for tx_id in places if tx_id not in self._recent], loop.create_future())
        for tx_id in places:
            if tx_id in waiter.missing:
                self._waiting.setdefault(tx_id, []).append(waiter)
            else:
                waiter.found[tx_id] = self._recent[tx_id]
        for kept in self._drops.since(dropped_before):
            if kept.drop.tx_id in waiter.missing:
                # Quicker than the node's verdict.
                self._forget(kept.drop.tx_id, waiter)
                waiter.tell_dropped(kept.drop)
        try:
            if waiter.missing:
                await asyncio.wait([waiter.all_found], timeout=max(0.0, deadline - loop.time()))
        finally:
            for tx_id in waiter.missing:
                self._forget(tx_id, waiter)
        if waiter.missing:
            looked_up = await asyncio.to_thread(self._lookup, list(waiter.missing))
            waiter.found |= {tx_id: _Found(*known) for tx_id, known in looked_up.items()}
        for tx_id, found in waiter.found.items():
            _put(outcomes, places[tx_id], _of_found(tx_id, found))
        for tx_id, drop in waiter.dropped.items():
            error = ErrorBody(drop.codespace, drop.number, drop.message)
            _put(outcomes, places[tx_id], Outcome(tx_id.hex(), "dropped", error=error))

    async def _wait_provable(self, outcomes: list[Outcome], deadline: float) -> None:
        highest = max((outcome.height for outcome in outcomes if outcome.status == "committed"), default=-1)
        # The header after a block carries its state root. A network signs and archives it after the block is on disk.
        await self._archive.reach(highest + 1, max(0.0, deadline - asyncio.get_running_loop().time()))
        for outcome in outcomes:
            if outcome.status == "committed" and outcome.height < self._archive.height:
                outcome.status = "provable"

    def _tell(self, tx_id: bytes, found: _Found) -> None:
        for waiter in self._waiting.pop(tx_id, []):
            waiter.tell(tx_id, found)

    def _forget(self, tx_id: bytes, waiter: _Waiter) -> None:
        others = [other for other in self._waiting.get(tx_id, []) if other is not waiter]
        if others:
            self._waiting[tx_id] = others
        else:
            self._waiting.pop(tx_id, None)


def _put(outcomes: list[Outcome], places: Iterable[int], outcome: Outcome) -> None:
    for place in places:
        outcomes[place] = outcome


def _of_verdict(verdict: Verdict) -> Outcome:
    tx_id = verdict.tx_id.hex()
    if verdict.number == 0:
        return Outcome(tx_id, "accepted")
    error = ErrorBody(verdict.codespace, verdict.number, verdict.message)
    if verdict.retry_after_ms:
        return Outcome(tx_id, "later", error=error, retry_after_ms=verdict.retry_after_ms)
    return Outcome(tx_id, "refused", error=error)


def _of_found(tx_id: bytes, found: _Found) -> Outcome:
    result = RESULT.decode_trusted(found.result)
    error = ErrorBody(result.codespace, result.number, result.message) if result.number else None
    return Outcome(tx_id.hex(), "committed", found.height, error)
