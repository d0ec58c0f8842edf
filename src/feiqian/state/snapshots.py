"""Snapshots: all records of one height, and the ids used up lately, in one file that its reader need not trust.

The file is a magic line, a manifest and chunks, each with its length in 4 bytes before it (big endian). The manifest
holds the hash of every chunk, so a reader refuses damage before it decodes. Records stand in key order, ids by height
and then ascending: the same state gives the same bytes. What the manifest claims is not believed: the tree is rebuilt
and its root compared with an app hash that the reader trusts, and ids are compared with the replay digests in it.
Evidence may follow as a last frame: signed blocks, opaque here, by which `consensus` comes to trust that app hash.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, NamedTuple, TypeVar

from msgspec import Meta

from feiqian.core.encoding import MAX_KEY_BYTES, MAX_RECORD_BYTES, Codec, Hash32, Height, Record, TimeMs, encode
from feiqian.core.errors import Fault, InvalidTransaction
from feiqian.core.hashing import Domain
from feiqian.state import rows
from feiqian.state.archive import ArchiveRow
from feiqian.state.errors import OutsideWindow, SnapshotRefused
from feiqian.state.files import open_private, reason_of, sync_directory
from feiqian.state.layered import Layered
from feiqian.state.replay import MAX_REPLAY_WINDOW_MS, REPLAY_DIGESTS, replay_digest
from feiqian.state.rows import Chain, UsedIds
from feiqian.state.segments import MAX_PAYLOAD_BYTES, SegmentRow
from feiqian.state.staging import HeightWrites, Staged, stage_first
from feiqian.state.store import MAP_BYTES, RESERVE_BYTES, Store
from feiqian.state.tables import Changes
from feiqian.state.view import View

MAGIC = b"feiqian snapshot 1\n"
CHUNK_BYTES = 1 << 20
MAX_CHUNK_BYTES = 8 << 20
MAX_MANIFEST_BYTES = 16 << 20
MAX_EVIDENCE_BYTES = MAX_PAYLOAD_BYTES + (64 << 20)
_LENGTH_BYTES = 4
_CHUNK = Domain("feiqian/snapshot-chunk/v1")

T = TypeVar("T")


class Manifest(Record):
    """What a snapshot claims to be. Chunks of records come first, then those of ids."""

    chain_id: str
    initial_height: Height
    height: Height
    time_ms: TimeMs
    app_hash: Hash32
    plain_tables: tuple[str, ...]
    record_chunks: tuple[Hash32, ...]
    id_chunks: tuple[Hash32, ...]


class Ids(Record):
    """The ids that one block used up, ascending. Its time is a claim, by which later exports leave out what expired."""

    height: Height
    time_ms: TimeMs
    ids: Annotated[tuple[Hash32, ...], Meta(min_length=1)]


class Evidence(Record):
    """Signed blocks by which a stranger checks a snapshot.

    `own` is that of its height, None before the chain's first block. `following` is the one after it, whose header
    carries its app hash. `before_window` is an earlier one, so old that no id used up by then counts any more when
    `following` runs; None where no block is so old, so that the ids of every block must be there. `trail` leads from
    the genesis to `following` where validators have changed too much in between.
    """

    own: ArchiveRow | None
    following: SegmentRow
    before_window: ArchiveRow | None
    trail: tuple[ArchiveRow, ...]

    @property
    def replay_from(self) -> int:
        """The first height whose ids may still count."""
        return 0 if self.before_window is None else self.before_window.height + 1


class Snapshot(NamedTuple):
    """A snapshot whose records give the trusted root and whose ids fit the digests among them."""

    manifest: Manifest
    staged: Staged
    used_ids: UsedIds
    evidence: Evidence | None


_MANIFEST: Codec[Manifest] = Codec(Manifest, "snapshot manifest")
_RECORDS: Codec[tuple[tuple[bytes, bytes], ...]] = Codec(tuple[tuple[bytes, bytes], ...], "snapshot records")
_IDS: Codec[tuple[Ids, ...]] = Codec(tuple[Ids, ...], "snapshot ids")
_EVIDENCE: Codec[Evidence] = Codec(Evidence, "snapshot evidence")


def replay_from_height(store: Store, height: int) -> int:
    """Return the first height whose ids may still be unexpired after block `height`, by block times.

    Raises:
        OutsideWindow: `height` is not held.
    """
    with store.view() as view:
        row = view.height_row(height)
        if row is None:
            raise OutsideWindow(height, view.head.first_provable, view.height)
        first = height
        while first > 0:
            before = view.height_row(first - 1)
            if before is None:
                return view.first_imported() or first
            if before.time_ms + MAX_REPLAY_WINDOW_MS < row.time_ms:
                return first
            first -= 1
        return first


def export(store: Store, height: int, path: str | Path, evidence: Evidence | None = None) -> Manifest:
    """Write the state after `height` into a new file, put it on disk and return its manifest.

    The read transaction lasts as long as the export does; the store may be written meanwhile.

    Raises:
        OutsideWindow: that height is pruned or not committed yet.
        SnapshotRefused: ids that the evidence asks for are no longer held.
        Fault: the file exists already or the disk refuses.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        with store.view() as view:
            if path.exists():
                raise Fault("snapshot: the file exists already; name another")
            manifest = _manifest_of(store, view, height)
            if evidence is not None:
                _check_ids_held(view, height, evidence.replay_from)
            part.unlink(missing_ok=True)
            with open_private(part) as file:
                file.write(MAGIC + _framed(encode(manifest)))
                for chunk in _record_chunks(view, height):
                    file.write(_framed(chunk))
                for chunk in _id_chunks(view, height):
                    file.write(_framed(chunk))
                if evidence is not None:
                    file.write(_framed(encode(evidence)))
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise Fault(f"snapshot: {reason_of(error)}") from error
    finally:
        part.unlink(missing_ok=True)
    return manifest


