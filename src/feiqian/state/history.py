"""A store's blocks together with those that it has given up for segment files: read in order, checked as they are read.

Meant for going through heights one after another: another height than the next one is looked for from the start of its
file.
"""

from collections.abc import Iterator
from pathlib import Path

from feiqian.state.archive import ArchiveRow
from feiqian.state.segment_folder import first_height_in, rows_from
from feiqian.state.segments import SegmentRow
from feiqian.state.store import Store, StoredBlock


class History:
    """A store whose `block` and `archive_row` also answer from a folder of segment files. For one thread."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._rows: Iterator[SegmentRow] = iter(())
        self._next_height = -1
        self._read: dict[int, ArchiveRow | None] = {}

    @property
    def height(self) -> int:
        """The store's last committed height."""
        return self._store.height

    @property
    def plain_tables(self) -> frozenset[str]:
        """Names of the tables whose records stand in the tree themselves."""
        return self._store.plain_tables

    @property
    def first_height(self) -> int:
        """The first height that store or files hold; whether none after it is missing shows when they are read."""
        first_block = self._store.head.first_block
        first_filed = first_height_in(self._folder)
        return first_block if first_filed is None else min(first_block, first_filed)

    def block(self, height: int) -> StoredBlock | None:
        """Return the block of a height with its results, None where neither store nor files hold it.

        Raises:
            SegmentRefused: the files are damaged.
        """
        stored = self._store.block(height)
        if stored is not None or height >= self._store.head.first_block:
            return stored
        row = self._filed(height)
        return None if row is None else StoredBlock(height, row.time_ms, row.app_hash, row.block, row.results)

    def archive_row(self, height: int) -> ArchiveRow | None:
        """Return the archive row of a height, None where neither store nor files hold it.

        Raises:
            SegmentRefused: the files are damaged.
        """
        stored = self._store.archive_row(height)
        if stored is not None or height >= self._store.head.first_block:
            return stored
        if height not in self._read:
            self._filed(height)
        for read in [read for read in self._read if read < height]:
            del self._read[read]
        return self._read.get(height)

    def archived_heights(self) -> tuple[int, int] | None:
        """Return the first and the last height whose archive row the store itself holds."""
        return self._store.archived_heights()

    def app_hash_at(self, height: int) -> bytes:
        """Return the state root after a height; see `Store.app_hash_at`."""
        return self._store.app_hash_at(height)

    def get_at(self, height: int, key: bytes) -> bytes | None:
        """Return a record as of a height; see `Store.get_at`."""
        return self._store.get_at(height, key)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield the latest records; see `Store.scan`."""
        return self._store.scan(prefix, after)

    def _filed(self, height: int) -> SegmentRow | None:
        if height != self._next_height:
            self._rows = rows_from(self._folder, self._store.chain_id, height)
        row = next(self._rows, None)
        self._next_height = -1 if row is None else height + 1
        if row is not None:
            self._read[height] = row.archive
        return row
