"""What a node's process does whichever engine it runs: the clock, signals, its store and its figures."""

import asyncio
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from feiqian.core.errors import Fault
from feiqian.core.settings import SettingsError
from feiqian.node.configuration import Layout
from feiqian.node.faults import stop_loudly
from feiqian.node.mempool import Mempool
from feiqian.node.metrics import Metrics, ProcessCollector, StoreCollector
from feiqian.node.verifier import Verifiers
from feiqian.state.store import Store

CLEAR_READERS_S = 60


def clock_ms() -> int:
    """Return the time in milliseconds since 1970; the one clock that the node reads."""
    return time.time_ns() // 1_000_000


def await_signals() -> asyncio.Event:
    """Return what is set when the process is told to stop; from here on an error of the event loop's own ends it."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_stop_on_error)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


@contextmanager
def only_node(layout: Layout) -> Iterator[None]:
    """Hold the lock that one node of a directory holds.

    Raises:
        SettingsError: another node runs there.
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


def open_store(layout: Layout) -> Store:
    """Open the ledger's store for reading; another process writes it."""
    store = Store.open(layout.ledger, read_only=True)
    head = store.head
    structlog.get_logger().info("opened", chain_id=store.chain_id, height=head.height, app_hash=head.app_hash.hex())
    return store


def measure(metrics: Metrics, pool: Mempool, store: Store, committer_pid: int, verifiers: Verifiers) -> None:
    """Let the figures tell of the pool, the store and each process of the node."""
    pids = {"node": os.getpid(), "committer": committer_pid}
    pids |= {f"verifier-{number}": pid for number, pid in enumerate(verifiers.pids)}
    metrics.registry.register(ProcessCollector(lambda: pool.size, pids))
    metrics.registry.register(StoreCollector(store))


async def clear_stale_readers(store: Store) -> None:
    """Free the places of readers that died, each minute, for ever."""
    while True:
        await asyncio.sleep(CLEAR_READERS_S)
        store.clear_stale_readers()


def _stop_on_error(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    error = context.get("exception")
    fault = error if isinstance(error, BaseException) else Fault(str(context.get("message")))
    stop_loudly("event loop", fault)
