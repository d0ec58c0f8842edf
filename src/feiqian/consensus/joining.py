"""Joining a network by a snapshot of which one thing is known, its app hash; whatever else it says is checked by that.

CometBFT's light client vouches for the app hash. The state behind it names the validators, and their signatures tell
the snapshot's own block and the next from forged ones: of a height that near, most validators are still the same.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from feiqian.consensus import light
from feiqian.consensus.comet_json import MalformedJson
from feiqian.consensus.genesis_file import Genesis
from feiqian.consensus.headers import Validator, ValidatorSet
from feiqian.consensus.light import InvalidTrail, LightBlock, Trust
from feiqian.consensus.restoring import Checked, begin, check_trail
from feiqian.execution.upgrades import check_release
from feiqian.ledger.validators import validator_set
from feiqian.state import snapshots
from feiqian.state.archive import ArchiveRow
from feiqian.state.errors import SnapshotRefused
from feiqian.state.replay import MAX_REPLAY_WINDOW_MS
from feiqian.state.snapshots import Evidence
from feiqian.state.store import Store
from feiqian.state.tables import BlockState

_NS_PER_MS = 1_000_000


class Vouched(NamedTuple):
    """What is known of a height: the state root that the next block's header has of it."""

    height: int
    app_hash: bytes


def join(path: Path, genesis: Genesis, vouched: Vouched, into: Path, **options: int) -> Store:
    """Make a store of a snapshot, with the signed blocks it came with; `options` are those of `snapshots.make_store`.

    What was made of a snapshot that is then refused is left in `into`, closed.

    Raises:
        SnapshotRefused: damaged, of another chain or height, or not the state that is vouched for.
        WrongRelease: this is not the release that runs the next height.
        Fault: there is a ledger in `into` already, or the disk refuses.
    """
    manifest, evidence = snapshots.read_evidence(path)
    claimed = (manifest.chain_id, manifest.initial_height, manifest.height)
    expected = (genesis.chain_id, genesis.initial_height, vouched.height)
    if claimed != expected:
        raise SnapshotRefused(f"snapshot: it is of {claimed}, not of {expected} (chain, initial height, height)")
    if evidence is None or evidence.own is None:
        raise SnapshotRefused("snapshot: it holds no signed block of its own height")
    try:
        own, following = light.light_block(evidence.own), _following(evidence)
        _check_blocks(genesis.chain_id, own, following, vouched)
        trail = check_trail(genesis, evidence, following)
    except (InvalidTrail, MalformedJson) as error:
        raise SnapshotRefused(f"snapshot: {error}") from None
    if manifest.time_ms != own.header.time_ns // _NS_PER_MS:
        raise SnapshotRefused("snapshot: its time is not that of its height's header")
    snapshot = snapshots.read(path, vouched.app_hash, evidence.replay_from)
    trusted = f"the app hash {vouched.app_hash.hex()} of block {vouched.height}, for which CometBFT vouches"
    trust = light.trust_in_block(own)
    store = begin(Checked(snapshot, own, evidence.following, trust, trusted, evidence.trail), into, **options)
    try:
        _check_signers(store, genesis, evidence, trail, following)
        check_release(BlockState(store), store.height + 1)
    except (InvalidTrail, MalformedJson) as error:
        store.close()
        raise SnapshotRefused(f"snapshot: {error}") from None
    except BaseException:
        store.close()
        raise
    return store


def _following(evidence: Evidence) -> LightBlock:
    if evidence.following.archive is None:
        raise InvalidTrail(f"height {evidence.following.height}: header and commit are missing")
    return light.light_block(evidence.following.archive)


def _check_blocks(chain_id: str, own: LightBlock, following: LightBlock, vouched: Vouched) -> None:
    """Check that each of the two blocks is sound in itself, and that they fit each other and the app hash."""
    for block, height in ((own, vouched.height), (following, vouched.height + 1)):
        if block.header.height != height:
            raise InvalidTrail(f"height {height}: the header given for it is of {block.header.height}")
        light.check_block(chain_id, block)
    if following.header.app_hash != vouched.app_hash:
        raise InvalidTrail(f"height {following.header.height}: its header has another app hash than is vouched for")
    if following.header.last_block_id.hash != own.header.hash():
        raise InvalidTrail(f"height {own.header.height}: its header is not the one that the next block follows")


def _check_signers(
    store: Store, genesis: Genesis, evidence: Evidence, trail: Sequence[LightBlock], following: LightBlock
) -> None:
    """Check by the state, which is the trusted one, that the network signed the blocks that came with it."""
    trusts = [light.trust_in_genesis(genesis), *map(light.trust_in_block, trail)]
    current = _validators_of(store)
    if current is not None:
        if following.header.next_validators_hash != current.hash():
            raise InvalidTrail(f"height {following.header.height}: it announces other validators than the ledger has")
        # They sign from the height after the next on; who signs before is judged by more than a third of their power.
        trusts = [Trust(genesis.chain_id, store.height + 2, following.header.time_ns, current, b""), *trusts]
    _check_reached(trusts, following)
    if evidence.before_window is not None:
        _check_window(genesis.chain_id, trusts, store.height, evidence.before_window, following)


def _validators_of(store: Store) -> ValidatorSet | None:
    """Return the validators that a state names, None where it names none: then they are the genesis' for ever."""
    named = validator_set(BlockState(store))
    return ValidatorSet.ordered([Validator(key, power) for key, power in named]) if named else None


def _check_window(chain_id: str, trusts: Sequence[Trust], height: int, row: ArchiveRow, following: LightBlock) -> None:
    """Check the block by which ids are said to be too old to count."""
    before = light.light_block(row)
    if before.header.height != row.height or row.height > height:
        raise InvalidTrail(f"height {before.header.height}: it is not a block before the replay window")
    light.check_block(chain_id, before)
    _check_reached(trusts, before)
    window_ns = MAX_REPLAY_WINDOW_MS * _NS_PER_MS
    if before.header.time_ns + window_ns >= following.header.time_ns:
        raise InvalidTrail(f"height {before.header.height}: ids that it used up may still count")


def _check_reached(trusts: Sequence[Trust], block: LightBlock) -> None:
    if not any(light.reaches(trust, block) for trust in trusts):
        raise InvalidTrail(
            f"height {block.header.height}: not more than 1/3 of the power of the ledger's validators signed it"
        )
