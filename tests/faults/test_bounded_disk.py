"""A node that keeps few blocks: its store stops growing, every block is in a segment file, and no kill loses one.

`clock.c` is preloaded, since blocks stay for the ten minutes in which their ids count.
"""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from feiqian.consensus.audit import audit, snapshot_base
from feiqian.consensus.genesis_file import load_genesis
from feiqian.consensus.restoring import check_snapshot, evidence_for
from feiqian.core.transactions import decode_signed, transaction_id
from feiqian.core.wire import Stored
from feiqian.execution.blocks import RESULTS_CODEC
from feiqian.execution.registry import discover
from feiqian.node.configuration import Layout
from feiqian.state.history import History
from feiqian.state.segment_folder import rows_from, verify_folder
from feiqian.state.segments import row_of
from feiqian.state.snapshots import export
from feiqian.state.store import Store
from feiqian.testing.ledgers import SampleLedger
from feiqian.testing.processes import Channel, NodeProcess

SPEED = 60
"""Ten minutes of such a node's clock pass in ten seconds."""

LIMITS = {"FEIQIAN_NODE_KEEP_BLOCKS": "5", "FEIQIAN_NODE_PAST_HEIGHTS": "50"}
HOUR_MS = 3_600_000
PACE_S = 0.02


@pytest.fixture
def ledger(tmp_path: Path) -> SampleLedger:
    return SampleLedger(tmp_path / "ledger", discover())


@pytest.fixture(scope="session")
def clock(build: Callable[[str], Path]) -> Path:
    return build("clock.c")


