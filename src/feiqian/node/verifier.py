"""Checks transactions in processes of their own: signatures first, then authority and replay by committed state.

Not on threads: beside one busy thread, a pool of two threads verified 450 signatures a second in place of 36,000, since
each native call gives the interpreter's lock up and waits a switch interval to have it back (docs/decisions/0020).
"""

import asyncio
import itertools
import os
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from io import BufferedRWPair
from pathlib import Path
from typing import NamedTuple

import msgspec

from feiqian.core.encoding import Height, Record, TimeMs, Uint32, encode
from feiqian.core.errors import Fault, InvalidTransaction
from feiqian.execution.admission import Prepared, admit, check_unused, prepare_formed, verify_formed
from feiqian.execution.registry import Registry, discover
from feiqian.ledger.context import BlockInfo
from feiqian.ledger.parameters import get_parameters
from feiqian.node.faults import guard_task
from feiqian.node.workers import LENGTH, Worker, read_message, serve_as_worker, start_worker, write_message
from feiqian.process.memory import tune_memory
from feiqian.process.native import mute_native_output
from feiqian.state.store import Store
from feiqian.state.tables import BlockState

CHUNK = 128
"""Transactions handed to a worker at once."""

OUTSTANDING = 2
"""Chunks that a worker holds, so that it never waits for the next."""

NICENESS = 10
"""What was taken in first is finished first: when all are busy, blocks are executed and committed before this."""

EARLY_MS = 60_000
"""How much too far ahead a transaction may expire and still be kept until a block may hold it: clocks differ."""


class Chunk(Record):
    """Node to worker: well-formed transactions with ids and expiry, and height and time of the block made next.

    Authority is checked at the places `asked`, in order; what no block at `earliest_ms` may hold yet is told of.
    """

    height: Height
    time_ms: TimeMs
    earliest_ms: TimeMs
    transactions: tuple[bytes, ...]
    ids: tuple[bytes, ...]
    expiries_ms: tuple[TimeMs, ...]
    asked: tuple[Uint32, ...]


class Answer(Record):
    """What a worker says of one transaction: the rule that refuses it, or 0 and from when on a block may hold it."""

    place: Uint32
    codespace: str
    number: Uint32
    message: str
    not_before_ms: TimeMs


Answers = Mapping[int, Answer]
"""By place, of those that are refused or must wait; the others may stand in a block at once."""


_CHUNK_DECODER = msgspec.msgpack.Decoder(Chunk)
_ANSWER_DECODER = msgspec.msgpack.Decoder(tuple[Answer, ...])


class Checker:
    """What a worker does: admits transactions by the state of a store that another process writes."""

    def __init__(self, registry: Registry, store: Store) -> None:
        self._registry = registry
        self._store = store
        self._state = BlockState(store)
        self._state_height = store.height

    def check(self, chunk: Chunk) -> tuple[Answer, ...]:
        """Return an answer for each transaction that a block may not hold at once."""
        block = BlockInfo(self._store.chain_id, chunk.height, chunk.time_ms)
        with self._store.view() as view:
            if view.height != self._state_height:
                self._state, self._state_height = BlockState(view), view.height
            # What was decoded at this height stays; only the reading goes on in a new read transaction.
            self._state.reader = view
            window_ms = get_parameters(self._state).replay_window_ms
            answers: list[Answer] = []
            asked = frozenset(chunk.asked)
            given = zip(chunk.transactions, chunk.ids, chunk.expiries_ms, strict=True)
            for place, (formed, tx_id, expires_at_ms) in enumerate(given):
                try:
                    if place in asked:
                        prepared = prepare_formed(self._registry, formed, tx_id)
                        admit(self._state, view, prepared, block, window_ms + EARLY_MS)
                    else:
                        verify_formed(formed, tx_id)
                        check_unused(view, expires_at_ms, tx_id, block, window_ms + EARLY_MS)
                except InvalidTransaction as refusal:
                    answers.append(Answer(place, refusal.codespace, refusal.number, refusal.message[:500], 0))
                    continue
                not_before_ms = expires_at_ms - window_ms
                if not_before_ms > chunk.earliest_ms:
                    answers.append(Answer(place, "", 0, "", not_before_ms))
            return tuple(answers)


