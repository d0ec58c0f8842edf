"""The ledger's side of consensus: proposes blocks, judges those of others, runs what was decided and puts it on disk.

One call after another, as CometBFT makes them; running blocks is done on a thread of its own, so that the event loop
goes on taking transactions in. A block that was run once, to propose or to judge it, is not run again when it is
decided, and its state tree is worked out while the members still vote.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import structlog

from feiqian.consensus.genesis_file import Genesis
from feiqian.core.encoding import encode
from feiqian.core.errors import InvalidBlock, InvalidTransaction
from feiqian.core.wire import Committed
from feiqian.execution.admission import Prepared, check_form
from feiqian.execution.blocks import BUNDLE, MAX_BUNDLE_BYTES, Outcome, Unprepared, execute_block, open_bundle
from feiqian.execution.registry import Registry
from feiqian.execution.updates import Updates, updates_of
from feiqian.ledger.context import BlockInfo
from feiqian.ledger.errors import LedgerError
from feiqian.ledger.parameters import get_parameters
from feiqian.ledger.records import Parameters
from feiqian.ledger.validators import Misbehaviour
from feiqian.node.comet.committer import NetworkCommitter
from feiqian.node.executed import Executed, assemble
from feiqian.node.faults import guard_task
from feiqian.node.mempool import Mempool
from feiqian.node.metrics import Metrics
from feiqian.node.pace import Pace
from feiqian.node.proposals import Proposals, cut_bundles
from feiqian.node.verifier import CHUNK, Answer, Verifiers
from feiqian.state.store import Store
from feiqian.state.tables import BlockState

PROPOSAL_HEAD_BYTES = 1024
"""What CometBFT adds to the bundles of a block: tag and length of each."""

FULL_TENTHS = 9
"""A block that takes so much of what one may hold, of work or bytes, may have left out what its proposer knew of."""

KEPT_RUNS = 4
"""Proposals of one height whose outcome is kept: later rounds may bring an earlier one back."""


R = TypeVar("R")


class Proposed(NamedTuple):
    """A block as consensus speaks of it."""

    height: int
    time_ms: int
    bundles: tuple[bytes, ...]
    misbehaviour: tuple[Misbehaviour, ...]

    def key(self) -> bytes:
        """Return what tells two of them apart."""
        digest = hashlib.sha256(encode((self.height, self.time_ms, self.misbehaviour)))
        for bundle in self.bundles:
            digest.update(len(bundle).to_bytes(4, "big"))
            digest.update(bundle)
        return digest.digest()


class Finalised(NamedTuple):
    """What a decided block does, as CometBFT is told: a digest a bundle, the state root, what it is to change."""

    bundle_results: tuple[bytes, ...]
    app_hash: bytes
    updates: Updates


class OnDisk(NamedTuple):
    """A block that is on disk; `had_room` for more transactions than it holds."""

    height: int
    had_room: bool


class _Ran(NamedTuple):
    """A block that was run on the committed state."""

    executed: Executed
    results: bytes
    updates: Updates
    transactions: tuple[Prepared, ...]
    had_room: bool


class NetworkEngine:
    """Belongs to one event loop; the calls from CometBFT come one at a time.

    `committed` is called once a height is on disk.
    """

    def __init__(
        self,
        registry: Registry,
        store: Store,
        genesis: Genesis,
        committer: NetworkCommitter,
        pool: Mempool,
        proposals: Proposals,
        verifiers: Verifiers,
        metrics: Metrics,
        *,
        clock_ms: Callable[[], int],
        committed: Callable[[Committed], None],
    ) -> None:
        self._registry = registry
        self._store = store
        self._genesis = genesis
        self._committer = committer
        self._pool = pool
        self._proposals = proposals
        self._verifiers = verifiers
        self._metrics = metrics
        self._clock_ms = clock_ms
        self._committed = committed
        self._pace = Pace()
        self._thread = ThreadPoolExecutor(1, "execute")
        self._height = store.height
        self._time_ms = store.time_ms
        self._app_hash = store.app_hash
        self._owes_proof = self._height >= genesis.initial_height
        self._runs: dict[bytes, _Ran] = {}
        self._cut: tuple[Prepared, ...] = ()
        self._staging: tuple[bytes, asyncio.Task[bytes]] | None = None
        self._decided: tuple[_Ran, bytes] | None = None
        self._woken = asyncio.Event()

    # What the way into the pool asks.

    @property
    def stored_height(self) -> int:
        """The last height on disk."""
        return self._height

    @property
    def earliest_ms(self) -> int:
        """The time of the last block: the next one's is not known, and after a halt lies little after it."""
        return self._time_ms

    def next_block(self) -> BlockInfo:
        """Return height and time by which transactions are judged: the clock's, since block time may stand still."""
        return BlockInfo(self._genesis.chain_id, self._height + 1, max(self._clock_ms(), self._time_ms + 1))

    def retry_after_ms(self) -> int:
        """Return after how long room in the pool may be expected."""
        return self._pace.retry_after_ms(self._pool.size.transactions)

    def wake(self) -> None:
        """Look at the pool: something was added."""
        self._woken.set()

    # What consensus asks.

    async def await_work(self, idle_s: float) -> None:
        """Return when something waits for a block, or after so long; at once where the last is still to be proved."""
        if self._owes_proof:
            return
        try:
            async with asyncio.timeout(idle_s):
                while not self._pool.waiting:
                    self._woken.clear()
                    await self._woken.wait()
        except TimeoutError:
            return

    async def propose(
        self, height: int, time_ms: int, max_bytes: int, misbehaviour: tuple[Misbehaviour, ...]
    ) -> Proposed:
        """Return a block of what waits in the pool, whose bundles take at most `max_bytes`."""
        self._put_back()
        block = BlockInfo(self._genesis.chain_id, height, time_ms)
        proposed, ran = await self._on_thread(self._propose, block, max_bytes, misbehaviour)
        self._cut = ran.transactions
        self._remember(proposed.key(), ran)
        self._proposals.tell_of_dropped()
        return proposed

    async def judge(self, proposed: Proposed) -> None:
        """Check another member's proposal, and begin to work out its state tree.

        Raises:
            InvalidBlock: it may not be decided.
        """
        key = proposed.key()
        if key not in self._runs:
            transactions = await self._checked(_open_strictly(proposed.bundles))
            self._remember(key, await self._on_thread(self._judge, proposed, transactions))
        self._stage(key)

    async def finalise(self, proposed: Proposed) -> Finalised:
        """Run a block that was decided, unless it was run before; `commit` then puts it on disk."""
        key = proposed.key()
        if key not in self._runs:
            transactions = await self._checked([open_bundle(bundle) for bundle in proposed.bundles])
            self._remember(key, await self._on_thread(self._run, proposed, transactions))
        self._stage(key)
        assert self._staging is not None
        app_hash = await self._staging[1]
        ran = self._runs[key]
        self._decided = ran, app_hash
        return Finalised(ran.executed.bundle_results, app_hash, ran.updates)

    async def commit(self) -> OnDisk:
        """Put the finalised block on disk and tell of it."""
        assert self._decided is not None, "CometBFT commits what it has finalised"
        ran, app_hash = self._decided
        executed = ran.executed
        await self._committer.write(executed.height, self._metrics)
        self._owes_proof = app_hash != self._app_hash
        self._height, self._time_ms, self._app_hash = executed.height, executed.time_ms, app_hash
        self._runs.clear()
        self._staging = self._decided = None
        with self._metrics.stage("publish"):
            self._pool.settle(ran.transactions)
            self._put_back()
            self._committed(Committed(executed.height, ran.results))
            self._proposals.evict(executed.time_ms)
            self._proposals.tell_of_dropped()
        self._pace.count(len(ran.transactions), is_pool_empty=not self._pool.size.transactions)
        self._metrics.count_block(executed.height, len(ran.transactions), is_empty=not executed.results)
        structlog.get_logger().debug("committed", height=executed.height, transactions=len(ran.transactions))
        return OnDisk(executed.height, ran.had_room)

    def stop(self) -> None:
        """End the thread; what was not committed, CometBFT tells the next process again."""
        self._thread.shutdown()

    # On the thread.

    def _propose(
        self, block: BlockInfo, max_bytes: int, misbehaviour: tuple[Misbehaviour, ...]
    ) -> tuple[Proposed, _Ran]:
        with self._store.view() as view:
            state = BlockState(view)
            parameters = get_parameters(state)
            with self._metrics.stage("cut"):
                room_bytes = min(max_bytes, parameters.max_block_bytes) - PROPOSAL_HEAD_BYTES
                candidates = self._proposals.cut(block, parameters, room_bytes)
            with self._metrics.stage("execute"):
                outcome = execute_block(
                    self._registry, view, view, block, candidates, misbehaviour=misbehaviour, is_proposal=True
                )
            chosen = self._proposals.choose(candidates, outcome)
            with self._metrics.stage("assemble"):
                counts, bundles = cut_bundles(chosen)
                executed = assemble(block, bundles, counts, outcome, parameters.app_version, misbehaviour)
                updates = updates_of(state, outcome.changes)
        ran = _Ran(executed, encode(outcome.results), updates, chosen, _has_room(outcome, bundles, parameters))
        return Proposed(block.height, block.time_ms, tuple(bundles), misbehaviour), ran

    def _judge(self, proposed: Proposed, bundles: Sequence[Sequence[Prepared | Unprepared]]) -> _Ran:
        for bundle in bundles:
            for transaction in bundle:
                if isinstance(transaction, Unprepared):
                    raise _refusal("a transaction that may not stand in a block", transaction.error)
        return self._run(proposed, bundles, is_proposal=True)

    def _run(
        self, proposed: Proposed, bundles: Sequence[Sequence[Prepared | Unprepared]], *, is_proposal: bool = False
    ) -> _Ran:
        block = BlockInfo(self._genesis.chain_id, proposed.height, proposed.time_ms)
        transactions = [transaction for bundle in bundles for transaction in bundle]
        with self._store.view() as view:
            state = BlockState(view)
            parameters = get_parameters(state)
            with self._metrics.stage("execute"):
                outcome = execute_block(
                    self._registry,
                    view,
                    view,
                    block,
                    transactions,
                    misbehaviour=proposed.misbehaviour,
                    is_proposal=is_proposal,
                )
            if outcome.left_out:
                raise _refusal("a transaction that may not stand in this block", outcome.left_out[0][1])
            if outcome.taken < len(transactions):
                raise InvalidBlock(
                    "TooMuchWork", f"{len(transactions)} transactions are more work than a block may hold"
                )
            with self._metrics.stage("assemble"):
                executed = assemble(
                    block,
                    proposed.bundles,
                    [len(bundle) for bundle in bundles],
                    outcome,
                    parameters.app_version,
                    proposed.misbehaviour,
                )
                updates = updates_of(state, outcome.changes)
        prepared = tuple([transaction for transaction in transactions if isinstance(transaction, Prepared)])
        had_room = _has_room(outcome, proposed.bundles, parameters)
        return _Ran(executed, encode(outcome.results), updates, prepared, had_room)

    # Inside.

    async def _on_thread(self, run: Callable[..., R], *arguments: Any) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, run, *arguments)

    def _put_back(self) -> None:
        """Return to the pool what was cut for a proposal that did not become the block."""
        self._pool.put_back(self._cut)
        self._cut = ()

    def _remember(self, key: bytes, ran: _Ran) -> None:
        while len(self._runs) >= KEPT_RUNS:
            del self._runs[next(iter(self._runs))]
        self._runs[key] = ran

    def _stage(self, key: bytes) -> None:
        if self._staging is None or self._staging[0] != key:
            staging = asyncio.create_task(self._committer.stage(self._runs[key].executed), name="stage")
            self._staging = (key, guard_task(staging))

    async def _checked(self, bundles: Sequence[Sequence[bytes]]) -> list[list[Prepared | Unprepared]]:
        """Return the transactions of a block, signatures verified, by the workers unless the pool has them."""
        known: dict[bytes, Prepared | Unprepared] = {}
        strangers: list[Prepared] = []
        for bundle in bundles:
            for signed in bundle:
                if signed in known:
                    continue
                pooled = self._pool.find(signed)
                if pooled is not None:
                    known[signed] = pooled
                    continue
                try:
                    prepared = check_form(self._registry, self._genesis.chain_id, signed)
                except InvalidTransaction as error:
                    known[signed] = Unprepared(signed, error.with_traceback(None))
                    continue
                known[signed] = prepared
                strangers.append(prepared)
        block = self.next_block()
        chunks = [strangers[start : start + CHUNK] for start in range(0, len(strangers), CHUNK)]
        checks = [self._verifiers.check(chunk, block, self._time_ms, asked=(), is_urgent=True) for chunk in chunks]
        for chunk, answers in zip(chunks, await asyncio.gather(*checks), strict=True):
            for place, answer in answers.items():
                if answer.number and answer.codespace != LedgerError.codespace:
                    signed = chunk[place].signed
                    known[signed] = Unprepared(signed, self._error_of(answer))
        return [[known[signed] for signed in bundle] for bundle in bundles]

    def _error_of(self, answer: Answer) -> InvalidTransaction:
        return self._registry.errors[(answer.codespace, answer.number)](answer.message)


def _has_room(outcome: Outcome, bundles: Sequence[bytes], parameters: Parameters) -> bool:
    size_bytes = sum(map(len, bundles))
    return (
        outcome.work * 10 < parameters.max_block_work * FULL_TENTHS
        and size_bytes * 10 < parameters.max_block_bytes * FULL_TENTHS
    )


def _refusal(what: str, error: InvalidTransaction) -> InvalidBlock:
    return InvalidBlock(type(error).__name__, f"{what}: {error.message}")


def _open_strictly(bundles: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    opened: list[tuple[bytes, ...]] = []
    for bundle in bundles:
        if len(bundle) > MAX_BUNDLE_BYTES:
            message = f"a bundle of {len(bundle)} bytes; at most {MAX_BUNDLE_BYTES} are accepted"
            raise InvalidBlock("BundleTooLarge", message)
        try:
            opened.append(BUNDLE.decode(bundle))
        except InvalidTransaction as error:
            raise _refusal("a bundle that is none", error) from None
        if not opened[-1]:
            raise InvalidBlock("EmptyBundle", "a bundle without transactions")
    return opened
