"""A node that orders by itself: its parts put together, run until told to stop, and stopped cleanly."""

import asyncio

import structlog

from feiqian.core.wire import Stored
from feiqian.execution.registry import discover
from feiqian.node.committer import CommitterProcess
from feiqian.node.configuration import Layout, NodeSettings
from feiqian.node.engine import SoloEngine
from feiqian.node.faults import guard_task
from feiqian.node.initialise import plain_tables, prepare_ledger
from feiqian.node.intake import Intake
from feiqian.node.mempool import Mempool
from feiqian.node.metrics import Metrics
from feiqian.node.process import await_signals, clear_stale_readers, clock_ms, measure, open_store
from feiqian.node.recovery import recover
from feiqian.node.server import Server
from feiqian.node.verifier import Verifiers
from feiqian.process.memory import tune_memory
from feiqian.process.readiness import tell_ready


async def run_solo(layout: Layout, settings: NodeSettings) -> None:
    """Open the ledger, serve until SIGTERM or SIGINT, finish the commit at hand and close."""
    log = structlog.get_logger()
    stopping = await_signals()
    registry = discover()
    genesis = prepare_ledger(layout, registry, clock_ms)
    committer = CommitterProcess(layout, plain_tables(registry), settings.past_heights, settings.keep_blocks)
    store = open_store(layout)
    block_log = recover(layout.block_log, registry, genesis, store, committer)
    metrics = Metrics()
    pool = Mempool(settings.pool_transactions, settings.pool_bytes)
    verifiers = Verifiers()
    await verifiers.start(settings.verify_workers, layout.ledger)
    measure(metrics, pool, store, committer.pid, verifiers)
    has_begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stored(frame: Stored) -> None:
        server.publish_stored(frame)
        if not has_begun.is_set():
            loop.call_soon_threadsafe(has_begun.set)

    engine = SoloEngine(
        registry,
        store,
        genesis,
        block_log,
        committer,
        pool,
        metrics,
        block_interval_ms=settings.block_interval_ms,
        clock_ms=clock_ms,
        committed=lambda frame: server.publish_committed(frame),
        stored=stored,
        dropped=lambda drops: server.publish_dropped(drops),
    )
    intake = Intake(
        registry,
        genesis.chain_id,
        pool,
        verifiers,
        metrics,
        engine,
        lambda height: server.reach_stored(height),
    )
    server = Server(
        store,
        intake,
        submit_bytes=settings.submit_bytes,
        max_connections=settings.connections,
        stalled_ms=settings.stalled_ms,
        pool_size=lambda: pool.size,
        is_ready=lambda: engine.has_started and not stopping.is_set(),
        metrics_text=metrics.text,
        subscribers_changed=metrics.subscribers.inc,
    )
    await server.start(layout.socket)
    tune_memory()
    engine.start()
    readers = guard_task(asyncio.create_task(clear_stale_readers(store), name="stale readers"))
    ready = guard_task(asyncio.create_task(_tell_when_ready(has_begun, engine, layout), name="ready"))
    await stopping.wait()
    log.info("stopping", height=store.height)
    for task in (readers, ready):
        task.cancel()
    await _stop(engine, server, verifiers)
    log.info("stopped", height=store.height)
    store.close()


async def _stop(engine: SoloEngine, server: Server, verifiers: Verifiers) -> None:
    """Finish what is being committed, then close every connection and end the helpers."""
    await asyncio.to_thread(engine.stop)
    await server.stop()
    await verifiers.stop()
    # Threads that still read a block for a connection that is gone.
    await asyncio.get_running_loop().shutdown_default_executor()


async def _tell_when_ready(has_begun: asyncio.Event, engine: SoloEngine, layout: Layout) -> None:
    if not engine.has_started:
        await has_begun.wait()
    structlog.get_logger().info("ready", socket=layout.socket.name)
    tell_ready(layout.socket.name)
