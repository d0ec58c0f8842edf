"""Snapshots of a network's node: taken when due, served in pieces that are what was written, bounded, never half."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from feiqian.consensus.comet import abci_pb2 as pb
from feiqian.consensus.genesis_file import save_genesis
from feiqian.consensus.joining import Vouched, join
from feiqian.execution.registry import Registry
from feiqian.node.comet.snapshots import FORMAT, PIECE_BYTES, Snapshots, hash_of, path_of, piece_hash
from feiqian.node.comet.tests.sizes import filler
from feiqian.node.configuration import Layout
from feiqian.node.faults import DONE, REFUSED
from feiqian.state.snapshots import read_manifest
from feiqian.testing.chains import NetworkChain
from feiqian.testing.processes import ANSWER_S

SMALL = {"map_bytes": 1 << 28, "reserve_bytes": 1 << 20}


@pytest.fixture
def chain(tmp_path: Path, registry: Registry) -> Iterator[NetworkChain]:
    """A chain of twelve blocks whose state fills three pieces."""
    layout = Layout(tmp_path / "node")
    layout.data.mkdir(parents=True)
    chain = NetworkChain(layout.ledger, registry, more=filler(2 * PIECE_BYTES + 1))
    save_genesis(layout.genesis, chain.genesis)
    chain.block()
    chain.block(chain.issue("treasury", 1_000))
    for _ in range(10):
        chain.block(chain.pay("treasury", "south", 1), absent=[1])
    yield chain
    chain.close()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "node")


async def take(snapshots: Snapshots, height: int) -> None:
    """Let the snapshot of a height fall due and wait until it is served."""
    snapshots.archived(height + 2)
    await settle(snapshots)
    assert height in [each.height for each in (await snapshots.list()).snapshots]


async def settle(snapshots: Snapshots) -> None:
    async with asyncio.timeout(ANSWER_S):
        await snapshots.settled()


async def fetch(snapshots: Snapshots, snapshot: pb.Snapshot) -> bytes:
    return b"".join([(await load(snapshots, snapshot.height, place)).chunk for place in range(snapshot.chunks)])


async def load(snapshots: Snapshots, height: int, place: int, format_: int = FORMAT) -> pb.ResponseLoadSnapshotChunk:
    return await snapshots.load(pb.RequestLoadSnapshotChunk(height=height, format=format_, chunk=place))


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_what_is_due_is_taken_served_and_the_oldest_given_up(
    chain: NetworkChain, layout: Layout, tmp_path: Path
) -> None:
    async def test() -> None:
        snapshots = Snapshots(layout, chain.store, every_blocks=3, keep=2)
        assert (snapshots.oldest_height(), list((await snapshots.list()).snapshots)) == (None, [])
        for height in (1, 2, 3, 4, 6, 7):
            # Of 3, the next but one is not archived yet; 4 to 7 are heights of none.
            snapshots.archived(height)
        assert not layout.snapshots.exists()
        for height in (3, 6, 9):
            await take(snapshots, height)
        listed = (await snapshots.list()).snapshots
        assert [each.height for each in listed] == [6, 9]
        assert snapshots.oldest_height() == 6
        assert sorted(path.name for path in layout.snapshots.iterdir()) == [
            "00000000000000000006.snapshot",
            "00000000000000000009.snapshot",
        ]
        for each in listed:
            path = path_of(layout.snapshots, each.height)
            assert (each.format, each.chunks) == (FORMAT, 3)
            data = await fetch(snapshots, each)
            assert data == path.read_bytes()
            cut = [data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES)]
            assert each.metadata == b"".join(map(piece_hash, cut))
            assert each.hash == hash_of(each.metadata)
            vouched = Vouched(each.height, chain.store.app_hash_at(each.height))
            join(path, chain.genesis, vouched, tmp_path / f"joined-{each.height}", **SMALL).close()
        for height, place, format_ in ((3, 0, FORMAT), (12, 0, FORMAT), (9, 3, FORMAT), (9, 0, 2)):
            assert not (await load(snapshots, height, place, format_)).chunk
        await snapshots.stop()

    run(test)


def test_one_that_is_being_fetched_stays_until_it_is_not(
    chain: NetworkChain, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CometBFT would ask for a piece of one that is gone for ever."""

    async def test() -> None:
        snapshots = Snapshots(layout, chain.store, every_blocks=1, keep=1)
        await take(snapshots, 2)
        assert (await load(snapshots, 2, 0)).chunk
        await take(snapshots, 3)
        await take(snapshots, 4)
        # Nobody fetched 3; 2 is offered to nobody else, and CometBFT keeps the blocks after it.
        assert [each.height for each in (await snapshots.list()).snapshots] == [4]
        assert snapshots.oldest_height() == 2
        assert (await load(snapshots, 2, 1)).chunk
        assert not (await load(snapshots, 3, 0)).chunk
        # Whoever fetches, only so many stay.
        for height in (4, 5, 6):
            assert (await load(snapshots, height, 0)).chunk
            await take(snapshots, height + 1)
        assert sorted(path.name for path in layout.snapshots.iterdir()) == [
            path_of(layout.snapshots, height).name for height in (5, 6, 7)
        ]
        monkeypatch.setattr("feiqian.node.comet.snapshots.FETCHED_S", 0.0)
        await take(snapshots, 8)
        assert [path.name for path in layout.snapshots.iterdir()] == [path_of(layout.snapshots, 8).name]
        await snapshots.stop()

    run(test)


