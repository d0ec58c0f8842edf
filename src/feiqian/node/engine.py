"""The solo engine: cuts blocks from the pool and executes them, each while the one before it goes to disk.

Two threads. One executes and hands each height to the committer's process; the other hears from it what is on disk, and
only then tells anyone. A fault in either ends the process.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from feiqian.consensus.genesis_file import Genesis
from feiqian.core.encoding import encode
from feiqian.core.errors import Fault, InvalidTransaction
from feiqian.core.wire import MAX_DROP_ACCOUNTS, Committed, Drop
from feiqian.execution.admission import Prepared, encode_bundle
from feiqian.execution.blocks import (
    MAX_BUNDLE_BYTES,
    Block,
    Outcome,
    bundle_results,
    execute_block,
    has_room_later,
)
from feiqian.execution.registry import Registry
from feiqian.ledger.context import BlockInfo
from feiqian.ledger.errors import TransactionReplayed
from feiqian.ledger.parameters import get_parameters
from feiqian.ledger.records import Parameters
from feiqian.ledger.triggers import next_due_ms
from feiqian.node.committer import STAGES, CommitterProcess, Executed, Kept
from feiqian.node.faults import start_thread
from feiqian.node.mempool import BUNDLING_BYTES, Left, Mempool
from feiqian.node.metrics import Metrics
from feiqian.state.layered import Layered, ReplayingReader
from feiqian.state.store import Store
from feiqian.state.tables import BlockState

MAX_AHEAD = 3
"""Heights that may be executed and not yet on disk."""

BLOCK_HEAD_BYTES = 1024
"""What a block needs beside its bundles' transactions: bundle heads, height, time."""

EVICT_EVERY_MS = 5_000
MIN_RETRY_MS, MAX_RETRY_MS = 50, 5_000


class Made(NamedTuple):
    """A block that was executed and may not be on disk yet: what was handed on, and what of it this process needs.

    `layer` is what it wrote, over the store.
    """

    executed: Executed
    layer: Layered
    transactions: tuple[Prepared, ...]


