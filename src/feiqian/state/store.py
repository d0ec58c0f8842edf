"""The LMDB store: one write transaction and fsync a height; the only place of the consensus side that knows LMDB.

Layout and the measurements behind it: `docs/decisions/0003-store-layout.md`.
"""

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

import lmdb

from feiqian.core.encoding import MAX_KEY_BYTES, encode
from feiqian.core.errors import Fault
from feiqian.state import rows, writing
from feiqian.state.archive import ArchiveRow
from feiqian.state.errors import OutsideWindow
from feiqian.state.files import reason_of
from feiqian.state.replay import MAX_REPLAY_WINDOW_MS
from feiqian.state.rows import NO_AGE, Age, Chain, Head, UsedIds
from feiqian.state.staging import HeightWrites, Staged, layers_above, stage_first, stage_height
from feiqian.state.tables import Changes
from feiqian.state.upper import UpperRows
from feiqian.state.view import Databases, View

__all__ = ["HeightWrites", "Staged", "Store", "StoredBlock", "View"]

MAP_BYTES = 1 << 40
RESERVE_BYTES = 64 << 20
"""Free disk that a commit leaves untouched unless told otherwise."""

MAX_READERS = 1024
_SCAN_ROWS = 256


class StoredBlock(NamedTuple):
    """A committed block as it was handed in; `results` encodes a tuple of (id, encoded Result)."""

    height: int
    time_ms: int
    app_hash: bytes
    block: bytes
    results: bytes


