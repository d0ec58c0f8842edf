"""A folder of segments: files follow one another through crashes, moves and damage; store and files read as one."""

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from feiqian.core.errors import Fault
from feiqian.state import segment_folder
from feiqian.state.archive import ArchiveRow
from feiqian.state.errors import SegmentRefused
from feiqian.state.history import History
from feiqian.state.segment_folder import FolderWriter, first_height_in, rows_from, verify_folder
from feiqian.state.segments import SegmentRow, append_from, read_segment, row_of
from feiqian.state.store import HeightWrites, Store


def row(height: int) -> SegmentRow:
    archive = ArchiveRow(height, b"header", b"commit", b"validators")
    return SegmentRow(height, height * 1000, bytes([height]) * 32, b"block %d" % height, b"results", archive)


def heights(folder: Path, height: int) -> list[int]:
    return [found.height for found in rows_from(folder, "c", height)]


@pytest.fixture
def fill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Path]:
    """Give a function that appends heights, from where the folder ends to a last one; a file takes three."""
    monkeypatch.setattr(segment_folder, "FILE_HEIGHTS", 3)

    def fill_to(last: int) -> Path:
        writer = FolderWriter(tmp_path / "segments", "c", 1)
        for height in range(writer.next_height, last + 1):
            writer.append(row(height))
        writer.close()
        return tmp_path / "segments"

    return fill_to


def test_files_follow_one_another_each_for_so_many_heights(fill: Callable[[int], Path]):
    folder = fill(8)
    assert sorted(path.name for path in folder.iterdir()) == [
        "segment-000000000001.fqs",
        "segment-000000000004.fqs",
        "segment-000000000007.fqs",
    ]
    files = verify_folder(folder, "c")
    assert [(file.header.first_height, file.next_height) for file in files] == [(1, 4), (4, 7), (7, 9)]
    assert list(rows_from(folder, "c", 1)) == [row(height) for height in range(1, 9)]
    assert (heights(folder, 5), heights(folder, 8), heights(folder, 9)) == ([5, 6, 7, 8], [8], [])
    assert first_height_in(folder) == 1


def test_a_file_is_also_full_by_its_bytes(fill: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(segment_folder, "FILE_BYTES", 1)
    assert len(list(fill(4).iterdir())) == 4


def test_writing_in_many_sittings_gives_the_same_files_as_in_one(fill: Callable[[int], Path], tmp_path: Path):
    for last in (1, 2, 3, 3, 4, 7):
        folder = fill(last)
    piecemeal = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    assert {path.name: path.read_bytes() for path in fill(7).iterdir()} == piecemeal


def test_a_crash_at_any_byte_of_the_last_file_loses_only_what_was_torn(fill: Callable[[int], Path]):
    folder = fill(5)
    last = folder / "segment-000000000004.fqs"
    whole = last.read_bytes()
    for length in range(len(whole) + 1):
        last.write_bytes(whole[:length])
        torn = heights(folder, 1)
        assert torn == list(range(1, len(torn) + 1))
        assert len(torn) >= 3
        assert heights(fill(5), 1) == [1, 2, 3, 4, 5]
        assert last.read_bytes() == whole


def test_files_long_full_may_be_moved_away(fill: Callable[[int], Path]):
    folder = fill(8)
    for name in ("segment-000000000001.fqs", "segment-000000000004.fqs"):
        (folder / name).unlink()
    assert heights(fill(10), 1) == []
    assert (heights(folder, 7), first_height_in(folder)) == ([7, 8, 9, 10], 7)
    assert [file.header.first_height for file in verify_folder(folder, "c")] == [7, 10]


def test_a_file_missing_between_others_is_named(fill: Callable[[int], Path]):
    folder = fill(8)
    (folder / "segment-000000000004.fqs").unlink()
    with pytest.raises(SegmentRefused, match="starts at 7 does not continue 4"):
        heights(folder, 2)
    with pytest.raises(SegmentRefused, match="does not continue the segment before it"):
        verify_folder(folder, "c")


def test_what_is_damaged_swapped_or_another_chain_s_is_refused(fill: Callable[[int], Path], tmp_path: Path):
    folder = fill(8)
    first, second = folder / "segment-000000000001.fqs", folder / "segment-000000000004.fqs"
    whole = first.read_bytes()
    first.write_bytes(whole[:-1])
    with pytest.raises(SegmentRefused, match="cut short"):
        heights(folder, 2)
    first.write_bytes(second.read_bytes())
    with pytest.raises(SegmentRefused, match="starts at 4 does not continue 1"):
        heights(folder, 2)
    with pytest.raises(SegmentRefused, match="does not continue the segment before it"):
        verify_folder(folder, "c")
    first.write_bytes(whole)
    with pytest.raises(SegmentRefused, match="of chain 'c', not 'd'"):
        list(rows_from(folder, "d", 1))
    with pytest.raises(SegmentRefused, match="another chain"):
        FolderWriter(folder, "d", 1)
    second.write_bytes(b"")
    (folder / "segment-000000000007.fqs").write_bytes(b"")
    with pytest.raises(SegmentRefused, match="has no header, and a file follows it"):
        FolderWriter(folder, "c", 1)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Fault, match="cannot be made"):
        FolderWriter(tmp_path / "file", "c", 1)


