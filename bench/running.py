"""Ledgers that run under `feiqian start` while they are measured, and what their processes cost."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from feiqian.execution.blocks import RESULT, RESULTS_CODEC, Result, StoredResult
from feiqian.node.configuration import Layout
from feiqian.node.metrics import STAGES
from feiqian.node.workers import die_with_parent
from feiqian.state.store import Store
from feiqian.testing.processes import Channel

STOP_S = 60
POLL_S = 0.01
STILL_S = 60
"""A ledger under load that makes no block for so long has failed."""

_KINDS = {
    "feiqian.node": "node",
    "feiqian.node.committer": "committer",
    "feiqian.node.comet.committer": "committer",
    "feiqian.node.verifier": "verifiers",
    "feiqian.api": "gateway",
    "feiqian.api.indexer": "index",
    "feiqian.node.supervisor": "supervisor",
}


@contextmanager
def halted(pids: Sequence[int]) -> Iterator[None]:
    """Let none of these processes run meanwhile."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


class Mark(NamedTuple):
    """The moment at which a block was first seen to be committed."""

    height: int
    at_s: float


class Ledger:
    """One `feiqian start`: a solo ledger, or one validator of a network. Leaving the `with` block stops it.

    Made on the main thread: the supervisor ends when the thread that started it does.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.address = ""
        self._log = directory.with_name(directory.name + ".log").open("ab")
        command = [sys.executable, "-m", "feiqian.node.supervisor", str(directory)]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._log, preexec_fn=die_with_parent(signal.SIGTERM)
        )
        self._node: Channel | None = None

    def await_ready(self) -> None:
        """Return when it serves; end the benchmark where it ends before."""
        assert self._process.stdout is not None
        line = b""
        while b"http://" not in line:
            line = self._process.stdout.readline()
            if not line:
                words = Path(self._log.name).read_text("utf-8", "replace")[-2000:]
                raise SystemExit(f"the ledger did not start; its log {self._log.name} ends with:\n{words}")
        self.address = line.decode().split()[-1]
        self._node = Channel(Layout(self.directory).socket)

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self._process.pid

    @property
    def node(self) -> Channel:
        """A connection to the node."""
        assert self._node is not None, "it was awaited"
        return self._node

    def height(self) -> int:
        """Return the last committed height."""
        return self.node.status().height

    def next_block(self) -> Mark:
        """Return when the next block is committed."""
        before, until = self.height(), time.monotonic() + STILL_S
        while (height := self.height()) == before:
            if time.monotonic() > until:
                raise SystemExit(f"height {height} stood still for {STILL_S} s under load; see {self._log.name}")
            time.sleep(POLL_S)
        return Mark(height, time.monotonic())

    def drain(self) -> None:
        """Wait until everything sent is committed."""
        while self.node.metrics()["feiqian_pool_transactions"]:
            time.sleep(0.1)

    def index_height(self) -> int:
        """Return how far the gateway's index is; below 0 before it begins."""
        try:
            path = self.directory / "data" / "index.db"
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as index:
                return index.execute("SELECT height FROM index_marker").fetchone()[0]
        except (sqlite3.OperationalError, TypeError):
            return -1  # it has not begun

    def processor_s(self) -> dict[str, float]:
        """Return seconds of processor time so far by kind of process."""
        spent: defaultdict[str, float] = defaultdict(float)
        for pid in [self.pid, *descendants(self.pid)]:
            try:
                spent[kind_of(command_line(pid))] += cpu_s(pid)
            except OSError:
                continue  # it has just ended
        return dict(spent)

    def stages_s(self) -> dict[str, float]:
        """Return seconds of processor time so far by stage of a transaction's way through the node."""
        figures = self.node.metrics()
        return {stage: figures[f'feiqian_stage_cpu_seconds_total{{stage="{stage}"}}'] for stage in STAGES}

    def count_applied(self, heights: range) -> int:
        """Return how many transactions the store's blocks of these heights hold.

        Ends the benchmark where a block is missing or one of its transactions was refused: what was sent could be done.
        """
        with closing(Store.open(Layout(self.directory).ledger, read_only=True, is_read_in_order=True)) as store:
            count = 0
            for height in heights:
                block = store.block(height)
                if block is None:
                    raise SystemExit(f"block {height}, which was committed, is not in the store of {self.directory}")
                results = RESULTS_CODEC.decode_trusted(block.results)
                refused = [result for result in map(_opened, results) if result.number]
                if refused:
                    raise SystemExit(f"block {height} holds a refused transfer: {refused[0]}")
                count += len(results)
        return count

    def ask_to_stop(self) -> None:
        """Begin to stop it."""
        if self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> None:
        """Stop it and what it started."""
        if self._node is not None:
            self._node.close()
            self._node = None
        self.ask_to_stop()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its children end with it
            self._process.wait()
        self._log.close()

    def __enter__(self) -> Self:
        """Return it once it serves; the process itself was started before."""
        try:
            self.await_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _opened(stored: StoredResult) -> Result:
    return RESULT.decode_trusted(stored.result)


def since(begun: Mapping[str, float], ended: Mapping[str, float]) -> dict[str, float]:
    """Return what was added to each figure."""
    return {name: value - begun.get(name, 0) for name, value in ended.items()}


def added(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the sums of several processes' figures by name."""
    names = {name: 0.0 for part in parts for name in part}
    return {name: sum(part.get(name, 0) for part in parts) for name in names}


def kind_of(arguments: Sequence[str]) -> str:
    """Return what a process is, by its command line."""
    if arguments[1:2] == ["-m"]:
        return _KINDS.get(arguments[2], arguments[2])
    return Path(arguments[0]).name or "other"


def descendants(pid: int) -> list[int]:
    """Return the ids of every process below this one."""
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text("ascii").split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []  # it has just ended
    return children + [below for child in children for below in descendants(child)]


def command_line(pid: int) -> list[str]:
    """Return a process's command and arguments."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")


def cpu_s(pid: int) -> float:
    """Return the processor time of a process so far, in seconds (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
