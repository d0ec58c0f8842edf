"""A ledger restored goes on as the first one does; what is damaged, unsigned or another's is refused by name."""

from pathlib import Path
from typing import Any

import pytest

from feiqian.consensus import light
from feiqian.consensus.audit import audit, snapshot_base
from feiqian.consensus.comet_json import write_base64
from feiqian.consensus.light import KnownBlock, LightBlock
from feiqian.consensus.proof_file import verify
from feiqian.consensus.proving import prove_record
from feiqian.consensus.restoring import begin, check_snapshot, evidence_for, replay
from feiqian.consensus.solo import SoloSigner
from feiqian.core.encoding import encode
from feiqian.core.wire import Stored
from feiqian.execution.blocks import RESULT
from feiqian.execution.genesis import genesis_changes
from feiqian.index.decoding import decode_results
from feiqian.ledger.balances import BALANCES, balance_key
from feiqian.ledger.records import Balance
from feiqian.node.committer import last_bundle_results
from feiqian.state import snapshots
from feiqian.state.archive import ArchiveRow
from feiqian.state.errors import OutsideWindow, SegmentRefused, SnapshotRefused
from feiqian.state.segments import SegmentRow, row_of
from feiqian.state.snapshots import Evidence, export
from feiqian.state.store import Store
from feiqian.testing.ledgers import ASSET

MINUTE_MS = 60_000


def play(ledger: Any, *, gap_ms: int = 2_000) -> list[bytes]:
    """Eight blocks: one issues, three pay, each a second after an empty one; return what was paid by."""
    ledger.block()
    paid = [ledger.issue("treasury", 1_000)]
    ledger.block(paid)
    for _ in range(3):
        ledger.block(after_ms=gap_ms)
        paid.append(ledger.pay("treasury", "south", 10))
        ledger.block([paid[-1]], after_ms=1_000)
    return paid


def take(ledger: Any, height: int, path: Path) -> Path:
    export(ledger.store, height, path, evidence_for(ledger.store, height, ledger.genesis))
    return path


def restore(ledger: Any, snapshot: Path, into: Path) -> Store:
    checked = check_snapshot(snapshot, ledger.genesis)
    store = begin(checked, into, map_bytes=1 << 28, reserve_bytes=1 << 20)
    for _ in replay(store, ledger.registry, ledger.genesis, checked.trust, [checked.following]):
        pass
    return store


def header_hash(store: Any, height: int) -> bytes:
    return light.light_block(store.archive_row(height)).header.hash()


def test_a_snapshot_is_trusted_by_the_genesis_or_by_a_block_that_is_known(audit_ledger: Any, tmp_path: Path) -> None:
    play(audit_ledger)
    take(audit_ledger, 5, tmp_path / "s")
    genesis = audit_ledger.genesis
    checked = check_snapshot(tmp_path / "s", genesis)
    assert checked.snapshot.manifest.app_hash == audit_ledger.store.app_hash_at(5)
    assert (checked.following, checked.trusted) == (
        row_of(audit_ledger.store, 6),
        f"the genesis of sample-1 (SHA-256 {genesis.digest().hex()})",
    )
    # Another genesis of the chain does where the block is known: its own, or the one after it.
    stranger = genesis._replace(validators=(genesis.validators[0]._replace(public_key=bytes(32)),))
    with pytest.raises(SnapshotRefused, match=r"validators are not|1/3"):
        check_snapshot(tmp_path / "s", stranger)
    for height in (5, 6):
        known = KnownBlock(height, header_hash(audit_ledger.store, height))
        assert check_snapshot(tmp_path / "s", genesis, known).trusted.startswith(f"block {height} of sample-1")
        with pytest.raises(SnapshotRefused, match="hash is not the trusted"):
            check_snapshot(tmp_path / "s", genesis, KnownBlock(height, bytes(32)))


