"""The follower archives what the recorded chain signed, waits where CometBFT is away, and stops where chains differ."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from feiqian.consensus import light
from feiqian.consensus.audit import audit
from feiqian.consensus.comet.rpc import CometRpc, SignedHeader
from feiqian.consensus.genesis_file import Genesis
from feiqian.consensus.headers import BlockIDFlag
from feiqian.core.encoding import encode
from feiqian.core.errors import Fault
from feiqian.execution.blocks import Block
from feiqian.node.comet import follower as following
from feiqian.node.comet.follower import Follower
from feiqian.state.archive import ArchiveRow
from feiqian.state.store import HeightWrites, Store
from feiqian.testing.comet_rpc import FIRST, LAST, RecordedRpc, recorded_chain, recorded_genesis
from feiqian.testing.networks import NetworkLedger, network_registry

CHAIN = recorded_chain()
HASHES = {
    height: bytes.fromhex(CHAIN["commit"][str(height)]["signed_header"]["commit"]["block_id"]["hash"])
    for height in range(FIRST, LAST + 1)
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store of the recorded chain's heights; what its blocks hold is not the recorded chain's."""
    genesis = recorded_genesis()
    made = Store.create(tmp_path / "l", "vector-1", FIRST, {b"t/a": b"1"}, genesis.time_ms, reserve_bytes=0)
    for height in range(FIRST, LAST + 1):
        block = encode(Block(height, genesis.time_ms, (), ()))
        made.commit(made.stage(HeightWrites(height, genesis.time_ms, block, (), {}, (), None)))
    yield made
    made.close()


class Counted(CometRpc):
    """Counts the questions that it asked for commits."""

    def __init__(self, url: str) -> None:
        super().__init__(url, timeout_s=5.0)
        self.tries = 0
        self.tried = asyncio.Event()

    async def commit(self, height: int) -> SignedHeader:
        try:
            return await super().commit(height)
        finally:
            self.tries += 1
            self.tried.set()

    async def more(self, tries: int) -> None:
        """Return when it was asked so many times more."""
        until = self.tries + tries
        while self.tries < until:
            self.tried.clear()
            await self.tried.wait()


class Followed:
    """A follower at work, and what it did."""

    def __init__(self, store: Store, server: RecordedRpc, genesis: Genesis | None = None) -> None:
        self.store = store
        self.rpc = Counted(server.url)
        self.batches: list[list[int]] = []
        self.archived: list[int] = []
        self.moved = asyncio.Event()
        self.follower = Follower(self.rpc, store, genesis or recorded_genesis(), self.archive, self.note)
        self.task = asyncio.create_task(self.follower.run())

    async def archive(self, rows: tuple[ArchiveRow, ...]) -> None:
        self.batches.append([row.height for row in rows])
        await asyncio.to_thread(self.store.put_archive, *rows)

    def note(self, height: int) -> None:
        assert self.store.archive_row(height) is not None
        self.archived.append(height)
        self.moved.set()

    async def until(self, height: int) -> None:
        """Return when a height is archived; raise what ended the follower."""
        while self.follower.height < height:
            self.moved.clear()
            moved = asyncio.create_task(self.moved.wait())
            await asyncio.wait({moved, self.task}, return_when=asyncio.FIRST_COMPLETED, timeout=60)
            moved.cancel()
            if self.task.done():
                self.task.result()

    async def stop(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError, Fault):
            await self.task
        await self.rpc.close()


@asynccontextmanager
async def follow(store: Store, server: RecordedRpc) -> AsyncIterator[Followed]:
    followed = Followed(store, server)
    try:
        yield followed
    finally:
        await followed.stop()


def flags(store: Store, height: int) -> list[int]:
    row = store.archive_row(height)
    assert row is not None
    return [int(signature.flag) for signature in light.light_block(row).commit.signatures]


class Behind(Store):
    """A store that seems to have fewer heights than it has."""

    seen = FIRST - 1

    @property
    def height(self) -> int:
        return self.seen


@pytest.fixture
def behind(store: Store, tmp_path: Path) -> Iterator[Behind]:
    store.close()
    opened = Behind.open(tmp_path / "l", reserve_bytes=0)
    assert isinstance(opened, Behind)
    yield opened
    opened.close()


