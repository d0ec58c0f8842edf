"""Snapshots: the same state in another store, byte for byte the same file, and no tampered one accepted."""

from pathlib import Path

import pytest

from feiqian.core.encoding import encode
from feiqian.core.errors import Fault
from feiqian.state import snapshots
from feiqian.state.errors import OutsideWindow, SnapshotRefused
from feiqian.state.replay import ReplayDigest, replay_digest
from feiqian.state.snapshots import MAGIC, Ids, Manifest, export, import_, read, replay_from_height
from feiqian.state.store import HeightWrites, Store

WINDOW_MS = 600_000


def tx_id(height: int, place: int) -> bytes:
    return bytes([height, place]) * 16


def advance(store: Store, time_ms: int, *, count: int = 2) -> None:
    """Commit a block as execution would: its replay digest is a record."""
    height = store.height + 1
    ids = [tx_id(height, place) for place in range(count)]
    changes: dict[bytes, bytes | None] = {
        b"t/a": b"%d" % height,
        b"t/%d" % height: b"x" * 3000,
        b"t/%d" % (height - 2): None,
        b"execution.replay/" + height.to_bytes(8, "big"): encode(ReplayDigest(replay_digest(ids))),
    }
    results = tuple((id_, b"result") for id_ in ids)
    used = tuple((time_ms + WINDOW_MS, id_) for id_ in ids)
    store.commit(store.stage(HeightWrites(height, time_ms, b"block", results, changes, used, None)))


@pytest.fixture
def store(tmp_path: Path):
    genesis: dict[bytes, bytes | None] = {b"s/%04d" % number: b"%d" % number for number in range(2000)}
    made = Store.create(tmp_path / "l", "c", 1, genesis, 0, plain_tables=frozenset({"s"}), reserve_bytes=0)
    for height in range(1, 9):
        advance(made, height * 200_000)
    yield made
    made.close()


def test_the_replay_digest_is_the_tagged_hash_of_the_sorted_ids():
    # printf of the two ids in order through sha256sum, with the tag's digest twice before them (BIP 340).
    assert replay_digest([b"b" * 32, b"a" * 32]) == replay_digest((b"a" * 32, b"b" * 32))
    assert (
        replay_digest([b"b" * 32, b"a" * 32]).hex()
        == "07b33633b7cb41e24ca1087b8540a0371b7d33ca75416f4f3741fda4af7577c8"
    )


