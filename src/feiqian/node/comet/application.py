"""What CometBFT calls, in its own messages: the ledger as an ABCI 2.0 application."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from feiqian.consensus.comet import abci_pb2 as pb
from feiqian.consensus.comet import gossip, translate
from feiqian.consensus.genesis_file import Genesis
from feiqian.consensus.headers import Validator
from feiqian.core.errors import Fault, InvalidBlock, InvalidTransaction
from feiqian.core.wire import Verdict
from feiqian.ledger.parameters import get_parameters
from feiqian.ledger.validators import NODES, Misbehaviour, validator_set
from feiqian.node.comet.engine import NetworkEngine, Proposed
from feiqian.node.comet.follower import Follower
from feiqian.node.comet.metrics import NetworkMetrics
from feiqian.node.comet.offers import Offers
from feiqian.node.comet.peers import ACCEPTED, REFUSED, PeerFilter
from feiqian.node.comet.retention import Retention
from feiqian.node.comet.snapshots import Snapshots
from feiqian.node.faults import guard_task
from feiqian.node.intake import Intake
from feiqian.state.store import Store
from feiqian.state.tables import BlockState

RETRY = 32_000
"""CometBFT lets a transaction come again soon whose code is at least this (abci/types/types.go)."""

PEER_BYTES = 32 * 2**20
"""Bundles of peers that may be on their way into the pool at once; further ones are offered again by who has them."""

NS_PER_MS = 1_000_000


class NetworkApplication:
    """Answers CometBFT's calls. Belongs to one event loop."""

    def __init__(
        self,
        genesis: Genesis,
        store: Store,
        engine: NetworkEngine,
        intake: Intake,
        offers: Offers,
        snapshots: Snapshots,
        follower: Follower,
        retention: Retention,
        metrics: NetworkMetrics,
        *,
        idle_s: float,
    ) -> None:
        """`idle_s`: how long a proposer waits for something to put into a block."""
        self._genesis = genesis
        self._store = store
        self._engine = engine
        self._intake = intake
        self._offers = offers
        self._snapshots = snapshots
        self._follower = follower
        self._retention = retention
        self._metrics = metrics
        self._idle_s = idle_s
        self._peer_bytes = 0
        self._peers = PeerFilter(
            self._registered,
            "it is not registered on the ledger",
            joined=offers.peer_joined,
            refused=metrics.peers_refused.inc,
        )
        self._nodes: frozenset[str] = frozenset()
        self._nodes_height = -1
        self._tasks: set[asyncio.Task[Any]] = set()
        self._decided_hash = b""

    # Where the ledger stands.

    async def info(self, request: pb.RequestInfo) -> pb.ResponseInfo:
        """Say which height is on disk: CometBFT tells again whatever comes after it."""
        head = self._store.head
        has_blocks = head.height >= self._genesis.initial_height
        return pb.ResponseInfo(
            data="feiqian",
            app_version=get_parameters(BlockState(self._store)).app_version,
            last_block_height=head.height if has_blocks else 0,
            last_block_app_hash=head.app_hash if has_blocks else b"",
        )

    async def init_chain(self, request: pb.RequestInitChain) -> pb.ResponseInitChain:
        """Begin the chain; the store was made from the same genesis file.

        Raises:
            Fault: CometBFT reads another genesis file than this node.
        """
        genesis = self._genesis
        given = (request.chain_id, request.initial_height, translate.time_ns(request.time))
        ours = (genesis.chain_id, genesis.initial_height, genesis.time_ns)
        if given != ours:
            raise Fault(f"CometBFT begins chain {given[0]!r} at height {given[1]}, this node {ours[0]!r} at {ours[1]}")
        validators = {Validator(key, power) for key, power in translate.validators(request.validators)}
        if validators != set(genesis.validator_set().validators):
            raise Fault("CometBFT begins with other validators than this node: their genesis files differ")
        if {Validator(key, power) for key, power in validator_set(BlockState(self._store))} != validators:
            raise Fault("the genesis file's validators are not those of its app_state: make the network's files anew")
        if translate.params(request.consensus_params) != genesis.params:
            raise Fault("CometBFT begins with other consensus parameters than this node: their genesis files differ")
        return pb.ResponseInitChain(app_hash=self._store.app_hash)

    async def query(self, request: pb.RequestQuery) -> pb.ResponseQuery:
        """Say whether a peer may stay: only nodes that governance registered."""
        return self._peers.answer(request.path)

    # Transactions.

    async def check_tx(self, request: pb.RequestCheckTx) -> pb.ResponseCheckTx:
        """Take in one signed transaction that came over CometBFT's RPC."""
        (verdict,) = await self._intake.submit([request.tx])
        code = ACCEPTED if not verdict.number else RETRY if verdict.retry_after_ms else REFUSED
        return pb.ResponseCheckTx(code=code, data=verdict.tx_id, log=verdict.message, codespace=_codespace(verdict))

    async def insert_tx(self, request: pb.RequestInsertTx) -> pb.ResponseInsertTx:
        """Take in a bundle that a peer took in. Answered at once: consensus of that peer waits behind it."""
        size_bytes = len(request.tx)
        if self._peer_bytes + size_bytes > PEER_BYTES:
            self._metrics.gossip.labels("left").inc()
            structlog.get_logger().warning("gossip_left", bytes=size_bytes, reason="too much is being checked")
            return pb.ResponseInsertTx(code=ACCEPTED)
        try:
            bundle = gossip.read_gossip(request.tx)
            teller = gossip.node_id(bundle.node_key)
            if teller not in self._registered():
                raise gossip.UnknownNode(f"node {teller} is not registered on the ledger")
        except InvalidTransaction as error:
            self._metrics.gossip.labels("refused").inc()
            structlog.get_logger().warning("gossip_refused", reason=error.message)
            return pb.ResponseInsertTx(code=ACCEPTED)
        self._metrics.gossip.labels("in").inc()
        self._peer_bytes += size_bytes
        self._start(self._take_in(bundle.transactions, teller, size_bytes), "gossip")
        return pb.ResponseInsertTx(code=ACCEPTED)

    async def reap_txs(self, request: pb.RequestReapTxs) -> pb.ResponseReapTxs:
        """Hand out what this node took in, for its peers."""
        bundles = self._offers.take(request.max_bytes or PEER_BYTES)
        self._metrics.gossip.labels("out").inc(len(bundles))
        return pb.ResponseReapTxs(txs=bundles)

    # Blocks.

    async def prepare_proposal(self, request: pb.RequestPrepareProposal) -> pb.ResponsePrepareProposal:
        """Propose a block of what waits; an idle ledger's proposer waits a little for something to put into it."""
        misbehaviour = _misbehaviour(request.misbehavior)
        if not misbehaviour:
            await self._engine.await_work(self._idle_s)
        time_ms = translate.time_ns(request.time) // NS_PER_MS
        with self._metrics.call("prepare_proposal"):
            proposed = await self._engine.propose(request.height, time_ms, request.max_tx_bytes, misbehaviour)
        return pb.ResponsePrepareProposal(txs=proposed.bundles)

    async def process_proposal(self, request: pb.RequestProcessProposal) -> pb.ResponseProcessProposal:
        """Accept a proposal, or refuse one that holds what no block may hold."""
        try:
            with self._metrics.call("process_proposal"):
                await self._engine.judge(_proposed(request))
        except InvalidBlock as refusal:
            self._metrics.proposals_refused.labels(refusal.rule).inc()
            structlog.get_logger().warning(
                "proposal_refused",
                height=request.height,
                proposer=request.proposer_address.hex(),
                reason=str(refusal),
            )
            return pb.ResponseProcessProposal(status=pb.ResponseProcessProposal.REJECT)
        return pb.ResponseProcessProposal(status=pb.ResponseProcessProposal.ACCEPT)

    async def extend_vote(self, request: pb.RequestExtendVote) -> pb.ResponseExtendVote:
        """Add nothing to a vote: extensions are not used."""
        return pb.ResponseExtendVote()

    async def verify_vote_extension(self, request: pb.RequestVerifyVoteExtension) -> pb.ResponseVerifyVoteExtension:
        """Accept a vote that nothing was added to."""
        status = (
            pb.ResponseVerifyVoteExtension.REJECT if request.vote_extension else pb.ResponseVerifyVoteExtension.ACCEPT
        )
        return pb.ResponseVerifyVoteExtension(status=status)

    async def finalize_block(self, request: pb.RequestFinalizeBlock) -> pb.ResponseFinalizeBlock:
        """Run a block that was decided."""
        with self._metrics.call("finalize_block"):
            finalised = await self._engine.finalise(_proposed(request))
        self._decided_hash = request.hash
        updates = finalised.updates
        return pb.ResponseFinalizeBlock(
            tx_results=[translate.exec_result(digest) for digest in finalised.bundle_results],
            app_hash=finalised.app_hash,
            validator_updates=[translate.validator_update(key, power) for key, power in updates.validators],
            consensus_param_updates=translate.param_updates(
                self._genesis.params, updates.max_block_bytes, updates.app_version
            ),
        )

    async def commit(self, request: pb.RequestCommit) -> pb.ResponseCommit:
        """Put the block on disk."""
        with self._metrics.call("commit"):
            block = await self._engine.commit()
        self._offers.committed(block.height, had_room=block.had_room)
        self._follower.reached(block.height, self._decided_hash)
        return pb.ResponseCommit(retain_height=self._retention.height())

    # Snapshots.

    async def list_snapshots(self, request: pb.RequestListSnapshots) -> pb.ResponseListSnapshots:
        """Name the snapshots that this node serves."""
        return await self._snapshots.list()

    async def load_snapshot_chunk(self, request: pb.RequestLoadSnapshotChunk) -> pb.ResponseLoadSnapshotChunk:
        """Return a part of a snapshot."""
        return await self._snapshots.load(request)

    async def offer_snapshot(self, request: pb.RequestOfferSnapshot) -> pb.ResponseOfferSnapshot:
        """Refuse: this node has a ledger, and CometBFT would only stand still without the chain that it lacks.

        Raises:
            Fault: always.
        """
        raise Fault(
            "CometBFT has lost its data and asks for a snapshot, while this node has a ledger: put comet/data back, or "
            "move the directory data away and join by state sync anew"
        )

    async def apply_snapshot_chunk(self, request: pb.RequestApplySnapshotChunk) -> pb.ResponseApplySnapshotChunk:
        """Refuse: none was accepted."""
        return pb.ResponseApplySnapshotChunk(result=pb.ResponseApplySnapshotChunk.ABORT)

    # Inside.

    def _registered(self) -> frozenset[str]:
        """Return the ids of the nodes that may be heard; read once a height, since every bundle asks."""
        height = self._engine.stored_height
        if self._nodes_height != height:
            self._nodes = frozenset(gossip.node_id(key) for key, _ in NODES.scan(BlockState(self._store)))
            self._nodes_height = height
        return self._nodes

    async def _take_in(self, transactions: tuple[bytes, ...], teller: str, size_bytes: int) -> None:
        try:
            await self._intake.submit(transactions, teller)
        finally:
            self._peer_bytes -= size_bytes

    def _start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = guard_task(asyncio.create_task(work, name=name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _proposed(request: pb.RequestProcessProposal | pb.RequestFinalizeBlock) -> Proposed:
    time_ms = translate.time_ns(request.time) // NS_PER_MS
    return Proposed(request.height, time_ms, tuple(request.txs), _misbehaviour(request.misbehavior))


def _misbehaviour(given: Any) -> tuple[Misbehaviour, ...]:
    return tuple(
        [
            Misbehaviour(each.kind, each.address, each.height, each.time_ns // NS_PER_MS, each.power)
            for each in map(translate.misbehaviour, given)
        ]
    )


def _codespace(verdict: Verdict) -> str:
    return f"{verdict.codespace}.{verdict.number}" if verdict.number else ""
