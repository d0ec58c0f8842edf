"""The audit finds a sound ledger sound, and whatever a cheating node may have written it names."""

import gc
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from feiqian.consensus import audit as audit_module
from feiqian.consensus import signature_pool
from feiqian.consensus.audit import AuditReport, audit, snapshot_base
from feiqian.consensus.audit_state import AuditState, Base
from feiqian.core.encoding import encode
from feiqian.core.transactions import decode_signed
from feiqian.execution.admission import check_form
from feiqian.execution.blocks import BLOCK, RESULT
from feiqian.execution.registry import Registry
from feiqian.ledger.balances import BALANCES, balance_key
from feiqian.ledger.context import Claim, Context, Message
from feiqian.ledger.events import Posted
from feiqian.ledger.records import Balance, Leg
from feiqian.modules import Module
from feiqian.modules.assets.messages import PlaceHold
from feiqian.process.native import mute_native_output
from feiqian.state.snapshots import export, read
from feiqian.state.store import HeightWrites, StoredBlock
from feiqian.state.tree import EMPTY_ROOT, root_of
from feiqian.testing.ledgers import ASSET, CHAIN_ID, forge_sm2

Cheat = Callable[[HeightWrites], HeightWrites]


def play(ledger: Any, cheat: Cheat | None = None) -> None:
    """A few blocks: empty ones, several bundles, a refusal, a hold that its trigger ends. `cheat` acts at height 4."""
    ledger.block()
    ledger.block([ledger.issue("treasury", 1_000), ledger.issue("south", 500)])
    ledger.block()
    expires_at_ms = ledger.store.time_ms + 2_500
    hold = PlaceHold(ledger.addresses["treasury"], ledger.addresses["south"], ASSET, 100, expires_at_ms, b"")
    ledger.block(
        [ledger.pay("treasury", "lantern", 200), ledger.pay("lantern", "south", 999)],
        [ledger.sign("treasury", hold)],
        cheat=cheat or (lambda writes: writes),
    )
    ledger.block()
    ledger.block([ledger.pay("south", "lantern", 5)])
    ledger.block(after_ms=10_000)
    ledger.block()


def run(ledger: Any, **options: Any) -> AuditReport:
    return audit(ledger.store, ledger.registry, ledger.genesis, **options)


def said(report: AuditReport) -> list[tuple[int, str]]:
    return [(problem.height, problem.what) for problem in report.problems]


@pytest.mark.parametrize("check_signatures", [True, False])
def test_a_sound_ledger(audit_ledger: Any, check_signatures: bool) -> None:
    play(audit_ledger)
    seen: list[tuple[int, int]] = []
    report = run(
        audit_ledger, progress=lambda height, last: seen.append((height, last)), check_signatures=check_signatures
    )
    assert said(report) == []
    assert report.is_clean
    assert report.base == f"the genesis of sample-1 (SHA-256 {audit_ledger.genesis.digest().hex()})"
    assert (report.first_height, report.last_height, report.blocks) == (1, 8, 8)
    # Two issues, two transfers done, one refused, one hold.
    assert (report.transactions, report.postings) == (6, 4)
    assert report.signatures == (6 if check_signatures else 0)
    assert report.app_hash == audit_ledger.store.app_hash
    assert report.records == sum(1 for _ in audit_ledger.store.scan(b""))
    assert seen == [(height, 8) for height in range(1, 9)]


def more_money(writes: HeightWrites) -> HeightWrites:
    changes = dict(writes.changes)
    key = next(key for key in changes if key.startswith(BALANCES.prefix))
    changes[key] = encode(Balance(10**6, 0, 0, False, False))
    return writes._replace(changes=changes)


def one_record_less(writes: HeightWrites) -> HeightWrites:
    changes = dict(writes.changes)
    del changes[next(key for key in changes if key.startswith(BALANCES.prefix))]
    return writes._replace(changes=changes)


def refusal_hidden(writes: HeightWrites) -> HeightWrites:
    (tx_id, result), *others = writes.results
    done = RESULT.decode(result)
    changed = encode(type(done)("ledger", 7, "refused", done.work, ()))
    return writes._replace(results=((tx_id, changed), *others))


def later_time(writes: HeightWrites) -> HeightWrites:
    return writes._replace(time_ms=writes.time_ms + 1)


def transaction_dropped(writes: HeightWrites) -> HeightWrites:
    block = BLOCK.decode(writes.block)
    return writes._replace(block=encode(type(block)(block.height, block.time_ms, block.bundles[1:], ())))


def malformed_block(writes: HeightWrites) -> HeightWrites:
    return writes._replace(block=b"\xc1")


def not_archived(writes: HeightWrites) -> HeightWrites:
    return writes._replace(archive=None)