def test_another_member_s_snapshot_of_a_height_is_the_same_file(
    chain: NetworkChain, layout: Layout, tmp_path: Path, registry: Registry
) -> None:
    """One is taken as soon as it is due, by a member that saw other votes for the last block; one four blocks later."""

    async def test() -> None:
        other = Layout(tmp_path / "other")
        other.data.mkdir(parents=True)
        early = NetworkChain(other.ledger, registry, more=filler(2 * PIECE_BYTES + 1))
        save_genesis(other.genesis, early.genesis)
        early.block()
        early.block(early.issue("treasury", 1_000))
        for height in range(3, 9):
            early.block(early.pay("treasury", "south", 1), absent=[1 if height < 8 else 2])
        assert early.store.archive_row(7) == chain.store.archive_row(7)
        assert early.store.archive_row(8) != chain.store.archive_row(8)
        for at, store in ((other, early.store), (layout, chain.store)):
            snapshots = Snapshots(at, store, every_blocks=6, keep=2)
            await take(snapshots, 6)
            await snapshots.stop()
        assert path_of(layout.snapshots, 6).read_bytes() == path_of(other.snapshots, 6).read_bytes()
        early.close()

    run(test)


def test_a_node_that_starts_again_serves_what_it_has(chain: NetworkChain, layout: Layout) -> None:
    async def test() -> None:
        first = Snapshots(layout, chain.store, every_blocks=3, keep=2)
        await take(first, 3)
        told = (await first.list()).SerializeToString()
        await first.stop()
        again = Snapshots(layout, chain.store, every_blocks=3, keep=2)
        assert again.oldest_height() == 3
        assert (await again.list()).SerializeToString() == told
        # The one that is there is not taken again.
        again.archived(5)
        assert (await again.list()).SerializeToString() == told
        await again.stop()
        off = Snapshots(layout, chain.store, every_blocks=0, keep=2)
        off.archived(5)
        assert (off.oldest_height(), list((await off.list()).snapshots)) == (None, [])
        await off.stop()

    run(test)