def test_each_height_is_archived_as_it_ends_and_the_commit_that_was_seen_gives_way(behind: Behind):
    async def run() -> None:
        async with RecordedRpc(tip=FIRST - 1) as server, follow(behind, server) as followed:
            for height in range(FIRST, LAST + 1):
                server.tip = height
                followed.follower.reached(height, HASHES[height])
                await followed.until(height)
                assert followed.archived == list(range(FIRST, height + 1))
            # One validator's vote was missed where all four signed, up to block 9; the next block names it.
            assert followed.batches[:5] == [[5], [5, 6], [6, 7], [7, 8], [8, 9]]
            assert followed.batches[5:] == [[9, 10], [11], [12], [13], [14], [15], [16]]
            assert {params["height"] for method, params in server.asked if method == "validators"} == {"10", "15"}

    asyncio.run(run())
    assert [flags(behind, height) for height in (5, 9, 10, 16)] == [[2] * 4, [2] * 4, [2, 2, 2, 1, 1], [2, 2, 2, 1]]
    rows = {height: behind.archive_row(height) for height in range(5, LAST + 1)}
    blocks = {height: light.light_block(row) for height, row in rows.items() if row is not None}
    trail = light.build_trail(blocks.get, recorded_genesis(), LAST)
    assert light.verify_trail(recorded_genesis(), trail).last.header.hash() == HASHES[LAST]


def test_what_was_seen_stays_until_the_next_block_names_another(behind: Behind):
    async def run() -> None:
        async with RecordedRpc(tip=7) as server, follow(behind, server) as followed:
            for height in (5, 6, 7):
                followed.follower.reached(height, HASHES[height])
            await followed.until(7)
            assert flags(behind, 6) == [2] * 4
            assert flags(behind, 7) == [2, 2, 2, 1]
        behind.seen = 7
        # Started again, it goes on from what is archived.
        async with RecordedRpc(tip=8) as server, follow(behind, server) as followed:
            assert followed.follower.height == 7
            followed.follower.reached(8, HASHES[8])
            await followed.until(8)
            assert followed.batches == [[7, 8]]
            assert [params["height"] for _, params in server.asked] == ["8", "7"]

    asyncio.run(run())
    assert flags(behind, 7) == [2] * 4