def read(path: str | Path, trusted_app_hash: bytes, replay_from: int) -> Snapshot:
    """Read and check a snapshot without making a store of it.

    `trusted_app_hash` comes from a header that the caller verified. `replay_from` is the first height whose ids may
    still be unexpired, by the times of verified headers; 0 asks for the ids of every block with a digest in the tree.

    Raises:
        SnapshotRefused: damaged, not canonical, another root, or ids missing, added or changed.
    """
    try:
        with Path(path).open("rb") as file:
            manifest = _read_manifest(file)
            if manifest.app_hash != trusted_app_hash:
                raise SnapshotRefused("snapshot: it is not of the app hash that is trusted")
            records = _read_records(file, manifest)
            used_ids = _read_ids(file, manifest)
            evidence = _read_evidence(file)
    except OSError as error:
        raise _unreadable(error) from error
    writes = HeightWrites(manifest.height, manifest.time_ms, b"", (), records, (), None)
    staged = stage_first(writes, frozenset(manifest.plain_tables))
    if staged.app_hash != trusted_app_hash:
        raise SnapshotRefused("snapshot: its records do not give the app hash that is trusted")
    _check_ids(records, used_ids, manifest.height, replay_from)
    return Snapshot(manifest, staged, used_ids, evidence)


def read_evidence(path: str | Path) -> tuple[Manifest, Evidence | None]:
    """Return what a snapshot claims to be and the evidence for it, neither checked; None where it holds no evidence.

    Raises:
        SnapshotRefused: cut short, or neither is of its form.
    """
    try:
        with Path(path).open("rb") as file:
            manifest = _read_manifest(file)
            for _ in (*manifest.record_chunks, *manifest.id_chunks):
                _read_framed(file, MAX_CHUNK_BYTES, "a chunk")
            return manifest, _read_evidence(file)
    except OSError as error:
        raise _unreadable(error) from error


def read_manifest(path: str | Path) -> Manifest:
    """Return what a snapshot claims to be.

    Raises:
        SnapshotRefused: its start is not of a snapshot's form.
    """
    try:
        with Path(path).open("rb") as file:
            return _read_manifest(file)
    except OSError as error:
        raise _unreadable(error) from error


def read_claims(path: str | Path) -> tuple[Manifest, Changes]:
    """Return a snapshot's manifest and records without rebuilding the tree: for a file that was checked before.

    Raises:
        SnapshotRefused: damaged or not canonical.
    """
    try:
        with Path(path).open("rb") as file:
            manifest = _read_manifest(file)
            return manifest, _read_records(file, manifest)
    except OSError as error:
        raise _unreadable(error) from error


