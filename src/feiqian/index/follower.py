"""Follows the node's stream of committed blocks and has them written, for as long as the process lives.

The index may lag behind; it never holds the node up, and after any crash it goes on where its last transaction ended.
"""

import socket
import time
from collections.abc import Callable, Iterator
from itertools import islice, takewhile
from pathlib import Path

import sqlalchemy as sa
import structlog

from feiqian.core.encoding import encode
from feiqian.core.errors import Fault
from feiqian.core.wire import MAX_FRAME_BYTES, REPLY_DECODER, FollowStored, Gone, Stored
from feiqian.index.database import migrate
from feiqian.index.writer import Base, IndexWriter, Marker

MAX_BATCH_BYTES = 8 * 1024 * 1024
MAX_BATCH_BLOCKS = 64
FILED_BATCH_BLOCKS = 16
RECONNECT_FIRST_S = 0.05
RECONNECT_LAST_S = 2.0
MISSING_S = 5.0
"""After this long it is seen whether blocks that were missing have been put back."""

log = structlog.get_logger("feiqian.index")

Checker = Callable[[Marker], bool]
"""Says whether the ledger had this marker's app hash at its height."""

Filed = Callable[[int], Iterator[Stored]]
"""Yields the blocks from a height on that the node gave up for its segment files."""


class NodeAway(Exception):
    """The node does not answer, or hung up."""


class BlocksGone(Exception):
    """The node no longer holds the blocks asked for."""

    def __init__(self, first_height: int) -> None:
        super().__init__(f"the node holds blocks from {first_height} on")
        self.first_height = first_height


class BlockStream:
    """The node's committed blocks from a height on, read from its socket."""

    def __init__(self, path: Path, from_height: int) -> None:
        """Raises: NodeAway."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._buffer = bytearray()
        try:
            self._socket.connect(str(path))
            frame = encode(FollowStored(from_height))
            self._socket.sendall(len(frame).to_bytes(4, "big") + frame)
        except OSError as error:
            self._socket.close()
            raise NodeAway(str(error)) from None

    def next_batch(self) -> list[Stored]:
        """Wait for a block and return it with those that are already here.

        Raises:
            NodeAway: the node hung up.
            BlocksGone: it no longer holds the blocks asked for.
            Fault: what it sent is no frame of the protocol.
        """
        batch: list[Stored] = []
        size_bytes = 0
        while size_bytes < MAX_BATCH_BYTES and len(batch) < MAX_BATCH_BLOCKS:
            frame = self._take_frame()
            if frame is None:
                if batch and not self._has_more():
                    break
                self._receive()
                continue
            reply = REPLY_DECODER.decode(frame)
            if isinstance(reply, Gone):
                raise BlocksGone(reply.first_height)
            if not isinstance(reply, Stored):
                raise Fault(f"the node sent {type(reply).__name__} on a subscription")
            batch.append(reply)
            size_bytes += len(frame)
        return batch

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _take_frame(self) -> bytes | None:
        if len(self._buffer) < 4:
            return None
        length = int.from_bytes(self._buffer[:4], "big")
        if length > MAX_FRAME_BYTES:
            raise Fault(f"the node sent a frame of {length} bytes; at most {MAX_FRAME_BYTES} are expected")
        if len(self._buffer) < 4 + length:
            return None
        frame = bytes(self._buffer[4 : 4 + length])
        del self._buffer[: 4 + length]
        return frame

    def _has_more(self) -> bool:
        """Say whether bytes wait in the socket, or part of a frame is here already."""
        if self._buffer:
            return True
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False
        except OSError as error:
            raise NodeAway(str(error)) from None

    def _receive(self) -> None:
        try:
            data = self._socket.recv(1 << 20)
        except OSError as error:
            raise NodeAway(str(error)) from None
        if not data:
            raise NodeAway("the node hung up")
        self._buffer += data


def follow(
    socket_path: Path,
    engine: sa.Engine,
    writer: IndexWriter,
    base: Callable[[], Base],
    check: Checker,
    filed: Filed,
) -> None:
    """Keep the index at the node's height. Returns only by an exception.

    `base` gives what the ledger began with; `check` compares an index that was found with the ledger; `filed` gives
    the blocks that the node gave up.

    Raises:
        Fault: the node's stream has a gap, or another process writes the same index.
    """
    pause_s = RECONNECT_FIRST_S
    marker = ensure_begun(engine, writer, base, check)
    height = marker.height
    while True:
        try:
            stream = BlockStream(socket_path, height + 1)
            pause_s = RECONNECT_FIRST_S
            try:
                while True:
                    batch = stream.next_batch()
                    writer.apply(batch, height)
                    height = batch[-1].height
            finally:
                stream.close()
        except NodeAway:
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, RECONNECT_LAST_S)
        except BlocksGone as gone:
            height = _catch_up(writer, filed, height, gone.first_height)


def _catch_up(writer: IndexWriter, filed: Filed, height: int, until: int) -> int:
    """Write the blocks after `height` and before `until` from the segment files; wait while some are missing."""
    is_told = False
    while height + 1 < until:
        start = height
        blocks = takewhile(lambda block: block.height < until, filed(height + 1))
        while batch := list(islice(blocks, FILED_BATCH_BLOCKS)):
            writer.apply(batch, height)
            height = batch[-1].height
        if height == start:
            if not is_told:
                log.error("blocks_missing", first=height + 1, last=until - 1)
                is_told = True
            time.sleep(MISSING_S)
    return height


def ensure_begun(engine: sa.Engine, writer: IndexWriter, base: Callable[[], Base], check: Checker) -> Marker:
    """Return the marker of an index that belongs to this ledger and release, built anew from its base if need be."""
    migrate(engine)
    marker = writer.marker()
    if marker is not None and writer.is_of_this_release(marker) and check(marker):
        return marker
    if marker is not None:
        log.warning("index_rebuilt", height=marker.height, reason="it is of another release or another ledger")
        writer.clear()
        migrate(engine)
    writer.begin(base())
    begun = writer.marker()
    assert begun is not None
    return begun
