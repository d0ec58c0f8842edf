"""The solo engine: cuts blocks from the pool and executes them, each while the ones before it go into the store.

Two threads. One executes, puts each block into the block log, tells of it and hands it to the committer's process; the
other hears from that what the store has, and tells of this too. A fault in either ends the process.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from feiqian.consensus.genesis_file import Genesis
from feiqian.core.encoding import encode
from feiqian.core.wire import Committed, Drop, Stored
from feiqian.execution.admission import Prepared
from feiqian.execution.blocks import execute_block
from feiqian.execution.errors import WrongRelease
from feiqian.execution.registry import Registry
from feiqian.ledger.context import BlockInfo
from feiqian.ledger.parameters import get_parameters
from feiqian.ledger.triggers import next_due_ms
from feiqian.node.committer import STAGES, CommitterProcess, Kept
from feiqian.node.executed import Executed, assemble
from feiqian.node.faults import start_thread
from feiqian.node.mempool import Mempool
from feiqian.node.metrics import Metrics
from feiqian.node.pace import Pace
from feiqian.node.proposals import Proposals, cut_bundles
from feiqian.state.block_log import MAX_BEYOND, BlockLog
from feiqian.state.layered import Layered, ReplayingReader
from feiqian.state.store import Store
from feiqian.state.tables import BlockState

BLOCK_HEAD_BYTES = 1024
"""What a block needs beside its bundles' transactions: bundle heads, height, time."""

BEHIND_INTERVAL_MS = 200
"""While the store lacks a block, the next starts so long after the one before: a larger one costs it less."""


class Made(NamedTuple):
    """A block that was executed and may not be in the store yet: what is handed on, and what of it this process needs.

    `results` are those of `executed`, encoded; `layer` is what it wrote, over the store.
    """

    executed: Executed
    results: bytes
    layer: Layered
    transactions: tuple[Prepared, ...]