class Store:
    """The latest committed state, past heights within the window, blocks, results and archive of one chain.

    Reading is safe from any thread, `stage` is for one; `commit`, `prune`, `prune_blocks` and `put_archive` take turns
    among themselves.
    After a Fault in one of these the store writes nothing more until it is opened again.
    """

    def __init__(
        self, path: Path, *, read_only: bool, map_bytes: int, reserve_bytes: int, is_read_in_order: bool = False
    ) -> None:
        """Not for callers: use `create` or `open`."""
        self.path = path
        self.is_read_only = read_only
        self._reserve_bytes = reserve_bytes
        self._is_broken = False
        self._writer_lock = None if read_only else _lock_for_writing(path)
        try:
            self._environment: Any = lmdb.open(
                str(path),
                map_size=map_bytes,
                max_dbs=len(Databases._fields),
                max_readers=MAX_READERS,
                max_spare_txns=8,
                readonly=read_only,
                create=not read_only,
                mode=0o640,
                # Records and tree rows are asked for here and there: of 32 pages read ahead, 31 would be for nothing.
                readahead=is_read_in_order,
            )
            self._environment.reader_check()
            self._databases = _open_databases(self._environment, read_only=read_only)
        except (lmdb.Error, OSError) as error:
            raise Fault(f"store: cannot open the ledger's database: {_reason(error)}") from error
        self._begin = self._environment.begin
        self._state = self._databases.state
        self._chain: Chain | None = None
        self._plain_tables: frozenset[bytes] = frozenset()
        self._upper = UpperRows()

    @classmethod
    def create(
        cls,
        path: str | Path,
        chain_id: str,
        initial_height: int,
        genesis_changes: Changes,
        time_ms: int,
        *,
        plain_tables: frozenset[str] = frozenset(),
        map_bytes: int = MAP_BYTES,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> "Store":
        """Make the store of a new chain; its state is that before block `initial_height` (≥ 1).

        A directory in which an earlier `create` was interrupted is used again.

        Raises:
            Fault: a ledger is there already, the directory cannot be written, or the disk is full.
        """
        chain = Chain(rows.FORMAT, chain_id, initial_height, tuple(sorted(plain_tables)))
        writes = HeightWrites(initial_height - 1, time_ms, b"", (), genesis_changes, (), None)
        staged = stage_first(writes, plain_tables)
        return cls.create_from(path, chain, staged, {}, map_bytes=map_bytes, reserve_bytes=reserve_bytes)

    @classmethod
    def create_from(
        cls,
        path: str | Path,
        chain: Chain,
        staged: Staged,
        used_ids: UsedIds,
        *,
        map_bytes: int = MAP_BYTES,
        reserve_bytes: int = RESERVE_BYTES,
    ) -> "Store":
        """Make a store that starts at a height staged with `stage_first`; `used_ids` by height still count as used.

        Raises:
            Fault: see `create`.
        """
        path = Path(path)
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o750)
        except OSError as error:
            raise Fault(f"store: cannot make the ledger's directory: {_reason(error)}") from error
        store = cls(path, read_only=False, map_bytes=map_bytes, reserve_bytes=reserve_bytes)
        try:
            store._begin_chain(chain, staged, used_ids)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        read_only: bool = False,
        map_bytes: int = MAP_BYTES,
        reserve_bytes: int = RESERVE_BYTES,
        plain_tables: frozenset[str] | None = None,
        is_read_in_order: bool = False,
    ) -> "Store":
        """Open a store; one process may write, any number may read beside it.

        `plain_tables` adds tables that a new release declares plain; without it those known to the store apply.
        `is_read_in_order`: height after height will be read, so that the system may read the file ahead.

        Raises:
            Fault: no ledger is there, it is of another format, another process writes it, or it cannot be read.
        """
        path = Path(path)
        if not (path / "data.mdb").exists():
            raise Fault("store: there is no ledger in this directory; make one first")
        store = cls(
            path,
            read_only=read_only,
            map_bytes=map_bytes,
            reserve_bytes=reserve_bytes,
            is_read_in_order=is_read_in_order,
        )
        try:
            store._load()
            if plain_tables is not None:
                store._add_plain_tables(plain_tables)
        except BaseException:
            store.close()
            raise
        return store

    def close(self) -> None:
        """Let go of database and lock; what was committed stays."""
        self._environment.close()
        if self._writer_lock is not None:
            self._writer_lock.close()

    # Where the store stands.

    @property
    def chain_id(self) -> str:
        """The chain whose ledger this is."""
        return self._known_chain().chain_id

    @property
    def initial_height(self) -> int:
        """The chain's first height."""
        return self._known_chain().initial_height

    @property
    def plain_tables(self) -> frozenset[str]:
        """Names of the tables whose records stand in the tree themselves."""
        return frozenset(name.decode() for name in self._plain_tables)

    @property
    def head(self) -> Head:
        """The last committed height and the bounds of what is kept."""
        with self.view() as view:
            return view.head

    @property
    def height(self) -> int:
        """The last committed height."""
        return self.head.height

    @property
    def time_ms(self) -> int:
        """Block time of the last committed height."""
        return self.head.time_ms

    @property
    def app_hash(self) -> bytes:
        """State root after the last committed height."""
        return self.head.app_hash

    def size_bytes(self) -> int:
        """Return the size of the database file."""
        return (self.path / "data.mdb").stat().st_size

    def free_disk_bytes(self) -> int:
        """Return what is free for this process where the database lies."""
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize

    def copy_to(self, path: Path) -> None:
        """Write a copy without what was given up into a new directory, on disk when this returns.

        Raises:
            Fault: the directory exists, or the disk refuses.
        """
        try:
            path.mkdir(mode=0o750)
            self._environment.copy(str(path), compact=True)
            with (path / "data.mdb").open("rb") as file:
                os.fsync(file.fileno())
        except (lmdb.Error, OSError) as error:
            raise Fault(f"store: it cannot be copied: {_reason(error)}") from error

    def clear_stale_readers(self) -> int:
        """Free the reader slots of processes that died; return how many."""
        return self._environment.reader_check()

    # Latest state.

    def get(self, key: bytes, /) -> bytes | None:
        """Return the record's bytes under a full key, or None."""
        if not 0 < len(key) <= MAX_KEY_BYTES:
            return None
        try:
            with self._begin(db=self._state) as transaction:
                row = transaction.get(key)
        except lmdb.Error as error:
            raise Fault(f"store: reading failed: {_reason(error)}") from error
        return None if row is None else row[8:]

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the records under those of the full keys that exist, all as of one height."""
        with self.view() as view:
            return view.get_many(keys)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield (full key, record bytes) in key order for keys with `prefix`, those > `after` only.

        A long scan may see later commits in its later part; `view` gives one that does not.
        """
        while True:
            page: list[tuple[bytes, bytes]] = []
            with self.view() as view:
                for pair in view.scan(prefix, after):
                    page.append(pair)
                    if len(page) == _SCAN_ROWS:
                        break
            yield from page
            if len(page) < _SCAN_ROWS:
                return
            after = page[-1][0]

    def has_replay_id(self, expires_at_ms: int, tx_id: bytes) -> bool:
        """Say whether a transaction with this expiry and id was used up."""
        with self.view() as view:
            return view.has_replay_id(expires_at_ms, tx_id)

    @contextmanager
    def view(self) -> Iterator[View]:
        """Open one consistent view of committed state; close it within a second, since it holds pages back."""
        try:
            with self._begin() as transaction:
                yield View(transaction, self._databases)
        except lmdb.Error as error:
            raise Fault(f"store: reading failed: {_reason(error)}") from error

    # Past heights.

    def app_hash_at(self, height: int) -> bytes:
        """Return the state root after a height.

        Raises:
            OutsideWindow: that height is no longer held or not committed yet.
        """
        with self.view() as view:
            row = view.height_row(height)
            if row is None:
                raise OutsideWindow(height, min(view.head.first_provable, view.head.first_block), view.height)
            return row.app_hash

    def get_at(self, height: int, key: bytes) -> bytes | None:
        """Return the record's bytes under a full key as of a height, or None.

        Raises:
            OutsideWindow: that height is pruned or not committed yet.
        """
        with self.view() as view:
            return view.get_at(height, key)

    def prove(self, height: int, key: bytes) -> tuple[bytes | None, bytes]:
        """Return the record under a full key as of a height (None: absent) and its ICS-23 proof against that app hash.

        Raises:
            OutsideWindow: that height is pruned or not committed yet.
        """
        with self.view() as view:
            return view.prove(height, key)

    # Blocks, results, archive.

    def block(self, height: int) -> StoredBlock | None:
        """Return the block of a height with its results, None where none is held."""
        with self.view() as view:
            row = view.height_row(height)
            if row is None or not row.has_block or height < view.head.first_block:
                return None
            block = view.block_pieces(height, rows.BLOCK_PIECE)
            results = view.block_pieces(height, rows.RESULTS_PIECE)
            return StoredBlock(height, row.time_ms, row.app_hash, block, results)

    def result(self, tx_id: bytes) -> tuple[int, int, bytes] | None:
        """Return (height, place among the block's results, encoded Result) of a transaction or trigger."""
        with self.view() as view:
            return view.locate(tx_id)

    def transaction(self, tx_id: bytes) -> tuple[int, int, bytes] | None:
        """Return (height, place among the block's results, signed bytes) of a transaction; None also for a trigger."""
        with self.view() as view:
            found = view.locate(tx_id)
            if found is None:
                return None
            height, place, _ = found
            transactions = rows.block_transactions(view.block_pieces(height, rows.BLOCK_PIECE))
            unasked = len(rows.decode_results(view.block_pieces(height, rows.RESULTS_PIECE))) - len(transactions)
            return None if place < unasked else (height, place, transactions[place - unasked])

    def used_ids(self, height: int) -> list[bytes]:
        """Return the transaction ids that a block used up, in block order; empty where the block is not held."""
        with self.view() as view:
            return view.used_ids(height)

    def archive_row(self, height: int) -> ArchiveRow | None:
        """Return the archive row of a height, or None."""
        with self.view() as view:
            return view.archive_row(height)

    def archive_row_below(self, height: int) -> ArchiveRow | None:
        """Return the last archive row of those below a height, or None."""
        with self.view() as view:
            return view.archive_row_below(height)

    def archived_heights(self) -> tuple[int, int] | None:
        """Return the first and the last height whose archive row is held, None where there is none."""
        with self.view() as view:
            return view.archived_heights()

    def put_archive(self, *given: ArchiveRow, is_for_good: bool = False) -> None:
        """Add archive rows of heights, all of them or none.

        A row with the header that is held replaces the one that holds it: the signatures that this node saw on the last
        block give way to those that the next block names. Rows `is_for_good`, and all below the last of them, are never
        given up: trails lead over them, though no neighbour of theirs shows it.

        Raises:
            Fault: the row of another header is there already, the disk is full or fails.
        """
        size_bytes = sum(2 * writing.archive_bytes(row) for row in given)
        with self._write(size_bytes + (1 << 16)) as transaction:
            for row in given:
                writing.put_archive(transaction, self._databases, row)
            if is_for_good and given:
                last = max([row.height for row in given])
                transaction.put(rows.ARCHIVE_FROM_KEY, rows.height_bytes(last) + b"\x00", db=self._databases.meta)

    # Committing.

    def stage(self, writes: HeightWrites, base: Staged | None = None) -> Staged:
        """Work out what the next height writes, its state root first of all. Writes nothing.

        `base` is the height before it where that is staged and perhaps not committed yet.

        Raises:
            Fault: `writes` does not follow the base or committed height; a key or record is over its limit.
        """
        with self.view() as view:
            layers = layers_above(base, view.head.height)
            parent = layers[0] if layers else view.head
            if writes.height != parent.height + 1:
                raise Fault(f"store: height {writes.height} cannot follow {parent.height}")
            if writes.time_ms < parent.time_ms:
                raise Fault(f"store: time of block {writes.height} lies before that of the block before it")
            return stage_height(view, writes, parent.root_key, parent.app_hash, layers, self._plain_tables, self._upper)

    def commit(self, staged: Staged, written: Callable[[], None] = lambda: None) -> None:
        """Write a staged height in one transaction; returns when it is on disk.

        `written` is called when all rows are handed to the database, which then writes and syncs them in one call.

        Raises:
            Fault: it does not follow the committed height, the byte budget is used up, or the disk refuses.
        """
        layer = staged.layer
        size_bytes = staged.rows.size_bytes + 2 * writing.archive_bytes(staged.writes.archive)
        with self._write(size_bytes) as transaction:
            head = self._head_in(transaction)
            parent = (layer.height - 1, staged.parent_app_hash, staged.parent_root_key)
            if parent != (head.height, head.app_hash, head.root_key):
                raise Fault(f"store: staged height {layer.height} does not follow committed height {head.height}")
            writing.put_height(transaction, self._databases, staged, head)
            written()

    def prune(self, keep_from_height: int, limit: int) -> int:
        """Give up proofs and past records of heights below `keep_from_height`; delete about `limit` rows for it.

        Returns the number of rows deleted: call again until it is 0. Tree nodes go in epochs of 64 heights, so up to
        that many stay on disk a little longer than they can be asked for.

        Raises:
            Fault: the height is not committed yet; the disk refuses.
        """
        keep_from_height = max(keep_from_height, 0)
        with self._write(writing.pruning_bytes(limit)) as transaction:
            head = self._head_in(transaction)
            if keep_from_height > head.height:
                raise Fault(f"store: cannot prune up to {keep_from_height}, only {head.height} is committed")
            new_head = writing.with_bounds(head, first_provable=max(head.first_provable, keep_from_height))
            writing.put_head(transaction, self._databases, new_head)
            return writing.prune(transaction, self._databases, keep_from_height, limit, self._plain_tables)

    def prune_blocks(self, keep_from_height: int, limit: int, times_of: Age = NO_AGE) -> int:
        """Give up blocks and results below a height; delete those of at most `limit` heights.

        Blocks that may still hold replay ids stay, and so does the last that is archived with all after it. Whoever
        calls has put what it wants kept into segment files. Archive rows go once no state that is held needs them;
        those at which validators change stay, since every later trail leads over them. The times of heights stay that
        are not older than `times_of` in blocks and in time.
        Returns the number of heights deleted: call again until it is 0.

        Raises:
            Fault: the height is not committed yet; the disk refuses.
        """
        with self._write(writing.pruning_bytes(limit * 64)) as transaction:
            head = self._head_in(transaction)
            if keep_from_height > head.height:
                raise Fault(f"store: cannot prune blocks up to {keep_from_height}, only {head.height} is committed")
            return writing.prune_blocks(transaction, self._databases, head, keep_from_height, limit, times_of)

    # Inside.

    def _known_chain(self) -> Chain:
        assert self._chain is not None
        return self._chain

    @contextmanager
    def _write(self, size_bytes: int) -> Iterator[Any]:
        """One write transaction: checks first that the disk holds it; whatever fails leaves nothing behind."""
        if self.is_read_only:
            raise Fault("store: it is open for reading only")
        if self._is_broken:
            raise Fault("store: an earlier write failed; open it again when the disk is well")
        self._check_budget(size_bytes)
        try:
            # LMDB lets one write transaction begin at a time, which is how writers of several threads take turns.
            with self._environment.begin(write=True) as transaction:
                yield transaction
        except (lmdb.Error, OSError) as error:
            self._fail(error)

    def _head_in(self, transaction: Any) -> Head:
        return rows.HEAD.decode_trusted(transaction.get(rows.HEAD_KEY, db=self._databases.meta))

    def _check_budget(self, size_bytes: int) -> None:
        free_bytes = self.free_disk_bytes()
        if free_bytes - size_bytes < self._reserve_bytes:
            self._is_broken = True
            raise Fault(
                f"store: {free_bytes} bytes of disk are free; this write may need {size_bytes} "
                f"and {self._reserve_bytes} must stay free. Make room and start again"
            )

    def _fail(self, error: lmdb.Error | OSError) -> NoReturn:
        self._is_broken = True
        raise Fault(f"store: writing failed, so the store did not take the height: {_reason(error)}") from error

    def _load(self) -> None:
        try:
            with self._begin(db=self._databases.meta) as transaction:
                data = transaction.get(rows.CHAIN_KEY)
                head = transaction.get(rows.HEAD_KEY)
        except lmdb.Error as error:
            raise Fault(f"store: reading failed: {_reason(error)}") from error
        if data is None or head is None:
            raise Fault("store: the ledger in this directory was never finished; make it again")
        chain = rows.CHAIN.decode_trusted(data)
        if chain.format != rows.FORMAT:
            raise Fault(f"store: format {chain.format} is not {rows.FORMAT}, which this release reads")
        self._use_chain(chain)

    def _use_chain(self, chain: Chain) -> None:
        self._chain = chain
        self._plain_tables = frozenset(name.encode() for name in chain.plain_tables)

    def _add_plain_tables(self, plain_tables: frozenset[str]) -> None:
        if plain_tables == self.plain_tables:
            return
        if not plain_tables >= self.plain_tables:
            raise Fault("store: a table that was plain cannot cease to be; this release lacks one")
        chain = self._known_chain()
        chain = Chain(chain.format, chain.chain_id, chain.initial_height, tuple(sorted(plain_tables)))
        with self._write(1 << 16) as transaction:
            transaction.put(rows.CHAIN_KEY, encode(chain), db=self._databases.meta)
        self._use_chain(chain)

    def _begin_chain(self, chain: Chain, staged: Staged, used_ids: UsedIds) -> None:
        with self._begin(db=self._databases.meta) as transaction:
            if transaction.get(rows.HEAD_KEY) is not None:
                raise Fault("store: there is a ledger in this directory already")
        self._use_chain(chain)
        height, time_ms = staged.layer.height, staged.layer.time_ms
        until_ms = time_ms + MAX_REPLAY_WINDOW_MS if used_ids else 0
        start = Head(height, time_ms, staged.app_hash, b"", height, height + 1, 0, 0, until_ms)
        ids_bytes = sum(len(ids) * 128 for _, ids in used_ids.values())
        with self._write(staged.rows.size_bytes + ids_bytes) as transaction:
            transaction.put(rows.CHAIN_KEY, encode(chain), db=self._databases.meta)
            writing.put_imported(transaction, self._databases, used_ids)
            writing.put_height(transaction, self._databases, staged, start)


def _lock_for_writing(path: Path) -> IO[bytes]:
    try:
        file = (path / "writer.lock").open("ab")
    except OSError as error:
        raise Fault(f"store: cannot write in the ledger's directory: {_reason(error)}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.close()
        raise Fault("store: another process writes this ledger") from error
    return file


def _open_databases(environment: Any, *, read_only: bool) -> Databases:
    opened = [
        environment.open_db(
            name.encode(),
            create=not read_only,
            dupsort=name in ("ids", "replay"),
            dupfixed=name in ("ids", "replay"),
        )
        for name in Databases._fields
    ]
    return Databases(*opened)


def _reason(error: lmdb.Error | OSError) -> str:
    """Say what the system said, without the path that may stand before it."""
    if isinstance(error, OSError):
        return reason_of(error)
    return str(error).rpartition(": ")[2]
