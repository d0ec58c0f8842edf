"""The unix socket on which CometBFT calls the ledger (ABCI 2.0): frames, the order of answers, limits.

A frame is a protobuf message behind its length as a varint. CometBFT opens four connections and does not say which is
which: a connection is what its calls are. It ends itself when one of them breaks.
"""

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import structlog
from google.protobuf.message import DecodeError

from feiqian.consensus import protobuf
from feiqian.consensus.comet import abci_pb2 as pb

MAX_MESSAGE_BYTES = 128 * 2**20
"""CometBFT's own bound on a block is 100 MiB."""

MAX_CONNECTIONS = 16
MAX_WAITING = 256
"""Requests of one connection that were read and not answered; the next waits in the socket."""

READ_BUFFER_BYTES = 2**20
WRITE_BATCH_BYTES = 2**16

OVERLAPPING = frozenset({"check_tx", "insert_tx", "reap_txs"})
"""Calls that are begun when they come; any other one begins when all before it on its connection are answered."""

UNRECORDED = frozenset({*OVERLAPPING, "query"})

_FIELDS = {field.name: field.number for field in pb.Response.DESCRIPTOR.oneofs_by_name["value"].fields}


class MalformedFrame(Exception):
    """What came is no request of ABCI 2.0; the connection that sent it is closed."""


class Application(Protocol):
    """The ledger as CometBFT calls it. What a call raises is a fault of the ledger and never reaches CometBFT."""

    async def info(self, request: pb.RequestInfo, /) -> pb.ResponseInfo: ...
    async def query(self, request: pb.RequestQuery, /) -> pb.ResponseQuery: ...
    async def check_tx(self, request: pb.RequestCheckTx, /) -> pb.ResponseCheckTx: ...
    async def insert_tx(self, request: pb.RequestInsertTx, /) -> pb.ResponseInsertTx: ...
    async def reap_txs(self, request: pb.RequestReapTxs, /) -> pb.ResponseReapTxs: ...
    async def init_chain(self, request: pb.RequestInitChain, /) -> pb.ResponseInitChain: ...
    async def prepare_proposal(self, request: pb.RequestPrepareProposal, /) -> pb.ResponsePrepareProposal: ...
    async def process_proposal(self, request: pb.RequestProcessProposal, /) -> pb.ResponseProcessProposal: ...
    async def extend_vote(self, request: pb.RequestExtendVote, /) -> pb.ResponseExtendVote: ...
    async def verify_vote_extension(
        self, request: pb.RequestVerifyVoteExtension, /
    ) -> pb.ResponseVerifyVoteExtension: ...
    async def finalize_block(self, request: pb.RequestFinalizeBlock, /) -> pb.ResponseFinalizeBlock: ...
    async def commit(self, request: pb.RequestCommit, /) -> pb.ResponseCommit: ...
    async def list_snapshots(self, request: pb.RequestListSnapshots, /) -> pb.ResponseListSnapshots: ...
    async def offer_snapshot(self, request: pb.RequestOfferSnapshot, /) -> pb.ResponseOfferSnapshot: ...
    async def load_snapshot_chunk(self, request: pb.RequestLoadSnapshotChunk, /) -> pb.ResponseLoadSnapshotChunk: ...
    async def apply_snapshot_chunk(self, request: pb.RequestApplySnapshotChunk, /) -> pb.ResponseApplySnapshotChunk: ...


