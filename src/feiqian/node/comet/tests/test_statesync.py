"""A node without a ledger takes a peer's snapshot: checked piece by piece, whole or not at all, killed or not."""

import asyncio
import resource
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from feiqian.consensus.audit import audit, snapshot_base
from feiqian.consensus.comet import abci_pb2 as pb
from feiqian.consensus.genesis_file import save_genesis
from feiqian.consensus.restoring import check_snapshot, evidence_for
from feiqian.core.encoding import encode
from feiqian.core.errors import Fault
from feiqian.execution.errors import WrongRelease
from feiqian.execution.registry import Registry
from feiqian.ledger.parameters import PARAMETERS, PARAMETERS_KEY
from feiqian.ledger.records import Parameters
from feiqian.node.comet.snapshots import FORMAT, MAX_PIECES, PIECE_BYTES, Served, describe, piece_hash
from feiqian.node.comet.statesync import JoiningApplication, is_joining, known_nodes
from feiqian.node.comet.tests.sizes import filler
from feiqian.node.configuration import Layout
from feiqian.state.snapshots import export
from feiqian.state.staging import HeightWrites
from feiqian.state.store import Store
from feiqian.testing.chains import NetworkChain
from feiqian.testing.processes import ANSWER_S

SMALL = {"map_bytes": 1 << 28, "reserve_bytes": 1 << 20}
SENDER = "5e" * 20
Offer = pb.ResponseOfferSnapshot
Applied = pb.ResponseApplySnapshotChunk


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Iterator[NetworkChain]:
    """Eight blocks over a state that fills three pieces; a snapshot is taken of 5, and of 6."""
    folder = tmp_path_factory.mktemp("chain")
    chain = NetworkChain(folder / "ledger", registry, more=filler(2 * PIECE_BYTES + 1))
    chain.block()
    chain.block(chain.issue("treasury", 1_000))
    for _ in range(6):
        chain.block(chain.pay("treasury", "south", 1), absent=[3])
    save_genesis(folder / "genesis.json", chain.genesis)
    for height in (5, 6):
        export(chain.store, height, folder / f"{height}.snapshot", evidence_for(chain.store, height, chain.genesis))
    yield chain
    chain.close()


class Peer:
    """What a peer's CometBFT passes on of a snapshot file."""

    def __init__(self, path: Path, height: int, app_hash: bytes) -> None:
        data = path.read_bytes()
        self.pieces = [data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES)]
        self.height = height
        self.app_hash = app_hash

    @classmethod
    def of(cls, chain: NetworkChain, height: int) -> "Peer":
        return cls(chain.store.path.with_name(f"{height}.snapshot"), height, chain.store.app_hash_at(height))

    def offer(self, **fields: Any) -> pb.RequestOfferSnapshot:
        served = Served(self.height, Path(), tuple(map(piece_hash, self.pieces)))
        request = pb.RequestOfferSnapshot(snapshot=describe(served), app_hash=self.app_hash)
        for name, value in fields.items():
            setattr(request if name == "app_hash" else request.snapshot, name, value)
        return request

    def piece(self, place: int) -> pb.RequestApplySnapshotChunk:
        return pb.RequestApplySnapshotChunk(index=place, chunk=self.pieces[place], sender=SENDER)


class Node:
    """A directory without a ledger and what answers CometBFT there."""

    def __init__(self, layout: Layout, chain: NetworkChain) -> None:
        self.layout = layout
        self.chain = chain
        self.restart()

    def restart(self) -> None:
        """Begin as a process does that finds what the one before left."""
        self.application = JoiningApplication(
            self.layout, self.chain.registry, self.chain.genesis, frozenset([SENDER]), **SMALL
        )

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.layout.data.iterdir())

    async def offer(self, request: pb.RequestOfferSnapshot) -> int:
        return (await self.application.offer_snapshot(request)).result

    async def apply(self, request: pb.RequestApplySnapshotChunk) -> pb.ResponseApplySnapshotChunk:
        return await self.application.apply_snapshot_chunk(request)

    async def take(self, peer: Peer) -> list[int]:
        """Offer a snapshot and give its pieces in order, for as long as they are accepted; return the answers."""
        assert await self.offer(peer.offer()) == Offer.ACCEPT
        answers: list[int] = []
        for place in range(len(peer.pieces)):
            answers.append((await self.apply(peer.piece(place))).result)
            if answers[-1] != Applied.ACCEPT:
                break
        return answers

    def store(self) -> Store:
        return Store.open(self.layout.ledger, map_bytes=1 << 28, reserve_bytes=1 << 20)