def test_heights_far_behind_come_in_order_and_many_at_once(behind: Behind, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(following, "ROWS", 5)

    async def run() -> None:
        async with RecordedRpc(tip=LAST + 1) as server, follow(behind, server) as followed:
            for height in range(FIRST, LAST + 1):
                followed.follower.reached(height, HASHES[height])
            await followed.until(LAST)
            assert followed.batches == [[5, 6, 7, 8, 9], [10, 11, 12, 13, 14], [15, 16]]

    asyncio.run(run())
    assert behind.archived_heights() == (FIRST, LAST)


def test_while_cometbft_is_away_it_tries_again_and_says_so_once(behind: Behind, capsys: pytest.CaptureFixture[str]):
    async def run() -> None:
        server = RecordedRpc(tip=LAST)
        await server.start()
        await server.stop()
        async with follow(behind, server) as followed:
            followed.follower.reached(FIRST, HASHES[FIRST])
            await followed.rpc.more(3)
            assert followed.archived == []
            await server.start()
            await followed.until(FIRST)
            server.change = lambda method, body: b"<html>"
            followed.follower.reached(FIRST + 1, HASHES[FIRST + 1])
            await followed.rpc.more(2)
            server.change = lambda method, body: body
            await followed.until(FIRST + 1)
            await server.stop()

    asyncio.run(run())
    printed = capsys.readouterr().out
    assert printed.count("archive_waits") == 2
    assert "ConnectError" in printed


def test_a_height_that_cometbft_has_not_yet_is_waited_for(behind: Behind):
    async def run() -> None:
        async with RecordedRpc(tip=FIRST) as server, follow(behind, server) as followed:
            for height in (FIRST, FIRST + 1):
                followed.follower.reached(height, HASHES[height])
            await followed.until(FIRST)
            await followed.rpc.more(2)
            assert followed.archived == [FIRST]
            server.tip = FIRST + 1
            await followed.until(FIRST + 1)

    asyncio.run(run())


def broken(behind: Behind, change: Any, height: int = LAST, hashes: dict[int, bytes] = HASHES) -> str:
    """Follow a chain that was changed and return what the follower stopped for."""
    chain = json.loads(json.dumps(CHAIN))
    change(chain)

    async def run() -> str:
        async with RecordedRpc(chain, tip=LAST + 1) as server, follow(behind, server) as followed:
            for each in range(FIRST, height + 1):
                followed.follower.reached(each, hashes.get(each, b""))
            with pytest.raises(Fault) as caught:
                await followed.until(height)
            return str(caught.value)

    return asyncio.run(run())


def header(chain: dict[str, Any], height: int) -> dict[str, Any]:
    return chain["commit"][str(height)]["signed_header"]["header"]


def commit(chain: dict[str, Any], height: int) -> dict[str, Any]:
    return chain["commit"][str(height)]["signed_header"]["commit"]


def test_a_chain_that_is_not_ours_stops_the_node(behind: Behind):
    assert "signs another header" in broken(behind, lambda chain: header(chain, 8).update(app_hash="00"))
    assert "does not verify" in broken(behind, lambda chain: commit(chain, 8).update(round=1))
    swapped = CHAIN["validators"]["9"]["validators"]
    change = lambda chain: chain["validators"]["10"].update(validators=swapped, total="4", count="4")  # noqa: E731
    assert "validator set is not the one" in broken(behind, change)
    other = {**HASHES, 8: bytes(32)}
    assert "block 8 that CometBFT holds is not the one" in broken(behind, lambda chain: None, hashes=other)


def test_a_block_that_does_not_follow_the_archived_one_stops_the_node(behind: Behind):
    def fewer(chain: dict[str, Any]) -> None:
        signatures = commit(chain, 6)["signatures"]
        signatures[0] = {
            "block_id_flag": 1,
            "validator_address": "",
            "timestamp": "0001-01-01T00:00:00Z",
            "signature": None,
        }

    # A commit of block 6 that is sound in itself, and not the one that block 7 holds.
    assert "block 7 does not follow" in broken(behind, fewer)


def test_without_a_remembered_hash_the_stored_block_is_compared(behind: Behind):
    # The store's blocks are others than the recorded ones: their times differ from block 6 on.
    assert "block 6 that CometBFT holds is not the one" in broken(behind, lambda chain: None, hashes={5: HASHES[5]})


def test_hashes_beyond_what_is_remembered_are_let_go(behind: Behind, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(following, "REMEMBERED_HASHES", 2)
    assert "block 7 that CometBFT holds is not the one" in broken(behind, lambda chain: None)


def answers_of(network: NetworkLedger) -> dict[str, Any]:
    """Return what CometBFT's RPC would say of a made-up network's blocks."""
    chain: dict[str, Any] = {"commit": {}, "validators": {}, "errors": CHAIN["errors"]}
    for height in range(FIRST, network.store.height + 1):
        value = msgspec.to_builtins(light.write_light_block(network.blocks[height]))
        chain["commit"][str(height)] = {"signed_header": value["signed_header"], "canonical": True}
        shown = [each | {"proposer_priority": "0"} for each in value["validator_set"]["validators"]]
        chain["validators"][str(height)] = {"block_height": str(height), "validators": shown, "total": str(len(shown))}
    return chain


def test_started_again_it_archives_what_the_store_holds_and_compares_it(tmp_path: Path):
    """A node that was stopped between a height and its archive row knows no hash, but the block and the state."""
    network = NetworkLedger(tmp_path / "l", network_registry())
    network.block(network.issue(5), is_archived=False)
    network.block(network.appoint({5: 5}), flags={1: BlockIDFlag.ABSENT}, is_archived=False)
    for _ in range(3):
        network.block(network.issue(1), is_archived=False)
    chain = answers_of(network)

    async def run() -> None:
        async with RecordedRpc(chain, tip=99) as server:
            followed = Followed(network.store, server, network.genesis)
            await followed.until(network.store.height)
            await followed.stop()

    asyncio.run(run())
    assert network.store.archived_heights() == (FIRST, FIRST + 4)
    assert audit(network.store, network.registry, network.genesis, workers=1).is_clean
    network.close()


@pytest.mark.parametrize("name", ["time_ns", "data_hash", "app_hash"])
def test_started_again_it_stops_where_the_store_holds_another_block(tmp_path: Path, name: str):
    network = NetworkLedger(tmp_path / "l", network_registry())
    network.block(is_archived=False)
    others = {"time_ns": lambda header: header.time_ns + 2_000_000}
    other = others.get(name, lambda header: bytes(32))
    network.block(twist=lambda header: header._replace(**{name: other(header)}), is_archived=False)
    chain = answers_of(network)

    async def run() -> None:
        async with RecordedRpc(chain, tip=99) as server:
            followed = Followed(network.store, server, network.genesis)
            with pytest.raises(Fault, match="block 6 that CometBFT holds is not the one"):
                await followed.until(6)
            await followed.stop()

    asyncio.run(run())
    network.close()
