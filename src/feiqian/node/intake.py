"""The way into the pool: form here; signatures, authority and replay by committed state in the workers."""

import asyncio
from collections.abc import Callable, Sequence

from feiqian.core.errors import InvalidTransaction
from feiqian.core.wire import Verdict
from feiqian.execution.admission import Prepared, check_form
from feiqian.execution.registry import Registry
from feiqian.ledger.context import BlockInfo
from feiqian.node.errors import NodeError
from feiqian.node.mempool import Mempool
from feiqian.node.metrics import Metrics
from feiqian.node.verifier import CHUNK, Answer, Verifiers

NextBlock = Callable[[], BlockInfo]
"""Gives height and time of the block that would be made now."""

RetryAfter = Callable[[], int]
"""Gives the milliseconds after which there may be room again."""


class Intake:
    """Takes batches in; belongs to one event loop. `added` is called when something was put in the pool."""

    def __init__(
        self,
        registry: Registry,
        chain_id: str,
        pool: Mempool,
        verifiers: Verifiers,
        metrics: Metrics,
        *,
        next_block: NextBlock,
        retry_after_ms: RetryAfter,
        added: Callable[[], None],
    ) -> None:
        self._registry = registry
        self._chain_id = chain_id
        self._pool = pool
        self._verifiers = verifiers
        self._metrics = metrics
        self._next_block = next_block
        self._retry_after_ms = retry_after_ms
        self._added = added

    async def submit(self, batch: Sequence[bytes]) -> tuple[Verdict, ...]:
        """Return one verdict for each transaction, in order. What is already pooled is accepted again."""
        chunks = [batch[start : start + CHUNK] for start in range(0, len(batch), CHUNK)]
        verdicts = await asyncio.gather(*[self._submit_chunk(chunk) for chunk in chunks])
        return tuple([verdict for chunk in verdicts for verdict in chunk])

    async def _submit_chunk(self, chunk: Sequence[bytes]) -> list[Verdict]:
        with self._metrics.stage("decode"):
            formed = [self._form(signed) for signed in chunk]
        waiting = {entry.signed: entry for entry in formed if isinstance(entry, Prepared)}
        block = self._next_block()
        answers = await self._verifiers.check(list(waiting), block) if waiting else ()
        with self._metrics.stage("pool"):
            pooled = {
                prepared.signed: self._pool_or_refuse(prepared, answer, block.time_ms)
                for prepared, answer in zip(waiting.values(), answers, strict=True)
            }
        self._added()
        verdicts = [pooled[entry.signed] if isinstance(entry, Prepared) else entry for entry in formed]
        self._count(verdicts)
        return verdicts

    def _form(self, signed: bytes) -> Prepared | Verdict:
        """Return what is to be checked further, or the verdict where none is needed any more."""
        pooled = self._pool.find(signed)
        if pooled is not None:
            return _accepted(pooled)
        try:
            prepared = check_form(self._registry, self._chain_id, signed)
        except InvalidTransaction as refusal:
            return _refused(b"", refusal)
        # Before any signature is verified: a full pool must cost its owner nothing.
        no_room = self._pool.refusal(prepared.transaction.sponsor, len(signed))
        return prepared if no_room is None else self._later(prepared, no_room)

    def _pool_or_refuse(self, prepared: Prepared, answer: Answer, time_ms: int) -> Verdict:
        if answer.number:
            return Verdict(prepared.tx_id, answer.codespace, answer.number, answer.message, 0)
        no_room = self._pool.add(prepared, answer.not_before_ms if answer.not_before_ms > time_ms else None)
        return _accepted(prepared) if no_room is None else self._later(prepared, no_room)

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
