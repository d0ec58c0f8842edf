"""Segment files: blocks and archive rows that left the store, in append-only files whose records are hash-chained.

A file is a magic line and records. A record is 4 bytes length (big endian), 4 bytes that check the length, that many
bytes of payload and the 32-byte chain hash, Domain("feiqian/segment/v1").hash(chain hash before it ‖ payload). The
first payload is a header that names the chain, the first height and the chain hash before the file, so files follow
one another. A crash can only tear the tail: cut it short, or leave zeros to the end of the file. `SegmentWriter` cuts
that off when it opens the file again; anything else that does not fit is refused.
"""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, Protocol, TypeVar

from feiqian.core.encoding import Codec, Hash32, Height, Record, TimeMs, encode
from feiqian.core.errors import Fault, InvalidTransaction
from feiqian.core.hashing import Domain
from feiqian.state.archive import ArchiveRow
from feiqian.state.errors import SegmentRefused
from feiqian.state.files import open_private, reason_of, sync_directory
from feiqian.state.store import StoredBlock

MAGIC = b"feiqian segment 1\n"
GENESIS_CHAIN_HASH = bytes(32)
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
_LENGTH_BYTES = 4
_FRAME_BYTES = 8
_HASH_BYTES = 32
_CHAIN = Domain("feiqian/segment/v1")
_LENGTH = Domain("feiqian/segment-length/v1")

T = TypeVar("T")


class SegmentHeader(Record):
    """What a segment file is of, and what it continues: 32 zero bytes where it is the first."""

    chain_id: str
    first_height: Height
    previous_chain_hash: Hash32


class SegmentRow(Record):
    """One height: its block and results as the store keeps them, empty for none, and its archive row."""

    height: Height
    time_ms: TimeMs
    app_hash: Hash32
    block: bytes
    results: bytes
    archive: ArchiveRow | None


_HEADER: Codec[SegmentHeader] = Codec(SegmentHeader, "segment header")
_ROW: Codec[SegmentRow] = Codec(SegmentRow, "segment row")


class Segment(NamedTuple):
    """What a whole, verified segment file holds. `next_height` is the one that would follow."""

    header: SegmentHeader
    next_height: int
    chain_hash: bytes


class BlockSource(Protocol):
    """What holds blocks with their archive rows: a store, or one together with its segment files."""

    def block(self, height: int) -> StoredBlock | None: ...

    def archive_row(self, height: int) -> ArchiveRow | None: ...


class Appender(Protocol):
    """What takes heights in turn: one segment file, or a folder of them."""

    @property
    def next_height(self) -> int: ...

    def append(self, row: SegmentRow) -> None: ...

    def flush(self) -> None: ...