def import_(
    path: str | Path,
    into: str | Path,
    trusted_app_hash: bytes,
    replay_from: int,
    *,
    map_bytes: int = MAP_BYTES,
    reserve_bytes: int = RESERVE_BYTES,
) -> Store:
    """Make a store of a snapshot; see `read` for the checks and what they raise.

    Raises:
        SnapshotRefused: see `read`.
        Fault: there is a ledger in `into` already, or the disk refuses.
    """
    snapshot = read(path, trusted_app_hash, replay_from)
    return make_store(snapshot, into, map_bytes=map_bytes, reserve_bytes=reserve_bytes)


def make_store(
    snapshot: Snapshot, into: str | Path, *, map_bytes: int = MAP_BYTES, reserve_bytes: int = RESERVE_BYTES
) -> Store:
    """Make a store of a snapshot that was read and checked.

    Raises:
        Fault: there is a ledger in `into` already, or the disk refuses.
    """
    manifest, staged, used_ids, _ = snapshot
    chain = Chain(rows.FORMAT, manifest.chain_id, manifest.initial_height, manifest.plain_tables)
    return Store.create_from(into, chain, staged, used_ids, map_bytes=map_bytes, reserve_bytes=reserve_bytes)


def _manifest_of(store: Store, view: View, height: int) -> Manifest:
    row = view.height_row(height)
    if row is None:
        raise OutsideWindow(height, view.head.first_provable, view.height)
    return Manifest(
        store.chain_id,
        store.initial_height,
        height,
        row.time_ms,
        row.app_hash,
        tuple(sorted(store.plain_tables)),
        tuple(_CHUNK.hash(chunk) for chunk in _record_chunks(view, height)),
        tuple(_CHUNK.hash(chunk) for chunk in _id_chunks(view, height)),
    )


def _record_chunks(view: View, height: int) -> Iterator[bytes]:
    """Yield the records as of `height` in key order, encoded in chunks of about `CHUNK_BYTES`."""
    chunk: list[tuple[bytes, bytes]] = []
    size_bytes = 0
    for key, record in Layered(view, view.undone(height)).scan(b""):
        chunk.append((key, record))
        size_bytes += len(key) + len(record)
        if size_bytes >= CHUNK_BYTES:
            yield encode(chunk)
            chunk, size_bytes = [], 0
    if chunk:
        yield encode(chunk)


def _id_chunks(view: View, height: int) -> Iterator[bytes]:
    """Yield the ids, in chunks, of each block that has a replay digest as of `height` and may hold unexpired ones."""
    last_ms = view.block_time_ms(height) or 0
    chunk: list[Ids] = []
    size_bytes = 0
    for key, _ in Layered(view, view.undone(height)).scan(REPLAY_DIGESTS.prefix):
        block_height = rows.height_of(key[len(REPLAY_DIGESTS.prefix) :])
        time_ms = view.block_time_ms(block_height)
        ids = view.used_ids(block_height)
        if time_ms is not None and time_ms + MAX_REPLAY_WINDOW_MS >= last_ms and ids:
            chunk.append(Ids(block_height, time_ms, tuple(sorted(ids))))
            size_bytes += 32 * len(ids)
        if size_bytes >= CHUNK_BYTES:
            yield encode(chunk)
            chunk, size_bytes = [], 0
    if chunk:
        yield encode(chunk)


def _check_ids_held(view: View, height: int, replay_from: int) -> None:
    for key, record in Layered(view, view.undone(height)).scan(REPLAY_DIGESTS.prefix):
        block_height = rows.height_of(key[len(REPLAY_DIGESTS.prefix) :])
        digest = REPLAY_DIGESTS.codec.decode_trusted(record).digest
        if block_height >= replay_from and replay_digest(view.used_ids(block_height)) != digest:
            raise SnapshotRefused(
                f"snapshot: the ids that block {block_height} used up are needed for {height} and no longer held; "
                "take a later height"
            )


def _framed(data: bytes) -> bytes:
    return len(data).to_bytes(_LENGTH_BYTES, "big") + data


