"""Reading the store's rows inside one read transaction: latest and past records, tree nodes, blocks, ids."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from feiqian.core.encoding import MAX_KEY_BYTES
from feiqian.core.errors import Fault
from feiqian.state import rows, tree
from feiqian.state.archive import ARCHIVE_ROW, ArchiveRow
from feiqian.state.errors import OutsideWindow
from feiqian.state.rows import HeightRow, height_bytes
from feiqian.state.staging import is_plain_key, tree_leaf
from feiqian.state.tables import Changes


class Databases(NamedTuple):
    """The named databases inside the one LMDB environment, as handles."""

    meta: Any
    state: Any
    key_hashes: Any
    gone: Any
    former: Any
    nodes: Any
    stale: Any
    heights: Any
    pieces: Any
    ids: Any
    replay: Any
    imported: Any
    archive: Any


class View:
    """Committed state at one height, consistent for as long as it is open; for one thread, and for under a second."""

    def __init__(self, transaction: Any, databases: Databases) -> None:
        self._transaction = transaction
        self._databases = databases
        self._state_get = transaction.get
        self._state = databases.state
        self.head = rows.HEAD.decode_trusted(transaction.get(rows.HEAD_KEY, db=databases.meta))
        self._replay_cursor = transaction.cursor(db=databases.replay)

    @property
    def height(self) -> int:
        """The last committed height."""
        return self.head.height

    def get(self, key: bytes, /) -> bytes | None:
        """Return the record's bytes under a full key, or None."""
        if not 0 < len(key) <= MAX_KEY_BYTES:
            return None
        row = self._state_get(key, db=self._state)
        return None if row is None else row[8:]

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the records under those of the full keys that exist."""
        askable = sorted(key for key in keys if 0 < len(key) <= MAX_KEY_BYTES)
        found = self._transaction.cursor(db=self._state).getmulti(askable)
        return {key: row[8:] for key, row in found}

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield (full key, record bytes) in key order for keys with `prefix`, those > `after` only."""
        cursor = self._transaction.cursor(db=self._state)
        found = cursor.set_range(max(prefix, after)) if prefix or after else cursor.first()
        if not found:
            return
        for key, row in cursor.iternext():
            if not key.startswith(prefix):
                return
            if key > after:
                yield key, row[8:]

    def has_replay_id(self, expires_at_ms: int, tx_id: bytes) -> bool:
        """Say whether a transaction with this expiry and id was used up."""
        if self._replay_cursor.set_key_dup(rows.replay_bucket(expires_at_ms), tx_id):
            return True
        return bool(self.head.imported_until_ms) and self._replay_cursor.set_key_dup(rows.IMPORTED_BUCKET, tx_id)

    def record_row(self, key: bytes, /) -> bytes | None:
        """Return 8 bytes of the height that wrote the record, then the record."""
        return self._state_get(key, db=self._state)

    def gone_height(self, key: bytes, /) -> int:
        """Return the height that deleted the record under `key`, 0 where that is not remembered."""
        row = self._transaction.get(key, db=self._databases.gone)
        return 0 if row is None else rows.height_of(row)

    def node(self, node_key: bytes, /) -> bytes | None:
        """Return a tree row."""
        return self._transaction.get(node_key, db=self._databases.nodes)

    def height_row(self, height: int) -> HeightRow | None:
        """Return what is kept of a height itself."""
        if height < 0:
            return None
        data = self._transaction.get(height_bytes(height), db=self._databases.heights)
        return None if data is None else rows.HEIGHT_ROW.decode_trusted(data)

    def get_at(self, height: int, key: bytes) -> bytes | None:
        """Return the record's bytes as of a past height.

        Raises:
            OutsideWindow: that height is pruned or not committed yet.
        """
        self._check_provable(height)
        if not 0 < len(key) <= MAX_KEY_BYTES:
            return None
        row = self.record_row(key)
        written, record = (self.gone_height(key), None) if row is None else (rows.height_of(row), row[8:])
        while written > height:
            written, record = self._former(written, key)
        return record

    def prove(self, height: int, key: bytes) -> tuple[bytes | None, bytes]:
        """Return the record and its proof; see `Store.prove`."""
        record = self.get_at(height, key)
        row = self.height_row(height)
        if row is None:
            raise Fault(f"store: height {height} has no row")
        # Read here, since a writer may have added a plain table after this process opened the store.
        chain = rows.CHAIN.decode_trusted(self._transaction.get(rows.CHAIN_KEY, db=self._databases.meta))
        plain_tables = frozenset(name.encode() for name in chain.plain_tables)

        def leaf_of(key_hash: bytes) -> tuple[bytes, bytes]:
            full_key = self._transaction.get(key_hash[: rows.KEY_HASH_BYTES], db=self._databases.key_hashes)
            neighbour = None if full_key is None else self.get_at(height, full_key)
            if full_key is None or neighbour is None:
                raise Fault(f"store: a leaf of height {height} has no record")
            return tree_leaf(full_key, neighbour, is_plain=is_plain_key(full_key, plain_tables))

        leaf_key, leaf_value = tree_leaf(key, record or b"", is_plain=is_plain_key(key, plain_tables))
        return record, tree.prove(self, row.root_key, leaf_key, None if record is None else leaf_value, leaf_of)

    def undone(self, height: int) -> Changes:
        """Return what to lay over present records to see those of a past height."""
        self._check_provable(height)
        changes: Changes = {}
        cursor = self._transaction.cursor(db=self._databases.former)
        if cursor.set_range(height_bytes(height + 1)):
            for _, chunk in cursor.iternext():
                for key, _, record, _ in rows.decode_former(chunk):
                    changes.setdefault(key, record)
        return changes

    def block_pieces(self, height: int, kind: bytes) -> bytes:
        """Return the bytes that lie in pieces under a height."""
        prefix = height_bytes(height) + kind
        cursor = self._transaction.cursor(db=self._databases.pieces)
        found: list[bytes] = []
        if cursor.set_range(prefix):
            for key, piece in cursor.iternext():
                if not key.startswith(prefix):
                    break
                found.append(piece)
        return b"".join(found)

    def used_ids(self, height: int) -> list[bytes]:
        """Return the transaction ids that a block used up, in block order; empty where the block is not held."""
        row = self.height_row(height)
        if row is None or not row.has_block or height < self.head.first_block:
            return self.imported_ids(height)
        results = rows.decode_results(self.block_pieces(height, rows.RESULTS_PIECE))
        return [results[place][0] for place in rows.used_places(row.used)]

    def first_imported(self) -> int | None:
        """Return the first height whose used-up ids came with a snapshot, None where there is none."""
        cursor = self._transaction.cursor(db=self._databases.imported)
        return rows.height_of(cursor.key()) if cursor.first() else None

    def imported_ids(self, height: int) -> list[bytes]:
        """Return the ids that a block before this store's first one used up, as its snapshot told."""
        data = self._transaction.get(height_bytes(height), db=self._databases.imported) or b""
        return [data[start : start + 32] for start in range(8, len(data), 32)]

    def block_time_ms(self, height: int) -> int | None:
        """Return the time of a block, None where neither it nor its imported ids are held."""
        row = self.height_row(height)
        if row is not None:
            return row.time_ms
        data = self._transaction.get(height_bytes(height), db=self._databases.imported)
        return None if data is None else rows.height_of(data)

    def archive_row(self, height: int) -> ArchiveRow | None:
        """Return the archive row of a height, or None."""
        data = self._transaction.get(height_bytes(height), db=self._databases.archive)
        return None if data is None else ARCHIVE_ROW.decode_trusted(data)

    def archive_row_below(self, height: int) -> ArchiveRow | None:
        """Return the last archive row of those below a height, or None."""
        cursor = self._transaction.cursor(db=self._databases.archive)
        is_row = cursor.prev() if cursor.set_range(height_bytes(height)) else cursor.last()
        return ARCHIVE_ROW.decode_trusted(cursor.value()) if is_row else None

    def archived_heights(self) -> tuple[int, int] | None:
        """Return the first and the last height whose archive row is held."""
        cursor = self._transaction.cursor(db=self._databases.archive)
        if not cursor.first():
            return None
        first = rows.height_of(cursor.key())
        cursor.last()
        return first, rows.height_of(cursor.key())

    def locate(self, tx_id: bytes) -> tuple[int, int, bytes] | None:
        """Return (height, place, encoded Result) of the newest result under an id."""
        cursor = self._transaction.cursor(db=self._databases.ids)
        prefix = tx_id[: rows.ID_PREFIX_BYTES]
        is_bucket = cursor.last()
        while is_bucket:
            bucket = bytes(cursor.key())
            places: list[tuple[int, int]] = []
            is_entry = cursor.set_range_dup(bucket, rows.id_entry(prefix, 0, 0))
            while is_entry and cursor.value().startswith(prefix):
                places.append(rows.id_entry_place(cursor.value()))
                is_entry = cursor.next_dup()
            for height, place in reversed(places):
                if height < self.head.first_block:
                    continue
                found_id, result = rows.decode_results(self.block_pieces(height, rows.RESULTS_PIECE))[place]
                if found_id == tx_id:
                    return height, place, result
            is_bucket = cursor.set_key(bucket) and cursor.prev_nodup()
        return None

    def _former(self, height: int, key: bytes) -> tuple[int, bytes | None]:
        wanted = height_bytes(height) + key
        cursor = self._transaction.cursor(db=self._databases.former)
        is_found = cursor.set_range(wanted)
        if not (is_found and cursor.key() == wanted):
            is_found = cursor.prev() if is_found else cursor.last()
        if is_found and rows.height_of(cursor.key()) == height:
            for former_key, former_height, record, _ in rows.decode_former(cursor.value()):
                if former_key == key:
                    return former_height, record
        raise Fault(f"store: height {height} wrote a record whose former bytes are missing")

    def _check_provable(self, height: int) -> None:
        if not self.head.first_provable <= height <= self.head.height:
            raise OutsideWindow(height, self.head.first_provable, self.head.height)
