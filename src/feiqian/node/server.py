"""The node's unix socket: any number of gateways submit, follow the ledger and ask how it is.

A subscriber is served at its own pace, from recent blocks in memory or from the store, so a slow one costs no memory;
one that stops reading is dropped. A malformed frame ends that connection and nothing else.
"""

import asyncio
import contextlib
import os
import struct
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import structlog

from feiqian.core.encoding import encode
from feiqian.core.wire import (
    MAX_DROPS,
    MAX_FRAME_BYTES,
    REQUEST_DECODER,
    AskMetrics,
    AskStatus,
    Committed,
    Drop,
    Dropped,
    FollowCommitted,
    FollowDropped,
    FollowStored,
    Gone,
    Metrics,
    NodeStatus,
    Reply,
    Request,
    Stored,
    Submit,
    Submitted,
)
from feiqian.node.faults import guard_task
from feiqian.node.intake import Intake
from feiqian.node.mempool import PoolSize
from feiqian.state.block_log import MAX_BEYOND
from feiqian.state.store import Store, StoredBlock

SUBMITS_AT_ONCE = 8
"""Submissions of one connection that are being worked on; the next waits in its sender's socket."""

RECENT_BLOCKS = 16
RECENT_DROPS = 1_024
RECENT_BYTES = 32 * 2**20
WRITE_BUFFER_BYTES = 2**20

_LENGTH = struct.Struct(">I")


class MalformedFrame(Exception):
    """What came is no frame of `core/wire.py`; the connection that sent it is closed."""


class Recent:
    """The last frames of a kind, each under its height or number, and who waits for the next."""

    def __init__(self, height: int, most: int, least: int = 1) -> None:
        """Keep `most` frames, or as many as `RECENT_BYTES` hold, yet never fewer than `least`."""
        self.height = height
        self._most = most
        self._least = least
        self._frames: dict[int, bytes] = {}
        self._bytes = 0
        self._next = asyncio.Event()

    def add(self, height: int, frame: bytes) -> None:
        """Take the next height's frame; wakes every subscriber."""
        self._frames[height] = frame
        self._bytes += len(frame)
        while len(self._frames) > self._most or (self._bytes > RECENT_BYTES and len(self._frames) > self._least):
            oldest = next(iter(self._frames))
            self._bytes -= len(self._frames.pop(oldest))
        self.height = height
        self._next.set()
        self._next = asyncio.Event()

    def find(self, height: int) -> bytes | None:
        """Return the frame of a height if it is still here."""
        return self._frames.get(height)

    @property
    def first(self) -> int:
        """The lowest height whose frame is still here."""
        return next(iter(self._frames), self.height)

    async def reach(self, height: int) -> None:
        """Return when this height has come."""
        while self.height < height:
            await self._next.wait()


