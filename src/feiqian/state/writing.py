"""Writing and deleting the store's rows inside one write transaction."""

from typing import Any

from feiqian.core.encoding import encode
from feiqian.core.errors import Fault
from feiqian.state import rows
from feiqian.state.archive import ARCHIVE_ROW, ArchiveRow
from feiqian.state.replay import MAX_REPLAY_WINDOW_MS
from feiqian.state.rows import Age, Head, UsedIds, height_bytes
from feiqian.state.staging import Staged, is_plain_key, leaf_key_hash
from feiqian.state.view import Databases


def archive_bytes(row: ArchiveRow | None) -> int:
    """Return about how many bytes an archive row takes."""
    return 0 if row is None else len(row.header) + len(row.commit) + len(row.validators) + 64


def pruning_bytes(limit: int) -> int:
    """Bound what deleting `limit` scattered rows adds to the file before their pages are free."""
    return (limit + 64) * 2 * 4096


def with_bounds(head: Head, *, first_provable: int | None = None, first_block: int | None = None) -> Head:
    """Return `head` with other bounds of what is kept."""
    return Head(
        head.height,
        head.time_ms,
        head.app_hash,
        head.root_key,
        head.first_provable if first_provable is None else first_provable,
        head.first_block if first_block is None else first_block,
        head.id_bucket,
        head.id_entries,
        head.imported_until_ms,
    )


def put_head(transaction: Any, databases: Databases, head: Head) -> None:
    """Write where the store stands."""
    transaction.put(rows.HEAD_KEY, encode(head), db=databases.meta)


def put_archive(transaction: Any, databases: Databases, row: ArchiveRow) -> None:
    """Write the archive row of a height; of the same header a later row replaces the former.

    Raises:
        Fault: the row of another header is there already.
    """
    key = height_bytes(row.height)
    held = transaction.get(key, db=databases.archive)
    if held is not None and ARCHIVE_ROW.decode_trusted(held).header != row.header:
        raise Fault(f"store: another header of height {row.height} is archived already")
    transaction.put(key, encode(row), db=databases.archive)


def put_imported(transaction: Any, databases: Databases, used_ids: UsedIds) -> None:
    """Write the ids that count as used up though their blocks are not here."""
    for height in sorted(used_ids):
        time_ms, ids = used_ids[height]
        transaction.put(height_bytes(height), height_bytes(time_ms) + b"".join(ids), db=databases.imported)
    entries = sorted(tx_id for _, ids in used_ids.values() for tx_id in ids)
    _putmulti(transaction, databases.replay, [(rows.IMPORTED_BUCKET, tx_id) for tx_id in entries])


def put_height(transaction: Any, databases: Databases, staged: Staged, head: Head) -> None:
    """Write all rows of a height and the new head."""
    written, layer = staged.rows, staged.layer
    height = height_bytes(layer.height)
    _putmulti(transaction, databases.state, written.records)
    _putmulti(transaction, databases.key_hashes, written.created)
    for key in written.deleted:
        transaction.delete(key, db=databases.state)
    _putmulti(transaction, databases.gone, written.gone)
    _putmulti(transaction, databases.former, written.former, append=True)
    _putmulti(transaction, databases.nodes, written.nodes, append=True)
    _putmulti(transaction, databases.stale, written.stale)
    _putmulti(transaction, databases.pieces, written.pieces, append=True)
    _putmulti(transaction, databases.heights, [(height, written.height_row)], append=True)
    is_full = head.id_entries >= rows.ID_BUCKET_ENTRIES
    id_bucket = layer.height if is_full or not head.id_entries else head.id_bucket
    bucket = height_bytes(id_bucket)
    _putmulti(transaction, databases.ids, [(bucket, entry) for entry in written.id_entries])
    _putmulti(transaction, databases.replay, written.replay)
    imported_until_ms = _expire_replay_ids(transaction, databases, head.imported_until_ms, layer.time_ms)
    if staged.writes.archive is not None:
        put_archive(transaction, databases, staged.writes.archive)
    new_head = Head(
        layer.height,
        layer.time_ms,
        layer.app_hash,
        layer.root_key,
        head.first_provable,
        head.first_block,
        id_bucket,
        len(written.id_entries) + (0 if is_full else head.id_entries),
        imported_until_ms,
    )
    put_head(transaction, databases, new_head)


def _putmulti(transaction: Any, database: Any, pairs: list[tuple[bytes, bytes]], *, append: bool = False) -> None:
    # LMDB leaves out what it is told to append and does not sort last, and only counts it.
    if pairs and transaction.cursor(db=database).putmulti(pairs, append=append) != (len(pairs), len(pairs)):
        raise Fault("store: rows to append are not above those held")


def _expire_replay_ids(transaction: Any, databases: Databases, imported_until_ms: int, time_ms: int) -> int:
    """Delete buckets whose every id has expired at `time_ms`; return until when imported ids still count."""
    live = rows.replay_bucket(time_ms)
    cursor = transaction.cursor(db=databases.replay)
    while cursor.first() and cursor.key() < live:
        cursor.delete(dupdata=True)
    if not imported_until_ms or time_ms <= imported_until_ms:
        return imported_until_ms
    if cursor.set_key(rows.IMPORTED_BUCKET):
        cursor.delete(dupdata=True)
    transaction.drop(databases.imported, delete=False)
    return 0


