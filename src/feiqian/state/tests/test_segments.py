"""Segment files: what goes in comes out, a torn tail is cut, and nothing that was changed is accepted."""

import hashlib
from pathlib import Path

import pytest

from feiqian.core.errors import Fault
from feiqian.state.archive import ArchiveRow
from feiqian.state.errors import SegmentRefused
from feiqian.state.segments import (
    GENESIS_CHAIN_HASH,
    SegmentRow,
    SegmentWriter,
    append_from,
    read_segment,
    verify_segment,
    verify_segments,
)
from feiqian.state.store import HeightWrites, Store


def row(height: int) -> SegmentRow:
    archive = None if height % 2 else ArchiveRow(height, b"header", b"commit", b"validators")
    return SegmentRow(height, height * 1000, bytes([height]) * 32, b"block %d" % height, b"results", archive)


def write(path: Path, first: int, last: int, before: bytes = GENESIS_CHAIN_HASH) -> bytes:
    writer = SegmentWriter(path, "c", first, before)
    for height in range(first, last + 1):
        writer.append(row(height))
    writer.close()
    return writer.chain_hash


def test_rows_come_back_and_files_follow_one_another(tmp_path: Path):
    middle = write(tmp_path / "1", 1, 4)
    end = write(tmp_path / "2", 5, 6, middle)
    assert list(read_segment(tmp_path / "1", "c", GENESIS_CHAIN_HASH)) == [row(height) for height in range(1, 5)]
    first, second = verify_segments([tmp_path / "1", tmp_path / "2"], "c")
    assert (first.header.first_height, first.next_height, first.chain_hash) == (1, 5, middle)
    assert (second.header.first_height, second.next_height, second.chain_hash) == (5, 7, end)


def test_the_chain_hash_is_the_tagged_hash_of_the_one_before_and_the_payload(tmp_path: Path):
    end = write(tmp_path / "1", 1, 2)
    data = (tmp_path / "1").read_bytes()
    place, chain = len(b"feiqian segment 1\n"), bytes(32)
    tag = hashlib.sha256(b"feiqian/segment/v1").digest()
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        payload = data[place + 8 : place + 8 + length]
        chain = hashlib.sha256(tag + tag + chain + payload).digest()
        assert data[place + 8 + length : place + 40 + length] == chain
        place += 40 + length
    assert chain == end


def test_a_writer_goes_on_where_the_file_ends(tmp_path: Path):
    write(tmp_path / "1", 1, 2)
    writer = SegmentWriter(tmp_path / "1", "c", 1, GENESIS_CHAIN_HASH)
    assert (writer.next_height, writer.cut_bytes) == (3, 0)
    with pytest.raises(SegmentRefused, match="cannot follow"):
        writer.append(row(4))
    writer.append(row(3))
    writer.close()
    write(tmp_path / "whole", 1, 3)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_tail_torn_at_any_byte_is_cut_and_refused_by_readers(tmp_path: Path):
    write(tmp_path / "two", 1, 2)
    write(tmp_path / "three", 1, 3)
    two, three = (tmp_path / "two").read_bytes(), (tmp_path / "three").read_bytes()
    torn = tmp_path / "torn"
    for length in range(len(three)):
        torn.write_bytes(three[:length])
        if length not in (len(two), *_ends(three)):
            with pytest.raises(SegmentRefused):
                verify_segment(torn, "c", GENESIS_CHAIN_HASH)
        writer = SegmentWriter(torn, "c", 1, GENESIS_CHAIN_HASH)
        if length >= len(two):
            assert (writer.next_height, writer.cut_bytes) == (3, length - len(two))
        for height in range(writer.next_height, 4):
            writer.append(row(height))
        writer.close()
        assert torn.read_bytes() == three


def test_zeros_that_a_power_cut_left_at_the_end_are_cut(tmp_path: Path):
    write(tmp_path / "1", 1, 2)
    write(tmp_path / "three", 1, 3)
    two, three = (tmp_path / "1").read_bytes(), (tmp_path / "three").read_bytes()
    for length in range(len(two), len(three) - 1):
        (tmp_path / "1").write_bytes(three[:length] + bytes(len(three) - length))
        writer = SegmentWriter(tmp_path / "1", "c", 1, GENESIS_CHAIN_HASH)
        assert writer.next_height == 3
        writer.close()
        assert (tmp_path / "1").read_bytes() == two
    (tmp_path / "1").write_bytes(two + bytes(5000))
    SegmentWriter(tmp_path / "1", "c", 1, GENESIS_CHAIN_HASH).close()
    assert (tmp_path / "1").read_bytes() == two


def _ends(data: bytes) -> list[int]:
    ends = []
    place = len(b"feiqian segment 1\n")
    while place < len(data):
        place += 40 + int.from_bytes(data[place : place + 4], "big")
        ends.append(place)
    return ends