def test_a_file_under_another_height_s_name_is_refused(fill: Callable[[int], Path]):
    folder = fill(2)
    (folder / "segment-000000000001.fqs").rename(folder / "segment-000000000002.fqs")
    with pytest.raises(SegmentRefused, match=r"segment-000000000002\.fqs starts at height 1"):
        verify_folder(folder, "c")
    with pytest.raises(SegmentRefused, match="starts at 1 does not continue 2"):
        heights(folder, 2)


def test_one_process_writes_and_others_read_beside_it(fill: Callable[[int], Path]):
    folder = fill(2)
    writer = FolderWriter(folder, "c", 1)
    with pytest.raises(Fault, match="another process writes"):
        FolderWriter(folder, "c", 1)
    writer.append(row(3))
    assert heights(folder, 1) in ([1, 2], [1, 2, 3])
    writer.flush()
    assert heights(folder, 1) == [1, 2, 3]
    writer.close()


def test_others_may_not_read_what_is_in_them(fill: Callable[[int], Path]):
    assert {stat.S_IMODE(path.stat().st_mode) for path in fill(5).iterdir()} == {0o640}


@pytest.fixture
def store(tmp_path: Path):
    made = Store.create(tmp_path / "l", "c", 1, {b"t/a": b"1"}, 0, reserve_bytes=0)
    for height in range(1, 9):
        archive = ArchiveRow(height, b"header", b"commit", b"validators")
        writes = HeightWrites(height, height * 10**6, b"block %d" % height, ((b"i" * 32, b"r"),), {}, (), archive)
        made.commit(made.stage(writes))
    yield made
    made.close()


def test_a_store_and_its_segment_files_read_as_one(store: Store, tmp_path: Path):
    whole = [row_of(store, height) for height in range(1, 9)]
    writer = FolderWriter(tmp_path / "segments", "c", store.head.first_block)
    assert append_from(store, writer, 5) == 5
    writer.close()
    history = History(store, tmp_path / "segments")
    assert (history.first_height, history.height) == (1, 8)
    while store.prune(8, 100) or store.prune_blocks(6, 2):
        pass
    assert (store.head.first_block, store.block(5), store.archive_row(4)) == (6, None, None)
    assert [row_of(history, height) for height in range(1, 9)] == whole
    # Blocks read ahead of archive rows, as an audit does; and any height at all.
    blocks = [history.block(height) for height in range(1, 9)]
    archive = [history.archive_row(height) for height in range(1, 9)]
    assert [block and block.block for block in blocks] == [b"block %d" % height for height in range(1, 9)]
    assert archive == [found and found.archive for found in whole]
    assert (history.archive_row(3), history.block(2)) == (archive[2], blocks[1])
    assert (history.block(9), history.archive_row(9), history.block(0)) == (None, None, None)
    assert history.app_hash_at(8) == store.app_hash
    again = FolderWriter(tmp_path / "again", "c", history.first_height)
    assert append_from(history, again, 8) == 8
    again.close()
    assert list(read_segment(tmp_path / "again" / "segment-000000000001.fqs", "c", bytes(32))) == whole


def test_without_its_files_a_store_says_what_it_holds(store: Store, tmp_path: Path):
    while store.prune_blocks(6, 100):
        pass
    history = History(store, tmp_path / "none")
    assert (history.first_height, history.block(5), history.archive_row(8)) == (6, None, store.archive_row(8))


def test_appending_stops_after_so_many_bytes(store: Store, tmp_path: Path):
    writer = FolderWriter(tmp_path / "segments", "c", 1)
    first = row_of(store, 1)
    assert first is not None
    size_bytes = len(first.block) + len(first.results)
    assert append_from(store, writer, 8, 1) == 1
    assert append_from(store, writer, 8, 2 * size_bytes) == 2
    assert append_from(store, writer, 8, 2 * size_bytes + 1) == 3
    assert writer.next_height == 7
    writer.close()