class SegmentWriter:
    """Appends heights to one segment file; each `flush` puts what was appended on disk."""

    def __init__(self, path: str | Path, chain_id: str, first_height: int, previous_chain_hash: bytes) -> None:
        """Open a segment to append to, making it where it is not; a torn tail is cut off first.

        Raises:
            SegmentRefused: the file is of another chain, another start, or broken before its tail.
            Fault: the disk refuses, or another process writes the file.
        """
        self.path = Path(path)
        header = SegmentHeader(chain_id, first_height, previous_chain_hash)
        self._last_row: SegmentRow | None = None
        try:
            self._file: IO[bytes] = open_private(self.path)
        except OSError as error:
            raise Fault(f"segment: {reason_of(error)}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.cut_bytes = self._resume(header)
        except BlockingIOError as error:
            self._file.close()
            raise Fault("segment: another process writes this file; the node itself does where it prunes") from error
        except OSError as error:
            self._file.close()
            raise Fault(f"segment: {reason_of(error)}") from error
        except SegmentRefused:
            self._file.close()
            raise

    @property
    def next_height(self) -> int:
        """The height that must be appended next."""
        return self._next_height

    @property
    def chain_hash(self) -> bytes:
        """The hash over everything appended so far, which the next file continues."""
        return self._chain_hash

    @property
    def last_row(self) -> SegmentRow | None:
        """The row that the file ends with; None where it holds none."""
        return self._last_row

    @property
    def size_bytes(self) -> int:
        """What the file holds so far."""
        return self._end

    def append(self, row: SegmentRow) -> None:
        """Add the next height.

        Raises:
            SegmentRefused: another height than the next, or larger than a record may be.
            Fault: the disk refuses.
        """
        if row.height != self._next_height:
            raise SegmentRefused(f"segment: height {row.height} cannot follow {self._next_height - 1}")
        self._append(encode(row))
        self._next_height += 1
        self._last_row = row

    def flush(self) -> None:
        """Put everything appended on disk.

        Raises:
            Fault: the disk refuses.
        """
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise Fault(f"segment: {reason_of(error)}") from error

    def close(self) -> None:
        """Flush and let go of the file."""
        self.flush()
        self._file.close()

    def _append(self, payload: bytes) -> None:
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise SegmentRefused(f"segment: a record of {len(payload)} bytes; at most {MAX_PAYLOAD_BYTES}")
        chain_hash = _CHAIN.hash(self._chain_hash + payload)
        try:
            self._file.write(_frame(len(payload), self._end) + payload + chain_hash)
        except OSError as error:
            raise Fault(f"segment: {reason_of(error)}") from error
        self._chain_hash = chain_hash
        self._end += _FRAME_BYTES + len(payload) + _HASH_BYTES

    def _resume(self, header: SegmentHeader) -> int:
        """Read to the last whole record, cut what follows, and return how many bytes that was."""
        size_bytes = os.fstat(self._file.fileno()).st_size
        whole_bytes = 0
        self._next_height = header.first_height
        self._chain_hash = header.previous_chain_hash
        is_headed = False
        for found, end, chain_hash in _records(self._file, tears=True):
            if isinstance(found, SegmentHeader):
                if found != header:
                    raise SegmentRefused("segment: the file is of another chain or another start")
                is_headed = True
            else:
                self._next_height += 1
                self._last_row = found
            whole_bytes, self._chain_hash = end, chain_hash
        self._end = whole_bytes
        self._file.seek(whole_bytes)
        self._file.truncate()
        if not is_headed:
            self._file.seek(0)
            self._file.truncate()
            self._file.write(MAGIC)
            self._end = len(MAGIC)
            self._append(encode(header))
        self.flush()
        sync_directory(self.path.parent)
        return size_bytes - whole_bytes


def read_header(path: str | Path) -> SegmentHeader | None:
    """Return a segment's header; None where a crash tore the file before it was whole.

    Raises:
        SegmentRefused: the file does not start as a segment, or cannot be read.
    """
    with _open(path) as file:
        for found, _, _ in _records(file, tears=True):
            assert isinstance(found, SegmentHeader)
            return found
    return None


def scan_segment(path: str | Path, *, tears: bool) -> Iterator[tuple[SegmentHeader | SegmentRow, bytes]]:
    """Yield header and rows with the chain hash after each, whatever the file continues.

    `tears`: stop quietly before a last record that is not whole, since its writer may be at work on it.

    Raises:
        SegmentRefused: damaged, or torn where `tears` does not allow for it.
    """
    with _open(path) as file:
        for found, _, chain_hash in _records(file, tears=tears):
            yield found, chain_hash


def read_segment(path: str | Path, chain_id: str, previous_chain_hash: bytes) -> Iterator[SegmentRow]:
    """Yield the rows of a segment that continues `previous_chain_hash`; each is checked before it is yielded.

    Raises:
        SegmentRefused: damaged anywhere, torn, of another chain, or not what follows.
    """
    with _open(path) as file:
        is_headed = False
        for found, _, _ in _records(file, tears=False):
            if isinstance(found, SegmentHeader):
                is_headed = True
                _check_header(found, chain_id, previous_chain_hash)
            else:
                yield found
        if not is_headed:
            raise SegmentRefused("segment: the file has no header")


def verify_segment(path: str | Path, chain_id: str, previous_chain_hash: bytes) -> Segment:
    """Read a segment to its end and return what it holds; its `chain_hash` is what the next one continues.

    Raises:
        SegmentRefused: see `read_segment`.
    """
    header: SegmentHeader | None = None
    last_hash = previous_chain_hash
    next_height = 0
    with _open(path) as file:
        for found, _, chain_hash in _records(file, tears=False):
            last_hash = chain_hash
            if isinstance(found, SegmentHeader):
                _check_header(found, chain_id, previous_chain_hash)
                header, next_height = found, found.first_height
            else:
                next_height = found.height + 1
    if header is None:
        raise SegmentRefused("segment: the file has no header")
    return Segment(header, next_height, last_hash)


def verify_segments(paths: list[Path], chain_id: str, previous_chain_hash: bytes = GENESIS_CHAIN_HASH) -> list[Segment]:
    """Verify files that follow one another, from the chain's first segment on unless they continue another.

    Raises:
        SegmentRefused: see `read_segment`; also where heights do not follow from file to file.
    """
    segments: list[Segment] = []
    for path in paths:
        before = segments[-1] if segments else None
        segment = verify_segment(path, chain_id, previous_chain_hash if before is None else before.chain_hash)
        if before is not None and segment.header.first_height != before.next_height:
            raise SegmentRefused(
                f"segment: starts at {segment.header.first_height}; {before.next_height} should follow"
            )
        segments.append(segment)
    return segments


def append_from(source: BlockSource, writer: Appender, last_height: int, most_bytes: int | None = None) -> int:
    """Append heights from the writer's next one to `last_height` and flush; return how many.

    `most_bytes`: stop after the block with which so many are reached.

    Raises:
        Fault: the source does not hold one of them, or the disk refuses.
    """
    appended = size_bytes = 0
    while writer.next_height <= last_height and (most_bytes is None or size_bytes < most_bytes):
        row = row_of(source, writer.next_height)
        if row is None:
            raise Fault(f"segment: the store does not hold block {writer.next_height}")
        writer.append(row)
        appended += 1
        size_bytes += len(row.block) + len(row.results)
    writer.flush()
    return appended


def row_of(source: BlockSource, height: int) -> SegmentRow | None:
    """Return a height as segments hold it, None where the source does not hold its block."""
    block = source.block(height)
    if block is None:
        return None
    archive = source.archive_row(height)
    return SegmentRow(height, block.time_ms, block.app_hash, block.block, block.results, archive)


def _check_header(header: SegmentHeader, chain_id: str, previous_chain_hash: bytes) -> None:
    if header.chain_id != chain_id:
        raise SegmentRefused(f"segment: it is of chain {header.chain_id!r}, not {chain_id!r}")
    if header.previous_chain_hash != previous_chain_hash:
        raise SegmentRefused("segment: it does not continue the segment before it")


def _frame(length: int, place: int) -> bytes:
    """Return length and check of a record that starts at `place`: a changed length must not look like a torn tail."""
    data = length.to_bytes(_LENGTH_BYTES, "big")
    return data + _LENGTH.hash(place.to_bytes(8, "big") + data)[: _FRAME_BYTES - _LENGTH_BYTES]


def _records(file: IO[bytes], *, tears: bool) -> Iterator[tuple[SegmentHeader | SegmentRow, int, bytes]]:
    """Yield (record, its end in the file, chain hash) of each record from the start.

    `tears`: stop quietly before a last record that a crash tore.
    """
    file.seek(0)
    magic = file.read(len(MAGIC))
    if magic != MAGIC:
        if tears and MAGIC.startswith(magic):
            return
        raise SegmentRefused("segment: the file does not start as one")
    end = len(MAGIC)
    header: SegmentHeader | None = None
    chain_hash = b""
    next_height = 0
    while frame := file.read(_FRAME_BYTES):
        framed = _read_framed(file, frame, end, tears=tears)
        if framed is None:
            return
        payload, claimed = framed
        found: SegmentHeader | SegmentRow
        if header is None:
            found = header = _decode(_HEADER, payload, end)
            chain_hash, next_height = header.previous_chain_hash, header.first_height
        else:
            found = _decode(_ROW, payload, end)
            if found.height != next_height:
                raise SegmentRefused(f"segment: height {found.height} at {end}; {next_height} should follow")
            next_height += 1
        chain_hash = _CHAIN.hash(chain_hash + payload)
        if chain_hash != claimed:
            if tears and chain_hash.startswith(claimed.rstrip(b"\x00")) and _is_zero_to_end(file):
                return
            raise SegmentRefused(f"segment: the record at {end} does not continue the hash chain")
        end += _FRAME_BYTES + len(payload) + _HASH_BYTES
        yield found, end, chain_hash


def _read_framed(file: IO[bytes], frame: bytes, place: int, *, tears: bool) -> tuple[bytes, bytes] | None:
    """Return payload and chain hash of the record whose frame was read at `place`; None where it is a torn tail."""
    length = int.from_bytes(frame[:_LENGTH_BYTES], "big")
    if len(frame) == _FRAME_BYTES and frame != _frame(length, place):
        if tears and _is_zero_to_end(file):
            return None
        raise SegmentRefused(f"segment: the length of the record at {place} was changed")
    if length > MAX_PAYLOAD_BYTES and len(frame) == _FRAME_BYTES:
        raise SegmentRefused(f"segment: a record of {length} bytes at {place}; at most {MAX_PAYLOAD_BYTES}")
    body = file.read(length + _HASH_BYTES) if len(frame) == _FRAME_BYTES else b""
    is_short = len(frame) < _FRAME_BYTES or len(body) < length + _HASH_BYTES
    if not is_short and any(body[length:]):
        return body[:length], body[length:]
    if tears and (is_short or _is_zero_to_end(file)):
        return None
    raise SegmentRefused(f"segment: the record at {place} is cut short")


def _is_zero_to_end(file: IO[bytes]) -> bool:
    while data := file.read(1 << 20):
        if any(data):
            return False
    return True


def _decode(codec: Codec[T], payload: bytes, place: int) -> T:
    try:
        return codec.decode(payload)
    except InvalidTransaction as error:
        raise SegmentRefused(f"segment: the record at {place} is malformed: {error.message}") from None


def _open(path: str | Path) -> IO[bytes]:
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise SegmentRefused(f"segment: cannot be read: {reason_of(error)}") from error
