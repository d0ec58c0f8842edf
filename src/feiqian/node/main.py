"""The node process, `python -m feiqian.node DIR`: puts its parts together, runs until told to stop, stops cleanly."""

import asyncio
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
import uvloop

from feiqian.consensus.genesis_file import InvalidGenesis
from feiqian.core.errors import Fault
from feiqian.core.settings import SettingsError
from feiqian.core.wire import Stored
from feiqian.execution.registry import discover
from feiqian.node.committer import CommitterProcess
from feiqian.node.configuration import Layout, NodeSettings, read_node_settings
from feiqian.node.engine import SoloEngine
from feiqian.node.faults import DONE, WRONG_USAGE, guard_task, stop_loudly
from feiqian.node.initialise import plain_tables, prepare_ledger
from feiqian.node.intake import Intake
from feiqian.node.mempool import Mempool
from feiqian.node.metrics import Metrics, ProcessCollector, StoreCollector
from feiqian.node.recovery import recover
from feiqian.node.server import Server
from feiqian.node.verifier import Verifiers
from feiqian.process.logs import configure_logs
from feiqian.process.memory import tune_memory
from feiqian.process.readiness import tell_ready
from feiqian.state.store import Store

CLEAR_READERS_S = 60


def main(arguments: list[str]) -> int:
    """Run the node of the directory named; return its exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m feiqian.node DIR\n")
        return WRONG_USAGE
    layout = Layout(Path(arguments[0]).absolute())
    try:
        settings = read_node_settings(layout)
        configure_logs(settings.log_level, "node")
        with _only_node(layout):
            uvloop.run(run(layout, settings))
    except (SettingsError, InvalidGenesis, FileNotFoundError) as error:
        sys.stderr.write(f"feiqian node: {error}\n")
        return WRONG_USAGE
    except Exception as error:  # noqa: BLE001 - the outermost: whatever it is, it is ours and ends the process
        stop_loudly("node", error)
    return DONE


async def run(layout: Layout, settings: NodeSettings) -> None:
    """Open the ledger, serve until SIGTERM or SIGINT, finish the commit at hand and close."""
    log = structlog.get_logger()
    asyncio.get_running_loop().set_exception_handler(_stop_on_error)
    stopping = _on_signals()
    registry = discover()
    genesis = prepare_ledger(layout, registry, clock_ms)
    committer = CommitterProcess(layout, plain_tables(registry), settings.past_heights, settings.keep_blocks)
    store = _open_store(layout)
    block_log = recover(layout.block_log, registry, genesis, store, committer)
    metrics = Metrics()
    pool = Mempool(settings.pool_transactions, settings.pool_bytes)
    verifiers = Verifiers()
    await verifiers.start(settings.verify_workers, layout.ledger)
    _measure(metrics, pool, store, committer, verifiers)
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
    readers = guard_task(asyncio.create_task(_clear_stale_readers(store), name="stale readers"))
    ready = guard_task(asyncio.create_task(_tell_when_ready(has_begun, engine, layout), name="ready"))
    await stopping.wait()
    log.info("stopping", height=store.height)
    for task in (readers, ready):
        task.cancel()
    await _stop(engine, server, verifiers)
    log.info("stopped", height=store.height)
    store.close()


def _open_store(layout: Layout) -> Store:
    store = Store.open(layout.ledger, read_only=True)
    head = store.head
    structlog.get_logger().info("opened", chain_id=store.chain_id, height=head.height, app_hash=head.app_hash.hex())
    return store


def _measure(metrics: Metrics, pool: Mempool, store: Store, committer: CommitterProcess, verifiers: Verifiers) -> None:
    pids = {"node": os.getpid(), "committer": committer.pid}
    pids |= {f"verifier-{number}": pid for number, pid in enumerate(verifiers.pids)}
    metrics.registry.register(ProcessCollector(lambda: pool.size, pids))
    metrics.registry.register(StoreCollector(store))


async def _stop(engine: SoloEngine, server: Server, verifiers: Verifiers) -> None:
    """Finish what is being committed, then close every connection and end the helpers."""
    await asyncio.to_thread(engine.stop)
    await server.stop()
    await verifiers.stop()
    # Threads that still read a block for a connection that is gone.
    await asyncio.get_running_loop().shutdown_default_executor()


def clock_ms() -> int:
    """Return the time in milliseconds since 1970; the one clock that the node reads."""
    return time.time_ns() // 1_000_000


async def _tell_when_ready(has_begun: asyncio.Event, engine: SoloEngine, layout: Layout) -> None:
    if not engine.has_started:
        await has_begun.wait()
    structlog.get_logger().info("ready", socket=layout.socket.name)
    tell_ready(layout.socket.name)


async def _clear_stale_readers(store: Store) -> None:
    while True:
        await asyncio.sleep(CLEAR_READERS_S)
        store.clear_stale_readers()


def _on_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


def _stop_on_error(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    error = context.get("exception")
    fault = error if isinstance(error, BaseException) else Fault(str(context.get("message")))
    stop_loudly("event loop", fault)


@contextmanager
def _only_node(layout: Layout) -> Iterator[None]:
    """Hold the lock that one node of a directory holds.

    Raises:
        Fault: another node runs there.
    """
    if not layout.genesis.exists():
        raise SettingsError(f"{layout.directory} holds no genesis.json; make a ledger with `feiqian init`")
    layout.data.mkdir(exist_ok=True, mode=0o750)
    with layout.lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(f"a node runs in {layout.directory} already; stop it first") from None
        yield