def _read_framed(file: IO[bytes], most_bytes: int, what: str) -> bytes:
    start = file.read(_LENGTH_BYTES)
    length = int.from_bytes(start, "big")
    if len(start) < _LENGTH_BYTES or length > most_bytes:
        raise SnapshotRefused(f"snapshot: {what} is cut short or larger than {most_bytes} bytes")
    data = file.read(length)
    if len(data) < length:
        raise SnapshotRefused(f"snapshot: {what} is cut short")
    return data


def _read_manifest(file: IO[bytes]) -> Manifest:
    if file.read(len(MAGIC)) != MAGIC:
        raise SnapshotRefused("snapshot: the file does not start as one")
    return _decode(_MANIFEST, _read_framed(file, MAX_MANIFEST_BYTES, "the manifest"))


def _read_chunks(file: IO[bytes], hashes: tuple[bytes, ...], codec: Codec[T]) -> Iterator[T]:
    for place, expected in enumerate(hashes):
        chunk = _read_framed(file, MAX_CHUNK_BYTES, f"a chunk of {codec.what}")
        if _CHUNK.hash(chunk) != expected:
            raise SnapshotRefused(f"snapshot: chunk {place} of {codec.what} does not have the manifest's hash")
        yield _decode(codec, chunk)


def _read_records(file: IO[bytes], manifest: Manifest) -> Changes:
    records: Changes = {}
    last = b""
    for chunk in _read_chunks(file, manifest.record_chunks, _RECORDS):
        for key, record in chunk:
            if not last < key or len(key) > MAX_KEY_BYTES or not 0 < len(record) <= MAX_RECORD_BYTES:
                raise SnapshotRefused("snapshot: a record is out of key order, empty or too large")
            records[key] = record
            last = key
    return records


def _read_ids(file: IO[bytes], manifest: Manifest) -> UsedIds:
    used_ids: UsedIds = {}
    last = -1
    for chunk in _read_chunks(file, manifest.id_chunks, _IDS):
        for entry in chunk:
            if entry.height <= last or list(entry.ids) != sorted(entry.ids):
                raise SnapshotRefused("snapshot: ids are out of order")
            if entry.time_ms > manifest.time_ms:
                raise SnapshotRefused("snapshot: ids are of a block later than the snapshot")
            used_ids[entry.height] = (entry.time_ms, list(entry.ids))
            last = entry.height
    return used_ids


def _read_evidence(file: IO[bytes]) -> Evidence | None:
    start = file.read(1)
    if not start:
        return None
    file.seek(-1, os.SEEK_CUR)
    evidence = _decode(_EVIDENCE, _read_framed(file, MAX_EVIDENCE_BYTES, "what follows its last chunk"))
    if file.read(1):
        raise SnapshotRefused("snapshot: bytes follow its evidence")
    return evidence


def _check_ids(records: Changes, used_ids: UsedIds, height: int, replay_from: int) -> None:
    """Compare ids with the digests in the tree: each block of the window must have its own, and no block others."""
    digests: dict[int, bytes] = {}
    for key, record in records.items():
        if key.startswith(REPLAY_DIGESTS.prefix) and record is not None:
            block_height = rows.height_of(key[len(REPLAY_DIGESTS.prefix) :])
            digests[block_height] = _decode(REPLAY_DIGESTS.codec, record).digest
    for block_height, (_, ids) in used_ids.items():
        if block_height > height or digests.get(block_height) != replay_digest(ids):
            raise SnapshotRefused(f"snapshot: the ids of block {block_height} do not have that block's replay digest")
    for block_height, digest in digests.items():
        if block_height >= replay_from and block_height not in used_ids and digest != replay_digest(()):
            raise SnapshotRefused(f"snapshot: the ids of block {block_height} are missing")


def _unreadable(error: OSError) -> SnapshotRefused:
    return SnapshotRefused(f"snapshot: cannot be read: {reason_of(error)}")


def _decode(codec: Codec[T], data: bytes) -> T:
    try:
        return codec.decode(data)
    except InvalidTransaction as error:
        raise SnapshotRefused(f"snapshot: malformed: {error.message}") from None
