"""The way into the pool: form, signatures, then authority and replay against the last committed state."""

import asyncio
from collections.abc import Callable, Sequence

from feiqian.core.errors import InvalidTransaction
from feiqian.core.transactions import decode_signed
from feiqian.core.wire import Verdict
from feiqian.execution.admission import Prepared, admit, check_form
from feiqian.execution.errors import SignatureInvalid
from feiqian.execution.registry import Registry
from feiqian.ledger.context import BlockInfo
from feiqian.ledger.parameters import get_parameters
from feiqian.node.errors import NodeError
from feiqian.node.mempool import Mempool
from feiqian.node.metrics import Metrics
from feiqian.node.verifier import ALL_VERIFIED, CHUNK, Verifiers
from feiqian.state.store import Store
from feiqian.state.tables import BlockState

EARLY_MS = 60_000
"""How much too far ahead a transaction may expire and still be kept until a block may hold it: clocks differ."""

NextBlock = Callable[[], BlockInfo]
"""Gives height and time of the block that would be made now."""

RetryAfter = Callable[[], int]
"""Gives the milliseconds after which there may be room again."""


class Intake:
    """Takes batches in; belongs to one event loop. `added` is called when something was put in the pool."""

    def __init__(
        self,
        registry: Registry,
        store: Store,
        pool: Mempool,
        verifiers: Verifiers,
        metrics: Metrics,
        *,
        next_block: NextBlock,
        retry_after_ms: RetryAfter,
        added: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._store = store
        self._pool = pool
        self._verifiers = verifiers
        self._metrics = metrics
        self._next_block = next_block
        self._retry_after_ms = retry_after_ms
        self._added = added
        self._state = BlockState(store)
        self._state_height = store.height

    async def submit(self, batch: Sequence[bytes]) -> tuple[Verdict, ...]:
        """Return one verdict for each transaction, in order. What is already pooled is accepted again."""
        chunks = [batch[start : start + CHUNK] for start in range(0, len(batch), CHUNK)]
        verdicts = await asyncio.gather(*[self._submit_chunk(chunk) for chunk in chunks])
        return tuple([verdict for chunk in verdicts for verdict in chunk])

    async def _submit_chunk(self, chunk: Sequence[bytes]) -> list[Verdict]:
        with self._metrics.stage("decode"):
            checked = [self._check(signed) for signed in chunk]
        waiting = {entry.signed: entry for entry in checked if isinstance(entry, Prepared)}
        places = await self._verifiers.verify(list(waiting))
        bad = {signed: place for signed, place in zip(waiting, places, strict=True) if place != ALL_VERIFIED}
        with self._metrics.stage("admit"):
            verdicts = [entry if isinstance(entry, Verdict) else self._admit(entry, bad) for entry in checked]
        self._added()
        self._count(verdicts)
        return verdicts

    def _check(self, signed: bytes) -> Prepared | Verdict:
        """Return what is to be verified, or the verdict where none is needed any more."""
        pooled = self._pool.find(signed)
        if pooled is not None:
            return _accepted(pooled)
        try:
            prepared = check_form(self._registry, self._store.chain_id, signed)
        except InvalidTransaction as refusal:
            return _refused(b"", refusal)
        # Before any signature is verified: a full pool must cost its owner nothing.
        no_room = self._pool.refusal(prepared.transaction.sponsor, len(signed))
        return prepared if no_room is None else self._later(prepared, no_room)

    def _admit(self, prepared: Prepared, bad: dict[bytes, int]) -> Verdict:
        if prepared.signed in bad:
            signature = decode_signed(prepared.signed).signatures[bad[prepared.signed]]
            text = f"the signature by key {signature.key.data.hex()} does not verify"
            return _refused(prepared.tx_id, SignatureInvalid(text))
        state = self._committed_state()
        window_ms = get_parameters(state).replay_window_ms
        block = self._next_block()
        try:
            admit(state, self._store, prepared, block, window_ms + EARLY_MS)
        except InvalidTransaction as refusal:
            return _refused(prepared.tx_id, refusal)
        not_before_ms = prepared.transaction.expires_at_ms - window_ms
        no_room = self._pool.add(prepared, not_before_ms if not_before_ms > block.time_ms else None)
        return _accepted(prepared) if no_room is None else self._later(prepared, no_room)

    def _committed_state(self) -> BlockState:
        if self._state_height != self._store.height:
            self._state_height = self._store.height
            self._state = BlockState(self._store)
        return self._state

    def _later(self, prepared: Prepared, refusal: NodeError) -> Verdict:
        return _refused(prepared.tx_id, refusal, self._retry_after_ms())

    def _count(self, verdicts: Sequence[Verdict]) -> None:
        accepted = sum(1 for verdict in verdicts if not verdict.number)
        later = sum(1 for verdict in verdicts if verdict.retry_after_ms)
        self._metrics.verdicts.labels("accepted").inc(accepted)
        self._metrics.verdicts.labels("later").inc(later)
        self._metrics.verdicts.labels("refused").inc(len(verdicts) - accepted - later)


def _accepted(prepared: Prepared) -> Verdict:
    return Verdict(prepared.tx_id, "", 0, "", 0)


def _refused(tx_id: bytes, refusal: InvalidTransaction, retry_after_ms: int = 0) -> Verdict:
    return Verdict(tx_id, refusal.codespace, refusal.number, refusal.message[:500], retry_after_ms)