def prune(
    transaction: Any, databases: Databases, keep_from_height: int, limit: int, plain_tables: frozenset[bytes]
) -> int:
    """Delete stale nodes of whole epochs and former rows of heights up to `keep_from_height`, the oldest first."""
    deleted = 0
    nodes = transaction.cursor(db=databases.nodes)
    cursor = transaction.cursor(db=databases.stale)
    first_kept_epoch = rows.stale_epoch(keep_from_height + 1)
    while deleted < limit and cursor.first() and cursor.key() < first_kept_epoch:
        for node_key in rows.decode_stale(cursor.value()):
            if not nodes.set_key(node_key):
                raise Fault("store: a stale tree node is missing")
            nodes.delete()
            deleted += 1
        cursor.delete()
    above = height_bytes(keep_from_height + 1)
    cursor = transaction.cursor(db=databases.former)
    while deleted < limit and cursor.first() and cursor.key() < above:
        height = bytes(cursor.key()[: rows.HEIGHT_BYTES])
        for key, _, _, is_deletion in rows.decode_former(cursor.value()):
            if is_deletion:
                _forget(transaction, databases, key, height, plain_tables)
        cursor.delete()
        deleted += 1
    return deleted


def _forget(transaction: Any, databases: Databases, key: bytes, height: bytes, plain_tables: frozenset[bytes]) -> None:
    """Drop what was remembered of a record deleted at `height`, unless it was deleted again or lives."""
    if transaction.get(key, db=databases.gone) != height:
        return
    transaction.delete(key, db=databases.gone)
    if transaction.get(key, db=databases.state) is None:
        key_hash = leaf_key_hash(key, is_plain=is_plain_key(key, plain_tables))
        transaction.delete(key_hash[: rows.KEY_HASH_BYTES], db=databases.key_hashes)


def prune_blocks(
    transaction: Any, databases: Databases, head: Head, keep_from_height: int, limit: int, times_of: Age
) -> int:
    """Delete blocks of the lowest heights and write the new head; return how many went.

    A block stays until the next one's archive row is there: only then is its own the one that is kept for good.
    What is not a block goes later: a height's own row and its archive row are needed as long as a state can be proved
    by them, and those of the height below the first block begin what follows it.
    """
    archive = transaction.cursor(db=databases.archive)
    keep_from_height = min(keep_from_height, rows.height_of(archive.key()) if archive.last() else 0)
    height = head.first_block
    cursor = transaction.cursor(db=databases.pieces)
    while height < keep_from_height and height - head.first_block < limit:
        key = height_bytes(height)
        data = transaction.get(key, db=databases.heights)
        if data is None:
            raise Fault(f"store: height {height} has no row")
        if rows.HEIGHT_ROW.decode_trusted(data).time_ms >= head.time_ms - MAX_REPLAY_WINDOW_MS:
            break
        while cursor.set_range(key) and cursor.key().startswith(key):
            cursor.delete()
        height += 1
    _drop_id_buckets(transaction, databases, height)
    below = height_bytes(max(0, min(height, head.first_provable) - 1))
    _prune_heights(transaction, databases, head, below, 2 * limit, times_of)
    _prune_archive(transaction, databases, below, 2 * limit)
    new_head = with_bounds(head, first_block=height)
    put_head(transaction, databases, new_head)
    return height - head.first_block


def _prune_heights(transaction: Any, databases: Databases, head: Head, below: bytes, limit: int, times_of: Age) -> None:
    cursor = transaction.cursor(db=databases.heights)
    for _ in range(limit):
        if not cursor.first() or cursor.key() >= below:
            return
        height, time_ms = rows.height_of(cursor.key()), rows.HEIGHT_ROW.decode_trusted(cursor.value()).time_ms
        if height >= head.height - times_of.blocks or time_ms >= head.time_ms - times_of.ms:
            return
        cursor.delete()


def _prune_archive(transaction: Any, databases: Databases, below: bytes, limit: int) -> None:
    """Delete archive rows but those on both sides of a change of validators: every later trail leads over them."""
    cursor = transaction.cursor(db=databases.archive)
    is_row = cursor.set_range(transaction.get(rows.ARCHIVE_FROM_KEY, db=databases.meta) or b"")
    before = None
    if is_row and cursor.prev():
        before = ARCHIVE_ROW.decode_trusted(cursor.value()).validators
        is_row = cursor.next()
    elif is_row:
        is_row = cursor.first()
    for _ in range(limit):
        if not is_row or cursor.key() >= below:
            break
        key, validators = bytes(cursor.key()), ARCHIVE_ROW.decode_trusted(cursor.value()).validators
        is_row = cursor.next()
        after = ARCHIVE_ROW.decode_trusted(cursor.value()).validators if is_row else validators
        if validators == after and before in (None, validators):
            transaction.delete(key, db=databases.archive)
            is_row = cursor.set_range(key)
        before = validators
        transaction.put(rows.ARCHIVE_FROM_KEY, key + b"\x00", db=databases.meta)


def _drop_id_buckets(transaction: Any, databases: Databases, first_block: int) -> None:
    """Delete the buckets of the id index whose every block is gone: those before the last that starts by then."""
    cursor = transaction.cursor(db=databases.ids)
    while cursor.first():
        first = bytes(cursor.key())
        if not cursor.next_nodup() or rows.height_of(cursor.key()) > first_block:
            return
        cursor.set_key(first)
        cursor.delete(dupdata=True)