def test_any_changed_byte_is_refused_by_reader_and_writer(tmp_path: Path):
    end = write(tmp_path / "1", 1, 3)
    good = (tmp_path / "1").read_bytes()
    bad = tmp_path / "bad"
    for place in range(len(good)):
        changed = bytearray(good)
        changed[place] ^= 0x01
        bad.write_bytes(changed)
        with pytest.raises(SegmentRefused):
            verify_segment(bad, "c", GENESIS_CHAIN_HASH)
        with pytest.raises(SegmentRefused):
            list(read_segment(bad, "c", GENESIS_CHAIN_HASH))
    assert verify_segment(tmp_path / "1", "c", GENESIS_CHAIN_HASH).chain_hash == end


def test_a_writer_refuses_a_file_broken_before_its_tail_and_leaves_it_alone(tmp_path: Path):
    write(tmp_path / "1", 1, 3)
    good = (tmp_path / "1").read_bytes()
    first_row = _ends(good)[0]
    for place in (0, 30, first_row + 10, _ends(good)[1] - 1):
        changed = bytearray(good)
        changed[place] ^= 0x01
        (tmp_path / "1").write_bytes(changed)
        with pytest.raises(SegmentRefused):
            SegmentWriter(tmp_path / "1", "c", 1, GENESIS_CHAIN_HASH)
        assert (tmp_path / "1").read_bytes() == changed


def test_a_length_in_the_middle_that_points_past_the_end_does_not_cut_whole_rows_away(tmp_path: Path):
    write(tmp_path / "1", 1, 3)
    good = bytearray((tmp_path / "1").read_bytes())
    good[_ends(bytes(good))[0] + 1] ^= 0x01
    (tmp_path / "1").write_bytes(good)
    with pytest.raises(SegmentRefused):
        SegmentWriter(tmp_path / "1", "c", 1, GENESIS_CHAIN_HASH)
    assert (tmp_path / "1").read_bytes() == good


def test_segments_dropped_swapped_repeated_or_of_another_chain_are_refused(tmp_path: Path):
    middle = write(tmp_path / "1", 1, 2)
    last = write(tmp_path / "2", 3, 4, middle)
    write(tmp_path / "3", 5, 6, last)
    write(tmp_path / "gap", 6, 7, last)
    one, two, three = (tmp_path / name for name in "123")
    for wrong in ([one, three], [two, one], [one, one], [two], [one, two, tmp_path / "gap"]):
        with pytest.raises(SegmentRefused):
            verify_segments(wrong, "c")
    with pytest.raises(SegmentRefused, match="of chain 'c'"):
        verify_segments([one], "d")
    with pytest.raises(SegmentRefused, match="another chain or another start"):
        SegmentWriter(one, "d", 1, GENESIS_CHAIN_HASH)
    with pytest.raises(SegmentRefused, match="cannot be read"):
        verify_segments([tmp_path / "none"], "c")
    assert len(verify_segments([one, two, three], "c")) == 3


def test_rows_taken_out_and_hashes_made_anew_give_another_end(tmp_path: Path):
    end = write(tmp_path / "1", 1, 3)
    forged = SegmentWriter(tmp_path / "forged", "c", 1, GENESIS_CHAIN_HASH)
    forged.append(SegmentRow(1, 1000, bytes([1]) * 32, b"other", b"results", None))
    forged.append(row(2))
    forged.append(row(3))
    forged.close()
    assert verify_segment(tmp_path / "forged", "c", GENESIS_CHAIN_HASH).chain_hash != end


def test_a_store_s_blocks_go_into_segments_and_can_then_be_pruned(tmp_path: Path):
    store = Store.create(tmp_path / "l", "c", 1, {b"t/a": b"1"}, 0, reserve_bytes=0)
    for height in range(1, 6):
        archive = ArchiveRow(height, b"header", b"commit", b"validators")
        block = b"block %d" % height
        store.commit(store.stage(HeightWrites(height, height * 10**6, block, ((b"i" * 32, b"r"),), {}, (), archive)))
    writer = SegmentWriter(tmp_path / "s", "c", 1, GENESIS_CHAIN_HASH)
    assert append_from(store, writer, 3) == 3
    assert append_from(store, writer, 3) == 0
    with pytest.raises(Fault, match="does not hold block 6"):
        append_from(store, writer, 6)
    writer.close()
    assert store.prune_blocks(4, 10) == 3
    rows = list(read_segment(tmp_path / "s", "c", GENESIS_CHAIN_HASH))
    assert [found.block for found in rows] == [b"block %d" % height for height in range(1, 6)]
    assert rows[1].archive == ArchiveRow(2, b"header", b"commit", b"validators")
    assert rows[1].app_hash == store.app_hash
    store.close()
