"""What a node of a network tells beside the figures of every node: proposals, gossip, peers, votes, snapshots."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from feiqian.ledger.validators import VALIDATORS
from feiqian.node.comet.follower import Follower
from feiqian.node.comet.offers import Offers
from feiqian.node.comet.snapshots import Snapshots
from feiqian.state.store import Store
from feiqian.state.tables import BlockState

CALLS = ("prepare_proposal", "process_proposal", "finalize_block", "commit")
"""CometBFT's calls whose time a block's pace depends on."""

CALL_BUCKETS_S = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)

GOSSIP = ("out", "in", "refused", "left")
"""Bundles: told to peers; taken from them; not a registered node's or malformed; left because too much is waiting."""


class NetworkMetrics:
    """Counters of one event loop."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Histogram(
            "feiqian_consensus_seconds",
            "Time to answer CometBFT, the idle wait of a proposer left out",
            ["call"],
            buckets=CALL_BUCKETS_S,
            registry=registry,
        )
        self.proposals_refused = Counter(
            "feiqian_proposals_refused", "Proposals that this node refused", ["rule"], registry=registry
        )
        self.gossip = Counter(
            "feiqian_gossip_bundles", "Bundles of transactions told by nodes to one another", ["way"], registry=registry
        )
        self.peers_refused = Counter(
            "feiqian_peers_refused", "Nodes turned away: the ledger does not register them", registry=registry
        )
        for call in CALLS:
            self._calls.labels(call)
        for way in GOSSIP:
            self.gossip.labels(way)

    @contextmanager
    def call(self, name: str) -> Iterator[None]:
        """Count the time of one of CometBFT's calls."""
        with self._calls.labels(name).time():
            yield


class NetworkCollector(Collector):
    """Reads at each scrape how old the last block is, how far the parts are, and whose vote counts how much."""

    def __init__(
        self, store: Store, clock_ms: Callable[[], int], follower: Follower, offers: Offers, snapshots: Snapshots
    ) -> None:
        self._store = store
        self._clock_ms = clock_ms
        self._follower = follower
        self._offers = offers
        self._snapshots = snapshots

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        age_s = max(0, self._clock_ms() - self._store.time_ms) / 1000
        yield GaugeMetricFamily("feiqian_block_age_seconds", "Time since that of the last block", age_s)
        yield GaugeMetricFamily(
            "feiqian_archived_height", "Height up to which signed headers are kept", self._follower.height
        )
        yield CounterMetricFamily(
            "feiqian_gossip_again", "Bundles that stayed uncommitted and were told again", self._offers.told_again
        )
        yield GaugeMetricFamily(
            "feiqian_snapshot_height", "Height of the newest snapshot, 0: none", self._snapshots.newest_height() or 0
        )
        yield GaugeMetricFamily(
            "feiqian_snapshot_seconds", "Time that the last snapshot took", self._snapshots.last_seconds
        )
        powers = GaugeMetricFamily("feiqian_validator_power", "Voting power", labels=["member", "validator"])
        for _, record in VALIDATORS.scan(BlockState(self._store)):
            powers.add_metric([record.member, record.name], record.power)
        yield powers
