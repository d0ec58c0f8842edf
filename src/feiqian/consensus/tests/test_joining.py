"""A snapshot of a network whose app hash is vouched for becomes a store; whatever else it claims falsely is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as changed

from feiqian.consensus import headers, light
from feiqian.consensus.headers import BlockID, BlockIDFlag, Commit, CommitSig, Validator, ValidatorSet
from feiqian.consensus.joining import Vouched, join
from feiqian.consensus.restoring import check_snapshot, evidence_for
from feiqian.consensus.solo import SoloSigner
from feiqian.core.encoding import encode
from feiqian.execution.errors import WrongRelease
from feiqian.execution.registry import Registry
from feiqian.ledger.parameters import PARAMETERS, PARAMETERS_KEY
from feiqian.ledger.records import Parameters
from feiqian.state import snapshots
from feiqian.state.errors import SnapshotRefused
from feiqian.state.segments import SegmentRow
from feiqian.state.snapshots import Evidence, export
from feiqian.state.store import Store
from feiqian.state.tables import Changes
from feiqian.testing.chains import NetworkChain
from feiqian.testing.ledgers import CHAIN_ID

SMALL = {"map_bytes": 1 << 28, "reserve_bytes": 1 << 20}
MINUTE_MS = 60_000


@pytest.fixture
def chain(tmp_path: Path, registry: Registry) -> Iterator[NetworkChain]:
    chain = NetworkChain(tmp_path / "ledger", registry)
    yield chain
    chain.close()


def play(chain: NetworkChain, *, gap_ms: int = 1_000) -> None:
    """Eight blocks: one issues, three pay; one validator joins in block 3, one leaves in block 5, one is away."""
    chain.block()
    chain.block(chain.issue("treasury", 1_000))
    chain.block(powers={4: 10})
    chain.block(chain.pay("treasury", "south", 1), after_ms=gap_ms, absent=[1])
    chain.block(powers={0: 0})
    chain.block(chain.pay("treasury", "south", 2), after_ms=gap_ms)
    chain.block(absent=[2])
    chain.block(chain.pay("treasury", "south", 3))


def take(chain: NetworkChain, height: int, path: Path, evidence: Evidence | None = None) -> Path:
    path.unlink(missing_ok=True)
    export(chain.store, height, path, evidence or evidence_for(chain.store, height, chain.genesis))
    return path


def vouched(chain: NetworkChain, height: int) -> Vouched:
    return Vouched(height, chain.store.app_hash_at(height))


def refused(chain: NetworkChain, height: int, path: Path, said: str, *, by: Vouched | None = None) -> None:
    into = path.with_name("refused")
    with pytest.raises(SnapshotRefused, match=said):
        join(path, chain.genesis, by or vouched(chain, height), into, **SMALL)
    for file in into.glob("*"):
        file.unlink()


def test_each_height_s_snapshot_becomes_the_store_of_that_height(chain: NetworkChain, tmp_path: Path) -> None:
    play(chain)
    for height in range(1, 8):
        path = take(chain, height, tmp_path / "s")
        store = join(path, chain.genesis, vouched(chain, height), tmp_path / f"at-{height}", **SMALL)
        assert (store.height, store.app_hash) == vouched(chain, height)
        assert (store.head.first_block, store.archived_heights()) == (height + 1, (height, height))
        assert store.archive_row(height) == chain.store.archive_row(height)
        assert len(store.used_ids(2)) == (height >= 2)
        assert store.used_ids(2) == (chain.store.used_ids(2) if height >= 2 else [])
        store.close()
    store = Store.open(tmp_path / "at-7", read_only=True)
    assert list(store.scan(b"")) == [
        (key, chain.store.get_at(7, key)) for key, _ in chain.store.scan(b"") if chain.store.get_at(7, key)
    ]
    store.close()


def test_ids_too_old_to_count_need_a_block_that_the_network_signed(chain: NetworkChain, tmp_path: Path) -> None:
    # Blocks 4 and 6 come six minutes after the ones before: at block 8, those before 6 are over ten minutes old.
    play(chain, gap_ms=6 * MINUTE_MS)
    evidence = evidence_for(chain.store, 7, chain.genesis)
    assert evidence.before_window is not None
    assert evidence.before_window.height == 3
    store = join(take(chain, 7, tmp_path / "s"), chain.genesis, vouched(chain, 7), tmp_path / "joined", **SMALL)
    assert store.archived_heights() == (3, 7)
    assert [len(store.used_ids(height)) for height in (2, 4, 6)] == [0, 1, 1]
    store.close()
    block = light.light_block(evidence.before_window)
    later = forged(block, block.header._replace(height=6))
    for wrong, said in (
        (evidence_for(chain.store, 6, chain.genesis).own, "may still count"),
        (chain.store.archive_row(8), "not a block before"),
        (changed(evidence.before_window, height=5), "not a block before"),
        (light.archive_row(later), "not more than 1/3"),
    ):
        path = take(chain, 7, tmp_path / "s", changed(evidence, before_window=wrong))
        refused(chain, 7, path, said)
    path = take(chain, 7, tmp_path / "s")
    whole, short = encode(evidence), encode(changed(evidence, before_window=None))
    data = path.read_bytes().removesuffix(len(whole).to_bytes(4, "big") + whole)
    path.write_bytes(data + len(short).to_bytes(4, "big") + short)
    refused(chain, 7, path, "ids of block 2 are missing")


def turn_over(chain: NetworkChain) -> None:
    """Ten blocks in which every validator of the genesis is replaced by another, one a block."""
    chain.block()
    chain.block(chain.issue("treasury", 1_000))
    for place in range(4):
        chain.block(powers={place: 0, place + 4: 10})
    for _ in range(4):
        chain.block()


def test_after_a_full_turnover_the_blocks_that_lead_there_come_along(chain: NetworkChain, tmp_path: Path) -> None:
    turn_over(chain)
    evidence = evidence_for(chain.store, 9, chain.genesis)
    heights = [row.height for row in evidence.trail]
    assert heights
    path = take(chain, 9, tmp_path / "s")
    store = join(path, chain.genesis, vouched(chain, 9), tmp_path / "joined", **SMALL)
    # They stay in its archive: a snapshot that it takes itself leads from the genesis too.
    assert [height for height in range(1, 10) if store.archive_row(height)] == [*heights, 9]
    store.close()
    assert check_snapshot(path, chain.genesis).snapshot.manifest.height == 9
    last = light.light_block(evidence.trail[-1])
    wrong = (*evidence.trail[:-1], light.archive_row(forged(last, last.header)))
    refused(chain, 9, take(chain, 9, tmp_path / "s", changed(evidence, trail=wrong)), "not more than 1/3")


def test_where_nothing_leads_from_the_genesis_the_state_s_own_validators_do(
    chain: NetworkChain, tmp_path: Path
) -> None:
    turn_over(chain)
    evidence = changed(evidence_for(chain.store, 9, chain.genesis), trail=())
    path = take(chain, 9, tmp_path / "s", evidence)
    with pytest.raises(SnapshotRefused, match="1/3"):
        check_snapshot(path, chain.genesis)
    store = join(path, chain.genesis, vouched(chain, 9), tmp_path / "joined", **SMALL)
    assert (store.height, store.app_hash) == vouched(chain, 9)
    store.close()


def test_what_is_not_of_this_chain_and_height_is_refused(chain: NetworkChain, tmp_path: Path) -> None:
    play(chain)
    path = take(chain, 5, tmp_path / "s")
    refused(chain, 5, path, "not of", by=Vouched(4, chain.store.app_hash_at(5)))
    refused(chain, 5, path, "another app hash", by=Vouched(5, chain.store.app_hash_at(4)))
    other = chain.genesis._replace(chain_id="sample-2")
    with pytest.raises(SnapshotRefused, match="not of"):
        join(path, other, vouched(chain, 5), tmp_path / "refused", **SMALL)


def test_evidence_left_out_exchanged_or_forged_is_refused(chain: NetworkChain, tmp_path: Path) -> None:
    play(chain)
    evidence, other = evidence_for(chain.store, 5, chain.genesis), evidence_for(chain.store, 4, chain.genesis)
    following = evidence.following
    assert following.archive is not None
    signed = light.light_block(following.archive)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"own": None}, "no signed block of its own"),
        ({"own": other.own}, "the header given for it is of 4"),
        ({"following": other.following}, "the header given for it is of 5"),
        ({"following": changed(following, archive=None)}, "header and commit are missing"),
        # Signed by others, all of whom agree: that the header names them does not make them the ledger's.
        ({"following": with_row(following, forged(signed, signed.header))}, "other validators than the ledger has"),
        (
            {"following": with_row(following, forged(signed, signed.header, keeps_next=True))},
            "not more than 1/3",
        ),
        ({"following": with_row(following, without_votes(signed))}, "more than 2/3 is needed"),
    ]
    for fields, said in cases:
        refused(chain, 5, take(chain, 5, tmp_path / "s", changed(evidence, **fields)), said)
    path = take(chain, 5, tmp_path / "s")
    data = path.read_bytes()
    tail = len(encode(evidence)) + 4
    path.write_bytes(data[:-tail])
    refused(chain, 5, path, "no signed block")


def test_a_file_cut_short_or_with_another_byte_is_refused(chain: NetworkChain, tmp_path: Path) -> None:
    play(chain)
    good = take(chain, 5, tmp_path / "s").read_bytes()
    evidence = encode(evidence_for(chain.store, 5, chain.genesis))
    bad = tmp_path / "bad"
    for place in range(0, len(good) - len(evidence), max(1, len(good) // 60)):
        bad.write_bytes(good[:place])
        refused(chain, 5, bad, "snapshot")
        bad.write_bytes(good[:place] + bytes([good[place] ^ 0x20]) + good[place + 1 :])
        refused(chain, 5, bad, "snapshot")


def test_a_claimed_time_is_that_of_the_signed_header(chain: NetworkChain, tmp_path: Path) -> None:
    play(chain)
    path = take(chain, 5, tmp_path / "s")
    manifest = snapshots.read_manifest(path)
    data = path.read_bytes()
    claimed = changed(manifest, time_ms=manifest.time_ms + 1)
    assert data.count(encode(manifest)) == 1
    path.write_bytes(data.replace(encode(manifest), encode(claimed)))
    refused(chain, 5, path, "time is not that of its height's header")


def test_the_release_that_runs_other_rules_says_so(tmp_path: Path, registry: Registry) -> None:
    parameters = changed(Parameters(), app_version=2)
    later: Changes = {PARAMETERS.prefix + PARAMETERS_KEY: encode(parameters)}
    chain = NetworkChain(tmp_path / "ledger", registry)
    chain.block()
    chain.block()
    chain.block(writes=later)
    chain.block(writes={})
    path = take(chain, 3, tmp_path / "s")
    with pytest.raises(WrongRelease, match="rules are version 2"):
        join(path, chain.genesis, vouched(chain, 3), tmp_path / "joined", **SMALL)
    chain.close()


def with_row(row: SegmentRow, block: light.LightBlock) -> SegmentRow:
    return changed(row, archive=light.archive_row(block))


def forged(block: light.LightBlock, header: headers.Header, *, keeps_next: bool = False) -> light.LightBlock:
    """Return the block as three strangers would sign it, who name themselves as its validators."""
    strangers = {signer.address: signer for signer in (SoloSigner(bytes([200 + each]) * 32) for each in range(3))}
    validators = ValidatorSet.ordered([Validator(signer.public_key, 10) for signer in strangers.values()])
    header = header._replace(validators_hash=validators.hash())
    if not keeps_next:
        header = header._replace(next_validators_hash=validators.hash())
    block_id = BlockID(header.hash(), block.commit.block_id.parts)
    message = headers.vote_sign_bytes(CHAIN_ID, header.height, 0, block_id, header.time_ns)
    signatures = [
        CommitSig(BlockIDFlag.COMMIT, each.address, header.time_ns, strangers[each.address].sign(message))
        for each in validators.validators
    ]
    return light.LightBlock(header, Commit(header.height, 0, block_id, tuple(signatures)), validators)


def without_votes(block: light.LightBlock) -> light.LightBlock:
    """Return the block with the votes of half its validators."""
    kept = len(block.commit.signatures) // 2
    missing = [headers.ABSENT_SIGNATURE] * (len(block.commit.signatures) - kept)
    return block._replace(commit=block.commit._replace(signatures=(*block.commit.signatures[:kept], *missing)))
