"""A network's snapshot is checked from the genesis over every change of its validators, and its blocks run again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from feiqian.consensus import light
from feiqian.consensus.audit import audit, snapshot_base
from feiqian.consensus.light import KnownBlock, LightBlock
from feiqian.consensus.proving import archived_trail
from feiqian.consensus.restoring import Checked, begin, check_snapshot, evidence_for, replay
from feiqian.core.encoding import encode
from feiqian.execution.blocks import BLOCK, Block
from feiqian.execution.registry import Registry
from feiqian.ledger.validators import DUPLICATE_VOTE, Misbehaviour
from feiqian.state.errors import SegmentRefused, SnapshotRefused
from feiqian.state.segments import row_of
from feiqian.state.snapshots import Evidence, export
from feiqian.state.store import Store
from feiqian.testing.networks import FIRST, A, NetworkLedger, network_registry, signer_of

SMALL = {"map_bytes": 1 << 28, "reserve_bytes": 1 << 20}
MINUTE_NS = 60_000_000_000
TAKEN = 15
"""The height that is taken: all who founded the network have left before it."""


@pytest.fixture(scope="module")
def network_rules() -> Registry:
    return network_registry()


@pytest.fixture
def network(tmp_path: Path, network_rules: Registry) -> Iterator[NetworkLedger]:
    made = NetworkLedger(tmp_path / "ledger", network_rules)
    play(made, 11 * MINUTE_NS)
    yield made
    made.close()


def play(network: NetworkLedger, gap_ns: int) -> None:
    """Blocks 5 to 20, a gap before block 15; in each from block 6 to 13 one validator leaves and one comes in."""
    network.block(network.issue(100))
    for seed in range(5, 13):
        network.block(network.appoint({seed: 10, seed - 4: 0}), flags={1: A})
    network.block()
    network.block(after_ns=gap_ns)
    for _ in range(5):
        network.block(network.issue(1), flags={3: A})


def take(network: NetworkLedger, path: Path, evidence: Evidence | None = None) -> Path:
    path.unlink(missing_ok=True)
    export(network.store, TAKEN, path, evidence or evidence_for(network.store, TAKEN, network.genesis))
    return path


def block_at(store: Store, height: int) -> LightBlock:
    row = store.archive_row(height)
    assert row is not None
    return light.light_block(row)


def test_a_snapshot_is_checked_over_a_whole_turnover_and_goes_on(network: NetworkLedger, tmp_path: Path):
    evidence = evidence_for(network.store, TAKEN, network.genesis)
    assert len(evidence.trail) >= 2
    assert evidence.before_window is not None
    assert evidence.before_window.height == 14
    checked = check_snapshot(take(network, tmp_path / "s"), network.genesis)
    assert checked.trusted.startswith("the genesis of sample-1")
    copy = begin(checked, tmp_path / "copy", **SMALL)
    rows = [checked.following, *[row_of(network.store, height) for height in range(TAKEN + 2, 21)]]
    done = replay(copy, network.registry, network.genesis, checked.trust, [row for row in rows if row is not None])
    assert [block.header.height for block in done] == [16, 17, 18, 19, 20]
    assert (copy.height, copy.app_hash) == (20, network.store.app_hash)
    # Its own trails begin at the genesis, also once whatever can be given up is given up.
    while copy.prune(19, 1_000) or copy.prune_blocks(19, 100):
        pass
    trail = archived_trail(copy, network.genesis, 20)
    assert light.verify_trail(network.genesis, trail).last == block_at(network.store, 20)
    again = tmp_path / "again"
    export(copy, 19, again, evidence_for(copy, 19, network.genesis))
    assert check_snapshot(again, network.genesis).snapshot.manifest.height == 19
    copy.close()


def test_the_audit_begins_with_a_snapshot_that_the_genesis_does_not_reach(network: NetworkLedger, tmp_path: Path):
    checked = check_snapshot(take(network, tmp_path / "s"), network.genesis)
    base = snapshot_base(checked.snapshot, checked.trust)
    report = audit(network.store, network.registry, network.genesis, base=base, workers=1)
    assert (report.problems, report.first_height, report.last_height) == ((), TAKEN + 1, 20)
    other = base._replace(trust=checked.trust._replace(time_ns=checked.trust.time_ns - 1))
    report = audit(network.store, network.registry, network.genesis, base=other, workers=1)
    assert report.problems == ((TAKEN, "archive: the header is not that of the snapshot's block"),)


def test_a_snapshot_without_its_trail_needs_a_block_that_is_known(tmp_path: Path, network_rules: Registry):
    network = NetworkLedger(tmp_path / "ledger", network_rules)
    play(network, MINUTE_NS)
    evidence = changed(evidence_for(network.store, TAKEN, network.genesis), trail=())
    assert evidence.before_window is None
    path = take(network, tmp_path / "s", evidence)
    with pytest.raises(SnapshotRefused, match="a block between the two is missing"):
        check_snapshot(path, network.genesis)
    for height in (TAKEN, TAKEN + 1):
        known = KnownBlock(height, block_at(network.store, height).header.hash())
        checked = check_snapshot(path, network.genesis, known)
        assert checked.trusted.startswith(f"block {height} of sample-1")
    network.close()


def test_a_trail_that_leads_elsewhere_or_holds_what_it_could_do_without_is_refused(
    network: NetworkLedger, tmp_path: Path
):
    evidence = evidence_for(network.store, TAKEN, network.genesis)
    first = light.archive_row(block_at(network.store, FIRST))
    unsigned = block_at(network.store, evidence.trail[0].height)
    unsigned = unsigned._replace(header=unsigned.header._replace(app_hash=bytes(32)))
    for trail, said in (
        (evidence.trail[1:], "a block between the two is missing"),
        ((first, *evidence.trail), "the trail does without this block"),
        ((*evidence.trail[:-1], first), "does not come after"),
        ((light.archive_row(unsigned), *evidence.trail[1:]), "signs another header"),
    ):
        with pytest.raises(SnapshotRefused, match=said):
            check_snapshot(take(network, tmp_path / "s", changed(evidence, trail=trail)), network.genesis)


def test_misbehaviour_that_no_header_shows_is_refused(network: NetworkLedger, tmp_path: Path):
    checked: Checked = check_snapshot(take(network, tmp_path / "s"), network.genesis)
    copy = begin(checked, tmp_path / "copy", **SMALL)
    block = BLOCK.decode(checked.following.block)
    proved = Misbehaviour(DUPLICATE_VOTE, signer_of(12).address, 14, block.time_ms, 10)
    forged = changed(checked.following, block=encode(Block(block.height, block.time_ms, block.bundles, (proved,))))
    with pytest.raises(SegmentRefused, match="misbehaviour is not what its header says"):
        list(replay(copy, network.registry, network.genesis, checked.trust, [forged]))
    copy.close()
