"""A folder of segment files that follow one another: one process appends to it, any number read it by height.

Files are named by the first height in them. The last one is where writing goes on; the others are never touched again,
so that they may be moved elsewhere.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from feiqian.core.errors import Fault
from feiqian.state.errors import SegmentRefused
from feiqian.state.segments import (
    GENESIS_CHAIN_HASH,
    Segment,
    SegmentHeader,
    SegmentRow,
    SegmentWriter,
    read_header,
    scan_segment,
    verify_segment,
    verify_segments,
)

FILE_HEIGHTS = 100_000
FILE_BYTES = 256 << 20
"""A file takes no more heights once it holds so many, or so many bytes."""

_NAME = re.compile(r"segment-(\d{12,})\.fqs")


class FolderWriter:
    """Appends heights to the last file of a folder and begins the next one when that is full."""

    def __init__(self, folder: Path, chain_id: str, first_height: int) -> None:
        """Go on where the folder ends; an empty one, made where there is none, begins with `first_height`.

        Raises:
            SegmentRefused: its last file is damaged, or of another chain.
            Fault: the disk refuses, or another process writes there.
        """
        self._folder = folder
        self._chain_id = chain_id
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        except OSError as error:
            raise Fault(f"segment: the folder cannot be made: {error.strerror}") from error
        first_height, previous_chain_hash = _continuation(folder, chain_id, first_height)
        self._first_height = first_height
        self._file = self._open(first_height, previous_chain_hash)

    @property
    def next_height(self) -> int:
        """The height that must be appended next."""
        return self._file.next_height

    @property
    def last_row(self) -> SegmentRow | None:
        """The row that the last file ends with; None where it holds none yet."""
        return self._file.last_row

    def append(self, row: SegmentRow) -> None:
        """Add the next height; see `SegmentWriter.append`."""
        file = self._file
        held = file.next_height - self._first_height
        if held >= FILE_HEIGHTS or (held and file.size_bytes >= FILE_BYTES):
            file.close()
            self._first_height = file.next_height
            self._file = self._open(file.next_height, file.chain_hash)
        self._file.append(row)

    def flush(self) -> None:
        """Put everything appended on disk. Raises: Fault."""
        self._file.flush()

    def close(self) -> None:
        """Flush and let go of the folder."""
        self._file.close()

    def _open(self, first_height: int, previous_chain_hash: bytes) -> SegmentWriter:
        path = self._folder / f"segment-{first_height:012d}.fqs"
        return SegmentWriter(path, self._chain_id, first_height, previous_chain_hash)


def first_height_in(folder: Path) -> int | None:
    """Return the first height that a folder's files are named by; None where there are none."""
    files = _files_in(folder)
    return files[0][0] if files else None


def rows_from(folder: Path, chain_id: str, height: int) -> Iterator[SegmentRow]:
    """Yield `height` and what follows it in a folder; nothing where its files do not hold that height.

    Raises:
        SegmentRefused: a file on the way is damaged, of another chain, or does not continue the one before it.
    """
    files = _files_in(folder)
    start = sum(first <= height for first, _ in files) - 1
    if start < 0:
        return
    next_height, chain_hash = files[start][0], None
    for place in range(start, len(files)):
        for found, after in scan_segment(files[place][1], tears=place == len(files) - 1):
            if isinstance(found, SegmentHeader):
                _check_continues(found, chain_id, next_height, chain_hash)
            else:
                next_height = found.height + 1
                if found.height >= height:
                    yield found
            chain_hash = after


def verify_folder(folder: Path, chain_id: str) -> list[Segment]:
    """Read every file of a folder, in order, and check that each continues the one before it.

    The first one may continue a file that was moved away: its header says what.

    Raises:
        SegmentRefused: damaged, torn, of another chain, out of order, or named by another height.
    """
    files = _files_in(folder)
    header = read_header(files[0][1]) if files else None
    continues = GENESIS_CHAIN_HASH if header is None else header.previous_chain_hash
    segments = verify_segments([path for _, path in files], chain_id, continues)
    for (first_height, path), segment in zip(files, segments, strict=True):
        if segment.header.first_height != first_height:
            raise SegmentRefused(f"segment: {path.name} starts at height {segment.header.first_height}")
    return segments


def _files_in(folder: Path) -> list[tuple[int, Path]]:
    """Return first height and path of each segment file, the lowest first."""
    try:
        named = [(match, path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SegmentRefused(f"segment: the folder cannot be read: {error.strerror}") from error
    return sorted((int(match[1]), path) for match, path in named)


def _continuation(folder: Path, chain_id: str, first_height: int) -> tuple[int, bytes]:
    """Return first height and previous chain hash of the file to write on."""
    files = _files_in(folder)
    if not files:
        return first_height, GENESIS_CHAIN_HASH
    header = read_header(files[-1][1])
    if header is not None:
        return header.first_height, header.previous_chain_hash
    # A crash came between the making of the last file and its header.
    if len(files) == 1:
        return files[0][0], GENESIS_CHAIN_HASH
    before = read_header(files[-2][1])
    if before is None:
        raise SegmentRefused(f"segment: {files[-2][1].name} has no header, and a file follows it")
    segment = verify_segment(files[-2][1], chain_id, before.previous_chain_hash)
    return segment.next_height, segment.chain_hash


def _check_continues(header: SegmentHeader, chain_id: str, next_height: int, chain_hash: bytes | None) -> None:
    if header.chain_id != chain_id:
        raise SegmentRefused(f"segment: it is of chain {header.chain_id!r}, not {chain_id!r}")
    if header.first_height != next_height or chain_hash not in (None, header.previous_chain_hash):
        raise SegmentRefused(f"segment: the file that starts at {header.first_height} does not continue {next_height}")