def test_a_snapshot_becomes_the_same_state_in_a_new_store(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(snapshots, "CHUNK_BYTES", 2000)
    manifest = export(store, 8, tmp_path / "s")
    assert (manifest.chain_id, manifest.height, manifest.time_ms) == ("c", 8, 1_600_000)
    # Blocks at 1,000 s and later lie within 600 s of 1,600 s.
    assert replay_from_height(store, 8) == 5
    assert len(manifest.record_chunks) > 3
    copy = import_(tmp_path / "s", tmp_path / "copy", store.app_hash, 5, reserve_bytes=0)
    assert (copy.height, copy.time_ms, copy.chain_id, copy.app_hash) == (8, 1_600_000, "c", store.app_hash)
    assert (copy.initial_height, copy.plain_tables) == (1, store.plain_tables)
    assert list(copy.scan(b"")) == list(store.scan(b""))
    assert copy.prove(8, b"t/a") == store.prove(8, b"t/a")
    for height in range(5, 9):
        assert copy.has_replay_id(123, tx_id(height, 0))
        assert copy.used_ids(height) == [tx_id(height, 0), tx_id(height, 1)]
    assert not copy.has_replay_id(123, tx_id(4, 0))
    with pytest.raises(OutsideWindow):
        copy.get_at(7, b"t/a")
    again = export(copy, 8, tmp_path / "again")
    assert again == manifest
    assert (tmp_path / "again").read_bytes() == (tmp_path / "s").read_bytes()
    copy.close()


def test_an_imported_store_goes_on_as_the_first_one_does(store: Store, tmp_path: Path):
    export(store, 8, tmp_path / "s")
    copy = import_(tmp_path / "s", tmp_path / "copy", store.app_hash, 5, reserve_bytes=0)
    for made in (store, copy):
        advance(made, 1_700_000)
    assert copy.app_hash == store.app_hash
    export(store, 9, tmp_path / "one")
    export(copy, 9, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    # Ids of the snapshot stay used up for the whole replay window after it, whatever their own expiry.
    advance(copy, 2_200_000)
    assert copy.has_replay_id(0, tx_id(5, 0))
    advance(copy, 2_200_001)
    assert not copy.has_replay_id(0, tx_id(5, 0))
    assert copy.used_ids(5) == []
    copy.close()


def test_a_past_height_is_exported_as_it_was(store: Store, tmp_path: Path):
    records = list(store.scan(b""))
    root = store.app_hash
    export(store, 8, tmp_path / "then")
    advance(store, 1_800_000)
    advance(store, 2_000_000)
    export(store, 8, tmp_path / "now")
    assert (tmp_path / "now").read_bytes() == (tmp_path / "then").read_bytes()
    snapshot = read(tmp_path / "now", root, 5)
    assert list(snapshot.staged.writes.changes.items()) == records
    while store.prune(9, 1000):
        pass
    with pytest.raises(OutsideWindow):
        export(store, 8, tmp_path / "late")
    with pytest.raises(OutsideWindow):
        export(store, 11, tmp_path / "early")
    assert not (tmp_path / "late").exists()


def test_export_overwrites_nothing(store: Store, tmp_path: Path):
    (tmp_path / "s").write_bytes(b"mine")
    with pytest.raises(Fault, match="exists already"):
        export(store, 8, tmp_path / "s")
    assert (tmp_path / "s").read_bytes() == b"mine"
    with pytest.raises(Fault, match="No such file"):
        export(store, 8, tmp_path / "none" / "s")


def test_another_root_is_refused_and_makes_no_ledger(store: Store, tmp_path: Path):
    export(store, 8, tmp_path / "s")
    with pytest.raises(SnapshotRefused, match="not of the app hash"):
        import_(tmp_path / "s", tmp_path / "copy", store.app_hash_at(7), 5)
    with pytest.raises(SnapshotRefused, match="cannot be read"):
        import_(tmp_path / "none", tmp_path / "copy", store.app_hash, 5)
    assert not (tmp_path / "copy").exists()


def test_a_file_cut_anywhere_or_with_a_changed_byte_is_refused(store: Store, tmp_path: Path):
    export(store, 8, tmp_path / "s")
    good = (tmp_path / "s").read_bytes()
    bad = tmp_path / "bad"
    for place in [*range(420), *range(420, len(good), 499), len(good) - 1]:
        bad.write_bytes(good[:place])
        with pytest.raises(SnapshotRefused):
            read(bad, store.app_hash, 5)
        changed = bytearray(good)
        changed[place] ^= 0x20
        bad.write_bytes(changed)
        if _claims_only(good, bytes(changed)):
            continue
        with pytest.raises(SnapshotRefused):
            read(bad, store.app_hash, 5)
    bad.write_bytes(good + b"\x00")
    with pytest.raises(SnapshotRefused, match="follows its last chunk is cut short"):
        read(bad, store.app_hash, 5)


def _claims_only(good: bytes, changed: bytes) -> bool:
    """Whether only the manifest's name, heights or times differ: claims that its reader compares with a header's."""
    length = int.from_bytes(good[len(MAGIC) : len(MAGIC) + 4], "big")
    start = len(MAGIC) + 4
    if good[start + length :] != changed[start + length :] or good[:start] != changed[:start]:
        return False
    try:
        before, after = (snapshots._MANIFEST.decode(data[start : start + length]) for data in (good, changed))
    except snapshots.InvalidTransaction:
        return False
    return (before.app_hash, before.plain_tables, before.record_chunks, before.id_chunks) == (
        after.app_hash,
        after.plain_tables,
        after.record_chunks,
        after.id_chunks,
    )


def rebuild(path: Path, good: Path, *, records=None, ids=None) -> None:
    """Write a snapshot as a forger would, who can compute every hash."""
    data = good.read_bytes()
    place = len(MAGIC)
    frames = []
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        frames.append(data[place + 4 : place + 4 + length])
        place += 4 + length
    manifest = snapshots._MANIFEST.decode(frames[0])
    count = len(manifest.record_chunks)
    chunks = frames[1 : 1 + count] if records is None else [encode(records)]
    id_chunks = frames[1 + count :] if ids is None else [encode(ids)]
    forged = Manifest(
        manifest.chain_id,
        manifest.initial_height,
        manifest.height,
        manifest.time_ms,
        manifest.app_hash,
        manifest.plain_tables,
        tuple(snapshots._CHUNK.hash(chunk) for chunk in chunks),
        tuple(snapshots._CHUNK.hash(chunk) for chunk in id_chunks),
    )
    path.write_bytes(MAGIC + b"".join(len(f).to_bytes(4, "big") + f for f in (encode(forged), *chunks, *id_chunks)))


def test_forged_records_and_ids_are_refused_by_root_and_digest(store: Store, tmp_path: Path):
    good, bad = tmp_path / "s", tmp_path / "bad"
    export(store, 8, good)
    records = list(store.scan(b""))
    ids = [Ids(height, height * 200_000, (tx_id(height, 0), tx_id(height, 1))) for height in range(5, 9)]
    rebuild(bad, good, records=records, ids=ids)
    assert read(bad, store.app_hash, 5).used_ids[8] == (1_600_000, [tx_id(8, 0), tx_id(8, 1)])
    forged_records = [
        (records[1:], "do not give the app hash"),
        ([(records[0][0], b"forged"), *records[1:]], "do not give the app hash"),
        ([*records, (b"z/z", b"1")], "do not give the app hash"),
        ([records[1], records[0], *records[2:]], "out of key order"),
        ([records[0], *records], "out of key order"),
        ([(records[0][0], b""), *records[1:]], "empty or too large"),
        ([*records, (b"z" * 201, b"1")], "too large"),
        ([*records, (b"z", bytes(16 * 1024 + 1))], "too large"),
    ]
    for forged, reason in forged_records:
        rebuild(bad, good, records=forged)
        with pytest.raises(SnapshotRefused, match=reason):
            read(bad, store.app_hash, 5)
    forged_ids = [
        (ids[1:], "ids of block 5 are missing"),
        ([Ids(5, 10**6, (tx_id(5, 0),)), *ids[1:]], "ids of block 5 do not have"),
        ([Ids(5, 10**6, (tx_id(5, 0), tx_id(6, 0))), *ids[1:]], "ids of block 5 do not have"),
        ([*ids, Ids(9, 1_600_000, (tx_id(9, 0),))], "ids of block 9 do not have"),
        ([Ids(5, 1_600_001, ids[0].ids), *ids[1:]], "later than the snapshot"),
        ([ids[1], ids[0], *ids[2:]], "out of order"),
        ([Ids(5, 10**6, (tx_id(5, 1), tx_id(5, 0))), *ids[1:]], "out of order"),
    ]
    for forged, reason in forged_ids:
        rebuild(bad, good, ids=forged)
        with pytest.raises(SnapshotRefused, match=reason):
            read(bad, store.app_hash, 5)
    with pytest.raises(SnapshotRefused, match="ids of block 1 are missing"):
        read(good, store.app_hash, 0)


def test_an_import_goes_into_no_other_ledger(store: Store, tmp_path: Path):
    export(store, 8, tmp_path / "s")
    import_(tmp_path / "s", tmp_path / "copy", store.app_hash, 5, reserve_bytes=0).close()
    with pytest.raises(Fault, match="already"):
        import_(tmp_path / "s", tmp_path / "copy", store.app_hash, 5, reserve_bytes=0)