class Budget:
    """Bytes of submissions that may be in memory at once, over all connections."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        self._freed = asyncio.Condition()

    async def take(self, size_bytes: int) -> None:
        """Wait for room; what is larger than everything gets it alone."""
        async with self._freed:
            await self._freed.wait_for(
                lambda: not self._used_bytes or self._used_bytes + size_bytes <= self._limit_bytes
            )
            self._used_bytes += size_bytes

    async def give_back(self, size_bytes: int) -> None:
        """Let the next in."""
        async with self._freed:
            self._used_bytes -= size_bytes
            self._freed.notify_all()


class Server:
    """Listens on the socket. Belongs to one event loop."""

    def __init__(
        self,
        store: Store,
        intake: Intake,
        *,
        submit_bytes: int,
        max_connections: int,
        stalled_ms: int,
        pool_size: Callable[[], PoolSize],
        is_ready: Callable[[], bool],
        metrics_text: Callable[[], str],
        subscribers_changed: Callable[[int], None],
        told_height: int | None = None,
    ) -> None:
        """`told_height`: the last height that followers may be told of as stored; the store's own unless given."""
        self._store = store
        self._intake = intake
        self._budget = Budget(submit_bytes)
        self._max_connections = max_connections
        self._stalled_s = stalled_ms / 1000
        self._pool_size = pool_size
        self._is_ready = is_ready
        self._metrics_text = metrics_text
        self._subscribers_changed = subscribers_changed
        # What the store does not have yet can be had from here alone.
        self._committed = Recent(store.height, RECENT_BLOCKS, least=MAX_BEYOND + 1)
        self._stored = Recent(store.height if told_height is None else told_height, RECENT_BLOCKS)
        self._dropped = Recent(0, RECENT_DROPS)
        self._loop = asyncio.get_running_loop()
        self._connections: set[asyncio.Task[None]] = set()
        self._listener: asyncio.Server | None = None

    async def start(self, path: Path) -> None:
        """Listen on `path`; a socket that a dead node left there is replaced. Only its owner may connect."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        mask = os.umask(0o177)
        try:
            self._listener = await asyncio.start_unix_server(self._accept, path)
        finally:
            os.umask(mask)

    def publish_committed(self, committed: Committed) -> None:
        """Tell who follows of a block that is in the log. May be called from any thread."""
        self._publish(self._committed, committed.height, committed)

    def publish_stored(self, stored: Stored) -> None:
        """Tell who follows of a block that the store has. May be called from any thread."""
        self._publish(self._stored, stored.height, stored)

    def _publish(self, recent: Recent, height: int, reply: Reply) -> None:
        frame = encode_frame(reply)
        with contextlib.suppress(RuntimeError):  # The loop is closed: the node is stopping and nobody listens.
            self._loop.call_soon_threadsafe(recent.add, height, frame)

    async def reach_stored(self, height: int) -> None:
        """Return when the store has this height."""
        await self._stored.reach(height)

    def publish_dropped(self, drops: Sequence[Drop]) -> None:
        """Tell who asked of transactions that were dropped. May be called from any thread."""
        parts = [tuple(drops[start : start + MAX_DROPS]) for start in range(0, len(drops), MAX_DROPS)]
        frames = [encode_frame(Dropped(part)) for part in parts]
        with contextlib.suppress(RuntimeError):  # As above.
            self._loop.call_soon_threadsafe(self._keep_dropped, frames)

    def _keep_dropped(self, frames: Sequence[bytes]) -> None:
        for frame in frames:
            self._dropped.add(self._dropped.height + 1, frame)

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        if self._listener is not None:
            self._listener.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= self._max_connections:
            structlog.get_logger().warning("connection_refused", open=len(self._connections))
            writer.close()
            return
        self._connections.add(guard_task(task))
        try:
            await Connection(self, reader, writer).serve()
        except (MalformedFrame, ConnectionError, TimeoutError) as error:
            structlog.get_logger().warning("connection_closed", reason=str(error) or type(error).__name__)
        except asyncio.CancelledError:
            # The node stops. Ended rather than cancelled: asyncio.streams takes a cancelled handler for an error.
            return
        finally:
            self._connections.discard(task)
            writer.close()


class Connection:
    """One gateway's connection: reads requests one by one, answers each when it is done."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._writing = asyncio.Lock()
        self._submits = asyncio.Semaphore(SUBMITS_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._following: set[type[Request]] = set()
        writer.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    async def serve(self) -> None:
        """Answer until the other side closes, breaks the protocol or stops reading."""
        try:
            while (size_bytes := await self._frame_size()) is not None:
                await self._serve_frame(size_bytes)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _frame_size(self) -> int | None:
        try:
            size_bytes = _LENGTH.unpack(await self._reader.readexactly(_LENGTH.size))[0]
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise MalformedFrame("the connection ended inside a frame") from None
            return None
        if not 0 < size_bytes <= MAX_FRAME_BYTES:
            raise MalformedFrame(f"a frame of {size_bytes} bytes; 1 to {MAX_FRAME_BYTES} are accepted")
        return size_bytes

    async def _serve_frame(self, size_bytes: int) -> None:
        # Room is taken before the frame is read, so that memory is bounded however many connections send at once.
        budget = self._server._budget
        await budget.take(size_bytes)
        is_handed_on = False
        try:
            request = await self._read(size_bytes)
            if isinstance(request, Submit):
                await self._submits.acquire()
                self._start(self._submit(request, size_bytes), "submit")
                is_handed_on = True
            else:
                await self._answer(request)
        finally:
            if not is_handed_on:
                await budget.give_back(size_bytes)

    async def _read(self, size_bytes: int) -> Request:
        try:
            async with asyncio.timeout(self._server._stalled_s):
                return REQUEST_DECODER.decode(await self._reader.readexactly(size_bytes))
        except asyncio.IncompleteReadError:
            raise MalformedFrame("the connection ended inside a frame") from None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise MalformedFrame(f"not a request: {str(error)[:200]}") from None

    async def _answer(self, request: Request) -> None:
        match request:
            case AskStatus():
                await self._send(encode_frame(self._server_status(request)))
            case AskMetrics():
                await self._send(encode_frame(Metrics(request.request, self._server._metrics_text())))
            case FollowStored() | FollowCommitted() | FollowDropped():
                if type(request) in self._following:
                    raise MalformedFrame("a connection follows the same but once")
                self._following.add(type(request))
                self._start(self._follow(request), "following")
            case Submit():
                raise AssertionError("submissions are answered in tasks of their own")

    def _server_status(self, request: AskStatus) -> NodeStatus:
        store, pool = self._server._store, self._server._pool_size()
        head = store.head
        return NodeStatus(
            request.request,
            store.chain_id,
            head.height,
            head.time_ms,
            head.app_hash,
            pool.transactions,
            pool.bytes,
            self._server._is_ready(),
        )

    async def _submit(self, request: Submit, size_bytes: int) -> None:
        try:
            verdicts = await self._server._intake.submit(request.transactions)
            await self._send(encode_frame(Submitted(request.request, verdicts)))
        finally:
            self._submits.release()
            await self._server._budget.give_back(size_bytes)

    async def _follow(self, request: FollowStored | FollowCommitted | FollowDropped) -> None:
        match request:
            case FollowStored():
                await self._follow_blocks(self._server._stored, request.from_height, _stored_of)
            case FollowCommitted():
                await self._follow_blocks(self._server._committed, request.from_height, _committed_of)
            case FollowDropped():
                await self._follow_dropped()

    async def _follow_blocks(self, recent: Recent, height: int, told_of: Callable[[StoredBlock], Reply]) -> None:
        store = self._server._store
        self._server._subscribers_changed(1)
        try:
            height = max(height, store.initial_height)
            while True:
                await recent.reach(height)
                frame = recent.find(height) or await asyncio.to_thread(_frame_of, store, height, told_of)
                if frame is None:
                    await self._send(encode_frame(Gone(store.head.first_block)))
                    self._writer.close()
                    return
                await self._send(frame)
                height += 1
        finally:
            self._server._subscribers_changed(-1)

    async def _follow_dropped(self) -> None:
        dropped, number = self._server._dropped, 0
        while True:
            await dropped.reach(number + 1)
            number = max(number + 1, dropped.first)
            frame = dropped.find(number)
            assert frame is not None, "what was reached and is not older than the first is there"
            await self._send(frame)

    async def _send(self, frame: bytes) -> None:
        async with self._writing, asyncio.timeout(self._server._stalled_s):
            self._writer.write(frame)
            await self._writer.drain()

    def _start(self, work: Awaitable[None], name: str) -> asyncio.Task[None]:
        async def guarded() -> None:
            try:
                await work
            except (ConnectionError, TimeoutError) as error:
                structlog.get_logger().warning("connection_closed", reason=str(error) or "it stopped reading")
                self._writer.transport.abort()

        task = guard_task(asyncio.create_task(guarded(), name=name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def encode_frame(reply: Reply) -> bytes:
    """Return length and encoding of a frame."""
    data = encode(reply)
    return _LENGTH.pack(len(data)) + data


def _frame_of(store: Store, height: int, told_of: Callable[[StoredBlock], Reply]) -> bytes | None:
    block = store.block(height)
    return None if block is None else encode_frame(told_of(block))


def _stored_of(block: StoredBlock) -> Reply:
    return Stored(block.height, block.time_ms, block.app_hash, block.block, block.results)


def _committed_of(block: StoredBlock) -> Reply:
    return Committed(block.height, block.results)
