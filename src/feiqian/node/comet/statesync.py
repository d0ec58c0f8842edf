"""What answers CometBFT in a node without a ledger: it takes a snapshot from peers, piece by piece, and checks it.

Nothing of a snapshot is in place before all of it was checked, and then it is there whole. A process that ends before
leaves pieces that the next one throws away; CometBFT then fetches them again.
"""

import asyncio
import os
import shutil
from collections.abc import Iterable
from typing import NamedTuple

import structlog

from feiqian.consensus.comet import abci_pb2 as pb
from feiqian.consensus.comet.server import Application
from feiqian.consensus.genesis_file import Genesis
from feiqian.consensus.joining import Vouched, join
from feiqian.core.errors import Fault
from feiqian.execution.registry import Registry
from feiqian.ledger.records import Parameters
from feiqian.node.comet.peers import ACCEPTED, PeerFilter
from feiqian.node.comet.snapshots import FORMAT, MAX_PIECES, PIECE_BYTES, hash_of, piece_hash
from feiqian.node.configuration import Layout
from feiqian.node.initialise import make_store
from feiqian.state.errors import SnapshotRefused
from feiqian.state.files import open_private, reason_of, sync_directory
from feiqian.state.store import Store

RETRY = 32_000
"""CometBFT lets a transaction come again soon whose code is at least this (abci/types/types.go)."""

HASH_BYTES = 32

_OFFER = pb.ResponseOfferSnapshot
_APPLIED = pb.ResponseApplySnapshotChunk


class _Offer(NamedTuple):
    """The snapshot that is being fetched: what is known of it, its pieces' hashes and the places of those that came."""

    vouched: Vouched
    pieces: tuple[bytes, ...]
    arrived: set[int]


def is_joining(layout: Layout, *, state_sync: bool) -> bool:
    """Say whether a node has no ledger that it may go on with yet: then a `JoiningApplication` answers CometBFT.

    A ledger that came by a snapshot and has run no block may be one that CometBFT has not taken note of: where it was
    killed just then, it offers snapshots again.
    """
    if not layout.ledger.exists():
        return state_sync
    store = Store.open(layout.ledger, read_only=True)
    try:
        return store.height >= store.initial_height and store.head.first_block > store.height
    finally:
        store.close()


def known_nodes(genesis_nodes: Iterable[str], persistent_peers: str) -> frozenset[str]:
    """Return the ids of the nodes that may be peers before there is a ledger that says who may.

    They are those of the genesis and those that the operator names, `ID@HOST:PORT` separated by commas.
    """
    named = [peer.strip().partition("@")[0] for peer in persistent_peers.split(",")]
    return frozenset(filter(None, [*genesis_nodes, *named]))


