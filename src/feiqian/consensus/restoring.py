"""From a snapshot, and the blocks after it, to a store that goes on where they end: nothing is believed unsigned.

A snapshot is taken with the block after it, whose header carries its app hash. Restoring runs that block too: a ledger
that went on from the snapshot's own height would sign another one beside it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from feiqian.consensus import comet_json, headers, light, merkle
from feiqian.consensus.comet_json import MalformedJson
from feiqian.consensus.genesis_file import Genesis
from feiqian.consensus.light import InvalidTrail, KnownBlock, LightBlock, Trust
from feiqian.consensus.proving import archived_trail
from feiqian.core.encoding import encode
from feiqian.core.errors import InvalidTransaction
from feiqian.execution.admission import Prepared, prepare
from feiqian.execution.blocks import BLOCK, Block, Unprepared, execute_block, open_bundle
from feiqian.execution.registry import Registry
from feiqian.ledger.context import BlockInfo
from feiqian.state import snapshots
from feiqian.state.archive import ArchiveRow
from feiqian.state.errors import OutsideWindow, SegmentRefused, SnapshotRefused
from feiqian.state.replay import MAX_REPLAY_WINDOW_MS
from feiqian.state.segments import SegmentRow, row_of
from feiqian.state.snapshots import Evidence, Manifest, Snapshot
from feiqian.state.store import HeightWrites, Store

_NS_PER_MS = 1_000_000


class Checked(NamedTuple):
    """A snapshot whose app hash a signed header carries: that header's block, and by what it is trusted.

    `trail` are blocks by which the genesis leads to it.
    """

    snapshot: Snapshot
    own: LightBlock | None
    following: SegmentRow
    trust: Trust
    trusted: str
    trail: tuple[ArchiveRow, ...] = ()


def evidence_for(store: Store, height: int, genesis: Genesis) -> Evidence:
    """Return the signed blocks by which a stranger can check a snapshot of `height`.

    Where the archive does not lead from the genesis to them, the stranger has to know one of them.

    Raises:
        OutsideWindow: that block, or the one after it, is no longer held or not committed yet.
    """
    is_before_first = height == store.initial_height - 1
    is_early = height < store.initial_height
    own = None if is_early else store.archive_row(height)
    following = None if is_early and not is_before_first else row_of(store, height + 1)
    if following is None or following.archive is None or (own is None and not is_before_first):
        head = store.head
        raise OutsideWindow(height, max(head.first_provable, head.first_block - 1), head.height - 1)
    try:
        trail = archived_trail(store, genesis, height + 1)[:-1]
    except InvalidTrail:
        trail = []
    before_window = _before_window(store, genesis, trail, height, following.time_ms)
    return Evidence(own, following, before_window, tuple([light.archive_row(block) for block in trail]))


def check_snapshot(path: str | Path, genesis: Genesis, known: KnownBlock | None = None) -> Checked:
    """Read a snapshot and check all of it, trusting only the genesis, or a block that the caller knows.

    A `known` block counts here where it is the snapshot's own or the one after it.

    Raises:
        SnapshotRefused: damaged, of another chain, not signed, or not what is signed.
    """
    manifest, evidence = snapshots.read_evidence(path)
    if evidence is None:
        raise SnapshotRefused("snapshot: it holds no signed block to check it by; take one with `feiqian snapshot`")
    if (manifest.chain_id, manifest.initial_height) != (genesis.chain_id, genesis.initial_height):
        raise SnapshotRefused(f"snapshot: it is of chain {manifest.chain_id!r}; the genesis is of {genesis.chain_id!r}")
    try:
        own = None if evidence.own is None else light.light_block(evidence.own)
        following = _signed_block(evidence.following, manifest.height + 1)
        trail = check_trail(genesis, evidence, following)
        trusted = _walk(genesis, trail, own, following, known)
        _check_own(genesis, manifest, own, following)
        _check_window(genesis, manifest, evidence, trail, following)
    except (InvalidTrail, MalformedJson) as error:
        raise SnapshotRefused(f"snapshot: {error}") from None
    snapshot = snapshots.read(path, following.header.app_hash, evidence.replay_from)
    trust = light.trust_in_genesis(genesis) if own is None else light.trust_in_block(own)
    return Checked(snapshot, own, evidence.following, trust, trusted, evidence.trail)


def check_trail(genesis: Genesis, evidence: Evidence, following: LightBlock) -> list[LightBlock]:
    """Check the blocks that came with a snapshot to lead from the genesis to the one after it, and return them.

    Raises:
        InvalidTrail, MalformedJson: they do not.
    """
    trail = [light.light_block(row) for row in evidence.trail]
    if trail:
        light.verify_trail(genesis, [*trail, following])
    return trail


def begin(checked: Checked, into: str | Path, **options: int) -> Store:
    """Make a store of a checked snapshot; the signed blocks it came with are archived, so that another can be taken.

    `options` are those of `snapshots.make_store`.

    Raises:
        Fault: there is a ledger in `into` already, or the disk refuses.
    """
    store = snapshots.make_store(checked.snapshot, into, **options)
    evidence = checked.snapshot.evidence
    assert evidence is not None
    given = (*checked.trail, evidence.before_window, evidence.own)
    store.put_archive(*[row for row in given if row is not None], is_for_good=True)
    return store


def replay(
    store: Store, registry: Registry, genesis: Genesis, trust: Trust, rows: Iterable[SegmentRow]
) -> Iterator[LightBlock]:
    """Run blocks on a store, one after another, and yield each one's light block once it is on disk.

    `trust` is that in the store's last block.

    Raises:
        SegmentRefused: a block does not follow, is not signed, or running it gives something else than it says.
        Fault: this release cannot run a height (another era's rules), or the disk refuses.
    """
    for row in rows:
        try:
            block = _signed_block(row, store.height + 1)
            trust = light.verify_block(trust, block)
        except (InvalidTrail, MalformedJson) as error:
            raise SegmentRefused(f"segment: {error}") from None
        _run(store, registry, genesis, row, block)
        yield block


def _run(store: Store, registry: Registry, genesis: Genesis, row: SegmentRow, signed: LightBlock) -> None:
    """Run a block whose header is trusted, compare what comes out, and commit it."""
    try:
        block = BLOCK.decode(row.block)
        transactions = [each for bundle in block.bundles for each in open_bundle(bundle)]
    except InvalidTransaction as error:
        raise SegmentRefused(f"segment: block {row.height} is malformed: {error.message}") from None
    _check_content(row, block, signed, store.app_hash)
    info = BlockInfo(genesis.chain_id, row.height, row.time_ms)
    prepared = [_prepared(registry, genesis.chain_id, each) for each in transactions]
    outcome = execute_block(registry, store, store, info, prepared, misbehaviour=block.misbehaviour)
    if encode(outcome.results) != row.results:
        raise SegmentRefused(f"segment: running block {row.height} gives other results than it says")
    staged = store.stage(
        HeightWrites(
            row.height, row.time_ms, row.block, outcome.results, outcome.changes, outcome.replay_ids, row.archive
        )
    )
    if staged.app_hash != row.app_hash:
        raise SegmentRefused(f"segment: running block {row.height} gives another state root than it says")
    store.commit(staged)


def _check_content(row: SegmentRow, block: Block, signed: LightBlock, app_hash: bytes) -> None:
    claims = {
        "height": (block.height, row.height),
        "time": (block.time_ms, row.time_ms),
        "signed time": (row.time_ms, signed.header.time_ns // _NS_PER_MS),
        "transactions": (headers.data_hash(block.bundles), signed.header.data_hash),
        "state before it": (app_hash, signed.header.app_hash),
    }
    if block.misbehaviour:
        claims["misbehaviour"] = (signed.header.evidence_hash != merkle.EMPTY_HASH, True)
    for name, (found, expected) in claims.items():
        if found != expected:
            raise SegmentRefused(f"segment: block {row.height}: {name} is not what its header says")


def _prepared(registry: Registry, chain_id: str, signed: bytes) -> Prepared | Unprepared:
    try:
        return prepare(registry, chain_id, signed)
    except InvalidTransaction as error:
        return Unprepared(signed, error.with_traceback(None))


def _signed_block(row: SegmentRow, height: int) -> LightBlock:
    if row.height != height:
        raise InvalidTrail(f"block {height} should follow, and block {row.height} does")
    if row.archive is None:
        raise InvalidTrail(f"height {height}: header and commit are missing")
    block = light.light_block(row.archive)
    if block.header.height != height:
        raise InvalidTrail(f"height {height}: its header says {block.header.height}")
    return block


def _walk(
    genesis: Genesis,
    trail: list[LightBlock],
    own: LightBlock | None,
    following: LightBlock,
    known: KnownBlock | None,
) -> str:
    """Verify the block after the snapshot and return in words by what it is trusted."""
    if known is not None and own is not None and known.height == own.header.height:
        return light.verify_trail(genesis, [own, following], known).trusted
    if known is not None and known.height == following.header.height:
        return light.verify_trail(genesis, [following], known).trusted
    return light.verify_trail(genesis, [*trail, following]).trusted


def _check_own(genesis: Genesis, manifest: Manifest, own: LightBlock | None, following: LightBlock) -> None:
    """Check what the manifest says of its own height, by the hash that the next header has of it."""
    if own is None:
        if (manifest.height, manifest.time_ms) != (genesis.initial_height - 1, genesis.time_ms):
            raise InvalidTrail(f"height {manifest.height}: header and commit are missing")
        return
    light.check_block(genesis.chain_id, own)
    if own.header.height != manifest.height or own.header.hash() != following.header.last_block_id.hash:
        raise InvalidTrail(f"height {manifest.height}: its header is not the one that the next block follows")
    if own.header.time_ns // _NS_PER_MS != manifest.time_ms:
        raise InvalidTrail(f"height {manifest.height}: its time is not that of its header")


def _check_window(
    genesis: Genesis, manifest: Manifest, evidence: Evidence, trail: list[LightBlock], following: LightBlock
) -> None:
    if evidence.before_window is None:
        return
    before = light.light_block(evidence.before_window)
    if before.header.height != evidence.before_window.height or before.header.height > manifest.height:
        raise InvalidTrail(f"height {before.header.height}: it is not a block before the replay window")
    light.verify_block(_trust_below(genesis, trail, before.header.height), before)
    if before.header.time_ns + MAX_REPLAY_WINDOW_MS * _NS_PER_MS >= following.header.time_ns:
        raise InvalidTrail(f"height {before.header.height}: ids that it used up may still count")


def _trust_below(genesis: Genesis, trail: list[LightBlock], height: int) -> Trust:
    """Return the trust in the last block of a trail that lies before a height, or in the genesis."""
    below = [block for block in trail if block.header.height < height]
    return light.trust_in_block(below[-1]) if below else light.trust_in_genesis(genesis)


def _before_window(
    store: Store, genesis: Genesis, trail: list[LightBlock], height: int, time_ms: int
) -> ArchiveRow | None:
    """Return the last archived block up to `height` whose ids no longer count at `time_ms`, and that trust reaches."""
    row = store.archive_row_below(height + 1)
    while row is not None and not _is_before_window(genesis, trail, row, time_ms):
        row = store.archive_row_below(row.height)
    return row


def _is_before_window(genesis: Genesis, trail: list[LightBlock], row: ArchiveRow, time_ms: int) -> bool:
    if _time_ms(row) + MAX_REPLAY_WINDOW_MS >= time_ms:
        return False
    return light.reaches(_trust_below(genesis, trail, row.height), light.light_block(row))


def _time_ms(row: ArchiveRow) -> int:
    header = comet_json.parse(row.header, comet_json.HeaderJson, "header")
    return comet_json.read_header(header).time_ns // _NS_PER_MS
