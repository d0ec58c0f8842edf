"""A node of a network: its parts put together around CometBFT's calls, run until told to stop, and stopped cleanly."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import structlog

from feiqian.consensus.comet.gossip import NodeKey, make_gossip, node_id
from feiqian.consensus.comet.rpc import CometRpc
from feiqian.consensus.comet.server import AbciServer
from feiqian.consensus.genesis_file import Genesis, load_genesis
from feiqian.core.wire import Stored
from feiqian.execution.genesis import parse_key
from feiqian.execution.registry import Registry, discover
from feiqian.ledger.validators import NODES
from feiqian.node.comet.application import NetworkApplication
from feiqian.node.comet.committer import NetworkCommitter
from feiqian.node.comet.configuration import CometSettings, read_comet_settings
from feiqian.node.comet.engine import NetworkEngine
from feiqian.node.comet.follower import Follower
from feiqian.node.comet.metrics import NetworkCollector, NetworkMetrics
from feiqian.node.comet.offers import Offers
from feiqian.node.comet.retention import Retention
from feiqian.node.comet.snapshots import Snapshots
from feiqian.node.comet.statesync import JoiningApplication, is_joining, known_nodes
from feiqian.node.comet.votelog import keep_short
from feiqian.node.comet.watch import Watch
from feiqian.node.configuration import Layout, NodeSettings
from feiqian.node.faults import guard_task, stop_loudly
from feiqian.node.initialise import plain_tables, prepare_ledger
from feiqian.node.intake import Intake
from feiqian.node.mempool import Mempool
from feiqian.node.metrics import Metrics
from feiqian.node.process import await_signals, clear_stale_readers, clock_ms, measure, open_store
from feiqian.node.proposals import Proposals
from feiqian.node.server import Server
from feiqian.node.verifier import Verifiers
from feiqian.process.memory import tune_memory
from feiqian.process.readiness import tell_listening, tell_ready
from feiqian.state.store import Store
from feiqian.state.tables import BlockState


class Parts(NamedTuple):
    """What a running node consists of beside its helper processes."""

    server: Server
    application: NetworkApplication
    engine: NetworkEngine
    follower: Follower
    snapshots: Snapshots
    watch: Watch


async def run_network(layout: Layout, settings: NodeSettings) -> None:
    """Open the ledger, answer CometBFT and gateways until SIGTERM or SIGINT, and close."""
    log = structlog.get_logger()
    stopping = await_signals()
    registry = discover()
    comet = read_comet_settings(layout)
    joining = await _join(layout, registry, comet, stopping)
    if stopping.is_set():
        return
    genesis = prepare_ledger(layout, registry, clock_ms)
    committer = NetworkCommitter(layout, plain_tables(registry), settings.past_heights, settings.keep_blocks)
    await committer.start()
    store = open_store(layout)
    verifiers = Verifiers()
    await verifiers.start(settings.verify_workers, layout.ledger)
    parts = _assemble(layout, settings, comet, registry, genesis, store, committer, verifiers, stopping)
    await parts.server.start(layout.socket)
    abci = await _serve(layout, parts.application, joining)
    tune_memory()
    tasks = [
        guard_task(asyncio.create_task(work, name=name))
        for work, name in (
            (clear_stale_readers(store), "stale readers"),
            (parts.follower.run(), "follower"),
            (parts.watch.run(), "watch"),
            (keep_short(layout.comet / "data" / "cs.wal", lambda: store.height), "vote log"),
        )
    ]
    log.info("ready", socket=layout.abci_socket.name)
    tell_ready(layout.abci_socket.name)
    await stopping.wait()
    log.info("stopping", height=store.height)
    for task in tasks:
        task.cancel()
    await abci.stop()
    parts.engine.stop()
    await parts.server.stop()
    await verifiers.stop()
    await parts.snapshots.stop()
    await committer.stop()
    # Threads that still read a block for a connection that is gone.
    await asyncio.get_running_loop().shutdown_default_executor()
    log.info("stopped", height=store.height)
    store.close()


class Joining(NamedTuple):
    """What answered CometBFT while there was no ledger, and the server that it answers through."""

    abci: AbciServer
    application: JoiningApplication


async def _join(layout: Layout, registry: Registry, comet: CometSettings, stopping: asyncio.Event) -> Joining | None:
    """Get a ledger through CometBFT where there is none to go on with; None: there is one, or the genesis begins it."""
    if not is_joining(layout, state_sync=comet.state_sync):
        return None
    genesis = load_genesis(layout.genesis)
    keys = [parse_key(entry["public_key"]) for entry in genesis.app_state.get("nodes", [])]
    peers = known_nodes([node_id(key.data) for key in keys], comet.persistent_peers)
    application = JoiningApplication(layout, registry, genesis, peers)
    abci = AbciServer(layout.abci_socket, application, fault=stop_loudly)
    await abci.start()
    structlog.get_logger().info("joining", socket=layout.abci_socket.name)
    tell_listening(layout.abci_socket.name)
    waiting = [asyncio.create_task(application.joined()), asyncio.create_task(stopping.wait())]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    if stopping.is_set():
        application.stop()
        await abci.stop()
    return Joining(abci, application)


async def _serve(layout: Layout, application: NetworkApplication, joining: Joining | None) -> AbciServer:
    """Let the ledger answer CometBFT; whoever stood in for it hands over."""
    if joining is not None:
        joining.abci.application = application
        joining.application.hand_over(application)
        return joining.abci
    abci = AbciServer(layout.abci_socket, application, fault=stop_loudly)
    await abci.start()
    return abci


def _assemble(
    layout: Layout,
    settings: NodeSettings,
    comet: CometSettings,
    registry: Registry,
    genesis: Genesis,
    store: Store,
    committer: NetworkCommitter,
    verifiers: Verifiers,
    stopping: asyncio.Event,
) -> Parts:
    metrics = Metrics()
    pool = Mempool(settings.pool_transactions, settings.pool_bytes)
    measure(metrics, pool, store, committer.pid, verifiers)
    proposals = Proposals(pool, metrics, genesis.initial_height, clock_ms, lambda drops: server.publish_dropped(drops))
    engine = NetworkEngine(
        registry,
        store,
        genesis,
        committer,
        pool,
        proposals,
        verifiers,
        metrics,
        clock_ms=clock_ms,
        committed=lambda frame: server.publish_committed(frame),
    )
    offers = _offers(layout, pool)
    intake = Intake(
        registry,
        genesis.chain_id,
        pool,
        verifiers,
        metrics,
        engine,
        lambda height: server.reach_stored(height),
        offers.add,
    )
    snapshots = Snapshots(layout, store, every_blocks=comet.snapshot_blocks, keep=comet.snapshot_keep)
    follower = _follow(comet.rpc_port, store, genesis, committer, snapshots, lambda frame: server.publish_stored(frame))
    server = Server(
        store,
        intake,
        submit_bytes=settings.submit_bytes,
        max_connections=settings.connections,
        stalled_ms=settings.stalled_ms,
        pool_size=lambda: pool.size,
        is_ready=lambda: engine.stored_height >= genesis.initial_height and not stopping.is_set(),
        metrics_text=metrics.text,
        subscribers_changed=metrics.subscribers.inc,
        told_height=follower.height,
    )
    metrics.registry.register(NetworkCollector(store, clock_ms, follower, offers, snapshots))
    retention = Retention(store, genesis.params, settings.keep_blocks, lambda: follower.height, snapshots.oldest_height)
    application = NetworkApplication(
        genesis,
        store,
        engine,
        intake,
        offers,
        snapshots,
        follower,
        retention,
        NetworkMetrics(metrics.registry),
        idle_s=comet.idle_ms / 1000,
    )
    return Parts(server, application, engine, follower, snapshots, _watch(comet.rpc_port, store))


def _watch(rpc_port: int, store: Store) -> Watch:
    rpc = CometRpc(f"http://127.0.0.1:{rpc_port}")
    return Watch(rpc, lambda: store.height, lambda: sum(1 for _ in NODES.scan(BlockState(store))))


def _follow(
    rpc_port: int,
    store: Store,
    genesis: Genesis,
    committer: NetworkCommitter,
    snapshots: Snapshots,
    publish: Callable[[Stored], None],
) -> Follower:
    def archived(height: int) -> None:
        # Gateways may prove what they hear of: only now is the header there.
        block = store.block(height)
        assert block is not None, "what was just archived is held"
        publish(Stored(height, block.time_ms, block.app_hash, block.block, block.results))
        snapshots.archived(height)

    return Follower(CometRpc(f"http://127.0.0.1:{rpc_port}"), store, genesis, committer.archive, archived)


def _offers(layout: Layout, pool: Mempool) -> Offers:
    node_key = NodeKey.load(layout.node_key)
    return Offers(
        lambda counter, transactions: make_gossip(node_key, counter, transactions),
        # Above every counter that this node used before: it makes fewer than a thousand bundles a millisecond.
        clock_ms() * 1_000,
        lambda signed: pool.find(signed) is not None,
    )
