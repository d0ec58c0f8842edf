"""What a node of a network counts: each call, bundle and peer under its own name."""

import re
from typing import Any, cast

from prometheus_client import CollectorRegistry, generate_latest

from feiqian.consensus.comet import abci_pb2 as pb
from feiqian.consensus.comet.gossip import NodeKey, make_gossip
from feiqian.execution.admission import encode_bundle
from feiqian.node.comet.application import PEER_BYTES, NetworkApplication
from feiqian.node.comet.metrics import NetworkMetrics
from feiqian.node.comet.offers import Offers
from feiqian.node.comet.tests.conftest import Member, RunMember
from feiqian.node.process import clock_ms


def figures(registry: CollectorRegistry) -> dict[str, float]:
    """Return each counted figure that is not zero, times left out."""
    lines = re.findall(r"^(feiqian_\S+) (\S+)$", generate_latest(registry).decode(), re.MULTILINE)
    return {name: float(value) for name, value in lines if float(value) and not re.search(r"_bucket|_sum", name)}


def application_of(member: Member, registry: CollectorRegistry, node_key: NodeKey) -> NetworkApplication:
    """Return an application of which the parts that follow CometBFT are not asked."""
    away = cast(Any, None)
    offers = Offers(
        lambda counter, transactions: make_gossip(node_key, counter, transactions),
        1,
        lambda signed: member.pool.find(signed) is not None,
    )
    metrics = NetworkMetrics(registry)
    return NetworkApplication(
        member.genesis,
        member.store,
        member.engine,
        member.intake,
        offers,
        away,
        away,
        away,
        metrics,
        idle_s=0.0,
    )


def test_bundles_and_peers_are_counted_by_what_became_of_them(run_member: RunMember) -> None:
    async def test(member: Member) -> None:
        registry = CollectorRegistry()
        stranger = NodeKey(bytes(32))
        application = application_of(member, registry, stranger)
        sealed = make_gossip(stranger, 1, [member.ledger.transfer("treasury", "south", 1)])
        await application.insert_tx(pb.RequestInsertTx(tx=sealed))
        await application.insert_tx(pb.RequestInsertTx(tx=b"nothing"))
        await application.insert_tx(pb.RequestInsertTx(tx=bytes(PEER_BYTES + 1)))
        answer = await application.query(pb.RequestQuery(path=f"/p2p/filter/id/{stranger.node_id}"))
        assert answer.code == 1
        assert figures(registry) == {
            'feiqian_gossip_bundles_total{way="refused"}': 2,
            'feiqian_gossip_bundles_total{way="left"}': 1,
            "feiqian_peers_refused_total": 1,
        }

    run_member(test)


def test_a_refused_proposal_is_counted_by_the_rule_and_a_call_by_its_name(run_member: RunMember) -> None:
    async def test(member: Member) -> None:
        registry = CollectorRegistry()
        application = application_of(member, registry, NodeKey(bytes(32)))
        request = pb.RequestProcessProposal(height=3, txs=[encode_bundle(())])
        request.time.FromMilliseconds(clock_ms())
        for _ in range(2):
            answer = await application.process_proposal(request)
            assert answer.status == pb.ResponseProcessProposal.REJECT
        assert figures(registry) == {
            'feiqian_proposals_refused_total{rule="EmptyBundle"}': 2,
            'feiqian_consensus_seconds_count{call="process_proposal"}': 2,
        }

    run_member(test)