def test_a_restored_ledger_is_the_same_and_goes_on_as_the_first(audit_ledger: Any, tmp_path: Path) -> None:
    paid = play(audit_ledger)
    take(audit_ledger, 7, tmp_path / "s")
    first, copy = audit_ledger.store, restore(audit_ledger, tmp_path / "s", tmp_path / "copy")
    assert (copy.height, copy.app_hash, copy.head.first_block) == (8, first.app_hash, 8)
    assert list(copy.scan(b"")) == list(first.scan(b""))
    assert (copy.block(8), copy.archive_row(8)) == (first.block(8), first.archive_row(8))
    # What was used up before the snapshot, and in the block after it, stays so.
    audit_ledger.store = copy
    outcome = audit_ledger.block([paid[-2], paid[-1], audit_ledger.pay("treasury", "south", 1)], after_ms=10_000)
    numbers = [(RESULT.decode(result).codespace, RESULT.decode(result).number) for _, result in outcome.results]
    assert numbers == [("ledger", 40), ("ledger", 40), ("", 0)]
    audit_ledger.block()
    key = balance_key(audit_ledger.addresses["south"], ASSET)
    proof = prove_record(copy, audit_ledger.genesis, BALANCES, key)
    proved = verify(proof, audit_ledger.genesis, audit_ledger.registry.tables)
    assert (proved.height, proved.record) == (9, Balance(31, 0, 0, False, False))
    base = snapshot_base(check_snapshot(tmp_path / "s", audit_ledger.genesis).snapshot)
    report = audit(copy, audit_ledger.registry, audit_ledger.genesis, base=base)
    assert (report.problems, report.first_height, report.last_height) == ((), 8, 10)
    audit_ledger.store = first
    copy.close()


def test_blocks_are_run_again_from_the_genesis(audit_ledger: Any, tmp_path: Path) -> None:
    play(audit_ledger)
    genesis, registry = audit_ledger.genesis, audit_ledger.registry
    rows = rows_of(audit_ledger.store)
    copy = restored_genesis(audit_ledger, tmp_path / "copy")
    trust = light.trust_in_genesis(genesis)
    hashes = [block.header.hash() for block in replay(copy, registry, genesis, trust, rows)]
    assert hashes == [header_hash(audit_ledger.store, height) for height in range(1, 9)]
    assert rows_of(copy) == rows
    assert copy.app_hash == audit_ledger.store.app_hash
    copy.close()


def restored_genesis(ledger: Any, path: Path) -> Store:
    genesis = ledger.genesis
    changes = genesis_changes(ledger.registry, genesis.app_state, genesis.time_ms, 0)
    plain_tables = ledger.store.plain_tables
    return Store.create(
        path, genesis.chain_id, 1, changes, genesis.time_ms, plain_tables=plain_tables, map_bytes=1 << 28
    )


def rows_of(store: Store) -> list[SegmentRow]:
    rows = [row_of(store, height) for height in range(1, 9)]
    return [row for row in rows if row is not None]


def block_of(row: SegmentRow) -> LightBlock:
    assert row.archive is not None
    return light.light_block(row.archive)


