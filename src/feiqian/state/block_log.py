"""The block log: the last decided blocks, each on disk before anyone is told of it, for the store to catch up with.

A block is written as it is in a fraction of the time that the store takes for all that it changes. After a crash what
the log holds beyond the store is run again. Its files take turns, so nothing is ever cut off or cleared away.
"""

import os
from pathlib import Path

from feiqian.core.encoding import Codec, Hash32, Height, Record, encode
from feiqian.core.errors import Fault
from feiqian.core.hashing import Domain
from feiqian.state.files import open_private, reason_of, sync_directory
from feiqian.state.store import Store

MAX_BEYOND = 3
"""How many blocks may be in the log and not in the store yet."""

_BLOCK = Domain("feiqian/block-log/block/v1")
_RESULTS = Domain("feiqian/block-log/results/v1")
_ENTRY = Domain("feiqian/block-log/entry/v1")
_DIGEST_BYTES = 32
_LENGTH_BYTES = 8


class LoggedBlock(Record):
    """A decided block. `parent` is the digest of the block before it, `results` that of what it gave, encoded."""

    chain_id: str
    height: Height
    parent: Hash32
    block: bytes
    results: Hash32

    def gave(self, results: bytes) -> bool:
        """Say whether these encoded results are those that the block gave when it was decided."""
        return _RESULTS.hash(results) == self.results


_CODEC: Codec[LoggedBlock] = Codec(LoggedBlock, "logged block")


class BlockLog:
    """The log of one node, the only one that writes it; for one thread."""

    def __init__(self, directory: Path, store: Store) -> None:
        """Open the log beside `store`, or make it; `beyond` is what it holds that the store does not.

        Raises:
            Fault: the directory cannot be written, or what the log holds does not follow the store's last block.
        """
        try:
            directory.mkdir(exist_ok=True, mode=0o750)
            self._files = [open_private(directory / str(number)) for number in range(MAX_BEYOND)]
            sync_directory(directory)
            sync_directory(directory.parent)
            entries = [file.read() for file in self._files]
        except OSError as error:
            raise Fault(f"block log: it cannot be opened: {reason_of(error)}") from error
        self._chain_id = store.chain_id
        last = store.block(store.height)
        self._parent = _BLOCK.hash(store.app_hash if last is None else last.block)
        self.beyond = self._find_beyond(store.height, entries)

    def put(self, height: int, block: bytes, results: bytes) -> None:
        """Write the next block; returns when it is on disk. That `MAX_BEYOND` heights before it is in the store by now.

        `results` are those of all that ran in it, triggers too, encoded; only their digest is kept.

        Raises:
            Fault: the disk refuses.
        """
        data = encode(LoggedBlock(self._chain_id, height, self._parent, block, _RESULTS.hash(results)))
        descriptor = self._files[height % MAX_BEYOND].fileno()
        try:
            _write_whole(descriptor, _ENTRY.hash(data) + len(data).to_bytes(_LENGTH_BYTES) + data)
            os.fdatasync(descriptor)
        except OSError as error:
            raise Fault(f"block log: writing failed, so the block is not acknowledged: {reason_of(error)}") from error
        self._parent = _BLOCK.hash(block)

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files:
            file.close()

    def _find_beyond(self, height: int, entries: list[bytes]) -> tuple[LoggedBlock, ...]:
        """Return the blocks above a height in order. What a crash left half written was never told of to anyone."""
        whole = [entry for entry in map(_read_entry, entries) if entry is not None and entry.height > height]
        whole.sort(key=lambda entry: entry.height)
        for place, entry in enumerate(whole, height + 1):
            if (entry.chain_id, entry.height, entry.parent) != (self._chain_id, place, self._parent):
                raise Fault(
                    f"block log: it holds block {entry.height} of {entry.chain_id!r}, which does not follow block "
                    f"{place - 1} of {self._chain_id!r}: restore store and log from the same moment, or move the "
                    "log away and restart every gateway to go on without what it holds"
                )
            self._parent = _BLOCK.hash(entry.block)
        return tuple(whole)


def _read_entry(data: bytes) -> LoggedBlock | None:
    """Return what a file of the log holds, None where that is not whole."""
    start = _DIGEST_BYTES + _LENGTH_BYTES
    size_bytes = int.from_bytes(data[_DIGEST_BYTES:start])
    entry = data[start : start + size_bytes]
    if len(data) < start or len(entry) < size_bytes or _ENTRY.hash(entry) != data[:_DIGEST_BYTES]:
        return None
    return _CODEC.decode_trusted(entry)


def _write_whole(descriptor: int, data: bytes) -> None:
    offset = 0
    while offset < len(data):
        offset += os.pwrite(descriptor, data[offset:] if offset else data, offset)