class Fast:
    """Nodes whose clock runs ahead, all by the same clock, and orders that last a while by it."""

    def __init__(self, ledger: SampleLedger, clock: Path) -> None:
        self.ledger = ledger
        self.clock = clock
        self.from_ms = time.time_ns() // 1_000_000
        self.sent: list[bytes] = []
        self.most_held = 0.0

    def node(self) -> NodeProcess:
        turned = {"LD_PRELOAD": str(self.clock), "CLOCK_FROM_MS": str(self.from_ms), "CLOCK_SPEED": str(SPEED)}
        return NodeProcess(self.ledger.directory, {**LIMITS, **turned})

    def orders(self, count: int) -> list[bytes]:
        ahead_ms = (time.time_ns() // 1_000_000 - self.from_ms) * (SPEED - 1)
        made = [self.ledger.issue("treasury", 1, lifetime_ms=ahead_ms + 400_000) for _ in range(count)]
        self.sent += made
        return made


def load_until(fast: Fast, channel: Channel, first_block: int) -> dict[str, float]:
    """Send a few orders at a steady pace until the node has given up the blocks before this one."""
    while True:
        for _ in range(10):
            assert {verdict.number for verdict in channel.submit(fast.orders(3))} == {0}
            time.sleep(PACE_S)
        figures = channel.metrics()
        fast.most_held = max(fast.most_held, figures["feiqian_height"] - figures["feiqian_first_block"])
        if figures["feiqian_first_block"] >= first_block:
            return figures


@pytest.mark.slow
def test_the_store_stops_growing_and_all_of_it_can_be_audited(
    ledger: SampleLedger, clock: Path, tmp_path: Path
) -> None:
    fast = Fast(ledger, clock)
    layout = Layout(ledger.directory)
    with fast.node().await_ready() as node, node.connect() as channel:
        early = load_until(fast, channel, 150)
        filed_bytes, held = folder_bytes(layout.segments), fast.most_held
        late = load_until(fast, channel, 1_000)
        # Six times as many blocks have left: they are in the files, and the store is hardly larger, but for what a
        # machine that has become faster puts into ten minutes.
        assert folder_bytes(layout.segments) > 4 * filed_bytes
        assert late["feiqian_store_bytes"] < 1.3 * early["feiqian_store_bytes"] * fast.most_held / held
        assert late["feiqian_first_provable_height"] > late["feiqian_first_block"]
        assert late["feiqian_disk_free_bytes"] > 0
        assert node.terminate() == 0, node.log_text()[-2000:]
    store = Store.open(layout.ledger, read_only=True)
    check_whole(ledger, store, fast.sent)
    # From a snapshot too, taken as the command takes it.
    height = store.height - 1
    genesis = load_genesis(layout.genesis)
    export(store, height, tmp_path / "s", evidence_for(store, height, genesis))
    base = snapshot_base(check_snapshot(tmp_path / "s", genesis).snapshot)
    report = audit(History(store, layout.segments), ledger.registry, genesis, base=base)
    assert (report.is_clean, report.first_height, report.last_height) == (True, store.height, store.height)
    store.close()


@pytest.mark.slow
def test_no_kill_loses_a_block_or_leaves_a_file_that_does_not_verify(ledger: SampleLedger, clock: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    chance = random.Random(seed)
    fast = Fast(ledger, clock)
    layout = Layout(ledger.directory)
    roots: dict[int, bytes] = {}
    with fast.node().await_ready() as node, node.connect() as channel:
        load_until(fast, channel, 2)
        node.kill()
    for _ in range(8):
        with fast.node().await_ready() as node, node.connect() as channel, node.connect() as follower:
            follower.subscribe(node_height(channel))
            until = time.monotonic() + chance.uniform(0.1, 0.8)
            while time.monotonic() < until:
                channel.submit(fast.orders(3))
                note(roots, follower.next_stored())
            node.kill()
            while isinstance(frame := follower.read(), Stored):
                note(roots, frame)
        store = Store.open(layout.ledger, read_only=True)
        filed = [row.height for row in rows_from(layout.segments, ledger.genesis.chain_id, 1)]
        assert filed == list(range(1, len(filed) + 1)), f"seed {seed}"
        assert store.head.first_block <= len(filed) + 1, f"seed {seed}: a block is in neither"
        assert all(roots[height] == store.app_hash_at(height) for height in roots if height >= store.head.first_block)
        store.close()
    with fast.node().await_ready() as node:
        assert node.terminate() == 0
    store = Store.open(layout.ledger, read_only=True)
    check_whole(ledger, store, fast.sent)
    history = History(store, layout.segments)
    for height, root in sorted(roots.items()):
        block = history.block(height)
        assert block is not None, f"seed {seed}: block {height} was acknowledged"
        assert block.app_hash == root, f"seed {seed}"
    store.close()


def test_a_kill_between_file_and_store_leaves_the_block_in_both(
    ledger: SampleLedger, clock: Path, library: Path, gate: Any
) -> None:
    layout = Layout(ledger.directory)
    an_hour_ago = {"LD_PRELOAD": str(clock), "CLOCK_SHIFT_MS": str(-HOUR_MS)}
    with NodeProcess(ledger.directory, an_hour_ago).await_ready() as node, node.connect() as channel:
        channel.subscribe()
        for _ in range(40):
            order = ledger.issue("treasury", 1, lifetime_ms=300_000 - HOUR_MS)
            assert channel.submit([order])[0].number == 0
            await_transaction(channel, order)
        assert node.terminate() == 0
    before = rows_in(layout)
    assert len(before) >= 80
    held = {"LD_PRELOAD": str(library), "DISK_FILE": "data.mdb", "DISK_GATE": str(gate.directory)}
    with (
        NodeProcess(ledger.directory, held | {"FEIQIAN_NODE_KEEP_BLOCKS": "5"}).await_ready() as node,
        node.connect() as channel,
    ):
        gate.close()
        assert channel.submit([ledger.issue("treasury", 1)])[0].number == 0
        gate.await_sync()
        gate.let_one_through()
        # The next sync is that of giving blocks up: they are in the file, and still in the store.
        gate.await_sync()
        node.kill()
    assert [row.height for row in rows_from(layout.segments, ledger.genesis.chain_id, 1)] == list(range(1, 17))
    store = Store.open(layout.ledger, read_only=True)
    assert store.head.first_block == 1
    assert row_of(store, 1) == before[0]
    store.close()
    with NodeProcess(ledger.directory, LIMITS).await_ready() as node, node.connect() as channel:
        channel.subscribe(node_height(channel) + 1)
        while channel.metrics()["feiqian_first_block"] < 70:
            order = ledger.issue("treasury", 1)
            assert channel.submit([order])[0].number == 0
            await_transaction(channel, order)
        assert node.terminate() == 0
    assert rows_in(layout)[: len(before)] == before
    assert verify_folder(layout.segments, ledger.genesis.chain_id)[0].header.first_height == 1


def await_transaction(channel: Channel, order: bytes) -> None:
    tx_id = transaction_id(decode_signed(order).body)
    while tx_id not in [entry.id for entry in RESULTS_CODEC.decode(channel.next_stored().results)]:
        continue


def node_height(channel: Channel) -> int:
    return channel.status().height


def note(roots: dict[int, bytes], block: Stored) -> None:
    assert roots.setdefault(block.height, block.app_hash) == block.app_hash, "a height had two roots"


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def rows_in(layout: Layout) -> list[Any]:
    """Return every height of a ledger, from files or store."""
    store = Store.open(layout.ledger, read_only=True)
    history = History(store, layout.segments)
    rows = [row_of(history, height) for height in range(1, store.height + 1)]
    store.close()
    return rows


def check_whole(ledger: SampleLedger, store: Store, sent: list[bytes]) -> None:
    """Every height is in files or store, the files verify, nothing was done twice, and an audit finds it clean."""
    layout = Layout(ledger.directory)
    assert verify_folder(layout.segments, store.chain_id)[-1].next_height >= store.head.first_block
    history = History(store, layout.segments)
    assert (history.first_height, store.head.first_block > 1) == (1, True)
    ids = list(all_ids(history))
    assert len(ids) == len(set(ids))
    assert set(ids) <= {transaction_id(decode_signed(order).body) for order in sent}
    report = audit(history, ledger.registry, load_genesis(layout.genesis))
    assert (report.problems, report.first_height, report.transactions) == ((), 1, len(ids))


def all_ids(history: History) -> Iterator[bytes]:
    for height in range(1, history.height + 1):
        block = history.block(height)
        assert block is not None, f"block {height} is held nowhere"
        yield from (entry.id for entry in RESULTS_CODEC.decode(block.results))
