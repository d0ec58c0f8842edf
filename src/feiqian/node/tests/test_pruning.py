"""Blocks leave the store a few at a time, and only once they lie in segment files; what does not fit stops the node."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from feiqian.core.errors import Fault
from feiqian.node.pruning import PRUNE_BLOCKS, PRUNE_HEIGHTS, Pruner
from feiqian.state.archive import ArchiveRow
from feiqian.state.errors import SegmentRefused
from feiqian.state.history import History
from feiqian.state.segment_folder import FolderWriter, verify_folder
from feiqian.state.segments import append_from, row_of
from feiqian.state.store import HeightWrites, Store

MINUTE_MS = 60_000
ALL_STATE = 10**9


def archive_row(height: int) -> ArchiveRow:
    return ArchiveRow(height, b"header", b"commit", b"validators")


def advance(
    store: Store, count: int, *, every_ms: int = 11 * MINUTE_MS, block_bytes: int = 10, is_archived: bool = True
) -> None:
    for _ in range(count):
        height = store.height + 1
        archive = archive_row(height) if is_archived else None
        block = b"%09d " % height + bytes(block_bytes - 10)
        store.commit(
            store.stage(HeightWrites(height, store.time_ms + every_ms, block, ((b"i" * 32, b"r"),), {}, (), archive))
        )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store.create(tmp_path / "l", "c", 1, {b"t/a": b"1"}, 0, reserve_bytes=0)
    yield made
    made.close()


@pytest.fixture
def segments(tmp_path: Path) -> Path:
    return tmp_path / "segments"


def run(store: Store, pruner: Pruner, *, blocks: int = 0) -> list[int]:
    """Let the pruner work after each of so many blocks; return how many blocks each of its steps gave up."""
    given_up = []
    for _ in range(blocks):
        advance(store, 1)
        before = store.head.first_block
        pruner.step()
        given_up.append(store.head.first_block - before)
    return given_up


def test_without_a_limit_every_block_stays_and_no_file_is_made(store: Store, segments: Path) -> None:
    pruner = Pruner(store, ALL_STATE, 0, segments)
    run(store, pruner, blocks=2 * PRUNE_HEIGHTS)
    assert (store.head.first_block, segments.exists()) == (1, False)
    pruner.close()


def test_blocks_beyond_the_limit_go_in_small_steps_and_lie_in_the_files_as_they_were(
    store: Store, segments: Path
) -> None:
    pruner = Pruner(store, ALL_STATE, 5, segments)
    advance(store, PRUNE_HEIGHTS + 4)
    before = [row_of(store, height) for height in range(1, store.height + 1)]
    pruner.step()
    assert (store.head.first_block, next(segments.iterdir()).stat().st_size > 0) == (1, True)
    # One more, and there are enough for it to be worth while: sixteen after each height until all are gone.
    assert run(store, pruner, blocks=7) == [PRUNE_BLOCKS] * 4 + [4, 0, 0]
    assert store.height - store.head.first_block + 1 == 5 + 2
    pruner.close()
    assert verify_folder(segments, "c")[0].next_height == store.head.first_block
    history = History(store, segments)
    assert [row_of(history, height) for height in range(1, len(before) + 1)] == before


def test_a_step_also_ends_after_so_many_bytes(store: Store, segments: Path) -> None:
    advance(store, PRUNE_HEIGHTS + 6, block_bytes=1 << 20)
    pruner = Pruner(store, ALL_STATE, 5, segments)
    assert run(store, pruner, blocks=2) == [8, 8]
    pruner.close()


def test_blocks_whose_ids_may_still_count_stay_and_are_not_written_twice(store: Store, segments: Path) -> None:
    pruner = Pruner(store, ALL_STATE, 5, segments)
    advance(store, 100, every_ms=1_000)
    size_bytes = sum(path.stat().st_size for path in segments.iterdir())
    pruner.step()
    assert (store.head.first_block, sum(path.stat().st_size for path in segments.iterdir())) == (1, size_bytes)
    # Ten minutes later they go.
    assert run(store, pruner, blocks=8) == [16, 16, 16, 16, 16, 16, 6, 0]
    pruner.close()


def test_past_state_is_given_up_whatever_becomes_of_blocks(store: Store, segments: Path) -> None:
    pruner = Pruner(store, 20, 0, segments)
    run(store, pruner, blocks=100)
    assert 20 <= store.height - store.head.first_provable <= 20 + PRUNE_HEIGHTS
    pruner.close()


class PowerCut(Exception):
    """The moment at which nothing more happens."""


def test_a_crash_between_file_and_store_leaves_a_block_in_both_and_is_made_up_for(
    store: Store, segments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruner = Pruner(store, ALL_STATE, 5, segments)
    advance(store, PRUNE_HEIGHTS + 5)
    before = [row_of(store, height) for height in range(1, store.height + 1)]

    def cut(*_: int) -> int:
        raise PowerCut

    with monkeypatch.context() as patched:
        patched.setattr(store, "prune_blocks", cut)
        with pytest.raises(PowerCut):
            pruner.step()
    pruner.close()
    assert verify_folder(segments, "c")[0].next_height == 1 + PRUNE_BLOCKS
    assert store.head.first_block == 1
    pruner = Pruner(store, ALL_STATE, 5, segments)
    run(store, pruner, blocks=6)
    pruner.close()
    history = History(store, segments)
    assert [row_of(history, height) for height in range(1, len(before) + 1)] == before
    assert verify_folder(segments, "c")[0].next_height == store.head.first_block


def test_files_that_were_written_by_the_archive_command_are_gone_on_with(store: Store, segments: Path) -> None:
    advance(store, PRUNE_HEIGHTS + 20)
    writer = FolderWriter(segments, "c", 1)
    assert append_from(store, writer, 70) == 70
    writer.close()
    pruner = Pruner(store, ALL_STATE, 5, segments)
    run(store, pruner, blocks=8)
    assert 5 <= store.height - store.head.first_block < 5 + PRUNE_HEIGHTS
    pruner.close()
    assert verify_folder(segments, "c")[0].next_height == store.head.first_block


def test_a_folder_that_was_emptied_begins_with_what_the_store_holds(store: Store, segments: Path) -> None:
    advance(store, 10)
    while store.prune_blocks(8, 100):
        pass
    pruner = Pruner(store, ALL_STATE, 5, segments)
    pruner.close()
    assert [path.name for path in segments.iterdir()] == ["segment-000000000008.fqs"]


def test_files_that_end_before_the_store_begins_stop_the_node(store: Store, segments: Path) -> None:
    advance(store, 10)
    writer = FolderWriter(segments, "c", 1)
    append_from(store, writer, 3)
    writer.close()
    while store.prune_blocks(8, 100):
        pass
    with pytest.raises(Fault, match="the segment files end with block 3 and the store begins at 8"):
        Pruner(store, ALL_STATE, 5, segments)


def test_files_that_hold_more_or_other_blocks_than_the_ledger_stop_the_node(
    store: Store, segments: Path, tmp_path: Path
) -> None:
    advance(store, 10)
    writer = FolderWriter(segments, "c", 1)
    append_from(store, writer, 10)
    writer.close()
    older = Store.create(tmp_path / "older", "c", 1, {b"t/a": b"1"}, 0, reserve_bytes=0)
    advance(older, 8)
    with pytest.raises(Fault, match=r"another block 9 than this ledger, which ends at 8: it is an older copy"):
        Pruner(older, ALL_STATE, 5, segments)
    # It went on by itself, and has another block 10.
    advance(older, 2, block_bytes=11)
    with pytest.raises(Fault, match="another block 10 than this ledger"):
        Pruner(older, ALL_STATE, 5, segments)
    older.close()


def test_a_damaged_last_file_stops_the_node(store: Store, segments: Path) -> None:
    advance(store, 10)
    writer = FolderWriter(segments, "c", 1)
    append_from(store, writer, 10)
    writer.close()
    (path,) = segments.iterdir()
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(SegmentRefused):
        Pruner(store, ALL_STATE, 5, segments)


def test_blocks_that_are_not_archived_for_good_stay_and_go_into_no_file(store: Store, segments: Path) -> None:
    pruner = Pruner(store, ALL_STATE, 5, segments)
    advance(store, 80, is_archived=False)
    for _ in range(3):
        pruner.step()
    assert store.head.first_block == 1
    for height in range(1, 71):
        store.put_archive(archive_row(height))
    for _ in range(10):
        pruner.step()
    assert store.head.first_block == 70
    pruner.close()
    (segment,) = verify_folder(segments, "c")
    assert segment.next_height == 70
