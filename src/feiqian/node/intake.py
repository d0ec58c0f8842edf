"""The way into the pool: form here; signatures, authority and replay by committed state in the workers."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from feiqian.core.errors import InvalidTransaction
from feiqian.core.wire import Verdict
from feiqian.execution.admission import Prepared, check_form
from feiqian.execution.registry import Registry
from feiqian.ledger.context import BlockInfo
from feiqian.ledger.errors import LedgerError
from feiqian.node.errors import NodeError
from feiqian.node.mempool import Mempool
from feiqian.node.metrics import Metrics
from feiqian.node.tellers import Tellers
from feiqian.node.verifier import CHUNK, Answer, Answers, Verifiers


class Engine(Protocol):
    """What makes blocks of the pool."""

    @property
    def stored_height(self) -> int:
        """The last height that the store has."""
        ...

    @property
    def earliest_ms(self) -> int:
        """A time that the next block does not lie before: whatever may not stand in it then waits apart."""
        ...

    def next_block(self) -> BlockInfo:
        """Return height and time of the block that would be made now, by which transactions are judged."""
        ...

    def retry_after_ms(self) -> int:
        """Return the milliseconds after which there may be room again."""
        ...

    def wake(self) -> None:
        """Look at the pool: something was added."""
        ...


class Intake:
    """Takes batches in; belongs to one event loop.

    `reach_stored` returns when the store has a height; `taken` is told what this node's own senders brought into the
    pool.
    """

    def __init__(
        self,
        registry: Registry,
        chain_id: str,
        pool: Mempool,
        verifiers: Verifiers,
        metrics: Metrics,
        engine: Engine,
        reach_stored: Callable[[int], Awaitable[None]],
        taken: Callable[[Sequence[bytes]], None] = lambda signed: None,
    ) -> None:
        self._registry = registry
        self._chain_id = chain_id
        self._pool = pool
        self._verifiers = verifiers
        self._metrics = metrics
        self._engine = engine
        self._reach_stored = reach_stored
        self._taken = taken
        self._tellers = Tellers(time.monotonic)

    async def submit(self, batch: Sequence[bytes], teller: str | None = None) -> tuple[Verdict, ...]:
        """Return one verdict for each transaction, in order. What is already pooled is accepted again.

        `teller`: id of the node that tells of them; None where they come from a sender of this node's.
        """
        chunks = [batch[start : start + CHUNK] for start in range(0, len(batch), CHUNK)]
        verdicts = await asyncio.gather(*[self._submit_chunk(chunk, teller) for chunk in chunks])
        return tuple([verdict for chunk in verdicts for verdict in chunk])

    async def _submit_chunk(self, chunk: Sequence[bytes], teller: str | None) -> list[Verdict]:
        with self._metrics.stage("decode"):
            formed = [self._form(signed) for signed in chunk]
        waiting = {entry.signed: entry for entry in formed if isinstance(entry, Prepared)}
        with self._pool.expect(len(waiting)):
            answers = await self._check_told(list(waiting.values()), teller) if waiting else {}
        earliest_ms = self._engine.earliest_ms
        with self._metrics.stage("pool"):
            pooled = {
                prepared.signed: self._pool_or_refuse(prepared, answers.get(place), earliest_ms)
                for place, prepared in enumerate(waiting.values())
            }
        self._engine.wake()
        if teller is None:
            self._taken([signed for signed, verdict in pooled.items() if not verdict.number])
        verdicts = [pooled[entry.signed] if isinstance(entry, Prepared) else entry for entry in formed]
        self._count(verdicts, "sender" if teller is None else "peer")
        return verdicts

    async def _check_told(self, formed: Sequence[Prepared], teller: str | None) -> Answers:
        """Return the workers' answers; of what another node tells of, authority is checked by a sample."""
        sample = self._tellers.sample(teller, len(formed))
        answers = await self._check(formed, sample)
        if self._tellers.is_borne_out(teller, len(formed), sample, answers):
            return answers
        return await self._check(formed, range(len(formed)))

    async def _check(self, formed: Sequence[Prepared], asked: Sequence[int]) -> Answers:
        """Return the workers' answers, as to authority for the places asked.

        What the ledger's rules refuse, they refuse by all that is committed now: the store may lack what a sender was
        told of, an account that was opened, a key that was changed.
        """
        block = self._engine.next_block()
        is_behind = self._engine.stored_height < block.height - 1
        answers = await self._verifiers.check(formed, block, self._engine.earliest_ms, asked)
        doubtful = [place for place, answer in answers.items() if answer.codespace == LedgerError.codespace]
        if not (is_behind and doubtful):
            return answers
        await self._reach_stored(block.height - 1)
        again = await self._verifiers.check(
            [formed[place] for place in doubtful],
            self._engine.next_block(),
            self._engine.earliest_ms,
            range(len(doubtful)),
        )
        certain = {place: answer for place, answer in answers.items() if place not in doubtful}
        return {**certain, **{doubtful[place]: answer for place, answer in again.items()}}

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

    def _pool_or_refuse(self, prepared: Prepared, answer: Answer | None, earliest_ms: int) -> Verdict:
        not_before_ms = None
        if answer is not None:
            if answer.number:
                return Verdict(prepared.tx_id, answer.codespace, answer.number, answer.message, 0)
            not_before_ms = answer.not_before_ms if answer.not_before_ms > earliest_ms else None
        no_room = self._pool.add(prepared, not_before_ms)
        return _accepted(prepared) if no_room is None else self._later(prepared, no_room)

    def _later(self, prepared: Prepared, refusal: NodeError) -> Verdict:
        return _refused(prepared.tx_id, refusal, self._engine.retry_after_ms())

    def _count(self, verdicts: Sequence[Verdict], origin: str) -> None:
        accepted = sum(1 for verdict in verdicts if not verdict.number)
        later = sum(1 for verdict in verdicts if verdict.retry_after_ms)
        self._metrics.verdicts.labels("accepted", origin).inc(accepted)
        self._metrics.verdicts.labels("later", origin).inc(later)
        self._metrics.verdicts.labels("refused", origin).inc(len(verdicts) - accepted - later)


def _accepted(prepared: Prepared) -> Verdict:
    return Verdict(prepared.tx_id, "", 0, "", 0)


def _refused(tx_id: bytes, refusal: InvalidTransaction, retry_after_ms: int = 0) -> Verdict:
    return Verdict(tx_id, refusal.codespace, refusal.number, refusal.message[:500], retry_after_ms)