def forged_signature(writes: HeightWrites) -> HeightWrites:
    assert writes.archive is not None
    commit = json.loads(writes.archive.commit)
    commit["signatures"][0]["timestamp"] = "2026-01-01T00:00:00.000000001Z"
    data = json.dumps(commit, separators=(",", ":")).encode()
    row = writes.archive
    return writes._replace(archive=type(row)(row.height, row.header, data, row.validators))


@pytest.mark.parametrize(
    ("cheat", "expected"),
    [
        (more_money, "state root is"),
        (one_record_less, "state root is"),
        (refusal_hidden, "running the block gives other results"),
        (later_time, "the stored block says height 4, time"),
        (transaction_dropped, "running the block gives other results"),
        (malformed_block, "the stored block is malformed"),
        (not_archived, "header and commit are not archived"),
        (forged_signature, "archive: height 4: signature 0 does not verify"),
    ],
)
def test_a_height_that_was_falsified(audit_ledger: Any, cheat: Cheat, expected: str) -> None:
    play_until_cheat(audit_ledger, cheat)
    report = run(audit_ledger)
    assert not report.is_clean
    assert [height for height, _ in said(report)] == [4] * len(report.problems)
    assert any(expected in what for _, what in said(report)), said(report)


def play_until_cheat(ledger: Any, cheat: Cheat) -> None:
    ledger.block()
    ledger.block([ledger.issue("treasury", 1_000)])
    ledger.block()
    ledger.block([ledger.pay("treasury", "lantern", 200)], [ledger.pay("treasury", "south", 10)], cheat=cheat)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("app_hash", b"\x09" * 32),
        ("data_hash", b"\x09" * 32),
        ("last_results_hash", b"\x09" * 32),
        ("last_commit_hash", b"\x09" * 32),
        ("consensus_hash", b"\x09" * 32),
        ("evidence_hash", b"\x09" * 32),
        ("proposer_address", b"\x09" * 20),
        ("app_version", 2),
        ("time_ns", 1_767_225_609_000_000_000),
    ],
)
def test_a_header_signed_with_one_field_wrong(
    audit_ledger: Any, field: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from feiqian.consensus import solo

    true_header = solo.make_header

    def wrong_header(*arguments: Any, **fields: Any) -> Any:
        header = true_header(*arguments, **fields)
        return header._replace(**{field: value}) if header.height == 3 else header

    monkeypatch.setattr(solo, "make_header", wrong_header)
    for _ in range(3):
        audit_ledger.block()
    report = run(audit_ledger)
    assert any(height == 3 and f"header: {field}" in what for height, what in said(report)), said(report)


def test_a_commit_on_other_parts(audit_ledger: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from feiqian.consensus import headers

    audit_ledger.block()
    monkeypatch.setattr(headers, "part_set_header", lambda *_: headers.PartSetHeader(1, b"\x09" * 32))
    audit_ledger.block()
    monkeypatch.undo()
    assert said(run(audit_ledger)) == [(2, "commit: block_id.parts are not those of the block")]


def test_a_transaction_whose_signature_was_never_right(audit_ledger: Any) -> None:
    audit_ledger.block()
    signed = audit_ledger.issue("treasury", 1_000)
    forged = signed[:-1] + bytes([signed[-1] ^ 1])
    audit_ledger.block([forged], run=lambda data: check_form(audit_ledger.registry, CHAIN_ID, data))
    assert any("other results" in what for _, what in said(run(audit_ledger)))
    # What nobody asks for is not found: without signatures the rest of the ledger is consistent.
    assert run(audit_ledger, check_signatures=False).is_clean


def test_a_refused_signature_that_came_by_sync_is_sound(audit_ledger: Any) -> None:
    audit_ledger.block()
    signed = audit_ledger.issue("treasury", 1_000)
    audit_ledger.block([signed[:-1] + bytes([signed[-1] ^ 1]), signed])
    report = run(audit_ledger)
    assert (said(report), report.transactions, report.signatures) == ([], 2, 1)


@pytest.mark.parametrize("few", [0, 2_048], ids=["by workers", "in this process"])
def test_a_refused_sm2_signature_is_said_in_the_report_alone(
    audit_ledger: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(signature_pool, "_FEW", few)
    audit_ledger.block()
    signed = audit_ledger.issue("treasury", 1_000)
    with mute_native_output():
        audit_ledger.block([*forge_sm2(signed), signed])
    report = run(audit_ledger, workers=1)
    assert (said(report), report.transactions, report.signatures) == ([], 3, 1)
    assert capfd.readouterr().err == ""


def test_a_replayed_transaction_is_found_used(audit_ledger: Any) -> None:
    audit_ledger.block()
    signed = audit_ledger.issue("treasury", 1_000)
    audit_ledger.block([signed])
    outcome = audit_ledger.block([signed])
    assert [RESULT.decode(result).codespace for _, result in outcome.results] == ["ledger"]
    assert run(audit_ledger).is_clean


def test_another_genesis(audit_ledger: Any) -> None:
    play(audit_ledger)
    app_state = {**audit_ledger.genesis.app_state, "parameters": {"proof_window": 5_000}}
    report = audit(audit_ledger.store, audit_ledger.registry, audit_ledger.genesis._replace(app_state=app_state))
    assert any("header: app_hash" in what for _, what in said(report))
    assert {height for height, _ in said(report)} == {1}


class _Tampered:
    def __init__(self, store: Any, **answers: Callable[..., Any]) -> None:
        self._store = store
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        return self._answers.get(name) or getattr(self._store, name)


def tampered(store: Any, **answers: Callable[..., Any]) -> Any:
    """Return a store read through someone's hands: one method answers otherwise."""
    return _Tampered(store, **answers)


def test_state_beside_the_blocks(audit_ledger: Any) -> None:
    play(audit_ledger)
    store, registry, genesis = audit_ledger.store, audit_ledger.registry, audit_ledger.genesis
    records = list(store.scan(b""))
    more = tampered(store, scan=lambda prefix: iter([*records, (b"sample.x/\x01", b"\x01")]))
    assert said(audit(more, registry, genesis)) == [(8, "the store's record sample.x/01 is not what the blocks give")]
    fewer = tampered(store, scan=lambda prefix: iter(records[1:]))
    assert [what[:23] for _, what in said(audit(fewer, registry, genesis))] == ["the store lacks record "]
    changed = tampered(store, scan=lambda prefix: iter([(records[0][0], b"\x01"), *records[1:]]))
    assert len(said(audit(changed, registry, genesis))) == 1
    root = tampered(store, app_hash_at=lambda height: b"\x00" * 32)
    assert said(audit(root, registry, genesis)) == [(8, "the store's own root is not what the blocks give")]


def test_a_ledger_that_goes_on_during_the_audit(audit_ledger: Any) -> None:
    play(audit_ledger)

    def go_on(height: int, last: int) -> None:
        if height == last == 8:
            audit_ledger.block([audit_ledger.issue("lantern", 77)])

    report = run(audit_ledger, progress=go_on)
    assert (said(report), report.last_height, audit_ledger.store.height) == ([], 8, 9)


def test_from_a_snapshot(audit_ledger: Any, tmp_path: Path) -> None:
    audit_ledger.block()
    signed = audit_ledger.issue("treasury", 1_000)
    audit_ledger.block([signed])
    audit_ledger.block()
    app_hash = audit_ledger.store.app_hash
    export(audit_ledger.store, 3, tmp_path / "snapshot")
    # Height 4 holds a transaction that was used up before the snapshot.
    audit_ledger.block([signed, audit_ledger.pay("treasury", "south", 3)])
    audit_ledger.block()
    base = snapshot_base(read(tmp_path / "snapshot", app_hash, 0))
    report = run(audit_ledger, base=base)
    assert said(report) == []
    assert (report.first_height, report.last_height, report.transactions) == (4, 5, 2)
    assert report.base == f"the snapshot of sample-1 after block 3 (app hash {app_hash.hex()})"
    false_base = base._replace(records={**base.records, b"sample.x/\x01": b"\x01"})
    for wrong in (false_base, base._replace(records={})):
        assert any("header: app_hash" in what for _, what in said(run(audit_ledger, base=wrong)))
    assert said(run(audit_ledger, base=base._replace(height=9))) == [(9, "the store ends at block 5, before the base")]


def test_blocks_that_were_pruned(audit_ledger: Any) -> None:
    play(audit_ledger)
    gone = tampered(audit_ledger.store, block=lambda height: None if height < 3 else audit_ledger.store.block(height))
    report = audit(gone, audit_ledger.registry, audit_ledger.genesis)
    assert said(report) == [(1, "the store does not hold this block; audit from a later base")]


class Conjure(Message, tag="sample.Conjure"):
    """Bring money from nowhere, by rules that are wrong."""

    account: bytes

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account),)


def conjure(ctx: Context, message: Conjure) -> None:
    key = balance_key(message.account, ASSET)
    balance = BALANCES.get(ctx.state, key) or Balance(0, 0, 0, False, False)
    BALANCES.put(ctx.state, key, Balance(balance.posted_minor + 5, 0, balance.limit_minor, False, False))
    ctx.emit(Posted((Leg(message.account, ASSET, 5),)))


def test_rules_that_make_money(make_audit_ledger: Callable[[Registry], Any], registry: Registry) -> None:
    broken = Registry((*registry.modules, Module("sample", {Conjure: conjure})))
    ledger = make_audit_ledger(broken)
    ledger.block()
    ledger.block([ledger.issue("treasury", 100)])
    ledger.block([ledger.sign("treasury", Conjure(ledger.addresses["treasury"]))])
    problems = said(run(ledger))
    assert (3, f"a posting of {ASSET} sums to 5, not 0") in problems
    assert (3, f"balances of {ASSET} changed by 5, not 0") in problems


def test_many_transactions_are_verified_by_workers(audit_ledger: Any) -> None:
    ledger = audit_ledger
    ledger.block()
    ledger.block([ledger.issue("treasury", 10_000)])
    forged = []
    for number in range(4):
        bundle = [ledger.pay("treasury", "south", 1) for _ in range(700)]
        if number > 1:
            bundle[650] = bundle[650][:-1] + bytes([bundle[650][-1] ^ 1])
            forged.append(bundle[650])
        ledger.block(bundle[:350], bundle[350:])
    report = run(ledger, workers=2)
    assert (said(report), report.transactions, report.signatures) == ([], 2_801, 2_799)
    assert all(decode_signed(data).signatures for data in forged)


def last_read_when_done(ledger: Any) -> list[int]:
    """Audit a sound ledger; return for each height up to where blocks had been read when it was done."""
    read: list[int] = []
    last_read: list[int] = []

    def block(height: int) -> StoredBlock | None:
        read.append(height)
        return ledger.store.block(height)

    store = tampered(ledger.store, block=block)
    report = audit(store, ledger.registry, ledger.genesis, lambda height, last: last_read.append(read[-1]))
    assert said(report) == []
    assert read == list(range(1, ledger.store.height + 1))
    return last_read


def test_some_blocks_are_read_before_one_runs(audit_ledger: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their signatures are verified meanwhile. A small block, an empty one too, counts for 4 KiB."""
    play(audit_ledger)
    monkeypatch.setattr(audit_module, "_AHEAD_BYTES", 1)
    assert last_read_when_done(audit_ledger) == [2, 3, 4, 5, 6, 7, 8, 8]
    monkeypatch.setattr(audit_module, "_AHEAD_BYTES", 3 * 4096)
    assert last_read_when_done(audit_ledger) == [4, 5, 6, 7, 8, 8, 8, 8]


def test_large_blocks_are_read_ahead_by_their_size(audit_ledger: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    audit_ledger.block()
    audit_ledger.block([audit_ledger.issue("treasury", 1_000)])
    for _ in range(4):
        audit_ledger.block([audit_ledger.pay("treasury", "south", 1) for _ in range(30)])
    sizes = [len(audit_ledger.store.block(height).block) for height in range(3, 7)]
    assert all(6_144 < size < 12_288 for size in sizes)
    monkeypatch.setattr(audit_module, "_AHEAD_BYTES", 12_288)
    assert last_read_when_done(audit_ledger) == [4, 4, 5, 6, 6, 6]


@pytest.mark.parametrize(("processors", "workers"), [(None, 1), (1, 1), (2, 1), (8, 7)])
def test_one_processor_is_left_to_the_audit_itself(
    monkeypatch: pytest.MonkeyPatch, processors: int | None, workers: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    assert signature_pool.SignaturePool().workers == workers


def test_the_garbage_collector_rests_while_the_audit_runs(audit_ledger: Any) -> None:
    audit_ledger.block()
    before, seen = gc.get_threshold(), []
    run(audit_ledger, progress=lambda height, last: seen.append(gc.get_threshold()[0]))
    assert seen == [100_000]
    assert gc.get_threshold() == before


def test_the_audits_own_state() -> None:
    records: dict[bytes, bytes | None] = {b"a.t/%d" % number: b"%d" % number for number in range(9)}
    state = AuditState(Base("base", 5, 1_000, records, frozenset({b"\x07" * 32})), frozenset({"a.t"}))
    assert state.root == root_of({key: value for key, value in records.items() if value})
    assert [key for key, _ in state.scan(b"a.t/", b"a.t/6")] == [b"a.t/7", b"a.t/8"]
    state.apply(6, 2_000, {b"a.t/1": None, b"a.t/10": b"x", b"b.u/1": b"y", b"a.t/2": b"2"}, ((70_000, b"\x01" * 32),))
    assert [key for key, _ in state.scan(b"a.t/1")] == [b"a.t/10"]
    assert [key for key, _ in state.scan(b"b.u/")] == [b"b.u/1"]
    assert len(list(state.scan(b""))) == 10
    assert state.has_replay_id(70_000, b"\x01" * 32)
    assert state.has_replay_id(1, b"\x07" * 32)
    assert not state.has_replay_id(70_000, b"\x02" * 32)
    state.apply(7, 80_000, {}, ())
    assert not state.has_replay_id(70_000, b"\x01" * 32)
    empty = AuditState(Base("base", 0, 0, {}), frozenset())
    assert (empty.root, list(empty.scan(b""))) == (EMPTY_ROOT, [])
