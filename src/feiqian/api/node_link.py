"""The gateway's one connection to its node: submissions go out; verdicts, committed blocks, dropped ids come in.

Lives on the event loop. While the node is away it keeps trying; whoever asks meanwhile is told so at once.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog

from feiqian.api.problems import NodeAway
from feiqian.core.encoding import encode
from feiqian.core.wire import (
    MAX_FRAME_BYTES,
    REPLY_DECODER,
    AskMetrics,
    AskStatus,
    Committed,
    Drop,
    Dropped,
    FollowCommitted,
    FollowDropped,
    Gone,
    Metrics,
    NodeStatus,
    Request,
    Submit,
    Submitted,
    Verdict,
)

RECONNECT_FIRST_S = 0.05
RECONNECT_LAST_S = 1.0
ANSWER_S = 30
STREAM_BUFFER_BYTES = 4 * 1024 * 1024

R = TypeVar("R", Submitted, NodeStatus, Metrics)

log = structlog.get_logger("feiqian.api")


class NodeLink:
    """Speaks with the node. `run` keeps the connection; the other methods use it."""

    def __init__(self, path: Path, height: Callable[[], int]) -> None:
        """`height` gives the last height known here, after which blocks are asked for."""
        self._path = path
        self._height = height
        self._writer: asyncio.StreamWriter | None = None
        self._waiting: dict[int, asyncio.Future[Submitted | NodeStatus | Metrics]] = {}
        self._next_request = 0
        self.on_dropped: Callable[[tuple[Drop, ...]], None] = lambda drops: None
        self.on_block: Callable[[Committed], None] = lambda block: None
        self.on_connect: Callable[[int], None] = lambda height: None

    @property
    def is_connected(self) -> bool:
        """Say whether the node can be reached now."""
        return self._writer is not None

    async def submit(self, transactions: tuple[bytes, ...]) -> tuple[Verdict, ...]:
        """Hand transactions to the node's mempool; return its verdicts in order.

        Raises:
            NodeAway: it cannot be reached, hung up, or did not answer in time.
        """
        request = self._take_number()
        return (await self._ask(Submit(request, transactions), request, Submitted)).verdicts

    async def status(self) -> NodeStatus:
        """Ask the node how it is. Raises: NodeAway."""
        request = self._take_number()
        return await self._ask(AskStatus(request), request, NodeStatus)

    async def metrics(self) -> str:
        """Ask the node for its figures. Raises: NodeAway."""
        request = self._take_number()
        return (await self._ask(AskMetrics(request), request, Metrics)).text

    async def run(self) -> None:
        """Connect, listen, and connect again, until cancelled."""
        pause_s = RECONNECT_FIRST_S
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(str(self._path), limit=STREAM_BUFFER_BYTES)
            except OSError:
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, RECONNECT_LAST_S)
                continue
            pause_s = RECONNECT_FIRST_S
            log.info("node_connected")
            try:
                await self._listen(reader, writer)
            except (OSError, EOFError) as error:
                log.warning("node_hung_up", error=type(error).__name__)
            finally:
                self._hang_up(writer)

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        height = self._height()
        self._write(FollowCommitted(height + 1))
        self._write(FollowDropped())
        # Blocks up to that height are in the store; those who wait for one of them look there now.
        self.on_connect(height)
        while True:
            length = int.from_bytes(await reader.readexactly(4), "big")
            if length > MAX_FRAME_BYTES:
                log.error("node_frame_too_large", size_bytes=length)
                return
            reply = REPLY_DECODER.decode(await reader.readexactly(length))
            if isinstance(reply, Committed):
                self.on_block(reply)
                continue
            if isinstance(reply, Dropped):
                self.on_dropped(reply.drops)
                continue
            if isinstance(reply, Gone):
                raise EOFError("the blocks asked for are pruned")
            waiting = self._waiting.pop(reply.request, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(reply)

    async def _ask(self, request: Request, number: int, kind: type[R]) -> R:
        if self._writer is None:
            raise NodeAway("the node is not running or not reachable; try again", retry_after_s=1)
        answer: asyncio.Future[Submitted | NodeStatus | Metrics] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            self._write(request)
            await self._writer.drain()
            reply = await asyncio.wait_for(answer, ANSWER_S)
        except (OSError, TimeoutError):
            raise NodeAway("the node did not answer in time; send the same again", retry_after_s=1) from None
        finally:
            self._waiting.pop(number, None)
        assert isinstance(reply, kind)
        return reply

    def _take_number(self) -> int:
        self._next_request += 1
        return self._next_request

    def _write(self, request: Request) -> None:
        assert self._writer is not None
        frame = encode(request)
        self._writer.write(len(frame).to_bytes(4, "big"))
        self._writer.write(frame)

    def _hang_up(self, writer: asyncio.StreamWriter) -> None:
        self._writer = None
        writer.close()
        lost, self._waiting = self._waiting, {}
        for answer in lost.values():
            if not answer.done():
                answer.set_exception(
                    NodeAway("the node hung up before it answered; send the same again", retry_after_s=1)
                )