class SoloEngine:
    """Orders, executes and commits. `committed` is called on the commit thread once a height is on disk.

    `dropped` is called on the execution thread with what was accepted and may stand in no block any more.
    """

    def __init__(
        self,
        registry: Registry,
        store: Store,
        genesis: Genesis,
        committer: CommitterProcess,
        pool: Mempool,
        metrics: Metrics,
        *,
        block_interval_ms: int,
        clock_ms: Callable[[], int],
        committed: Callable[[Committed], None],
        dropped: Callable[[Sequence[Drop]], None],
    ) -> None:
        self._registry = registry
        self._store = store
        self._genesis = genesis
        self._committer = committer
        self._pool = pool
        self._metrics = metrics
        self._interval_ms = block_interval_ms
        self._clock_ms = clock_ms
        self._committed = committed
        self._dropped = dropped
        self._changed = threading.Condition()
        self._is_stopping = False
        self._ahead: deque[Made] = deque()
        self._threads: list[threading.Thread] = []
        self._height = store.height
        self._time_ms = store.time_ms
        self._owes_proof = _owes_proof(store)
        self._made_at_ms = 0
        self._evicted_at_ms = 0
        self._next_trigger_ms = next_due_ms(BlockState(store))
        self._full_count = 2**31
        self._work_permille = 1000
        self._ms_per_transaction = 0.1
        self._kept_at_s = 0.0

    def start(self) -> None:
        """Begin to make blocks; the first block of a ledger is made at once."""
        self._threads = [start_thread("execute", self._make_blocks), start_thread("kept", self._hear_of_blocks)]

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
        self._committer.close()

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
            return 0 if self._pool.waiting >= self._full_count else rest_ms
        moments = [moment for moment in (self._next_trigger_ms, self._pool.next_early_ms) if moment is not None]
        return max(rest_ms, min(moments) - now_ms) if moments else None

    def _next_time_ms(self) -> int:
        if self._height < self._genesis.initial_height:
            return self._genesis.time_ms
        return max(self._clock_ms(), self._time_ms + 1)

    def _make_block(self) -> None:
        # Taken before the view: what the commit thread takes off meanwhile is in the view then.
        ahead = tuple(self._ahead)
        # One read transaction for the whole block, since opening one costs more than a read; not while handing over.
        with self._store.view() as view:
            made = self._execute(_on_top(view, ahead))
        if made is not None:
            self._ahead.append(made)
            with self._metrics.stage("hand over"):
                self._committer.send(made.executed)
        self._tell_of_dropped()

    def _execute(self, reader: ReplayingReader) -> Made | None:
        """Return the next block, executed; None where there is no need for one after all."""
        block = self.next_block()
        parameters = get_parameters(BlockState(reader))
        with self._metrics.stage("cut"):
            candidates = self._cut(block, parameters)
        is_due = self._next_trigger_ms is not None and self._next_trigger_ms <= block.time_ms
        is_first = block.height == self._genesis.initial_height
        if not (candidates or is_due or self._owes_proof or is_first):
            return None
        with self._metrics.stage("execute"):
            outcome = execute_block(self._registry, reader, reader, block, candidates, is_proposal=True)
        chosen = self._choose(candidates, outcome)
        if outcome.is_empty and not (self._owes_proof or is_first):
            return None
        with self._metrics.stage("assemble"):
            made = _assemble(self._store, block, chosen, outcome, parameters.app_version)
        self._height, self._time_ms, self._made_at_ms = block.height, block.time_ms, block.time_ms
        self._owes_proof = not outcome.is_empty
        self._next_trigger_ms = next_due_ms(BlockState(_on_top(reader, [made])))
        return made

    def _cut(self, block: BlockInfo, parameters: Parameters) -> list[Prepared]:
        if block.time_ms - self._evicted_at_ms >= EVICT_EVERY_MS:
            self._evicted_at_ms = block.time_ms
            self._pool.evict_expired(block.time_ms)
        if block.height == self._genesis.initial_height:
            return []
        max_bytes = parameters.max_block_bytes - BLOCK_HEAD_BYTES
        candidates = self._pool.cut(block.time_ms, max_bytes, parameters.max_block_work * 1000 // self._work_permille)
        if self._pool.waiting:
            self._full_count = len(candidates)
        return candidates

    def _choose(self, candidates: Sequence[Prepared], outcome: Outcome) -> tuple[Prepared, ...]:
        """Return what the block holds; what had no room returns to the pool, what may stand in no block is dropped."""
        refusals = dict(outcome.left_out)
        chosen = tuple([entry for place, entry in enumerate(candidates[: outcome.taken]) if place not in refusals])
        admitted_work = sum([entry.admission_work for entry in chosen])
        if admitted_work:
            # What running adds to the work of taking in, as a guide to how much the next block is cut from.
            self._work_permille = max(1000, outcome.work * 950 // admitted_work)
        if outcome.taken < len(candidates):
            self._pool.put_back(candidates[outcome.taken :])
        if not refusals:
            return chosen
        served = {entry.transaction.sponsor for entry in chosen}
        later: list[Prepared] = []
        dropped: list[Left] = []
        for place, refusal in refusals.items():
            entry = candidates[place]
            if has_room_later(refusal, entry.transaction.sponsor, served):
                later.append(entry)
            else:
                dropped.append(Left(entry, refusal))
        self._pool.put_back(later)
        self._pool.drop(dropped)
        return chosen

    def _tell_of_dropped(self) -> None:
        """Tell of what was dropped, but for copies of what is on the ledger or still has a chance."""
        left = self._pool.take_left()
        if not left:
            return
        self._metrics.left_out.inc(len(left))
        now_ms, held = self._clock_ms(), self._pool.held_ids()
        drops = {
            prepared.tx_id: _drop_of(prepared, refusal, now_ms)
            for prepared, refusal in left
            if prepared.tx_id not in held and not isinstance(refusal, TransactionReplayed)
        }
        if drops:
            self._dropped(tuple(drops.values()))

    def _hear_of_blocks(self) -> None:
        while (kept := self._committer.receive()) is not None:
            with self._changed:
                made = self._ahead.popleft()
                self._changed.notify_all()
            executed = made.executed
            if kept.height != executed.height:
                raise Fault(f"the committer speaks of height {kept.height}; {executed.height} was next")
            with self._metrics.stage("publish"):
                self._pool.settle(made.transactions)
                self._committed(
                    Committed(
                        executed.height, executed.time_ms, kept.app_hash, executed.block, encode(executed.results)
                    )
                )
            self._count(made, kept)

    def _count(self, made: Made, kept: Kept) -> None:
        now_s = time.monotonic()
        if made.transactions and self._kept_at_s:
            ms_each = (now_s - self._kept_at_s) * 1000 / len(made.transactions)
            self._ms_per_transaction += (ms_each - self._ms_per_transaction) / 4
        self._kept_at_s = now_s if self._pool.size.transactions else 0.0
        self._metrics.height.set(kept.height)
        self._metrics.blocks.labels("full" if made.executed.results else "empty").inc()
        self._metrics.transactions.labels("committed").inc(len(made.transactions))
        self._metrics.add_stages(STAGES, kept.elapsed_us, kept.cpu_us)
        structlog.get_logger().debug("committed", height=kept.height, transactions=len(made.transactions))


def _drop_of(prepared: Prepared, refusal: InvalidTransaction, now_ms: int) -> Drop:
    transaction = prepared.transaction
    accounts = dict.fromkeys(claim.account for message in transaction.messages for claim in message.claims())
    return Drop(
        prepared.tx_id,
        now_ms,
        transaction.sponsor,
        tuple(accounts)[:MAX_DROP_ACCOUNTS],
        refusal.codespace,
        refusal.number,
        refusal.message[:500],
    )


def _on_top(reader: ReplayingReader, ahead: Sequence[Made]) -> ReplayingReader:
    """Return committed state with the blocks on top that were executed and may not be on disk yet."""
    for made in ahead:
        reader = made.layer.on(reader)
    return reader


def _assemble(store: Store, block: BlockInfo, chosen: tuple[Prepared, ...], outcome: Outcome, app_version: int) -> Made:
    bundles: list[bytes] = []
    digests: list[bytes] = []
    place = outcome.triggers
    for bundle in _cut_bundles(chosen):
        bundles.append(encode_bundle(tuple([prepared.signed for prepared in bundle])))
        digests.append(bundle_results(outcome.results[place : place + len(bundle)]))
        place += len(bundle)
    executed = Executed(
        block.height,
        block.time_ms,
        app_version,
        encode(Block(block.height, block.time_ms, tuple(bundles))),
        tuple(digests),
        outcome.results,
        tuple(outcome.changes.items()),
        outcome.replay_ids,
    )
    return Made(executed, Layered(store, outcome.changes, outcome.replay_ids), chosen)


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


def _owes_proof(store: Store) -> bool:
    """Say whether the last block on disk changed the root, so that the one that proves it is still to come."""
    stored = store.block(store.height)
    return stored is not None and stored.app_hash != store.app_hash_at(stored.height - 1)