class JoiningApplication:
    """Answers CometBFT until there is a ledger, and what only a ledger can answer when there is one.

    Belongs to one event loop, as `AbciServer.application` until that is the ledger's.
    """

    def __init__(
        self, layout: Layout, registry: Registry, genesis: Genesis, peers: frozenset[str], **options: int
    ) -> None:
        """Throw away what an earlier process left half done; `options` are those of `snapshots.make_store`.

        `peers` are ids of nodes that may connect: nobody else has a reason to before this one has a ledger.
        """
        self._layout = layout
        self._registry = registry
        self._genesis = genesis
        self._peers = PeerFilter(lambda: peers, "it is not known before the ledger is here; it may try again later")
        self._options = options
        self._pieces_file = layout.data / "offered.snapshot"
        self._beside = layout.ledger.with_name(layout.ledger.name + ".joining")
        self._offer: _Offer | None = None
        self._has_ledger = layout.ledger.exists()
        self._joined = asyncio.Event()
        self._successor: asyncio.Future[Application] = asyncio.get_running_loop().create_future()
        self._clear()

    async def joined(self) -> None:
        """Return when the ledger is in place and CometBFT goes on with it."""
        await self._joined.wait()

    def hand_over(self, application: Application) -> None:
        """Let the application of the ledger answer what waits for it."""
        self._successor.set_result(application)

    def stop(self) -> None:
        """Let go of the calls that wait for a ledger's application."""
        self._successor.cancel()

    # Before there is a ledger.

    async def info(self, request: pb.RequestInfo) -> pb.ResponseInfo:
        """Say that there is no block yet; where there is one, CometBFT goes on from it."""
        if self._has_ledger:
            self._joined.set()
            return await (await self._successor).info(request)
        parameters = self._genesis.app_state.get("parameters", {})
        return pb.ResponseInfo(data="feiqian", app_version=parameters.get("app_version", Parameters().app_version))

    async def query(self, request: pb.RequestQuery) -> pb.ResponseQuery:
        """Say whether a peer may stay: only nodes of the genesis and those that the operator names."""
        return self._peers.answer(request.path)

    async def check_tx(self, request: pb.RequestCheckTx) -> pb.ResponseCheckTx:
        """Refuse for now: nothing can be checked."""
        return pb.ResponseCheckTx(code=RETRY, log="this node has no ledger yet")

    async def insert_tx(self, request: pb.RequestInsertTx) -> pb.ResponseInsertTx:
        """Leave what peers take in: they offer it to others, and again."""
        return pb.ResponseInsertTx(code=ACCEPTED)

    async def reap_txs(self, request: pb.RequestReapTxs) -> pb.ResponseReapTxs:
        """Hand out nothing."""
        return pb.ResponseReapTxs()

    async def list_snapshots(self, request: pb.RequestListSnapshots) -> pb.ResponseListSnapshots:
        """Name none."""
        return pb.ResponseListSnapshots()

    async def load_snapshot_chunk(self, request: pb.RequestLoadSnapshotChunk) -> pb.ResponseLoadSnapshotChunk:
        """Return none."""
        return pb.ResponseLoadSnapshotChunk()

    # Blocks: only a ledger runs them.

    async def init_chain(self, request: pb.RequestInitChain) -> pb.ResponseInitChain:
        """Begin with the genesis: CometBFT runs every block from the first on."""
        if not self._has_ledger:
            await asyncio.to_thread(make_store, self._layout, self._registry, self._genesis)
            self._has_ledger = True
        self._joined.set()
        return await (await self._successor).init_chain(request)

    async def prepare_proposal(self, request: pb.RequestPrepareProposal) -> pb.ResponsePrepareProposal:
        """Hand on."""
        return await (await self._successor).prepare_proposal(request)

    async def process_proposal(self, request: pb.RequestProcessProposal) -> pb.ResponseProcessProposal:
        """Hand on."""
        return await (await self._successor).process_proposal(request)

    async def extend_vote(self, request: pb.RequestExtendVote) -> pb.ResponseExtendVote:
        """Hand on."""
        return await (await self._successor).extend_vote(request)

    async def verify_vote_extension(self, request: pb.RequestVerifyVoteExtension) -> pb.ResponseVerifyVoteExtension:
        """Hand on."""
        return await (await self._successor).verify_vote_extension(request)

    async def finalize_block(self, request: pb.RequestFinalizeBlock) -> pb.ResponseFinalizeBlock:
        """Hand on."""
        return await (await self._successor).finalize_block(request)

    async def commit(self, request: pb.RequestCommit) -> pb.ResponseCommit:
        """Hand on."""
        return await (await self._successor).commit(request)

    # Snapshots.

    async def offer_snapshot(self, request: pb.RequestOfferSnapshot) -> pb.ResponseOfferSnapshot:
        """Take a snapshot whose pieces can be checked one by one; what was begun of another is thrown away."""
        if self._joined.is_set():
            return await (await self._successor).offer_snapshot(request)
        self._offer = None
        offered = request.snapshot
        if offered.format != FORMAT:
            return _OFFER(result=_OFFER.REJECT_FORMAT)
        broken = _broken_rule(request, self._genesis.initial_height)
        if broken:
            structlog.get_logger().warning("snapshot_refused", height=offered.height, reason=broken)
            return _OFFER(result=_OFFER.REJECT)
        await asyncio.to_thread(self._begin)
        hashes = offered.metadata
        pieces = tuple([hashes[place : place + HASH_BYTES] for place in range(0, len(hashes), HASH_BYTES)])
        self._offer = _Offer(Vouched(offered.height, request.app_hash), pieces, set())
        structlog.get_logger().info("snapshot_accepted", height=offered.height, pieces=len(pieces))
        return _OFFER(result=_OFFER.ACCEPT)

    async def apply_snapshot_chunk(self, request: pb.RequestApplySnapshotChunk) -> pb.ResponseApplySnapshotChunk:
        """Take a piece; with the last one the ledger is made.

        Raises:
            WrongRelease: this is not the release that runs the ledger.
            Fault: the disk refuses.
        """
        offer, place = self._offer, request.index
        if offer is None or place >= len(offer.pieces):
            return self._refuse("a piece of no snapshot that was offered")
        if piece_hash(request.chunk) != offer.pieces[place]:
            structlog.get_logger().warning("snapshot_piece_refused", place=place, sender=request.sender)
            return _APPLIED(result=_APPLIED.RETRY, refetch_chunks=[place], reject_senders=[request.sender])
        is_last = place == len(offer.pieces) - 1
        if len(request.chunk) > PIECE_BYTES or (len(request.chunk) < PIECE_BYTES and not is_last):
            return self._refuse(
                f"piece {place} is of {len(request.chunk)} bytes; all but the last are of {PIECE_BYTES}"
            )
        await asyncio.to_thread(self._put_piece, place, request.chunk)
        offer.arrived.add(place)
        if len(offer.arrived) < len(offer.pieces):
            return _APPLIED(result=_APPLIED.ACCEPT)
        try:
            await asyncio.to_thread(self._make_ledger, offer.vouched)
        except SnapshotRefused as refusal:
            await asyncio.to_thread(self._clear)
            return self._refuse(refusal.message)
        self._offer, self._has_ledger = None, True
        height, app_hash = offer.vouched
        structlog.get_logger().info("snapshot_restored", height=height, app_hash=app_hash.hex())
        return _APPLIED(result=_APPLIED.ACCEPT)

    def _refuse(self, reason: str) -> pb.ResponseApplySnapshotChunk:
        structlog.get_logger().warning("snapshot_refused", reason=reason)
        self._offer = None
        return _APPLIED(result=_APPLIED.REJECT_SNAPSHOT)

    # On a thread.

    def _begin(self) -> None:
        """Make room for a snapshot. A ledger that CometBFT did not take note of gives way."""
        self._clear()
        try:
            if self._has_ledger:
                self._layout.ledger.rename(self._beside)
                self._has_ledger = False
                self._clear()
            open_private(self._pieces_file).close()
        except OSError as error:
            raise _disk_fault(error) from error

    def _put_piece(self, place: int, piece: bytes) -> None:
        try:
            with open_private(self._pieces_file) as file:
                file.seek(place * PIECE_BYTES)
                file.write(piece)
        except OSError as error:
            raise _disk_fault(error) from error

    def _make_ledger(self, vouched: Vouched) -> None:
        """Make the store beside its place and move it there, with the snapshot for audits to begin with.

        Raises:
            SnapshotRefused: it is not the state that is vouched for.
        """
        layout = self._layout
        join(self._pieces_file, self._genesis, vouched, self._beside, **self._options).close()
        try:
            with self._pieces_file.open("rb") as file:
                os.fsync(file.fileno())
            self._pieces_file.replace(layout.base_snapshot)
            # The ledger comes last: with it the node has joined.
            self._beside.rename(layout.ledger)
            sync_directory(layout.data)
        except OSError as error:
            raise _disk_fault(error) from error

    def _clear(self) -> None:
        """Remove whatever is not in place."""
        shutil.rmtree(self._beside, ignore_errors=True)
        self._pieces_file.unlink(missing_ok=True)
        if not self._has_ledger:
            self._layout.base_snapshot.unlink(missing_ok=True)


def _broken_rule(request: pb.RequestOfferSnapshot, initial_height: int) -> str:
    """Return the rule that an offer breaks, empty where it breaks none."""
    offered = request.snapshot
    if len(request.app_hash) != HASH_BYTES:
        return "nobody vouches for its app hash"
    if not initial_height <= offered.height < 2**63:
        return f"the chain begins at height {initial_height}"
    if not 0 < offered.chunks <= MAX_PIECES:
        return f"it has {offered.chunks} pieces; 1 to {MAX_PIECES} are accepted"
    if len(offered.metadata) != offered.chunks * HASH_BYTES:
        return "its metadata is not the hashes of its pieces"
    if hash_of(offered.metadata) != offered.hash:
        return "its hash is not that of its metadata"
    return ""


def _disk_fault(error: OSError) -> Fault:
    return Fault(f"joining: the snapshot cannot be written: {reason_of(error)}. Make room and start again")
