"""The committer's process of a network: a height is staged while the members vote on it, and written when they have.

Staging gives the state root that the node answers with; writing is one transaction with its fsync. The row that makes a
height verifiable comes later, once the network has signed it.
"""

import asyncio
import contextlib
import fcntl
import sys
from collections import deque
from io import BufferedRWPair
from pathlib import Path
from typing import TypeVar

import msgspec

from feiqian.consensus.genesis_file import load_genesis
from feiqian.core.encoding import Hash32, Height, Record, encode
from feiqian.core.errors import Fault
from feiqian.node.comet.retention import evidence_age
from feiqian.node.committer import STAGES, Committer, Kept, Made
from feiqian.node.configuration import Layout
from feiqian.node.executed import Executed
from feiqian.node.faults import guard_task
from feiqian.node.metrics import Metrics
from feiqian.node.pruning import Pruner
from feiqian.node.workers import LENGTH, Worker, read_message, serve_as_worker, start_worker, write_message
from feiqian.process.memory import tune_memory
from feiqian.state.archive import ArchiveRow
from feiqian.state.store import Store


class Stage(Record, tag="stage"):
    """Node to committer: work out what the next height writes. The same height again replaces what was staged."""

    executed: Executed


class Write(Record, tag="write"):
    """Node to committer: put the staged height on disk."""

    height: Height


class Archive(Record, tag="archive"):
    """Node to committer: put these rows, of heights on disk, into the archive."""

    rows: tuple[ArchiveRow, ...]


class Staged(Record, tag="staged"):
    """Committer to node: the state root that the height leaves."""

    height: Height
    app_hash: Hash32


class Written(Record, tag="written"):
    """Committer to node: the height is on disk."""

    kept: Kept


class Archived(Record, tag="archived"):
    """Committer to node: the rows up to this height are on disk."""

    height: Height


Order = Stage | Write | Archive
Word = Staged | Written | Archived
_ORDER = msgspec.msgpack.Decoder(Order)
_WORD = msgspec.msgpack.Decoder(Word)

W = TypeVar("W", Staged, Written, Archived)


class NetworkCommitter:
    """The node's end; belongs to one event loop. Answers come in the order of the orders."""

    def __init__(self, layout: Layout, plain_tables: frozenset[str], past_heights: int, keep_blocks: int) -> None:
        self._worker: Worker = start_worker(
            "feiqian.node.comet.committer",
            [str(layout.directory), ",".join(sorted(plain_tables)), str(past_heights), str(keep_blocks)],
        )
        self._waiting: deque[asyncio.Future[Word]] = deque()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Return when the process has the store.

        Raises:
            Fault: it ended before.
        """
        reader, self._writer = await asyncio.open_connection(sock=self._worker.channel, limit=2**20)
        if await _read(reader) is None:
            raise Fault("the process that commits blocks could not open the ledger; its own log line says why")
        self._tasks.append(guard_task(asyncio.create_task(self._hear(reader), name="committer")))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._worker.process.pid

    async def stage(self, executed: Executed) -> bytes:
        """Return the state root that a height leaves; nothing is written yet."""
        return (await self._ask(Stage(executed), Staged)).app_hash

    async def write(self, height: int, metrics: Metrics) -> None:
        """Put the staged height on disk."""
        kept = (await self._ask(Write(height), Written)).kept
        metrics.add_stages(STAGES, kept.elapsed_us, kept.cpu_us)

    async def archive(self, rows: tuple[ArchiveRow, ...]) -> None:
        """Put rows into the archive; returns when they are on disk."""
        await self._ask(Archive(rows), Archived)

    async def stop(self) -> None:
        """End the process when it has done what it was told. Raises: Fault, it died."""
        for task in self._tasks:
            task.cancel()
        self._writer.close()
        if await asyncio.to_thread(self._worker.process.wait):
            raise Fault("the process that commits blocks has died")

    async def _ask(self, order: Order, type_: type[W]) -> W:
        answer: asyncio.Future[Word] = asyncio.get_running_loop().create_future()
        data = encode(order)
        self._waiting.append(answer)
        self._writer.write(LENGTH.pack(len(data)))
        self._writer.write(data)
        await self._writer.drain()
        word = await asyncio.shield(answer)
        if not isinstance(word, type_):
            raise Fault(f"the committer answered {type(word).__name__} where {type_.__name__} was next")
        return word

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        while (data := await _read(reader)) is not None:
            self._waiting.popleft().set_result(_WORD.decode(data))
        raise Fault("the process that commits blocks has died")


async def _read(reader: asyncio.StreamReader) -> bytes | None:
    try:
        return await reader.readexactly(LENGTH.unpack(await reader.readexactly(LENGTH.size))[0])
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def _serve(stream: BufferedRWPair) -> None:
    directory, plain_tables, past_heights, keep_blocks = sys.argv[1:]
    layout = Layout(Path(directory))
    with layout.committer_lock.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        store = Store.open(layout.ledger, plain_tables=frozenset(filter(None, plain_tables.split(","))))
        age = evidence_age(load_genesis(layout.genesis).params)
        pruner = Pruner(store, int(past_heights), int(keep_blocks), layout.segments, age)
        tune_memory()
        write_message(stream, b"open")
        # When the node is gone, CometBFT tells the next one what this store lacks.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            _follow_orders(Committer(store, pruner), store, stream)
        pruner.close()
        store.close()


def _follow_orders(committer: Committer, store: Store, stream: BufferedRWPair) -> None:
    made: Made | None = None
    while (data := read_message(stream)) is not None:
        match _ORDER.decode(data):
            case Stage(executed):
                made = committer.stage(executed)
                write_message(stream, encode(Staged(executed.height, made.staged.app_hash)))
            case Write(height):
                if made is None or made.staged.writes.height != height:
                    raise Fault(f"committer: told to write height {height}, which is not the one that is staged")
                write_message(stream, encode(Written(committer.write(made))))
                made = None
                committer.prune()
            case Archive(rows):
                store.put_archive(*rows)
                write_message(stream, encode(Archived(rows[-1].height)))


if __name__ == "__main__":
    serve_as_worker("committer", _serve)
