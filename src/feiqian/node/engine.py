"""The solo engine: makes blocks in this process, one height executing while the one before it goes to disk.

Two threads. One cuts blocks from the pool and executes them; the other makes header and commit, updates the tree,
writes all of the height in one transaction and only then tells anyone. A fault in either ends the process.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import NamedTuple

import structlog

from feiqian.consensus.genesis_file import Genesis
from feiqian.consensus.solo import SoloSigner, make_archive_row
from feiqian.core.encoding import encode
from feiqian.core.wire import Committed
from feiqian.execution.admission import Prepared, encode_bundle
from feiqian.execution.blocks import (
    BLOCK,
    BUNDLE,
    MAX_BUNDLE_BYTES,
    RESULTS_CODEC,
    Block,
    Outcome,
    bundle_results,
    execute_block,
)
from feiqian.execution.registry import Registry
from feiqian.ledger.context import BlockInfo
from feiqian.ledger.errors import SponsorOverLimit
from feiqian.ledger.parameters import get_parameters
from feiqian.ledger.records import Parameters
from feiqian.ledger.triggers import next_due_ms
from feiqian.node.faults import start_thread
from feiqian.node.mempool import BUNDLING_BYTES, Mempool
from feiqian.node.metrics import Metrics
from feiqian.state.layered import Layered, ReplayingReader
from feiqian.state.store import HeightWrites, Store
from feiqian.state.tables import BlockState

MAX_AHEAD = 2
"""Heights that may be executed and not yet on disk."""

BLOCK_HEAD_BYTES = 1024
"""What a block needs beside its bundles' transactions: bundle heads, height, time."""

PRUNE_HEIGHTS = 64
PRUNE_ROWS = 20_000
"""A step of pruning: begun when so many heights lie too far back, ended after so many rows."""

EVICT_EVERY_MS = 5_000
MIN_RETRY_MS, MAX_RETRY_MS = 50, 5_000


class Made(NamedTuple):
    """A block that was executed and is not on disk yet. `app_version` is the one that its header carries."""

    block: BlockInfo
    data: bytes
    bundles: tuple[bytes, ...]
    bundle_results: tuple[bytes, ...]
    transactions: tuple[Prepared, ...]
    outcome: Outcome
    app_version: int