class SoloEngine:
    """Orders, executes and commits. The ledger begins with what `log` holds beyond the store run again (`recovery`).

    `committed` is called on the execution thread once a block is in the block log, `stored` on the other once the store
    has it. `dropped` is called on the execution thread with what was accepted and may stand in no block any more.
    """

    def __init__(
        self,
        registry: Registry,
        store: Store,
        genesis: Genesis,
        log: BlockLog,
        committer: CommitterProcess,
        pool: Mempool,
        metrics: Metrics,
        *,
        block_interval_ms: int,
        clock_ms: Callable[[], int],
        committed: Callable[[Committed], None],
        stored: Callable[[Stored], None],
        dropped: Callable[[Sequence[Drop]], None],
    ) -> None:
        self._registry = registry
        self._store = store
        self._genesis = genesis
        self._log = log
        self._committer = committer
        self._pool = pool
        self._metrics = metrics
        self._interval_ms = block_interval_ms
        self._clock_ms = clock_ms
        self._committed = committed
        self._stored = stored
        self._proposals = Proposals(pool, metrics, genesis.initial_height, clock_ms, dropped)
        self._changed = threading.Condition()
        self._is_stopping = False
        self._ahead: deque[Made] = deque()
        self._threads: list[threading.Thread] = []
        self._height = self._stored_height = store.height
        self._time_ms = store.time_ms
        self._owes_proof = _owes_proof(store)
        self._begun_s = 0.0
        self._next_trigger_ms = next_due_ms(BlockState(store))
        self._pace = Pace()

    def start(self) -> None:
        """Begin to make blocks; the first block of a ledger is made at once."""
        self._threads = [start_thread("execute", self._make_blocks), start_thread("stored", self._hear_of_blocks)]

    def stop(self) -> None:
        """Finish what is being executed and committed, and return when the store has it."""
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
        return self._pace.retry_after_ms(self._pool.size.transactions)

    @property
    def earliest_ms(self) -> int:
        """Return the time of the block that would be made now: whatever may not stand in it yet waits apart."""
        return self._next_time_ms()

    @property
    def stored_height(self) -> int:
        """The last height that the store is known to have; `next_block` may be some heights further."""
        return self._stored_height

    @property
    def has_started(self) -> bool:
        """Whether the store has the ledger's first block."""
        return self._stored_height >= self._genesis.initial_height

    def _make_blocks(self) -> None:
        while self._wait_for_work():
            try:
                self._make_block()
            except WrongRelease:
                # The release that goes on runs by other rules: it must find in the store what these have decided.
                self._wait_for_store()
                raise
        self._committer.close()
        self._log.close()

    def _wait_for_store(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._ahead)

    def _wait_for_work(self) -> bool:
        with self._changed:
            while not self._is_stopping:
                delay_ms = self._delay_ms() if len(self._ahead) < MAX_BEYOND else None
                if delay_ms == 0:
                    return True
                self._changed.wait(None if delay_ms is None else delay_ms / 1000)
        return False

    def _delay_ms(self) -> int | None:
        """Return how long the next block may wait; None: until something happens."""
        if self._height < self._genesis.initial_height or (self._owes_proof and not self._pool.waiting):
            return 0
        interval_ms = max(self._interval_ms, BEHIND_INTERVAL_MS) if self._ahead else self._interval_ms
        rest_ms = max(0, interval_ms - int((time.monotonic() - self._begun_s) * 1000))
        if self._pool.waiting:
            if self._pool.waiting >= self._proposals.full_count:
                return 0
            if self._ahead and self._pool.checking > self._pool.waiting:
                return None  # the workers have more than a block would hold now: it waits for them or for the store
            return rest_ms
        moments = [moment for moment in (self._next_trigger_ms, self._pool.next_early_ms) if moment is not None]
        return max(rest_ms, min(moments) - self._next_time_ms()) if moments else None

    def _next_time_ms(self) -> int:
        if self._height < self._genesis.initial_height:
            return self._genesis.time_ms
        return max(self._clock_ms(), self._time_ms + 1)

    def _make_block(self) -> None:
        # Taken before the view: what the other thread takes off meanwhile is in the view then.
        ahead = tuple(self._ahead)
        # One read transaction for the whole block, since opening one costs more than a read; not while handing over.
        with self._store.view() as view:
            made = self._execute(_on_top(view, ahead))
        if made is not None:
            self._commit(made)
        self._proposals.tell_of_dropped()

    def _commit(self, made: Made) -> None:
        """Put a block into the log, tell of it, and hand it on."""
        executed = made.executed
        with self._metrics.stage("log"):
            self._log.put(executed.height, executed.block, made.results)
        with self._metrics.stage("publish"):
            # Before anyone is told, who may then send more: what is committed takes no room in the pool.
            self._pool.settle(made.transactions)
            self._committed(Committed(executed.height, made.results))
        self._ahead.append(made)
        with self._metrics.stage("hand over"):
            self._committer.send(executed)

    def _execute(self, reader: ReplayingReader) -> Made | None:
        """Return the next block, executed; None where there is no need for one after all."""
        block, begun_s = self.next_block(), time.monotonic()
        parameters = get_parameters(BlockState(reader))
        with self._metrics.stage("cut"):
            candidates = self._proposals.cut(block, parameters, parameters.max_block_bytes - BLOCK_HEAD_BYTES)
        is_due = self._next_trigger_ms is not None and self._next_trigger_ms <= block.time_ms
        is_first = block.height == self._genesis.initial_height
        if not (candidates or is_due or self._owes_proof or is_first):
            return None
        with self._metrics.stage("execute"):
            outcome = execute_block(self._registry, reader, reader, block, candidates, is_proposal=True)
        chosen = self._proposals.choose(candidates, outcome)
        if outcome.is_empty and not (self._owes_proof or is_first):
            return None
        with self._metrics.stage("assemble"):
            counts, bundles = cut_bundles(chosen)
            executed = assemble(block, bundles, counts, outcome, parameters.app_version)
            layer = Layered(self._store, outcome.changes, outcome.replay_ids)
            made = Made(executed, encode(outcome.results), layer, chosen)
        self._height, self._time_ms, self._begun_s = block.height, block.time_ms, begun_s
        self._owes_proof = not outcome.is_empty
        self._next_trigger_ms = next_due_ms(BlockState(_on_top(reader, [made])))
        return made

    def _hear_of_blocks(self) -> None:
        while (kept := self._committer.receive(self._stored_height + 1)) is not None:
            with self._changed:
                made = self._ahead.popleft()
                self._stored_height = kept.height
                self._changed.notify_all()
            executed = made.executed
            with self._metrics.stage("publish"):
                self._stored(Stored(executed.height, executed.time_ms, kept.app_hash, executed.block, made.results))
            self._count(made, kept)

    def _count(self, made: Made, kept: Kept) -> None:
        self._pace.count(len(made.transactions), is_pool_empty=not self._pool.size.transactions)
        self._metrics.add_stages(STAGES, kept.elapsed_us, kept.cpu_us)
        self._metrics.count_block(kept.height, len(made.transactions), is_empty=not made.executed.results)
        structlog.get_logger().debug("committed", height=kept.height, transactions=len(made.transactions))


def _on_top(reader: ReplayingReader, ahead: Sequence[Made]) -> ReplayingReader:
    """Return committed state with the blocks on top that were executed and may not be in the store yet."""
    for made in ahead:
        reader = made.layer.on(reader)
    return reader


def _owes_proof(store: Store) -> bool:
    """Say whether the store's last block changed the root, so that the one that proves it is still to come."""
    stored = store.block(store.height)
    return stored is not None and stored.app_hash != store.app_hash_at(stored.height - 1)