def test_a_file_that_changed_or_went_is_served_no_longer(chain: NetworkChain, layout: Layout) -> None:
    async def test() -> None:
        snapshots = Snapshots(layout, chain.store, every_blocks=3, keep=3)
        for height in (3, 6):
            await take(snapshots, height)
        path = path_of(layout.snapshots, 3)
        data = bytearray(path.read_bytes())
        data[PIECE_BYTES + 17] ^= 1
        path.write_bytes(data)
        assert (await load(snapshots, 3, 0)).chunk
        assert not (await load(snapshots, 3, 1)).chunk
        assert [each.height for each in (await snapshots.list()).snapshots] == [6]
        path_of(layout.snapshots, 6).unlink()
        assert not (await load(snapshots, 6, 0)).chunk
        await snapshots.stop()
        # What is there unreadable is no reason to stop either.
        path_of(layout.snapshots, 6).mkdir()
        again = Snapshots(layout, chain.store, every_blocks=3, keep=3)
        assert [each.height for each in (await again.list()).snapshots] == [3]
        await again.stop()

    run(test)


def test_a_height_that_cannot_be_shown_is_left_out_and_the_next_is_taken(chain: NetworkChain, layout: Layout) -> None:
    async def test() -> None:
        while chain.store.prune(5, 1_000):
            pass
        snapshots = Snapshots(layout, chain.store, every_blocks=3, keep=2)
        snapshots.archived(5)
        await settle(snapshots)
        assert snapshots.oldest_height() is None
        await take(snapshots, 6)
        assert snapshots.oldest_height() == 6
        await snapshots.stop()

    run(test)


def test_a_full_disk_costs_a_snapshot_and_nothing_else(chain: NetworkChain, layout: Layout) -> None:
    """The limit on a file's size stands for the disk's: the writer is told in the same place, as it writes."""

    async def test() -> None:
        snapshots = Snapshots(layout, chain.store, every_blocks=3, keep=2)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (PIECE_BYTES, before[1]))
        try:
            snapshots.archived(5)
            await settle(snapshots)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list(layout.snapshots.iterdir()) == []
        assert snapshots.oldest_height() is None
        await take(snapshots, 6)
        await snapshots.stop()

    run(test)


KILLED_BEFORE_RENAME = """
import os, signal, sys
from pathlib import Path
from feiqian.node.comet import exporting
Path.replace = lambda path, target: os.kill(os.getpid(), signal.SIGKILL)
exporting.main(sys.argv[1:])
"""


def test_a_process_killed_before_its_file_is_whole_leaves_nothing_that_is_served(
    chain: NetworkChain, layout: Layout
) -> None:
    layout.snapshots.mkdir()
    path = path_of(layout.snapshots, 3)
    command = [sys.executable, "-c", KILLED_BEFORE_RENAME, str(layout.directory), "3", str(path)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert [part.name for part in layout.snapshots.iterdir()] == [path.name + ".part"]
    assert path.with_name(path.name + ".part").stat().st_size > 2 * PIECE_BYTES

    async def test() -> None:
        snapshots = Snapshots(layout, chain.store, every_blocks=3, keep=2)
        assert (snapshots.oldest_height(), list(layout.snapshots.iterdir())) == (None, [])
        await take(snapshots, 3)
        await snapshots.stop()

    run(test)


def test_a_node_that_stops_ends_the_one_that_is_being_taken(chain: NetworkChain, layout: Layout) -> None:
    async def test() -> None:
        snapshots = Snapshots(layout, chain.store, every_blocks=3, keep=2)
        snapshots.archived(5)
        await asyncio.sleep(0)
        await snapshots.stop()
        assert snapshots.oldest_height() is None
        assert not list(layout.snapshots.glob("*.snapshot"))

    run(test)


def test_the_process_says_by_its_status_whether_the_file_is_there(chain: NetworkChain, layout: Layout) -> None:
    path = layout.data / "one"

    def export(height: int) -> int:
        command = [sys.executable, "-m", "feiqian.node.comet.exporting", str(layout.directory), str(height), str(path)]
        done = subprocess.run(command, check=False, capture_output=True, env=dict(os.environ))
        assert (b"snapshot_failed" in done.stderr) == (done.returncode == REFUSED)
        return done.returncode

    assert export(40) == REFUSED
    assert not path.exists()
    assert export(4) == DONE
    assert read_manifest(path).height == 4
    assert export(5) == REFUSED
    assert read_manifest(path).height == 4