class Ledger:
    """Stands for the ledger's application: answers what is handed on to it."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    async def info(self, request: pb.RequestInfo) -> pb.ResponseInfo:
        store = Store.open(self.layout.ledger, read_only=True)
        head = store.head
        store.close()
        return pb.ResponseInfo(app_version=1, last_block_height=head.height, last_block_app_hash=head.app_hash)

    async def init_chain(self, request: pb.RequestInitChain) -> pb.ResponseInitChain:
        return pb.ResponseInitChain(app_hash=b"from the ledger")

    async def offer_snapshot(self, request: pb.RequestOfferSnapshot) -> pb.ResponseOfferSnapshot:
        return Offer(result=Offer.ABORT)

    async def finalize_block(self, request: pb.RequestFinalizeBlock) -> pb.ResponseFinalizeBlock:
        return pb.ResponseFinalizeBlock(app_hash=b"run")


Test = Callable[[Node], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path, chain: NetworkChain) -> Callable[[Test], None]:
    def run_test(test: Test) -> None:
        async def go() -> None:
            layout = Layout(tmp_path / "node")
            layout.data.mkdir(parents=True)
            async with asyncio.timeout(ANSWER_S):
                await test(Node(layout, chain))

        asyncio.run(go())

    return run_test


def test_a_node_joins_and_hands_on_to_its_ledger(run: Callable[[Test], None], chain: NetworkChain) -> None:
    async def test(node: Node) -> None:
        application = node.application
        assert is_joining(node.layout, state_sync=True)
        assert not is_joining(node.layout, state_sync=False)
        before = await application.info(pb.RequestInfo())
        assert (before.app_version, before.last_block_height, before.last_block_app_hash) == (1, 0, b"")
        joined = asyncio.create_task(application.joined())
        peer = Peer.of(chain, 5)
        assert len(peer.pieces) == 3
        assert await node.take(peer) == [Applied.ACCEPT] * 3
        assert node.files == ["base.snapshot", "ledger.lmdb"]
        assert not joined.done()
        # CometBFT goes on with the ledger when it asks where that stands; what it asks then waits for its application.
        asked = asyncio.create_task(application.info(pb.RequestInfo()))
        ran = asyncio.create_task(application.finalize_block(pb.RequestFinalizeBlock()))
        await joined
        assert not asked.done()
        application.hand_over(Ledger(node.layout))  # type: ignore[arg-type]
        info = await asked
        assert (info.last_block_height, info.last_block_app_hash) == (5, chain.store.app_hash_at(5))
        assert (await ran).app_hash == b"run"
        store = node.store()
        assert (store.height, store.head.first_block, store.archived_heights()) == (5, 6, (5, 5))
        assert [store.used_ids(height) for height in range(6)] == [chain.store.used_ids(height) for height in range(6)]
        assert all(chain.store.get_at(5, key) == record for key, record in store.scan(b""))
        base = snapshot_base(check_snapshot(node.layout.base_snapshot, chain.genesis).snapshot)
        assert (base.height, audit(store, chain.registry, chain.genesis, base=base).problems) == (5, ())
        store.close()

    run(test)


def test_pieces_may_come_in_any_order_and_twice(run: Callable[[Test], None], chain: NetworkChain) -> None:
    async def test(node: Node) -> None:
        peer = Peer.of(chain, 5)
        assert await node.offer(peer.offer()) == Offer.ACCEPT
        for place in (2, 0, 2, 1):
            assert (await node.apply(peer.piece(place))).result == Applied.ACCEPT
        store = node.store()
        assert store.app_hash == peer.app_hash
        store.close()

    run(test)


def test_a_wrong_piece_is_fetched_again_from_another_peer(run: Callable[[Test], None], chain: NetworkChain) -> None:
    async def test(node: Node) -> None:
        peer = Peer.of(chain, 5)
        assert await node.offer(peer.offer()) == Offer.ACCEPT
        for wrong in (b"", peer.pieces[0], peer.pieces[1][:-1], peer.pieces[1] + b"\0"):
            answer = await node.apply(pb.RequestApplySnapshotChunk(index=1, chunk=wrong, sender=SENDER))
            assert answer == Applied(result=Applied.RETRY, refetch_chunks=[1], reject_senders=[SENDER])
        for place in range(3):
            assert (await node.apply(peer.piece(place))).result == Applied.ACCEPT
        assert node.files == ["base.snapshot", "ledger.lmdb"]

    run(test)


@pytest.mark.parametrize(
    ("fields", "result"),
    [
        ({"format": FORMAT + 1}, Offer.REJECT_FORMAT),
        ({"format": 0}, Offer.REJECT_FORMAT),
        ({"height": 0}, Offer.REJECT),
        ({"height": 2**63}, Offer.REJECT),
        ({"chunks": 0}, Offer.REJECT),
        ({"chunks": 2}, Offer.REJECT),
        ({"chunks": 4}, Offer.REJECT),
        ({"chunks": MAX_PIECES + 1, "metadata": bytes(32 * (MAX_PIECES + 1))}, Offer.REJECT),
        ({"metadata": b""}, Offer.REJECT),
        ({"metadata": bytes(96)}, Offer.REJECT),
        ({"metadata": bytes(95)}, Offer.REJECT),
        ({"hash": bytes(32)}, Offer.REJECT),
        ({"app_hash": b""}, Offer.REJECT),
    ],
    ids=str,
)
def test_an_offer_out_of_form_is_refused(
    run: Callable[[Test], None], chain: NetworkChain, fields: dict[str, Any], result: int
) -> None:
    async def test(node: Node) -> None:
        peer = Peer.of(chain, 5)
        assert await node.offer(peer.offer(**fields)) == result
        assert (await node.apply(peer.piece(0))).result == Applied.REJECT_SNAPSHOT
        assert node.files == []

    run(test)


def test_a_snapshot_that_is_not_what_is_vouched_for_leaves_nothing(
    run: Callable[[Test], None], chain: NetworkChain
) -> None:
    async def test(node: Node) -> None:
        good = Peer.of(chain, 5)
        cases = {
            "wrong app hash": Peer.of(chain, 5),
            "wrong height": Peer.of(chain, 5),
            "cut short": Peer.of(chain, 5),
            "bytes after the end": Peer.of(chain, 5),
            "another byte": Peer.of(chain, 5),
            "pieces exchanged": Peer.of(chain, 5),
            "no snapshot": Peer.of(chain, 5),
        }
        cases["wrong app hash"].app_hash = chain.store.app_hash_at(6)
        cases["wrong height"].height = 6
        cases["cut short"].pieces[2] = good.pieces[2][:-1]
        cases["bytes after the end"].pieces[2] += b"\0"
        cases["another byte"].pieces[1] = good.pieces[1][:-1] + bytes([good.pieces[1][-1] ^ 1])
        cases["pieces exchanged"].pieces[:2] = good.pieces[1::-1]
        cases["no snapshot"].pieces = [bytes(PIECE_BYTES)] * 3
        for name, peer in cases.items():
            answers = await node.take(peer)
            assert answers == [Applied.ACCEPT, Applied.ACCEPT, Applied.REJECT_SNAPSHOT], name
            assert node.files == [], name
            # After it was refused nothing more of it is taken.
            assert (await node.apply(peer.piece(0))).result == Applied.REJECT_SNAPSHOT
        assert await node.take(good) == [Applied.ACCEPT] * 3

    run(test)


def test_pieces_of_other_sizes_or_beyond_the_last_are_refused(run: Callable[[Test], None], chain: NetworkChain) -> None:
    async def test(node: Node) -> None:
        short, long, good = Peer.of(chain, 5), Peer.of(chain, 5), Peer.of(chain, 5)
        short.pieces[1] = short.pieces[1][:-1]
        long.pieces[1] += b"\0"
        for peer in (short, long):
            assert await node.take(peer) == [Applied.ACCEPT, Applied.REJECT_SNAPSHOT]
        assert await node.offer(good.offer()) == Offer.ACCEPT
        beyond = pb.RequestApplySnapshotChunk(index=3, chunk=good.pieces[0], sender=SENDER)
        assert (await node.apply(beyond)).result == Applied.REJECT_SNAPSHOT
        assert await node.take(Peer.of(chain, 6)) == [Applied.ACCEPT] * 3

    run(test)


def test_a_process_that_starts_again_in_the_middle_begins_anew(
    run: Callable[[Test], None], chain: NetworkChain
) -> None:
    async def test(node: Node) -> None:
        peer = Peer.of(chain, 5)
        assert await node.offer(peer.offer()) == Offer.ACCEPT
        assert (await node.apply(peer.piece(0))).result == Applied.ACCEPT
        assert node.files == ["offered.snapshot"]
        node.restart()
        assert node.files == []
        assert (await node.apply(peer.piece(1))).result == Applied.REJECT_SNAPSHOT
        assert await node.take(peer) == [Applied.ACCEPT] * 3

    run(test)


def test_a_ledger_that_cometbft_took_no_note_of_gives_way_and_one_with_a_block_stays(
    run: Callable[[Test], None], chain: NetworkChain
) -> None:
    async def test(node: Node) -> None:
        assert await node.take(Peer.of(chain, 5)) == [Applied.ACCEPT] * 3
        assert is_joining(node.layout, state_sync=False)
        node.restart()
        assert node.files == ["base.snapshot", "ledger.lmdb"]
        assert await node.take(Peer.of(chain, 6)) == [Applied.ACCEPT] * 3
        store = node.store()
        assert store.height == 6
        store.commit(store.stage(HeightWrites(7, store.time_ms, b"block", (), {}, (), None)))
        store.close()
        assert not is_joining(node.layout, state_sync=True)

    run(test)


def test_once_cometbft_goes_on_with_the_ledger_no_offer_takes_it_away(
    run: Callable[[Test], None], chain: NetworkChain
) -> None:
    async def test(node: Node) -> None:
        assert await node.take(Peer.of(chain, 5)) == [Applied.ACCEPT] * 3
        asked = asyncio.create_task(node.application.info(pb.RequestInfo()))
        await node.application.joined()
        offered = asyncio.create_task(node.application.offer_snapshot(Peer.of(chain, 6).offer()))
        node.application.hand_over(Ledger(node.layout))  # type: ignore[arg-type]
        assert (await asked).last_block_height == 5
        assert (await offered).result == Offer.ABORT
        assert node.files == ["base.snapshot", "ledger.lmdb"]

    run(test)


def test_without_state_sync_the_ledger_begins_with_the_genesis(
    run: Callable[[Test], None], chain: NetworkChain
) -> None:
    async def test(node: Node) -> None:
        begun = asyncio.create_task(node.application.init_chain(pb.RequestInitChain()))
        await node.application.joined()
        node.application.hand_over(Ledger(node.layout))  # type: ignore[arg-type]
        assert (await begun).app_hash == b"from the ledger"
        store = node.store()
        assert (store.height, store.chain_id) == (0, chain.genesis.chain_id)
        store.close()
        assert not is_joining(node.layout, state_sync=True)

    run(test)


def test_a_node_that_stops_lets_go_of_what_waits(run: Callable[[Test], None], chain: NetworkChain) -> None:
    async def test(node: Node) -> None:
        assert await node.take(Peer.of(chain, 5)) == [Applied.ACCEPT] * 3
        asked = asyncio.create_task(node.application.info(pb.RequestInfo()))
        await node.application.joined()
        node.application.stop()
        await asyncio.wait([asked])
        assert asked.cancelled()

    run(test)


def test_before_there_is_a_ledger_only_known_nodes_are_peers_and_nothing_is_taken_in(
    run: Callable[[Test], None],
) -> None:
    async def test(node: Node) -> None:
        async def code(path: str) -> int:
            return (await node.application.query(pb.RequestQuery(path=path))).code

        assert await code(f"/p2p/filter/id/{SENDER}") == 0
        assert await code("/p2p/filter/addr/192.0.2.1:26656") == 0
        assert await code(f"/p2p/filter/id/{'5f' * 20}") != 0
        assert await code("/store/balances") != 0
        assert (await node.application.check_tx(pb.RequestCheckTx(tx=b"x"))).code >= 32_000
        assert (await node.application.insert_tx(pb.RequestInsertTx(tx=b"x"))).code == 0
        assert not (await node.application.reap_txs(pb.RequestReapTxs())).txs
        assert not (await node.application.list_snapshots(pb.RequestListSnapshots())).snapshots
        assert not (await node.application.load_snapshot_chunk(pb.RequestLoadSnapshotChunk(height=5))).chunk

    run(test)


def test_the_nodes_known_are_those_of_the_genesis_and_those_named() -> None:
    named = f"{'a1' * 20}@bank.example:26656, {'b2' * 20}@[2001:db8::1]:26656"
    assert known_nodes(["c3" * 20], named) == {"a1" * 20, "b2" * 20, "c3" * 20}
    assert known_nodes([], "") == frozenset()


def test_a_full_disk_is_a_fault_with_advice_and_the_next_process_begins_anew(
    run: Callable[[Test], None], chain: NetworkChain
) -> None:
    """The limit on a file's size stands for the disk's: the writer is told in the same place, as it writes."""

    async def test(node: Node) -> None:
        peer = Peer.of(chain, 5)
        assert await node.offer(peer.offer()) == Offer.ACCEPT
        assert (await node.apply(peer.piece(0))).result == Applied.ACCEPT
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (PIECE_BYTES + 4_096, before[1]))
        try:
            with pytest.raises(Fault, match="Make room and start again"):
                await node.apply(peer.piece(1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        node.restart()
        assert await node.take(peer) == [Applied.ACCEPT] * 3

    run(test)


def test_a_ledger_that_other_rules_run_is_not_made(tmp_path: Path, registry: Registry) -> None:
    parameters = encode(Parameters(app_version=2))
    chain = NetworkChain(tmp_path / "ledger", registry)
    chain.block()
    chain.block(writes={PARAMETERS.prefix + PARAMETERS_KEY: parameters})
    chain.block(writes={})
    export(chain.store, 2, tmp_path / "2.snapshot", evidence_for(chain.store, 2, chain.genesis))

    async def test() -> None:
        layout = Layout(tmp_path / "node")
        layout.data.mkdir(parents=True)
        node = Node(layout, chain)
        with pytest.raises(WrongRelease, match="rules are version 2"):
            await node.take(Peer.of(chain, 2))
        assert not layout.ledger.exists()
        node.restart()
        assert node.files == []

    asyncio.run(test())
    chain.close()


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from feiqian.consensus.genesis_file import load_genesis
from feiqian.execution.registry import discover
from feiqian.node.comet.statesync import JoiningApplication
from feiqian.node.comet.tests.test_statesync import Peer, SMALL
from feiqian.node.configuration import Layout

node, snapshot, genesis, app_hash, call = sys.argv[1:]

def die(path, target):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(Path, call, die)

async def main():
    application = JoiningApplication(Layout(Path(node)), discover(), load_genesis(Path(genesis)), frozenset(), **SMALL)
    peer = Peer(Path(snapshot), 5, bytes.fromhex(app_hash))
    await application.offer_snapshot(peer.offer())
    for place in range(3):
        await application.apply_snapshot_chunk(peer.piece(place))

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("call", "left"),
    [
        ("replace", ["ledger.lmdb.joining", "offered.snapshot"]),
        ("rename", ["base.snapshot", "ledger.lmdb.joining"]),
    ],
    ids=["before the snapshot is in place", "before the ledger is in place"],
)
def test_a_process_killed_as_it_puts_the_ledger_in_place_leaves_none(
    run: Callable[[Test], None], chain: NetworkChain, call: str, left: list[str]
) -> None:
    async def test(node: Node) -> None:
        folder = chain.store.path.parent
        command = [sys.executable, "-c", KILLED, str(node.layout.directory), str(folder / "5.snapshot")]
        command += [str(folder / "genesis.json"), chain.store.app_hash_at(5).hex(), call]
        done = await asyncio.to_thread(subprocess.run, command, check=False)
        assert done.returncode == -signal.SIGKILL
        assert node.files == left
        assert is_joining(node.layout, state_sync=True)
        node.restart()
        assert node.files == []
        assert await node.take(Peer.of(chain, 5)) == [Applied.ACCEPT] * 3

    run(test)
