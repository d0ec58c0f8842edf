"""The block log on real files: what it holds beyond a store, torn and damaged entries, other histories, a bad disk."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from feiqian.core.encoding import encode
from feiqian.core.errors import Fault
from feiqian.state.block_log import MAX_BEYOND, BlockLog
from feiqian.state.store import HeightWrites, Store

RESULTS = b"what it gave"


def block_at(height: int, size_bytes: int = 100) -> bytes:
    return encode((height, height * 1000, (bytes([height]) * size_bytes,), ()))


def advance(store: Store, block: bytes) -> None:
    height = store.height + 1
    store.commit(store.stage(HeightWrites(height, height * 1000, block, (), {b"t.t/%d" % height: b"r"}, (), None)))


@pytest.fixture
def make_store(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    stores: list[Store] = []

    def make(name: str = "ledger", chain_id: str = "chain-1") -> Store:
        stores.append(Store.create(tmp_path / name, chain_id, 1, {b"t.t/a": b"r"}, 0))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def store(make_store: Callable[..., Store]) -> Store:
    return make_store()


def open_log(directory: Path, store: Store) -> BlockLog:
    return BlockLog(directory / "log", store)


def beyond(directory: Path, store: Store) -> list[tuple[int, bytes]]:
    log = open_log(directory, store)
    log.close()
    assert all(entry.gave(RESULTS) and not entry.gave(b"another") for entry in log.beyond)
    return [(entry.height, entry.block) for entry in log.beyond]


def test_what_the_store_lacks_comes_back_in_order(tmp_path: Path, store: Store) -> None:
    log = open_log(tmp_path, store)
    assert log.beyond == ()
    for height in range(1, MAX_BEYOND + 1):
        log.put(height, block_at(height), RESULTS)
    log.close()
    assert beyond(tmp_path, store) == [(height, block_at(height)) for height in (1, 2, 3)]
    advance(store, block_at(1))
    advance(store, block_at(2))
    assert [entry[0] for entry in beyond(tmp_path, store)] == [3]


def test_it_goes_on_after_what_was_found(tmp_path: Path, store: Store) -> None:
    log = open_log(tmp_path, store)
    log.put(1, block_at(1), RESULTS)
    log.close()
    log = open_log(tmp_path, store)
    log.put(2, block_at(2), RESULTS)
    log.close()
    assert [entry[0] for entry in beyond(tmp_path, store)] == [1, 2]


def test_files_take_turns_and_a_shorter_block_is_not_read_with_the_rest_of_a_longer(
    tmp_path: Path, store: Store
) -> None:
    log = open_log(tmp_path, store)
    for height in range(1, 31):
        block = block_at(height, 5000 - 150 * height)
        log.put(height, block, RESULTS)
        if height < 30:
            advance(store, block)
    log.close()
    assert beyond(tmp_path, store) == [(30, block_at(30, 500))]
    files = list((tmp_path / "log").iterdir())
    assert len(files) == MAX_BEYOND
    assert sum(file.stat().st_size for file in files) < MAX_BEYOND * 6000


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "length"])
def test_a_half_written_last_block_is_as_if_it_had_never_been(tmp_path: Path, store: Store, damage: str) -> None:
    log = open_log(tmp_path, store)
    log.put(1, block_at(1), RESULTS)
    log.put(2, block_at(2), RESULTS)
    log.close()
    file = tmp_path / "log" / "2"
    data = bytearray(file.read_bytes())
    if damage == "flip":
        data[-10] ^= 1
    if damage == "length":
        data[32:40] = b"\xff" * 8
    file.write_bytes({"cut": data[:-1], "empty": b""}.get(damage, bytes(data)))
    assert [entry[0] for entry in beyond(tmp_path, store)] == [1]
    log = open_log(tmp_path, store)
    log.put(2, block_at(2, 50), RESULTS)
    log.close()
    assert beyond(tmp_path, store)[1] == (2, block_at(2, 50))


def test_a_damaged_block_before_a_whole_one_is_a_fault(tmp_path: Path, store: Store) -> None:
    log = open_log(tmp_path, store)
    log.put(1, block_at(1), RESULTS)
    log.put(2, block_at(2), RESULTS)
    log.close()
    (tmp_path / "log" / "1").write_bytes(b"")
    with pytest.raises(Fault, match=r"it holds block 2 of 'chain-1', which does not follow block 0 of 'chain-1'"):
        open_log(tmp_path, store)


def test_the_log_of_another_history_is_a_fault(tmp_path: Path, make_store: Callable[..., Store]) -> None:
    store, fork, other = make_store(), make_store("fork"), make_store("other", "chain-2")
    log = open_log(tmp_path, store)
    log.put(1, block_at(1), RESULTS)
    log.put(2, block_at(2), RESULTS)
    log.close()
    advance(fork, block_at(1, 7))
    with pytest.raises(Fault, match=r"block 2 of 'chain-1', which does not follow block 1 of 'chain-1'"):
        open_log(tmp_path, fork)
    with pytest.raises(Fault, match=r"block 1 of 'chain-1', which does not follow block 0 of 'chain-2'"):
        open_log(tmp_path, other)
    # What lies behind the store is of no matter.
    for height in (1, 2, 3):
        advance(other, block_at(height))
    assert beyond(tmp_path, other) == []


@pytest.mark.parametrize("call", ["pwrite", "fdatasync"])
def test_a_disk_that_refuses_is_a_fault(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    log = open_log(tmp_path, store)

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "refused")

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(Fault, match=f"block log: writing failed.*{os.strerror(errno.ENOSPC)}"):
        log.put(1, block_at(1), RESULTS)
    log.close()


def test_a_write_that_takes_less_than_it_was_given_goes_on(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(tmp_path, store)
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: whole(descriptor, data[:100], offset))
    log.put(1, block_at(1, 1000), RESULTS)
    log.close()
    assert beyond(tmp_path, store) == [(1, block_at(1, 1000))]


def test_only_owner_and_group_read_it_and_a_place_that_is_none_is_refused(tmp_path: Path, store: Store) -> None:
    open_log(tmp_path, store).close()
    assert {stat.S_IMODE(file.stat().st_mode) & 0o007 for file in (tmp_path / "log").iterdir()} == {0}
    (tmp_path / "taken").write_text("")
    with pytest.raises(Fault, match="block log: it cannot be opened"):
        BlockLog(tmp_path / "taken", store)
