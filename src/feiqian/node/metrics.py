"""The node's figures, in Prometheus's terms: heights, transactions, the pool, and where the time goes."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from feiqian.state.store import Store

STAGES = (
    "decode",
    "pool",
    "cut",
    "execute",
    "assemble",
    "log",
    "hand over",
    "archive",
    "tree",
    "commit",
    "prune",
    "publish",
)
"""What happens to a transaction, in order, beside the checks by the workers. From archive to prune: the committer's."""

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Metrics:
    """Counters that any thread may add to, read as one text."""

    def __init__(self) -> None:
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self.height = Gauge("feiqian_height", "Height of the last committed block", registry=self.registry)
        self.blocks = Counter("feiqian_blocks", "Blocks committed", ["kind"], registry=self.registry)
        self.transactions = Counter(
            "feiqian_transactions", "Transactions committed", ["outcome"], registry=self.registry
        )
        self.verdicts = Counter(
            "feiqian_verdicts", "The mempool's verdicts", ["verdict", "origin"], registry=self.registry
        )
        self.left_out = Counter(
            "feiqian_left_out", "Pooled transactions that no block may hold any more", registry=self.registry
        )
        self.subscribers = Gauge("feiqian_subscribers", "Connections that follow the ledger", registry=self.registry)
        self._cpu = Counter("feiqian_stage_cpu_seconds", "Processor time by stage", ["stage"], registry=self.registry)
        self._wall = Counter("feiqian_stage_seconds", "Elapsed time by stage", ["stage"], registry=self.registry)
        for stage in STAGES:
            self._cpu.labels(stage)
            self._wall.labels(stage)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the elapsed time, and this thread's processor time, of a block of code."""
        wall, cpu = time.perf_counter(), time.thread_time()
        yield
        self._wall.labels(name).inc(time.perf_counter() - wall)
        self._cpu.labels(name).inc(time.thread_time() - cpu)

    def add_stages(self, names: Sequence[str], elapsed_us: Sequence[int], cpu_us: Sequence[int]) -> None:
        """Count what another process has measured."""
        for name, elapsed, cpu in zip(names, elapsed_us, cpu_us, strict=True):
            self._wall.labels(name).inc(elapsed / 1_000_000)
            self._cpu.labels(name).inc(cpu / 1_000_000)

    def count_block(self, height: int, transactions: int, *, is_empty: bool) -> None:
        """Count a block that is on disk."""
        self.height.set(height)
        self.blocks.labels("empty" if is_empty else "full").inc()
        self.transactions.labels("committed").inc(transactions)

    def text(self) -> str:
        """Return every figure in Prometheus's text format."""
        return generate_latest(self.registry).decode()


class ProcessCollector(Collector):
    """Reads at each scrape what the pool holds, and what the node and its workers cost."""

    def __init__(self, pool_size: Callable[[], tuple[int, int]], pids: Mapping[str, int]) -> None:
        """`pids`: the processes by name."""
        self._pool_size = pool_size
        self._pids = pids

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        transactions, size_bytes = self._pool_size()
        yield GaugeMetricFamily("feiqian_pool_transactions", "Transactions in the pool", transactions)
        yield GaugeMetricFamily("feiqian_pool_bytes", "Memory that the pool accounts for", size_bytes)
        anonymous = GaugeMetricFamily("feiqian_rss_anon_bytes", "Memory that no file backs", labels=["process"])
        processor = CounterMetricFamily("feiqian_process_cpu_seconds", "Processor time", labels=["process"])
        for name, pid in self._pids.items():
            anonymous.add_metric([name], _anonymous_bytes(pid))
            processor.add_metric([name], _cpu_seconds(pid))
        yield anonymous
        yield processor


class StoreCollector(Collector):
    """Reads at each scrape how much the store takes, how much disk is left, and how far back it reaches."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        store, head = self._store, self._store.head
        yield GaugeMetricFamily("feiqian_store_bytes", "Size of the store's file", store.size_bytes())
        yield GaugeMetricFamily("feiqian_disk_free_bytes", "Free disk beside the store", store.free_disk_bytes())
        yield GaugeMetricFamily("feiqian_first_block", "First height whose block is held", head.first_block)
        yield GaugeMetricFamily(
            "feiqian_first_provable_height", "First height whose state can be proved", head.first_provable
        )


def _anonymous_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text("ascii", "replace").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def _cpu_seconds(pid: int) -> float:
    # proc(5): fields 14 and 15, counted after the command's name, which may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