class _Waiting(NamedTuple):
    """A chunk in the queue; `number` tells any two apart before chunks would be compared."""

    is_patient: bool
    number: int
    chunk: Chunk
    answer: asyncio.Future[tuple[Answer, ...]]


class Verifiers:
    """Worker processes and the queue before them. Belongs to one event loop."""

    def __init__(self) -> None:
        self._workers: list[Worker] = []
        self._chunks: asyncio.PriorityQueue[_Waiting] = asyncio.PriorityQueue()
        self._numbers = itertools.count()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, count: int, ledger: Path) -> None:
        """Start the workers on the store at `ledger` and return when all are ready to work."""
        self._workers = [start_worker("feiqian.node.verifier", [str(ledger)]) for _ in range(count)]
        for number, worker in enumerate(self._workers):
            reader, writer = await asyncio.open_connection(sock=worker.channel, limit=2**20)
            await _read_answers(reader)
            task = asyncio.create_task(self._serve(reader, writer), name=f"verifier-{number}")
            self._tasks.append(guard_task(task))

    @property
    def pids(self) -> list[int]:
        """The workers' process ids."""
        return [worker.process.pid for worker in self._workers]

    async def check(
        self,
        formed: Sequence[Prepared],
        block: BlockInfo,
        earliest_ms: int,
        asked: Sequence[int],
        *,
        is_urgent: bool = False,
    ) -> Answers:
        """Check well-formed transactions: signatures, expiry and replay of all, authority too of those at `asked`.

        `block` is the one that would be made now; no block lies before `earliest_ms`. `is_urgent`: a block waits for
        it, so it goes before everything that only wants into the pool.
        """
        answer: asyncio.Future[tuple[Answer, ...]] = asyncio.get_running_loop().create_future()
        chunk = Chunk(
            block.height,
            block.time_ms,
            earliest_ms,
            tuple([each.signed for each in formed]),
            tuple([each.tx_id for each in formed]),
            tuple([each.transaction.expires_at_ms for each in formed]),
            tuple(asked),
        )
        self._chunks.put_nowait(_Waiting(not is_urgent, next(self._numbers), chunk, answer))
        return {each.place: each for each in await answer}

    async def stop(self) -> None:
        """End the workers; what they still hold is not answered."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self._workers:
            await asyncio.to_thread(worker.process.wait)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        room = asyncio.Semaphore(OUTSTANDING)
        sent: deque[asyncio.Future[tuple[Answer, ...]]] = deque()

        async def receive() -> None:
            # Always reading, so that a worker's death is noticed even when it has nothing to do.
            while True:
                answers = await _read_answers(reader)
                answer = sent.popleft()
                if not answer.cancelled():
                    answer.set_result(answers)
                room.release()

        receiving = guard_task(asyncio.create_task(receive(), name="verifier-answers"))
        try:
            while True:
                await room.acquire()
                waiting = await self._chunks.get()
                data = encode(waiting.chunk)
                sent.append(waiting.answer)
                writer.write(LENGTH.pack(len(data)) + data)
                await writer.drain()
        finally:
            receiving.cancel()
            writer.close()


async def _read_answers(reader: asyncio.StreamReader) -> tuple[Answer, ...]:
    try:
        size = LENGTH.unpack(await reader.readexactly(LENGTH.size))[0]
        return _ANSWER_DECODER.decode(await reader.readexactly(size))
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise Fault("a process that checks transactions has died") from error


def _serve(stream: BufferedRWPair) -> None:
    os.nice(NICENESS)
    store = Store.open(sys.argv[1], read_only=True)
    checker = Checker(discover(), store)
    tune_memory()
    write_message(stream, encode(()))
    while (data := read_message(stream)) is not None:
        with mute_native_output():
            answers = checker.check(_CHUNK_DECODER.decode(data))
        write_message(stream, encode(answers))


if __name__ == "__main__":
    serve_as_worker("verifier", _serve)
