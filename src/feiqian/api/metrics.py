"""The gateway's own figures in Prometheus's terms; `/metrics` gives them together with the node's."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

LATENCY_BUCKETS_S = (0.001, 0.005, 0.02, 0.1, 0.5, 1, 5, 30)


class GatewayMetrics:
    """Counters of one gateway."""

    def __init__(self) -> None:
        disable_created_metrics()
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "feiqian_http_requests", "Requests answered", ["method", "route", "status"], registry=self.registry
        )
        self.latency = Histogram(
            "feiqian_http_seconds",
            "Time to answer, event streams left out",
            ["route"],
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.submitted = Counter(
            "feiqian_http_transactions", "Transactions submitted", ["outcome"], registry=self.registry
        )
        self.streams = Gauge("feiqian_event_streams", "Open event streams", registry=self.registry)
        self.connections = Gauge("feiqian_connections", "Open connections", registry=self.registry)
        self.refused = Counter(
            "feiqian_connections_refused", "Connections closed by a limit", ["limit"], registry=self.registry
        )
        self.vault_swept = Counter(
            "feiqian_vault_swept", "Documents that the vault's sweep cleared", ["reason"], registry=self.registry
        )
        for reason in ("unnamed", "ended"):
            self.vault_swept.labels(reason)
        self.indexed = Gauge("feiqian_indexed_height", "Height up to which the index has all", registry=self.registry)

    def watch_indexed(self, height: Callable[[], int | None]) -> None:
        """Read the index's height at each scrape."""
        self.indexed.set_function(lambda: height() or 0)

    def text(self) -> str:
        """Return every figure in Prometheus's text format."""
        return generate_latest(self.registry).decode()
