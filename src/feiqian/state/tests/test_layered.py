"""A staged block's writes over committed state: they hide what lies below, also once the block is committed."""

from pathlib import Path

from feiqian.state.layered import Layered
from feiqian.state.store import HeightWrites, Store
from feiqian.state.tables import Changes

CHANGES: Changes = {b"t/a": b"new", b"t/b": None, b"t/bb": b"between", b"t/z": b"last", b"u/a": b"other", b"t/0": None}


def check(reader: Layered) -> None:
    assert reader.get(b"t/a") == b"new"
    assert reader.get(b"t/b") is None
    assert reader.get(b"t/c") == b"3"
    assert reader.get(b"t/none") is None
    assert list(reader.scan(b"t/")) == [(b"t/a", b"new"), (b"t/bb", b"between"), (b"t/c", b"3"), (b"t/z", b"last")]
    assert list(reader.scan(b"t/", b"t/bb")) == [(b"t/c", b"3"), (b"t/z", b"last")]
    assert list(reader.scan(b"t/b")) == [(b"t/bb", b"between")]
    assert [key for key, _ in reader.scan(b"")] == [b"t/a", b"t/bb", b"t/c", b"t/z", b"u/a"]
    assert reader.has_replay_id(20_000, b"i" * 32)
    assert not reader.has_replay_id(20_000, b"j" * 32)


def test_a_layer_is_right_before_during_and_after_its_block_is_committed(tmp_path: Path):
    genesis: Changes = {b"t/a": b"1", b"t/b": b"2", b"t/c": b"3"}
    store = Store.create(tmp_path / "l", "c", 1, genesis, 0, reserve_bytes=0)
    ids = ((20_000, b"i" * 32),)
    writes = HeightWrites(1, 1000, b"block", ((b"i" * 32, b"result"),), CHANGES, ids, None)
    staged = store.stage(writes)
    layered = Layered(store, writes.changes, writes.replay_ids)
    check(layered)
    scan = layered.scan(b"t/")
    assert next(scan) == (b"t/a", b"new")
    store.commit(staged)
    assert list(scan) == [(b"t/bb", b"between"), (b"t/c", b"3"), (b"t/z", b"last")]
    check(layered)
    upper = Layered(layered, {b"t/a": None, b"t/b": b"again"}, ((20_000, b"k" * 32),))
    assert [key for key, _ in upper.scan(b"t/")] == [b"t/b", b"t/bb", b"t/c", b"t/z"]
    assert upper.has_replay_id(20_000, b"i" * 32)
    assert upper.has_replay_id(20_000, b"k" * 32)
    store.close()


def test_a_layer_is_laid_over_other_readers_and_leaves_them_and_itself_as_they_are(tmp_path: Path):
    store = Store.create(tmp_path / "l", "c", 1, {b"t/a": b"1", b"t/c": b"3"}, 0, reserve_bytes=0)
    layered = Layered(store, CHANGES, ((20_000, b"i" * 32),))
    below = Layered(store, {b"t/c": b"over", b"t/d": b"4"}, ((20_000, b"j" * 32),))
    other = layered.on(below)
    assert other.get(b"t/c") == b"over"
    assert list(other.scan(b"t/b")) == [(b"t/bb", b"between")]
    assert list(other.scan(b"t/", b"t/bb")) == [(b"t/c", b"over"), (b"t/d", b"4"), (b"t/z", b"last")]
    assert other.has_replay_id(20_000, b"i" * 32)
    assert other.has_replay_id(20_000, b"j" * 32)
    check(layered)
    store.close()


def test_a_scan_by_part_of_a_tables_name_finds_what_a_layer_wrote_into_all_such_tables(tmp_path: Path):
    store = Store.create(tmp_path / "l", "c", 1, {b"tables/a": b"1", b"t/a": b"1", b"u/a": b"1"}, 0, reserve_bytes=0)
    layered = Layered(store, {b"tables/b": b"2", b"tablet/a": b"3", b"t/b": b"4", b"v/a": b"5"})
    assert [key for key, _ in layered.scan(b"table")] == [b"tables/a", b"tables/b", b"tablet/a"]
    assert [key for key, _ in layered.scan(b"t/")] == [b"t/a", b"t/b"]
    store.close()
