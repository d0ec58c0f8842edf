"""The gateway process: `python -m feiqian.api DIR` puts its parts together and serves until told to stop.

It starts the index beside itself, as a process of its own, and starts it again if it dies.
"""

import asyncio
import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from feiqian.api.app import create_app
from feiqian.api.drops import Drops
from feiqian.api.edge import Edge, discover_edges
from feiqian.api.feed import EventFeed
from feiqian.api.front import Front
from feiqian.api.gateway import Gateway, cancel_and_wait, look_up
from feiqian.api.ledger_view import LedgerView, try_open_store
from feiqian.api.limits import Limits
from feiqian.api.metrics import GatewayMetrics
from feiqian.api.node_link import NodeLink
from feiqian.api.sessions import Sessions, load_or_make_key
from feiqian.api.settings import GatewaySettings, read_gateway_settings
from feiqian.api.store_watch import StoreWatch
from feiqian.api.submission import Submitter
from feiqian.api.sweeping import keep_swept
from feiqian.consensus.comet.rpc import CometRpc
from feiqian.consensus.genesis_file import InvalidGenesis, load_genesis
from feiqian.core.errors import Fault
from feiqian.core.settings import SettingsError
from feiqian.core.wire import Drop
from feiqian.execution.registry import Registry, discover
from feiqian.index.database import database_url, open_engine
from feiqian.index.durable import open_durable
from feiqian.index.reading import IndexReader
from feiqian.ledger.parameters import get_parameters
from feiqian.ledger.records import DAY_MS
from feiqian.process.logs import configure_logs
from feiqian.process.privacy import keep_files_private
from feiqian.process.readiness import tell_ready
from feiqian.process.settings import comet_rpc_port, settings_text
from feiqian.process.sockets import check_socket_path, hold_socket
from feiqian.state.store import Store
from feiqian.vault.store import open_vault
from feiqian.vault.sweep import Sweeper

DONE = 0
WRONG_USAGE = 2
FAULT = 3
HOUR_MS = 3_600_000
INDEX_PAUSE_S = 1.0
STORE_WAIT_S = 0.1
OTHER_DESCRIPTORS = 512
"""Kept for databases, threads, the index process and what else a process opens."""

log = structlog.get_logger("feiqian.api")


def main(arguments: list[str]) -> int:
    """Run the gateway of the directory named; return its exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m feiqian.api DIR\n")
        return WRONG_USAGE
    directory = Path(arguments[0]).absolute()
    try:
        keep_files_private()
        settings = read_gateway_settings(directory)
        configure_logs(settings.log_level, "gateway")
        settings = fit_to_descriptors(settings, _raise_descriptor_limit())
        uvloop.run(run(directory, settings))
    except (SettingsError, InvalidGenesis, FileNotFoundError) as error:
        sys.stderr.write(f"feiqian gateway: {error}\n")
        return WRONG_USAGE
    except Exception as error:
        log.critical("fault", error=str(error), exc_info=error)
        return FAULT
    return DONE


async def run(directory: Path, settings: GatewaySettings) -> None:
    """Serve until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    store = await _open_store(directory, stopping)
    if store is None:
        return
    edges = discover_edges()
    gateway = make_gateway(directory, settings, store, edges)
    app = Limits(create_app(gateway, edges), settings, gateway.metrics)
    tasks = [
        asyncio.create_task(gateway.link.run(), name="node link"),
        asyncio.create_task(gateway.feed.run(), name="event feed"),
        asyncio.create_task(_keep_index(directory), name="index"),
        asyncio.create_task(_keep_swept(gateway), name="vault sweep"),
    ]
    server, serving, upstream = await _start_server(app, settings)
    front = Front(settings, upstream, gateway.metrics)
    host, port = await front.start()
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    log.info("serving", address=address)
    print(f"feiqian gateway: {address}", flush=True)
    tell_ready(address)
    stopped = asyncio.create_task(stopping.wait())
    ended, _ = await asyncio.wait([stopped, serving, *tasks], return_when=asyncio.FIRST_COMPLETED)
    log.info("stopping")
    await front.stop()
    for task in tasks:
        await cancel_and_wait(task)
    await _stop_server(server, serving)
    store.close()
    if gateway.ledger.origin is not None:
        gateway.ledger.origin.store.close()
    for task in ended - {stopped}:
        # None of them ends by itself but by a fault of ours.
        raise Fault(f"{task.get_name()} ended") from (None if task.cancelled() else task.exception())