class SoloEngine:
    """Orders, executes and commits. `committed` is called on the commit thread once a height is on disk."""

    def __init__(
        self,
        registry: Registry,
        store: Store,
        genesis: Genesis,
        signer: SoloSigner,
        pool: Mempool,
        metrics: Metrics,
        *,
        block_interval_ms: int,
        past_heights: int,
        clock_ms: Callable[[], int],
        committed: Callable[[Committed], None],
    ) -> None:
        self._registry = registry
        self._store = store
        self._genesis = genesis
        self._signer = signer
        self._pool = pool
        self._metrics = metrics
        self._interval_ms = block_interval_ms
        self._past_heights = past_heights
        self._clock_ms = clock_ms
        self._committed = committed
        self._changed = threading.Condition()
        self._is_stopping = False
        self._ahead: deque[Made] = deque()
        self._to_commit: SimpleQueue[Made | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._height = store.height
        self._time_ms = store.time_ms
        self._owes_proof, self._results_before = _last_block(store)
        self._made_at_ms = 0
        self._evicted_at_ms = 0
        self._next_trigger_ms = next_due_ms(BlockState(store))
        self._capacity = 2**31
        self._work_ratio = 2
        self._ms_per_transaction = 0.1
        self._is_pruning = False

    def start(self) -> None:
        """Begin to make blocks; the first block of a ledger is made at once."""
        self._threads = [start_thread("execute", self._make_blocks), start_thread("commit", self._commit_blocks)]

    def stop(self) -> None:
        """Finish what is being executed and committed, and return when it is on disk."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def wake(self) -> None:
        """Look at the pool: something was added."""
        with self._changed:
            self._changed.notify_all()

    def next_block(self) -> BlockInfo:
        """Return height and time that a block made now would have."""
        return BlockInfo(self._genesis.chain_id, self._height + 1, self._next_time_ms())

    def retry_after_ms(self) -> int:
        """Return after how long half of what the pool holds should have left it."""
        wait_ms = int(self._pool.size.transactions * self._ms_per_transaction / 2)
        return max(MIN_RETRY_MS, min(MAX_RETRY_MS, wait_ms))

    @property
    def has_started(self) -> bool:
        """Whether the ledger's first block is on disk."""
        return self._store.height >= self._genesis.initial_height

    def _make_blocks(self) -> None:
        while self._wait_for_work():
            self._make_block()
        self._to_commit.put(None)

    def _wait_for_work(self) -> bool:
        with self._changed:
            while not self._is_stopping:
                delay_ms = self._delay_ms() if len(self._ahead) < MAX_AHEAD else None
                if delay_ms == 0:
                    return True
                self._changed.wait(None if delay_ms is None else delay_ms / 1000)
        return False

    def _delay_ms(self) -> int | None:
        """Return how long the next block may wait; None: until something happens."""
        if self._height < self._genesis.initial_height or (self._owes_proof and not self._pool.waiting):
            return 0
        now_ms = self._next_time_ms()
        rest_ms = max(0, min(self._interval_ms, self._made_at_ms + self._interval_ms - now_ms))
        if self._pool.waiting:
            return 0 if self._pool.waiting >= self._capacity else rest_ms
        moments = [moment for moment in (self._next_trigger_ms, self._pool.next_early_ms) if moment is not None]
        return max(rest_ms, min(moments) - now_ms) if moments else None

    def _next_time_ms(self) -> int:
        if self._height < self._genesis.initial_height:
            return self._genesis.time_ms
        return max(self._clock_ms(), self._time_ms + 1)

    def _make_block(self) -> None:
        block = self.next_block()
        reader = self._reader()
        parameters = get_parameters(BlockState(reader))
        with self._metrics.stage("cut"):
            candidates = self._cut(block, parameters)
        is_due = self._next_trigger_ms is not None and self._next_trigger_ms <= block.time_ms
        is_first = block.height == self._genesis.initial_height
        if not (candidates or is_due or self._owes_proof or is_first):
            return
        with self._metrics.stage("execute"):
            outcome = execute_block(self._registry, reader, reader, block, candidates, is_proposal=True)
        chosen = self._choose(candidates, outcome)
        if outcome.is_empty and not (self._owes_proof or is_first):
            return
        with self._metrics.stage("archive"):
            made = _assemble(block, chosen, outcome, parameters.app_version)
        self._height, self._time_ms, self._made_at_ms = block.height, block.time_ms, block.time_ms
        self._owes_proof = not outcome.is_empty
        self._ahead.append(made)
        self._next_trigger_ms = next_due_ms(BlockState(self._reader()))
        self._to_commit.put(made)

    def _reader(self) -> ReplayingReader:
        """Return state after the last executed block, whether or not it is on disk by now."""
        reader: ReplayingReader = self._store
        # A copy, since the commit thread takes heights off as they reach the disk; Layered stays right when they do.
        for made in tuple(self._ahead):
            reader = Layered(reader, made.outcome.changes, made.outcome.replay_ids)
        return reader

    def _cut(self, block: BlockInfo, parameters: Parameters) -> list[Prepared]:
        if block.time_ms - self._evicted_at_ms >= EVICT_EVERY_MS:
            self._evicted_at_ms = block.time_ms
            self._metrics.left_out.inc(self._pool.evict_expired(block.time_ms))
        if block.height == self._genesis.initial_height:
            return []
        max_bytes = parameters.max_block_bytes - BLOCK_HEAD_BYTES
        return self._pool.cut(block.time_ms, max_bytes, parameters.max_block_work // self._work_ratio)

    def _choose(self, candidates: Sequence[Prepared], outcome: Outcome) -> tuple[Prepared, ...]:
        """Return what the block holds; what had no room returns to the pool, what may stand in no block is dropped."""
        refusals = dict(outcome.left_out)
        chosen = tuple([entry for place, entry in enumerate(candidates[: outcome.taken]) if place not in refusals])
        if outcome.taken < len(candidates):
            self._pool.put_back(candidates[outcome.taken :])
            self._capacity = max(1, len(chosen))
        if not refusals:
            return chosen
        served = {entry.transaction.sponsor for entry in chosen}
        later, dropped = [], []
        for place, refusal in refusals.items():
            entry = candidates[place]
            # Over a limit of this block: the next one has room. With nothing taken it is over the day's, or too large.
            is_later = isinstance(refusal, SponsorOverLimit) and entry.transaction.sponsor in served
            (later if is_later else dropped).append(entry)
        self._pool.put_back(later)
        self._pool.settle(dropped)
        self._metrics.left_out.inc(len(dropped))
        return chosen

    def _commit_blocks(self) -> None:
        while (made := self._to_commit.get()) is not None:
            started = time.perf_counter()
            self._commit(made)
            if made.transactions:
                ms_each = (time.perf_counter() - started) * 1000 / len(made.transactions)
                self._ms_per_transaction += (ms_each - self._ms_per_transaction) / 4

    def _commit(self, made: Made) -> None:
        block, outcome, store = made.block, made.outcome, self._store
        with self._metrics.stage("archive"):
            archive = make_archive_row(
                self._genesis,
                self._signer,
                store.archive_row(block.height - 1) if block.height > self._genesis.initial_height else None,
                height=block.height,
                time_ms=block.time_ms,
                bundles=made.bundles,
                app_hash_before=store.app_hash,
                results_before=self._results_before,
                app_version=made.app_version,
            )
        writes = HeightWrites(
            block.height, block.time_ms, made.data, outcome.results, outcome.changes, outcome.replay_ids, archive
        )
        with self._metrics.stage("tree"):
            staged = store.stage(writes)
        with self._metrics.stage("commit"):
            store.commit(staged)
        with self._changed:
            self._ahead.popleft()
            self._changed.notify_all()
        self._results_before = made.bundle_results
        with self._metrics.stage("publish"):
            self._pool.settle(made.transactions)
            self._committed(Committed(block.height, block.time_ms, staged.app_hash, made.data, encode(outcome.results)))
            self._count(made)
        with self._metrics.stage("prune"):
            self._prune()

    def _prune(self) -> None:
        """Give up what lies too far back, in steps: each is a write of its own, and many heights at once cost less."""
        keep_from = self._store.height - self._past_heights
        behind = keep_from - self._store.head.first_provable
        if self._is_pruning or behind >= PRUNE_HEIGHTS:
            self._is_pruning = self._store.prune(max(keep_from, 0), PRUNE_ROWS) > 0

    def _count(self, made: Made) -> None:
        self._metrics.height.set(made.block.height)
        self._metrics.blocks.labels("empty" if made.outcome.is_empty else "full").inc()
        self._metrics.transactions.labels("committed").inc(len(made.transactions))
        structlog.get_logger().debug("committed", height=made.block.height, transactions=len(made.transactions))


def _assemble(block: BlockInfo, chosen: tuple[Prepared, ...], outcome: Outcome, app_version: int) -> Made:
    bundles: list[bytes] = []
    digests: list[bytes] = []
    place = outcome.triggers
    for bundle in _cut_bundles(chosen):
        bundles.append(encode_bundle(tuple([prepared.signed for prepared in bundle])))
        digests.append(bundle_results(outcome.results[place : place + len(bundle)]))
        place += len(bundle)
    data = encode(Block(block.height, block.time_ms, tuple(bundles)))
    return Made(block, data, tuple(bundles), tuple(digests), chosen, outcome, app_version)


def _cut_bundles(chosen: Sequence[Prepared]) -> list[list[Prepared]]:
    bundles: list[list[Prepared]] = []
    left_bytes = 0
    for prepared in chosen:
        size_bytes = len(prepared.signed) + BUNDLING_BYTES
        if size_bytes > left_bytes:
            bundles.append([])
            left_bytes = MAX_BUNDLE_BYTES - BUNDLING_BYTES
        bundles[-1].append(prepared)
        left_bytes -= size_bytes
    return bundles


def _last_block(store: Store) -> tuple[bool, tuple[bytes, ...]]:
    """Return whether the last block on disk still lacks the one that proves it, and its bundles' results."""
    stored = store.block(store.height)
    if stored is None or not stored.block:
        return False, ()
    results = [(entry.id, entry.result) for entry in RESULTS_CODEC.decode_trusted(stored.results)]
    counts = [len(BUNDLE.decode_trusted(bundle)) for bundle in BLOCK.decode_trusted(stored.block).bundles]
    place = len(results) - sum(counts)
    digests: list[bytes] = []
    for count in counts:
        digests.append(bundle_results(results[place : place + count]))
        place += count
    return bool(results), tuple(digests)