def changed(value: Any, **fields: Any) -> Any:
    """Return a Record with other fields; any bytes may stand in for a row's parts."""
    names = type(value).__struct_fields__
    return type(value)(*(fields.get(name, getattr(value, name)) for name in names))


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"block": b"\xc0"}, "malformed"),
        ({"results": b"\x90"}, "other results"),
        ({"app_hash": bytes(32)}, "another state root"),
        ({"time_ms": 5}, "time is not what its header says"),
        ({"height": 5}, "block 4 should follow, and block 5 does"),
        ({"archive": None}, "header and commit are missing"),
        ({"archive": ArchiveRow(4, b"{}", b"{}", b"{}")}, "header"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_block_that_is_not_as_it_was_stops_the_replay(
    audit_ledger: Any, tmp_path: Path, what: dict[str, Any], said: str
) -> None:
    play(audit_ledger)
    rows = rows_of(audit_ledger.store)
    rows[3] = changed(rows[3], **what)
    copy = restored_genesis(audit_ledger, tmp_path / "copy")
    trust = light.trust_in_genesis(audit_ledger.genesis)
    with pytest.raises(SegmentRefused, match=said):
        list(replay(copy, audit_ledger.registry, audit_ledger.genesis, trust, rows))
    assert copy.height == 3
    copy.close()


def test_transactions_put_in_left_out_or_changed_stop_the_replay(audit_ledger: Any, tmp_path: Path) -> None:
    paid = play(audit_ledger)
    rows = rows_of(audit_ledger.store)
    copy = restored_genesis(audit_ledger, tmp_path / "copy")
    trust = light.trust_in_genesis(audit_ledger.genesis)
    forged = rows[3].block.replace(paid[1][-40:], bytes(40))
    assert forged != rows[3].block
    for wrong in (changed(rows[3], block=forged), changed(rows[3], block=rows[2].block)):
        given = [*rows[:3], wrong]
        with pytest.raises(SegmentRefused, match=r"block 4: (transactions|height)"):
            list(replay(copy, audit_ledger.registry, audit_ledger.genesis, trust, given[copy.height :]))
        trust = light.trust_in_block(block_of(rows[2]))
        assert copy.height == 3
    copy.close()


def rewrite(path: Path, evidence: Evidence | None) -> Path:
    """Put other evidence behind a snapshot's chunks."""
    _, old = snapshots.read_evidence(path)
    data = path.read_bytes()
    tail = len(encode(old)) + 4
    framed = b"" if evidence is None else len(encode(evidence)).to_bytes(4, "big") + encode(evidence)
    other = path.with_name("rewritten")
    other.write_bytes(data[:-tail] + framed)
    return other


def test_evidence_left_out_or_exchanged_is_refused(audit_ledger: Any, tmp_path: Path) -> None:
    play(audit_ledger)
    path = take(audit_ledger, 5, tmp_path / "s")
    evidence = evidence_for(audit_ledger.store, 5, audit_ledger.genesis)
    other = evidence_for(audit_ledger.store, 4, audit_ledger.genesis)
    store = audit_ledger.store
    cases: list[tuple[Evidence | None, str]] = [
        (None, "no signed block"),
        (changed(evidence, own=None), "header and commit are missing"),
        (changed(evidence, own=other.own), "not the one that the next block follows"),
        (changed(evidence, following=other.following), "block 6 should follow"),
        (changed(evidence, following=changed(evidence.following, archive=None)), "missing"),
        (changed(evidence, following=changed(evidence.following, archive=store.archive_row(5))), "its header says 5"),
        (changed(evidence, before_window=store.archive_row(6)), "not a block before"),
        (changed(evidence, before_window=store.archive_row(4)), "may still count"),
        (changed(evidence, before_window=changed(store.archive_row(4), height=3)), "not a block before"),
    ]
    for wrong, said in cases:
        with pytest.raises(SnapshotRefused, match=said):
            check_snapshot(rewrite(path, wrong), audit_ledger.genesis)


def test_another_validator_s_signature_is_refused(audit_ledger: Any, tmp_path: Path) -> None:
    play(audit_ledger)
    path = take(audit_ledger, 5, tmp_path / "s")
    evidence = evidence_for(audit_ledger.store, 5, audit_ledger.genesis)
    block = block_of(evidence.following)
    forged = SoloSigner(b"\x06" * 32).sign(block.commit.sign_bytes("sample-1", 0))
    signature = block.commit.signatures[0].signature
    archive = evidence.following.archive
    assert archive is not None
    commit = archive.commit.replace(write_base64(signature).encode(), write_base64(forged).encode())
    assert commit != archive.commit
    wrong = changed(evidence, following=changed(evidence.following, archive=changed(archive, commit=commit)))
    with pytest.raises(SnapshotRefused, match="does not verify"):
        check_snapshot(rewrite(path, wrong), audit_ledger.genesis)


def test_any_changed_byte_is_refused(audit_ledger: Any, tmp_path: Path) -> None:
    play(audit_ledger)
    good = take(audit_ledger, 5, tmp_path / "s").read_bytes()
    bad = tmp_path / "bad"
    step = max(1, len(good) // 150)
    for place in [*range(0, len(good), step), len(good) - 1]:
        bad.write_bytes(good[:place] + bytes([good[place] ^ 0x20]) + good[place + 1 :])
        if still_the_same(bad, audit_ledger):
            continue
        with pytest.raises(SnapshotRefused):
            check_snapshot(bad, audit_ledger.genesis)
        bad.write_bytes(good[:place])
        with pytest.raises(SnapshotRefused):
            check_snapshot(bad, audit_ledger.genesis)


def still_the_same(path: Path, ledger: Any) -> bool:
    """Whether the byte is one of the following block's own: that block is run, and compared then, not when read."""
    try:
        _, evidence = snapshots.read_evidence(path)
    except SnapshotRefused:
        return False
    true = evidence_for(ledger.store, 5, ledger.genesis)
    if evidence is None or evidence == true:
        return False
    row, right = evidence.following, true.following
    return row.archive == right.archive and (evidence.own, evidence.before_window) == (true.own, true.before_window)


def test_another_chain_s_snapshot_is_refused(audit_ledger: Any, tmp_path: Path) -> None:
    play(audit_ledger)
    path = take(audit_ledger, 5, tmp_path / "s")
    with pytest.raises(SnapshotRefused, match="of chain 'sample-1'; the genesis is of 'sample-2'"):
        check_snapshot(path, audit_ledger.genesis._replace(chain_id="sample-2"))


def test_ids_of_the_replay_window_must_be_there_and_older_ones_need_not(audit_ledger: Any, tmp_path: Path) -> None:
    # Blocks 4, 6 and 8 pay, at 302, 603 and 904 s: what was used up at 302 s no longer counts at 904 s.
    play(audit_ledger, gap_ms=5 * MINUTE_MS)
    evidence = evidence_for(audit_ledger.store, 7, audit_ledger.genesis)
    assert evidence.before_window is not None
    assert (evidence.before_window.height, evidence.replay_from) == (4, 5)
    path = take(audit_ledger, 7, tmp_path / "s")
    checked = check_snapshot(path, audit_ledger.genesis)
    assert sorted(checked.snapshot.used_ids) == [6]
    # Without the word of a signed block that they are old, the ids of all blocks are asked for.
    with pytest.raises(SnapshotRefused, match="ids of block 2 are missing"):
        check_snapshot(rewrite(path, changed(evidence, before_window=None)), audit_ledger.genesis)


def test_heights_that_cannot_be_shown_are_refused_with_those_that_can(audit_ledger: Any, tmp_path: Path) -> None:
    play(audit_ledger)
    store = audit_ledger.store
    for height in (-1, 8, 9):
        with pytest.raises(OutsideWindow, match="ask for 0 to 7"):
            evidence_for(store, height, audit_ledger.genesis)
    take(audit_ledger, 0, tmp_path / "first")
    copy = restore(audit_ledger, tmp_path / "first", tmp_path / "copy")
    assert (copy.height, copy.app_hash) == (1, store.app_hash_at(1))
    copy.close()


def test_after_pruning_a_snapshot_of_the_last_blocks_can_still_be_taken(audit_ledger: Any, tmp_path: Path) -> None:
    play(audit_ledger, gap_ms=11 * MINUTE_MS)
    store = audit_ledger.store
    while store.prune(7, 1000) or store.prune_blocks(8, 100):
        pass
    # Block 7 is a second older than the last; all others' ids have long expired, and 6 says so by its header.
    assert (store.head.first_block, store.head.first_provable) == (7, 7)
    assert [store.archive_row(height) is not None for height in (5, 6, 7, 8)] == [False, True, True, True]
    path = take(audit_ledger, 7, tmp_path / "s")
    copy = restore(audit_ledger, path, tmp_path / "copy")
    assert copy.app_hash == store.app_hash
    # And one of the restored ledger at once, whose earlier blocks it never had.
    first, audit_ledger.store = audit_ledger.store, copy
    audit_ledger.block()
    again = take(audit_ledger, 8, tmp_path / "again")
    assert check_snapshot(again, audit_ledger.genesis).snapshot.manifest.height == 8
    audit_ledger.store = first
    copy.close()


def test_ids_that_the_store_gave_up_are_missed_when_the_snapshot_is_taken(
    audit_ledger: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(audit_ledger)
    evidence = evidence_for(audit_ledger.store, 5, audit_ledger.genesis)
    monkeypatch.setattr("feiqian.state.writing.MAX_REPLAY_WINDOW_MS", 0)
    while audit_ledger.store.prune_blocks(5, 100):
        pass
    with pytest.raises(SnapshotRefused, match="the ids that block 2 used up are needed for 5"):
        export(audit_ledger.store, 5, tmp_path / "s", evidence)
    assert not (tmp_path / "s").exists()


def test_a_block_with_what_is_no_bundle_reads_the_same_everywhere(audit_ledger: Any, tmp_path: Path) -> None:
    """More than two thirds may decide such a block, and whoever catches up is asked of no proposal: it counts as one
    transaction that is refused."""
    audit_ledger.block()
    issued = audit_ledger.issue("treasury", 500)
    outcome = audit_ledger.block(b"\xc1 no bundle", [issued], audit_ledger.issue("treasury", 7))
    assert [RESULT.decode(result).number for _, result in outcome.results] == [1, 0, 1]
    told = audit_ledger.block(b"\xc1", [audit_ledger.pay("treasury", "south", 3)])
    store, genesis, registry = audit_ledger.store, audit_ledger.genesis, audit_ledger.registry
    # Where each transaction stands in its block, as the store says it.
    assert store.transaction(outcome.results[1][0]) == (2, 1, issued)
    assert last_bundle_results(store) == audit_ledger.results
    decoded = decode_results(registry, stored_of(store, 3))
    assert [None if each.asked is None else each.asked.tx_id for each in decoded] == [b"", told.results[1][0]]
    rows = [row for height in (1, 2, 3) if (row := row_of(store, height)) is not None]
    copy = restored_genesis(audit_ledger, tmp_path / "copy")
    assert len(list(replay(copy, registry, genesis, light.trust_in_genesis(genesis), rows))) == 3
    assert copy.app_hash == store.app_hash
    copy.close()
    assert audit(store, registry, genesis).problems == ()


def stored_of(store: Store, height: int) -> Stored:
    block = store.block(height)
    assert block is not None
    return Stored(height, block.time_ms, block.app_hash, block.block, block.results)