def make_gateway(directory: Path, settings: GatewaySettings, store: Store, edges: Sequence[Edge]) -> Gateway:
    """Put a gateway's parts together."""
    registry = discover()
    genesis = load_genesis(directory / "genesis.json")
    data = directory / "data"
    ledger = LedgerView(store, registry, genesis, _open_origin(directory / "origin", registry))
    index = IndexReader(open_engine(database_url(settings.database, directory)))
    metrics = GatewayMetrics()
    link = NodeLink(data / "node.sock", lambda: store.height)
    drops = Drops(ledger.parties)
    watch = StoreWatch(lambda: store.height)
    archive_watch = StoreWatch(lambda: (store.archived_heights() or (0, 0))[1])
    submitter = Submitter(link, store.height, archive_watch, lambda ids: look_up(ledger, index, ids), drops)
    link.on_block = submitter.saw_block
    link.on_connect = submitter.reconnected
    sessions = Sessions(store, genesis.chain_id, load_or_make_key(data / "session.key"), settings.session_s * 1000)
    feed = EventFeed(index)

    def dropped(told: tuple[Drop, ...]) -> None:
        submitter.saw_dropped(told)
        feed.wake()

    link.on_dropped = dropped
    metrics.watch_indexed(lambda: feed.height)
    vault = open_vault(data / "vault.db")
    declared = [edge.notes for edge in edges if edge.notes is not None]
    notes = {name: open_durable(data / f"{name}.db", tables) for name, tables in declared}
    port = comet_rpc_port(settings_text(directory), os.environ)
    comet = None if port is None else CometRpc(f"http://127.0.0.1:{port}")
    return Gateway(settings, ledger, index, link, watch, submitter, drops, sessions, feed, metrics, vault, notes, comet)


def _open_origin(directory: Path, registry: Registry) -> LedgerView | None:
    """Open the ledger that was handed over to this network, None where there was none."""
    store = try_open_store(directory / "data")
    return None if store is None else LedgerView(store, registry, load_genesis(directory / "genesis.json"))


async def _open_store(directory: Path, stopping: asyncio.Event) -> Store | None:
    """Open the ledger's store for reading, waiting for the node to make it; None if told to stop meanwhile."""
    while not stopping.is_set():
        store = try_open_store(directory / "data")
        if store is not None:
            return store
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), STORE_WAIT_S)
    return None


async def _start_server(app: Any, settings: GatewaySettings) -> tuple[Server, asyncio.Task[None], Path]:
    """Start the HTTP server; return it with its task and the path to connect to.

    Its socket loses its name as soon as it listens, so that nothing stays behind however this process ends.
    """
    with tempfile.TemporaryDirectory(prefix="feiqian-gateway-") as private:
        path = Path(private) / "http.sock"
        check_socket_path(path, "set TMPDIR to a directory with a shorter path")
        server = _make_server(app, settings, path)
        serving = asyncio.create_task(server.serve(), name="http server")
        await _until_exists(path, serving)
        return server, serving, hold_socket(path)


def _make_server(app: Any, settings: GatewaySettings, path: Path) -> Server:
    return Server(
        app,
        uds=path,
        interface=Interfaces.ASGINL,
        # HTTP/1 only: in its automatic mode the server waits without limit for the first bytes.
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=settings.header_s * 1000, max_buffer_size=max(64 * 1024, settings.header_bytes * 2)
        ),
        websockets=False,
        backlog=4096,
        backpressure=settings.requests + 64,
        log_enabled=False,
    )


async def _stop_server(server: Server, serving: asyncio.Task[None]) -> None:
    server.stop()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(serving, 5)


async def _until_exists(path: Path, serving: asyncio.Task[None]) -> None:
    while not path.exists():  # noqa: ASYNC240 - one stat a while, on a file in memory
        if serving.done():
            serving.result()
            raise Fault("the HTTP server did not start")
        await asyncio.sleep(0.01)


async def _keep_swept(gateway: Gateway) -> None:
    settings, ledger = gateway.settings, gateway.ledger
    sweeper = Sweeper(
        gateway.vault,
        gateway.index,
        genesis_height=ledger.genesis.initial_height - 1,
        grace_ms=settings.vault_grace_hours * HOUR_MS,
        longest_approval_ms=lambda: get_parameters(ledger.state()).max_approval_days * DAY_MS,
        clock_ms=lambda: time.time_ns() // 1_000_000,
    )
    await keep_swept(sweeper, ledger, gateway.feed, gateway.metrics, settings.vault_sweep_s)


async def _keep_index(directory: Path) -> None:
    """Keep the index process running; it ends with this one, whichever way this one ends."""
    while True:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "feiqian.api.indexer",
            str(directory),
            "--until-stdin-closes",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise
        log.error("index_process_ended", status=status)
        await asyncio.sleep(INDEX_PAUSE_S)


def fit_to_descriptors(settings: GatewaySettings, limit: int) -> GatewaySettings:
    """Return the settings with connections cut to what this many descriptors carry.

    A connection takes one, and two more while it is joined to the server.
    """
    free = max(64, limit - OTHER_DESCRIPTORS)
    requests = min(settings.requests, max(16, free // 6))
    connections = min(settings.connections, free - 2 * requests)
    if (requests, connections) != (settings.requests, settings.connections):
        log.warning("fewer_connections", descriptors=limit, requests=requests, connections=connections)
    return msgspec.structs.replace(settings, requests=requests, connections=connections)


def _raise_descriptor_limit() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