class AbciServer:
    """Listens for CometBFT. Belongs to one event loop.

    `application` may be replaced while it runs: each call goes to the one that is there when the call begins.
    """

    def __init__(
        self,
        path: Path,
        application: Application,
        *,
        fault: Callable[[str, BaseException], None],
        record: Callable[[str], None] = lambda name: None,
    ) -> None:
        """`fault` is told the call and what the application raised in it, and should end the process.

        `record` is told the name of each call that consensus, the handshake or a snapshot makes, as it begins.
        """
        self.application = application
        self._path = path
        self._fault = fault
        self._record = record
        self._listener: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._calls: set[asyncio.Task[bytes]] = set()
        self._left: set[asyncio.Task[bytes]] = set()
        self._lost = asyncio.Event()

    async def start(self) -> None:
        """Listen; a socket that a dead process left there is replaced. Only its owner may connect."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        mask = os.umask(0o177)
        try:
            self._listener = await asyncio.start_unix_server(self._accept, self._path, limit=READ_BUFFER_BYTES)
        finally:
            os.umask(mask)

    async def stop(self) -> None:
        """Stop listening, close every connection and wait until the calls that had begun are done."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def lost(self) -> None:
        """Return when CometBFT has gone: the last of its connections has ended. Each time counts once."""
        await self._lost.wait()
        self._lost.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= MAX_CONNECTIONS:
            structlog.get_logger().warning("abci_refused", open=len(self._connections))
            writer.close()
            return
        task.set_name("abci connection")
        task.add_done_callback(self._guard)
        self._connections.add(task)
        connection = _Connection(self, reader, writer)
        try:
            await self._finish_left()
            await connection.serve()
        except (MalformedFrame, ConnectionError) as error:
            structlog.get_logger().error("abci_closed", reason=str(error))
        finally:
            self._left.update(call for call in connection.begun if not call.done())
            writer.close()
            self._connections.discard(task)
            if not self._connections and self._listener is not None:
                self._lost.set()

    async def _finish_left(self) -> None:
        # A CometBFT that starts again asks first what is on disk: the last word of the one before must be said by then.
        if self._left:
            await asyncio.wait(self._left)

    def _begin(self, name: str, request: Any) -> asyncio.Task[bytes]:
        if name not in UNRECORDED:
            self._record(name)
        call = asyncio.create_task(self._call(name, request), name=f"abci {name}")
        self._calls.add(call)
        call.add_done_callback(self._ended)
        return call

    async def _call(self, name: str, request: Any) -> bytes:
        answer = await getattr(self.application, name)(request)
        return _frame(name, answer.SerializeToString())

    def _ended(self, call: asyncio.Task[bytes]) -> None:
        self._calls.discard(call)
        self._left.discard(call)
        self._guard(call)

    def _guard(self, task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fault(task.get_name(), error)


class _Waiting(NamedTuple):
    """A request that was read; `call` where it was begun then."""

    name: str
    request: Any
    call: asyncio.Task[bytes] | None


class _Connection:
    """One of CometBFT's connections: reads requests ahead and answers them in order."""

    def __init__(self, server: AbciServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.begun: set[asyncio.Task[bytes]] = set()
        self._server = server
        self._reader = reader
        self._writer = writer
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue(MAX_WAITING)
        self._batch: list[bytes] = []
        self._batch_bytes = 0

    async def serve(self) -> None:
        """Return when the other side has closed or a call failed.

        Raises:
            MalformedFrame: what came is no request.
            ConnectionError: the connection broke.
        """
        tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._answer())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _read(self) -> None:
        while (frame := await _read_frame(self._reader)) is not None:
            name, request = _open(frame)
            call = self._begin(name, request) if name in OVERLAPPING else None
            await self._waiting.put(_Waiting(name, request, call))

    async def _answer(self) -> None:
        while True:
            if self._waiting.empty():
                await self._write()
            name, request, call = await self._waiting.get()
            match name:
                case "flush":
                    frame = _frame(name, b"")
                case "echo":
                    frame = _frame(name, pb.ResponseEcho(message=request.message).SerializeToString())
                case _:
                    call = call or self._begin(name, request)
                    if not call.done():
                        await self._write()
                        await asyncio.wait([call])
                    if call.cancelled() or call.exception():
                        return
                    frame = call.result()
            self._batch.append(frame)
            self._batch_bytes += len(frame)
            if self._batch_bytes >= WRITE_BATCH_BYTES:
                await self._write()

    async def _write(self) -> None:
        # CometBFT asks for a flush after each request; nothing is ever held back while something is waited for.
        if self._batch:
            if self._writer.is_closing():
                raise ConnectionResetError("the other side closed before it was answered")
            self._writer.write(b"".join(self._batch))
            self._batch.clear()
            self._batch_bytes = 0
            await self._writer.drain()

    def _begin(self, name: str, request: Any) -> asyncio.Task[bytes]:
        call = self._server._begin(name, request)
        self.begun.add(call)
        call.add_done_callback(self.begun.discard)
        return call


async def _read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """Return the next message's bytes, None where the other side closed between two."""
    size_bytes = shift = 0
    try:
        while True:
            octet = (await reader.readexactly(1))[0]
            size_bytes |= (octet & 0x7F) << shift
            if size_bytes > MAX_MESSAGE_BYTES or shift > 28:
                raise MalformedFrame(f"a message of more than {MAX_MESSAGE_BYTES} bytes")
            if octet < 0x80:
                break
            shift += 7
        return await reader.readexactly(size_bytes)
    except asyncio.IncompleteReadError as error:
        if not shift and not size_bytes and not error.partial:
            return None
        raise MalformedFrame("the connection ended inside a message") from None


def _open(frame: bytes) -> tuple[str, Any]:
    """Return the name of the call and its request.

    Raises:
        MalformedFrame: no protobuf, or a call that this release does not know.
    """
    try:
        request = pb.Request.FromString(frame)
    except DecodeError as error:
        raise MalformedFrame(f"{len(frame)} bytes that are no request: {error}") from None
    name = request.WhichOneof("value")
    if name is None:
        raise MalformedFrame(f"a call that is not of ABCI 2.0, in {len(frame)} bytes")
    return name, getattr(request, name)


def _frame(name: str, answer: bytes) -> bytes:
    """Return the frame of a Response that holds this answer."""
    head = protobuf.varint(_FIELDS[name] << 3 | 2) + protobuf.varint(len(answer))
    return b"".join((protobuf.varint(len(head) + len(answer)), head, answer))
