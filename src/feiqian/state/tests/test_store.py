"""The store on a real LMDB: commits, reopening, past heights and proofs, pruning, faults of disk, killed writers."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import lmdb
import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from feiqian.core.encoding import encode
from feiqian.core.errors import Fault
from feiqian.state import proofs, rows
from feiqian.state.archive import ArchiveRow
from feiqian.state.errors import OutsideWindow
from feiqian.state.layered import Layered
from feiqian.state.staging import tree_leaf
from feiqian.state.store import HeightWrites, Staged, Store
from feiqian.state.tables import Changes
from feiqian.state.tree import root_of

MINUTE_MS = 60_000


def tx_id(height: int, place: int) -> bytes:
    return height.to_bytes(8, "big") * 3 + place.to_bytes(8, "big")


def writes(height: int, changes: Changes, *, time_ms: int | None = None, transactions: int = 1) -> HeightWrites:
    """A block of `transactions` transactions, each with a result and a used-up id that lasts a minute."""
    time_ms = height * 1000 if time_ms is None else time_ms
    ids = [tx_id(height, place) for place in range(transactions)]
    signed = tuple(b"signed %d %d" % (height, place) for place in range(transactions))
    return HeightWrites(
        height,
        time_ms,
        encode((height, time_ms, (encode(signed[:2]), encode(signed[2:])), ())),
        tuple((id_, b"result of " + id_) for id_ in ids),
        changes,
        tuple((time_ms + MINUTE_MS, id_) for id_ in ids),
        ArchiveRow(height, b"header %d" % height, b"commit", b"validators"),
    )


def advance(store: Store, changes: Changes, **options: int) -> Staged:
    staged = store.stage(writes(store.height + 1, changes, **options))
    store.commit(staged)
    return staged


def root_by_hand(records: dict[bytes, bytes], plain_tables: frozenset[bytes] = frozenset()) -> bytes:
    """The root of a set of records, from the in-memory tree that is compared with the public crate elsewhere."""
    return root_of(
        dict(tree_leaf(key, record, is_plain=key.partition(b"/")[0] in plain_tables) for key, record in records.items())
    )


def check_proof(store: Store, height: int, key: bytes, expected: bytes | None) -> None:
    record, proof = store.prove(height, key)
    assert record == expected
    leaf_key, leaf_value = tree_leaf(key, record or b"", is_plain=key.partition(b"/")[0].decode() in store.plain_tables)
    if record is None:
        proofs.verify_absence(proof, store.app_hash_at(height), leaf_key)
    else:
        proofs.verify_existence(proof, store.app_hash_at(height), leaf_key, leaf_value)


@pytest.fixture
def store(tmp_path: Path):
    made = Store.create(tmp_path / "ledger.lmdb", "fq-test-1", 1, {b"t/a": b"1", b"t/b": b"2"}, 0, reserve_bytes=0)
    yield made
    made.close()


def test_a_new_store_holds_the_genesis_records_at_the_height_before_the_first(store: Store):
    assert (store.chain_id, store.initial_height, store.height, store.time_ms) == ("fq-test-1", 1, 0, 0)
    assert store.get(b"t/a") == b"1"
    assert store.get(b"t/c") is None
    assert list(store.scan(b"t/")) == [(b"t/a", b"1"), (b"t/b", b"2")]
    assert store.app_hash == store.app_hash_at(0) == root_by_hand({b"t/a": b"1", b"t/b": b"2"})
    assert store.block(0) is None


def test_a_commit_is_whole_and_survives_reopening(store: Store):
    staged = advance(store, {b"t/a": b"one", b"t/b": None, b"t/c": b"3"}, transactions=3)
    path = store.path
    store.close()
    reopened = Store.open(path, reserve_bytes=0)
    assert (reopened.height, reopened.time_ms, reopened.chain_id) == (1, 1000, "fq-test-1")
    assert reopened.app_hash == staged.app_hash == root_by_hand({b"t/a": b"one", b"t/c": b"3"})
    assert list(reopened.scan(b"")) == [(b"t/a", b"one"), (b"t/c", b"3")]
    block = reopened.block(1)
    assert block is not None
    given = writes(1, {}, transactions=3)
    assert block == (1, 1000, staged.app_hash, given.block, encode(given.results))
    assert reopened.result(tx_id(1, 2)) == (1, 2, b"result of " + tx_id(1, 2))
    assert reopened.transaction(tx_id(1, 2)) == (1, 2, b"signed 1 2")
    assert reopened.has_replay_id(61_000, tx_id(1, 2))
    assert not reopened.has_replay_id(61_000, tx_id(2, 2))
    assert reopened.archive_row(1) == given.archive
    assert reopened.used_ids(1) == [tx_id(1, place) for place in range(3)]
    reopened.close()


def test_large_blocks_come_back_as_they_went_in(store: Store):
    signed = tuple(random.Random(5).randbytes(3000) for _ in range(70))
    block = encode((1, 1000, (encode(signed),), ()))
    results = tuple((tx_id(1, place), bytes([place]) * 2000) for place in range(70))
    store.commit(store.stage(HeightWrites(1, 1000, block, results, {}, (), None)))
    found = store.block(1)
    assert found is not None
    assert (found.block, found.results) == (block, encode(results))
    assert store.transaction(tx_id(1, 69)) == (1, 69, signed[69])


def test_results_of_triggers_come_first_and_have_no_transaction(store: Store):
    block = encode((1, 1000, (encode((b"signed",)),), ()))
    results = ((b"T" * 32, b"of the trigger"), (b"X" * 32, b"of the transaction"))
    store.commit(store.stage(HeightWrites(1, 1000, block, results, {}, (), None)))
    assert store.result(b"T" * 32) == (1, 0, b"of the trigger")
    assert store.transaction(b"T" * 32) is None
    assert store.transaction(b"X" * 32) == (1, 1, b"signed")
    assert store.result(b"X" * 31 + b"Y") is None


def test_the_newest_result_of_an_id_is_found_across_index_buckets(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows, "ID_BUCKET_ENTRIES", 4)
    for _ in range(12):
        advance(store, {}, transactions=3)
    for height in range(1, 13):
        assert store.result(tx_id(height, 1)) == (height, 1, b"result of " + tx_id(height, 1))
    again = writes(13, {})._replace(results=((tx_id(2, 1), b"once more"),), replay_ids=())
    store.commit(store.stage(again))
    assert store.result(tx_id(2, 1)) == (13, 0, b"once more")


def test_a_block_without_changes_keeps_root_and_tree_of_its_parent(store: Store):
    staged = store.stage(HeightWrites(1, 1000, encode((1, 1000, (), ())), (), {}, (), None))
    assert staged.tree.nodes == {}
    assert staged.tree.stale == []
    before = store.app_hash
    store.commit(staged)
    assert store.app_hash == before == store.app_hash_at(1)
    assert store.height == 1
    check_proof(store, 1, b"t/a", b"1")


def test_writing_what_is_there_already_changes_nothing_in_the_tree(store: Store):
    staged = store.stage(writes(1, {b"t/a": b"1", b"t/nothing": None}))
    assert staged.tree.nodes == {}
    assert staged.app_hash == store.app_hash


def test_a_height_is_staged_on_others_that_are_not_committed(store: Store):
    first = store.stage(writes(1, {b"t/a": b"one", b"t/c": b"3", b"t/b": None}))
    second = store.stage(writes(2, {b"t/a": b"two", b"t/c": None, b"t/b": b"back"}), first)
    third = store.stage(writes(3, {b"t/a": b"three", b"t/c": b"4"}), second)
    assert store.height == 0
    store.commit(first)
    fourth = store.stage(writes(4, {b"t/d": b"5"}), third)
    assert len(fourth.below) == 2
    for staged in (second, third, fourth):
        store.commit(staged)
    last = {b"t/a": b"three", b"t/b": b"back", b"t/c": b"4", b"t/d": b"5"}
    assert dict(store.scan(b"")) == last
    assert store.app_hash == root_by_hand(last)
    expected = [
        (0, {b"t/a": b"1", b"t/b": b"2", b"t/c": None}),
        (1, {b"t/a": b"one", b"t/b": None, b"t/c": b"3"}),
        (2, {b"t/a": b"two", b"t/b": b"back", b"t/c": None}),
        (3, {b"t/a": b"three", b"t/b": b"back", b"t/c": b"4"}),
    ]
    for height, records in expected:
        for key, record in records.items():
            assert store.get_at(height, key) == record
            check_proof(store, height, key, record)


def test_a_height_staged_twice_leads_on_from_the_one_that_is_committed(store: Store):
    records = {b"t/%d" % number: b"genuine" for number in range(200)}
    genuine = store.stage(writes(1, dict(records)))
    store.stage(writes(1, dict.fromkeys(records, b"another")))
    store.commit(genuine)
    advance(store, {b"t/7": b"changed"})
    expected = {**dict(store.scan(b"")), **records, b"t/7": b"changed"}
    assert store.app_hash == root_by_hand(expected)
    check_proof(store, 2, b"t/8", b"genuine")


def test_written_is_called_before_the_height_is_there_for_anyone(store: Store):
    heights: list[int] = []
    store.commit(store.stage(writes(1, {b"t/a": b"one"})), lambda: heights.append(store.height))
    assert (heights, store.height) == ([0], 1)


def test_stage_and_commit_refuse_what_does_not_follow(store: Store):
    first = store.stage(writes(1, {b"t/a": b"one"}))
    other = store.stage(writes(1, {b"t/a": b"other"}))
    on_other = store.stage(writes(2, {b"t/z": b"9"}), other)
    with pytest.raises(Fault, match="cannot follow"):
        store.stage(writes(2, {}))
    with pytest.raises(Fault, match="does not follow"):
        store.commit(on_other)
    store.commit(first)
    with pytest.raises(Fault, match="does not follow"):
        store.commit(first)
    with pytest.raises(Fault, match="does not follow"):
        store.commit(on_other)
    with pytest.raises(Fault, match="before that of the block"):
        store.stage(writes(2, {}, time_ms=999))
    assert store.height == 1
    assert store.get(b"t/a") == b"one"


@pytest.mark.parametrize(
    ("key", "record"),
    [(b"", b"1"), (b"k" * 201, b"1"), (b"t/k", b""), (b"t/k", bytes(16 * 1024 + 1))],
)
def test_keys_and_records_beyond_their_limits_are_refused(store: Store, key: bytes, record: bytes):
    with pytest.raises(Fault, match=r"a full key has|a record has"):
        store.stage(writes(1, {key: record}))


def test_keys_and_records_at_their_limits_are_kept(store: Store):
    advance(store, {b"k" * 200: bytes(16 * 1024)})
    assert store.get(b"k" * 200) == bytes(16 * 1024)
    assert store.get(b"k" * 201) is None
    assert store.get(b"k" * 600) is None
    assert store.get(b"") is None
    assert store.get_at(1, b"k" * 600) is None
    assert store.get_many([b"", b"k" * 600, b"t/a", b"k" * 200]) == {b"t/a": b"1", b"k" * 200: bytes(16 * 1024)}
    check_proof(store, 1, b"k" * 200, bytes(16 * 1024))


def test_a_used_up_id_without_a_result_is_a_fault(store: Store):
    with pytest.raises(Fault, match="has no result"):
        store.stage(writes(1, {})._replace(replay_ids=((1, b"i" * 32),)))


def test_results_without_a_block_are_a_fault(store: Store):
    with pytest.raises(Fault, match="results but no block"):
        store.stage(writes(1, {})._replace(block=b""))


def test_scan_keeps_order_across_pages_and_starts_after_a_key(store: Store):
    keys = [b"s/%04d" % number for number in range(1000)]
    advance(store, dict.fromkeys(keys, b"x"))
    assert [key for key, _ in store.scan(b"s/")] == keys
    assert [key for key, _ in store.scan(b"s/", b"s/0254")] == keys[255:]
    assert [key for key, _ in store.scan(b"s/00", b"a")] == keys[:100]
    assert list(store.scan(b"s/", b"t")) == []
    with store.view() as view:
        assert [key for key, _ in view.scan(b"s/", b"s/0254")] == keys[255:]


def test_replay_ids_go_with_their_bucket_when_all_of_it_has_expired(store: Store):
    given = writes(1, {}, time_ms=1000)._replace(replay_ids=((19_999, tx_id(1, 0)),))
    store.commit(store.stage(given))
    advance(store, {}, time_ms=19_999)
    assert store.has_replay_id(19_999, tx_id(1, 0))
    advance(store, {}, time_ms=20_000)
    assert not store.has_replay_id(19_999, tx_id(1, 0))
    assert store.has_replay_id(79_999, tx_id(2, 0))


def test_replay_ids_that_expire_in_one_second_share_a_bucket(store: Store):
    ids = [tx_id(1, place) for place in range(4)]
    expiries_ms = (60_000, 60_999, 61_000, 119_999)
    given = writes(1, {}, time_ms=1000, transactions=4)._replace(replay_ids=tuple(zip(expiries_ms, ids, strict=True)))
    store.commit(store.stage(given))
    with store._environment.begin(db=store._databases.replay) as transaction:
        sizes = [len(list(group)) for _, group in groupby(transaction.cursor().iternext(), itemgetter(0))]
    assert sizes == [2, 1, 1]
    assert all(store.has_replay_id(expires_at_ms, id_) for expires_at_ms, id_ in given.replay_ids)


def test_a_store_of_another_format_is_refused_by_name(tmp_path: Path):
    Store.create(tmp_path / "a", "c", 1, {b"t/a": b"1"}, 0, reserve_bytes=0).close()
    with lmdb.open(str(tmp_path / "a"), max_dbs=20) as environment, environment.begin(write=True) as transaction:
        meta = environment.open_db(b"meta", transaction)
        chain = rows.CHAIN.decode_trusted(transaction.get(rows.CHAIN_KEY, db=meta) or b"")
        transaction.put(rows.CHAIN_KEY, encode(msgspec.structs.replace(chain, format=1)), db=meta)
    with pytest.raises(Fault, match="format 1 is not 3, which this release reads"):
        Store.open(tmp_path / "a")


def test_plain_tables_stand_in_the_tree_themselves_and_are_remembered(tmp_path: Path):
    path = tmp_path / "l"
    store = Store.create(path, "c", 1, {b"p/a": b"1", b"t/a": b"2"}, 0, plain_tables=frozenset({"p"}), reserve_bytes=0)
    assert store.app_hash == root_by_hand({b"p/a": b"1", b"t/a": b"2"}, frozenset({b"p"}))
    _, proof = store.prove(0, b"p/a")
    proofs.verify_existence(proof, store.app_hash, b"p/a", b"1")
    store.close()
    with pytest.raises(Fault, match="cannot cease"):
        Store.open(path, plain_tables=frozenset({"q"}))
    Store.open(path, plain_tables=frozenset({"p", "q"})).close()
    store = Store.open(path, reserve_bytes=0)
    assert store.plain_tables == {"p", "q"}
    advance(store, {b"q/a": b"3"})
    assert store.app_hash == root_by_hand({b"p/a": b"1", b"t/a": b"2", b"q/a": b"3"}, frozenset({b"p", b"q"}))
    store.close()


def test_archive_rows_may_come_later_and_keep_their_header(store: Store):
    store.commit(store.stage(writes(1, {})._replace(archive=None)))
    assert store.archive_row(1) is None
    assert store.archived_heights() is None
    seen, canonical = ArchiveRow(1, b"h", b"seen", b"v"), ArchiveRow(1, b"h", b"canonical", b"v")
    store.put_archive(seen)
    store.put_archive(seen)
    assert store.archive_row(1) == seen
    store.commit(store.stage(writes(2, {})._replace(archive=None)))
    second = ArchiveRow(2, b"i", b"seen", b"v")
    store.put_archive(canonical, second)
    assert (store.archive_row(1), store.archive_row(2)) == (canonical, second)
    with pytest.raises(Fault, match="another header of height 1 is archived already"):
        store.put_archive(ArchiveRow(2, b"i", b"other", b"v"), ArchiveRow(1, b"k", b"canonical", b"v"))
    # Of what was given together nothing was written.
    assert (store.archive_row(1), store.archive_row(2)) == (canonical, second)
    assert store.archived_heights() == (1, 2)


def test_archive_rows_that_trails_lead_over_stay_for_good(store: Store):
    kept = [ArchiveRow(height, b"h", b"c", b"v") for height in (1, 3)]
    store.put_archive(*kept, is_for_good=True)
    for height in range(1, 9):
        archive = ArchiveRow(height, b"h", b"c", b"v") if height > 3 else None
        store.commit(store.stage(writes(height, {}, time_ms=height * 1_000_000)._replace(archive=archive)))
    while store.prune(8, 100) or store.prune_blocks(8, 100):
        pass
    assert archived(store) == [1, 3, 7, 8]


def test_blocks_stay_until_the_next_ones_archive_row_is_there(store: Store):
    for height in range(1, 7):
        store.commit(store.stage(writes(height, {}, time_ms=height * 1_000_000)._replace(archive=None)))
    assert store.prune_blocks(5, 100) == 0
    for height in (1, 2, 3):
        store.put_archive(ArchiveRow(height, b"h", b"c", b"v"))
    assert store.prune_blocks(5, 100) == 2
    assert [height for height in range(1, 7) if store.block(height)] == [3, 4, 5, 6]
    store.put_archive(ArchiveRow(4, b"h", b"c", b"v"))
    assert store.prune_blocks(6, 100) == 1


def test_heights_outside_the_window_are_refused_with_its_bounds(store: Store):
    for number in range(1, 9):
        advance(store, {b"t/a": b"%d" % number, b"t/n%d" % (number % 3): None if number % 2 else b"x%d" % number})
    check_proof(store, 2, b"t/a", b"2")
    assert store.prune(-3, 10) == 0
    check_proof(store, 0, b"t/a", b"1")
    while store.prune(5, 3):
        pass
    for height in (-1, 0, 4, 9):
        with pytest.raises(OutsideWindow, match="ask for 5 to 8") as caught:
            store.prove(height, b"t/a")
        assert (caught.value.codespace, caught.value.number) == ("state", 1)
        assert (caught.value.first, caught.value.last) == (5, 8)
    for height in range(5, 9):
        check_proof(store, height, b"t/a", b"%d" % height)
        check_proof(store, height, b"t/none", None)
    with pytest.raises(OutsideWindow):
        store.app_hash_at(9)
    with pytest.raises(Fault, match="only 8 is committed"):
        store.prune(9, 10)
    while store.prune(8, 100):
        pass
    check_proof(store, 8, b"t/a", b"8")


def test_a_record_deleted_and_made_again_is_right_at_each_height_and_after_pruning(store: Store):
    for record in (b"x", None, b"y", None, None, b"z"):
        advance(store, {b"t/k": record, b"t/other": b"%d" % store.height})
    history = [None, b"x", None, b"y", None, None, b"z"]
    for height, record in enumerate(history):
        check_proof(store, height, b"t/k", record)
    for keep_from in range(1, 7):
        while store.prune(keep_from, 1):
            pass
        for height in range(keep_from, 7):
            check_proof(store, height, b"t/k", history[height])


def test_pruning_blocks_gives_up_blocks_and_ids_but_none_with_live_replay_ids(store: Store):
    for _ in range(10):
        advance(store, {b"t/a": b"%d" % store.height}, time_ms=(store.height + 1) * 120_000)
    # The head stands at 1,200 s; ids live at most 600 s, so blocks from 600 s on (height 5) must stay.
    assert store.prune_blocks(9, 2) == 2
    assert store.prune_blocks(9, 100) == 2
    assert store.prune_blocks(9, 100) == 0
    assert [height for height in range(11) if store.block(height)] == [5, 6, 7, 8, 9, 10]
    assert store.result(tx_id(4, 0)) is None
    assert store.transaction(tx_id(4, 0)) is None
    assert store.used_ids(4) == []
    assert store.result(tx_id(5, 0)) is not None
    # State of every height can still be proved, for which its row and the archive row after it are needed.
    check_proof(store, 1, b"t/a", b"0")
    assert store.archive_row(2) is not None


def archived(store: Store) -> list[int]:
    return [height for height in range(1, store.height + 1) if store.archive_row(height) is not None]


def test_archive_rows_go_once_neither_a_block_nor_a_provable_state_needs_them(store: Store):
    for _ in range(12):
        advance(store, {b"t/a": b"%d" % store.height}, time_ms=(store.height + 1) * 1_000_000)
    assert store.prune_blocks(9, 100) == 8
    assert archived(store) == list(range(1, 13))
    while store.prune(6, 1000):
        pass
    assert store.prune_blocks(9, 3) == 0
    # Height 5's begins what follows, and 6 is the first that can be proved.
    assert archived(store) == [5, 6, 7, 8, 9, 10, 11, 12]
    with pytest.raises(OutsideWindow, match="ask for 6 to 12"):
        store.app_hash_at(4)
    check_proof(store, 6, b"t/a", b"5")
    while store.prune(12, 1000):
        pass
    assert store.prune_blocks(12, 1) == 1
    assert archived(store) == [7, 8, 9, 10, 11, 12]
    while store.prune_blocks(12, 1):
        pass
    assert archived(store) == [11, 12]
    assert store.archive_row_below(12) == store.archive_row(11)
    assert store.archive_row_below(11) is None


def test_archive_rows_where_validators_change_are_kept_for_good(store: Store):
    changes_at = {1: b"one", 5: b"two", 6: b"three", 10: b"four"}
    validators = b""
    for height in range(1, 16):
        validators = changes_at.get(height, validators)
        archive = ArchiveRow(height, b"h", b"c", validators)
        store.commit(
            store.stage(HeightWrites(height, height * 10**6, b"block", (), {b"t/a": b"%d" % height}, (), archive))
        )
    while store.prune(15, 1000):
        pass
    for limit in (1, 2, 1, 100):
        store.prune_blocks(15, limit)
    # On both sides of each change, so that a trail from the genesis leads on: 4 to 5, 5 to 6, 9 to 10.
    assert archived(store) == [4, 5, 6, 9, 10, 14, 15]
    while store.prune_blocks(15, 100):
        pass
    assert archived(store) == [4, 5, 6, 9, 10, 14, 15]


def test_pruning_blocks_gives_up_closed_buckets_of_the_id_index(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rows, "ID_BUCKET_ENTRIES", 4)
    for _ in range(12):
        advance(store, {}, time_ms=(store.height + 1) * 1_000_000, transactions=3)
    assert store.prune_blocks(10, 100) == 9
    with store._environment.begin(db=store._databases.ids) as transaction:
        # Two heights fill a bucket; those of heights 1 to 8 are gone, 9 and 10 share one.
        assert transaction.stat()["entries"] == 3 * 4
    for height in range(1, 13):
        found = store.result(tx_id(height, 1))
        assert found == (None if height < 10 else (height, 1, b"result of " + tx_id(height, 1)))


def test_commits_and_pruning_from_two_threads_take_turns(store: Store):
    failures: list[BaseException] = []
    done = threading.Event()

    def prune() -> None:
        try:
            while not done.is_set():
                store.prune(max(0, store.height - 3), 7)
        except Fault as error:
            failures.append(error)

    pruner = threading.Thread(target=prune)
    pruner.start()
    try:
        for number in range(150):
            advance(store, {b"t/%d" % (number % 20): b"%d" % number})
    finally:
        done.set()
        pruner.join()
    assert failures == []
    while store.prune(store.height, 1000):
        pass
    assert store.head.first_provable == store.height == 150
    check_proof(store, 150, b"t/7", b"147")


def test_pruning_leaves_the_nodes_of_the_present_tree_and_of_the_last_epoch_only(store: Store):
    staged = [advance(store, {b"t/%d" % (number % 20): b"%d" % number}) for number in range(150)]
    while store.prune(150, 5):
        pass
    # Epochs end at heights 63 and 127; what later heights replaced is listed until the next one ends.
    live = {key for kept in staged for key in kept.tree.nodes} - {key for kept in staged for key in kept.tree.stale}
    listed = {key for kept in staged[127:] for key in kept.tree.stale}
    with store._environment.begin(db=store._databases.nodes) as transaction:
        held = set(transaction.cursor().iternext(values=False))
    assert held == live | listed
    with store._environment.begin(db=store._databases.former) as transaction:
        assert transaction.stat()["entries"] == 0


def test_disk_use_stays_bounded_over_thousands_of_heights(tmp_path: Path):
    generator = random.Random(11)
    genesis: Changes = {b"t/%06d" % number: bytes(40) for number in range(3000)}
    store = Store.create(tmp_path / "l", "c", 1, genesis, 0, reserve_bytes=0)
    warm_bytes = 0
    for height in range(1, 3001):
        changes: Changes = {b"t/%06d" % generator.randrange(3000): generator.randbytes(40) for _ in range(10)}
        advance(store, changes, time_ms=height * 10_000, transactions=2)
        if height % 20 == 0 and height > 100:
            while store.prune(height - 100, 1000):
                pass
            while store.prune_blocks(height - 100, 1000):
                pass
        if height == 600:
            warm_bytes = store.size_bytes()
    assert 2 * store.size_bytes() <= 3 * warm_bytes
    check_proof(store, 2950, b"t/000001", store.get_at(2950, b"t/000001"))
    store.close()


def test_create_and_open_refuse_the_wrong_directory(tmp_path: Path, store: Store):
    with pytest.raises(Fault, match="no ledger"):
        Store.open(tmp_path / "empty")
    with pytest.raises(Fault, match="another process"):
        Store.open(store.path)
    store.close()
    with pytest.raises(Fault, match="already"):
        Store.create(store.path, "c", 1, {}, 0)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Fault, match="directory"):
        Store.create(tmp_path / "file" / "l", "c", 1, {}, 0)
    (tmp_path / "garbage").mkdir()
    (tmp_path / "garbage" / "data.mdb").write_bytes(b"not a database" * 1000)
    with pytest.raises(Fault, match="cannot open"):
        Store.open(tmp_path / "garbage")


def test_only_a_store_that_is_read_in_order_is_read_ahead(store: Store):
    assert is_mapped_for_random_reads(store.path)
    store.close()
    in_order = Store.open(store.path, read_only=True, is_read_in_order=True)
    assert not is_mapped_for_random_reads(store.path)
    in_order.close()


def is_mapped_for_random_reads(path: Path) -> bool:
    """Say what the system was told of this process's mapping of the store (proc(5), smaps: `rr`)."""
    _, _, mapping = Path("/proc/self/smaps").read_text("utf-8").partition(f"{path}/data.mdb")
    flags = next(line for line in mapping.splitlines() if line.startswith("VmFlags:"))
    return "rr" in flags.split()


def test_an_interrupted_create_is_told_and_can_be_done_again(tmp_path: Path):
    path = tmp_path / "l"
    with pytest.raises(Fault, match="must stay free"):
        Store.create(path, "c", 1, {b"t/a": b"1"}, 0, reserve_bytes=1 << 62)
    with pytest.raises(Fault, match="never finished"):
        Store.open(path)
    store = Store.create(path, "c", 1, {b"t/a": b"1"}, 0, reserve_bytes=0)
    assert store.get(b"t/a") == b"1"
    store.close()
    with pytest.raises(Fault):
        store.get(b"t/a")


def test_the_byte_budget_is_checked_before_anything_is_written(store: Store):
    path = store.path
    store.close()
    tight = Store.open(path, reserve_bytes=1 << 62)
    staged = tight.stage(writes(1, {b"t/a": b"one"}))
    size_bytes = tight.size_bytes()
    with pytest.raises(Fault, match="must stay free"):
        tight.commit(staged)
    assert (tight.height, tight.get(b"t/a"), tight.size_bytes()) == (0, b"1", size_bytes)
    tight.close()


def test_a_full_map_is_a_fault_that_leaves_whole_heights(tmp_path: Path):
    store = Store.create(tmp_path / "l", "c", 1, {b"t/a": b"1"}, 0, map_bytes=1 << 20, reserve_bytes=0)
    record: Changes = {b"t/%d" % place: bytes(4000) for place in range(20)}
    while 2 * store.size_bytes() < 1 << 20:
        advance(store, dict(record) | {b"t/height": b"%d" % store.height, b"t/%d/more" % store.height: bytes(9000)})
    too_much: Changes = {b"u/%d" % place: bytes(16000) for place in range(60)}
    staged = store.stage(writes(store.height + 1, too_much))
    with pytest.raises(Fault, match="writing failed"):
        store.commit(staged)
    height, app_hash = store.height, store.app_hash
    assert height > 0
    store.close()
    store = Store.open(tmp_path / "l", reserve_bytes=0)
    assert (store.height, store.app_hash) == (height, app_hash)
    advance(store, {b"t/a": b"2"})
    store.close()


def test_commits_go_on_while_other_threads_read(store: Store):
    keys = [b"t/%02d" % number for number in range(50)]
    advance(store, dict.fromkeys(keys, b"1"))
    wrong: list[object] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            found = store.get_many(keys)
            if len(found) != 50 or len(frozenset(found.values())) != 1:
                wrong.append(found)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for number in range(60):
            advance(store, dict.fromkeys(keys, b"%d" % number))
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert wrong == []
    assert store.height == 61


# Other processes.

READER = """
    import sys
    from feiqian.core.errors import Fault
    from feiqian.state.store import HeightWrites, Store
    store = Store.open(sys.argv[1], read_only=True)
    for line in sys.stdin:
        height, key = int(line), b"t/a"
        record, proof = store.prove(height, key)
        print(store.height, store.time_ms, store.app_hash.hex(), store.get(key).decode(), record.decode(), flush=True)
    try:
        store.commit(store.stage(HeightWrites(store.height + 1, 10**9, b"", (), {}, (), None)))
    except Fault as error:
        print(error, flush=True)
"""


def run_python(code: str, *arguments: str, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def test_another_process_reads_what_appears_after_it_opened(store: Store):
    reader = run_python(READER, str(store.path))
    assert reader.stdin is not None
    assert reader.stdout is not None
    for height in range(1, 6):
        advance(store, {b"t/a": b"%d" % height})
        reader.stdin.write(f"{height - 1}\n")
        reader.stdin.flush()
        expected = f"{height} {height * 1000} {store.app_hash.hex()} {height} {max(1, height - 1)}\n"
        assert reader.stdout.readline() == expected
    output, errors = reader.communicate(timeout=30)
    assert (output, errors) == ("store: it is open for reading only\n", "")


def test_a_reader_that_was_killed_is_cleared(store: Store):
    code = """
        import sys, time
        from feiqian.state.store import Store
        with Store.open(sys.argv[1], read_only=True).view() as view:
            print(view.height, flush=True)
            time.sleep(600)
    """
    reader = run_python(code, str(store.path))
    assert reader.stdout is not None
    assert reader.stdout.readline() == "0\n"
    assert store.clear_stale_readers() == 0
    reader.kill()
    reader.wait()
    assert store.clear_stale_readers() == 1
    reader.communicate()


WRITER = """
    import random, sys
    from feiqian.state.store import Store
    from feiqian.core.encoding import encode
    from feiqian.state.store import HeightWrites
    store = Store.open(sys.argv[1], reserve_bytes=0)
    while True:
        height = store.height + 1
        generator = random.Random(height)
        changes = {b"t/%03d" % generator.randrange(400): generator.randbytes(40) for _ in range(60)}
        tx_id = height.to_bytes(32, "big")
        block = encode((height, height * 1000, (encode((generator.randbytes(9000),)),), ()))
        writes = HeightWrites(height, height * 1000, block, ((tx_id, b"r%d" % height),), changes,
                              ((height * 1000 + 5, tx_id),), None)
        staged = store.stage(writes)
        store.commit(staged)
        print(height, staged.app_hash.hex(), flush=True)
        if height % 10 == 0:
            store.prune(height - 5, 200)
"""


def test_a_writer_killed_at_any_moment_leaves_whole_heights(tmp_path: Path):
    seed = random.SystemRandom().randrange(2**32)
    generator = random.Random(seed)
    path = tmp_path / "l"
    Store.create(path, "c", 1, {b"t/start": b"1"}, 0, reserve_bytes=0).close()
    acknowledged: dict[int, str] = {}
    for _ in range(12):
        writer = run_python(WRITER, str(path))
        assert writer.stdout is not None
        for _ in range(generator.randrange(1, 12)):
            height, root = writer.stdout.readline().split()
            acknowledged[int(height)] = root
        killer = threading.Timer(generator.random() * 0.02, writer.send_signal, [signal.SIGKILL])
        killer.start()
        for line in writer.stdout:
            if line.endswith("\n"):
                height, root = line.split()
                acknowledged[int(height)] = root
        killer.join()
        writer.communicate()
        store = Store.open(path, reserve_bytes=0)
        check_whole(store, acknowledged, f"seed {seed}")
        store.close()


def check_whole(store: Store, acknowledged: dict[int, str], note: str) -> None:
    """All rows of every height fit together, and nothing acknowledged is missing."""
    last = max(acknowledged)
    assert store.height in (last, last + 1), note
    records: dict[bytes, bytes] = {b"t/start": b"1"}
    for height in range(1, store.height + 1):
        generator = random.Random(height)
        records |= {b"t/%03d" % generator.randrange(400): generator.randbytes(40) for _ in range(60)}
        block = store.block(height)
        assert block is not None, note
        assert block.app_hash.hex() == acknowledged.get(height, block.app_hash.hex()), note
        assert store.result(height.to_bytes(32, "big")) == (height, 0, b"r%d" % height), note
    assert dict(store.scan(b"")) == records, note
    assert store.app_hash == root_by_hand(records), note
    assert store.has_replay_id(store.height * 1000 + 5, store.height.to_bytes(32, "big")), note
    for height in range(store.head.first_provable, store.height + 1):
        check_proof(store, height, b"t/start", b"1")


# Disks that refuse.

FILLER = """
    import json, resource, signal, sys
    from feiqian.core.errors import Fault
    from feiqian.state.store import HeightWrites, Store
    path, limit = sys.argv[1], int(sys.argv[2])
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    store = Store.open(path, reserve_bytes=-(1 << 60) if sys.argv[3] == "blind" else 0)
    try:
        while True:
            height = store.height + 1
            changes = {b"t/%d/%d" % (height, number): bytes(4000) for number in range(40)}
            staged = store.stage(HeightWrites(height, height, b"block %d" % height, (), changes, (), None))
            store.commit(staged)
            print(json.dumps([height, staged.app_hash.hex()]), flush=True)
    except Fault as error:
        print(json.dumps(str(error)), flush=True)
        known = [store.height, store.app_hash.hex()]
        try:
            store.commit(store.stage(HeightWrites(store.height + 1, 10**6, b"b", (), {b"t/x": b"y"}, (), None)))
        except Fault as second:
            print(json.dumps([str(second), *known]), flush=True)
"""


def fill(path: Path, limit_bytes: int, budget: str) -> tuple[list[list], str, list]:
    filler = run_python(FILLER, str(path), str(limit_bytes), budget)
    output, errors = filler.communicate(timeout=120)
    assert errors == ""
    lines = [json.loads(line) for line in output.splitlines()]
    return lines[:-2], lines[-2], lines[-1]


def check_stopped_whole(path: Path, acknowledged: list[list], last_known: list) -> None:
    store = Store.open(path, reserve_bytes=0)
    assert acknowledged
    assert [store.height, store.app_hash.hex()] == acknowledged[-1] == last_known
    expected = {b"t/a": b"1"} | {
        b"t/%d/%d" % (h, n): bytes(4000) for h in range(1, store.height + 1) for n in range(40)
    }
    assert dict(store.scan(b"")) == expected
    assert store.app_hash == root_by_hand(expected)
    check_proof(store, store.height, b"t/1/0", bytes(4000))
    store.close()


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 12 MiB; None where mounting is not allowed."""
    point = tmp_path / "disk"
    point.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(point)], capture_output=True, check=False
    )
    yield point if mounted.returncode == 0 else None
    if mounted.returncode == 0:
        subprocess.run(["umount", "-l", str(point)], check=True)


@pytest.mark.parametrize("budget", ["blind", "checked"])
def test_a_full_disk_stops_the_store_at_a_whole_height_and_room_lets_it_go_on(
    tmp_path: Path, small_disk: Path | None, budget: str
):
    path = (small_disk or tmp_path) / "l"
    Store.create(path, "c", 1, {b"t/a": b"1"}, 0, reserve_bytes=0).close()
    # Where no small file system can be mounted a limit on the file's size gives the same refusals by EFBIG.
    limit_bytes = 0 if small_disk else 8 << 20
    acknowledged, reason, second = fill(path, limit_bytes, budget if small_disk else "blind")
    if small_disk and budget == "checked":
        assert "must stay free" in reason
    else:
        assert reason.startswith("store: writing failed, so the store did not take the height")
    assert "an earlier write failed" in second[0]
    if small_disk and budget == "blind":
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    check_stopped_whole(path, acknowledged, second[1:])


def test_a_limit_on_file_size_is_a_fault_that_leaves_whole_heights(tmp_path: Path):
    path = tmp_path / "l"
    Store.create(path, "c", 1, {b"t/a": b"1"}, 0, reserve_bytes=0).close()
    acknowledged, reason, second = fill(path, 4 << 20, "blind")
    assert "writing failed" in reason
    check_stopped_whole(path, acknowledged, second[1:])


def test_a_read_only_file_system_is_read_and_not_written(small_disk: Path | None, tmp_path: Path):
    path = (small_disk or tmp_path) / "l"
    store = Store.create(path, "c", 1, {b"t/a": b"1"}, 0, reserve_bytes=0)
    advance(store, {b"t/a": b"2"})
    store.close()
    if small_disk:
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    else:
        shutil.copytree(path, tmp_path / "m")
        path = tmp_path / "m"
        for file in (*path.iterdir(), path):
            file.chmod(0o555 if file == path else 0o444)
        if os.geteuid() == 0:
            subprocess.run(["chattr", "+i", *map(str, path.iterdir())], check=True)
    with pytest.raises(Fault, match="cannot write in the ledger's directory"):
        Store.open(path)
    with pytest.raises(Fault):
        Store.create(path, "c", 1, {}, 0)
    reader = Store.open(path, read_only=True)
    assert (reader.height, reader.get(b"t/a")) == (1, b"2")
    check_proof(reader, 0, b"t/a", b"1")
    reader.close()


FAILING_SYNC = r"""
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <errno.h>
    #include <unistd.h>
    int fdatasync(int fd) {
        if (access("%s", F_OK) == 0) { errno = EIO; return -1; }
        return ((int (*)(int)) dlsym(RTLD_NEXT, "fdatasync"))(fd);
    }
    int fsync(int fd) {
        if (access("%s", F_OK) == 0) { errno = EIO; return -1; }
        return ((int (*)(int)) dlsym(RTLD_NEXT, "fsync"))(fd);
    }
"""


def test_a_failing_sync_is_a_fault_and_the_height_is_not_acknowledged(tmp_path: Path):
    switch = tmp_path / "fail"
    library = tmp_path / "sync.so"
    source = FAILING_SYNC.replace("%s", str(switch))
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library), "-ldl"], input=source.encode(), check=True
    )
    path = tmp_path / "l"
    Store.create(path, "c", 1, {b"t/a": b"1"}, 0, reserve_bytes=0).close()
    code = """
        import sys
        from pathlib import Path
        from feiqian.core.errors import Fault
        from feiqian.state.store import HeightWrites, Store
        store = Store.open(sys.argv[1], reserve_bytes=0)
        first = store.stage(HeightWrites(1, 1, b"block", (), {b"t/a": b"2"}, (), None))
        store.commit(first)
        Path(sys.argv[2]).touch()
        try:
            store.commit(store.stage(HeightWrites(2, 2, b"block", (), {b"t/a": b"3"}, (), None)))
        except Fault as error:
            print(error, store.height, store.app_hash == first.app_hash)
    """
    child = run_python(code, str(path), str(switch), env={**os.environ, "LD_PRELOAD": str(library)})
    output, errors = child.communicate(timeout=60)
    reason = "store: writing failed, so the store did not take the height: " + os.strerror(errno.EIO)
    assert (output, errors) == (reason + " 1 True\n", "")
    store = Store.open(path, reserve_bytes=0)
    assert (store.height, store.get(b"t/a")) == (1, b"2")
    store.close()


# Against a plain dict.

KEYS = st.sampled_from([b"t/%d" % number for number in range(12)] + [b"u/a", b"u/a\x00", b"u/b" * 20])
CHANGES = st.dictionaries(KEYS, st.none() | st.binary(min_size=1, max_size=20), max_size=6)


class StoreAgainstDict(RuleBasedStateMachine):
    """Commits, pipelined stages, pruning and reopening, compared with one dict a height."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(os.environ.get("TMPDIR", "/tmp")) / f"store-{os.getpid()}-{id(self)}"
        self.pending: list[Staged] = []

    @initialize(genesis=st.dictionaries(KEYS, st.binary(min_size=1, max_size=20), min_size=1, max_size=6))
    def make(self, genesis: dict[bytes, bytes]) -> None:
        self.store = Store.create(self.directory, "c", 1, dict(genesis), 0, reserve_bytes=0)
        self.heights = [dict(genesis)]
        self.first = 0

    @rule(changes=CHANGES)
    def stage(self, changes: Changes) -> None:
        base = self.pending[-1] if self.pending else None
        height = len(self.heights)
        staged = self.store.stage(writes(height, changes), base)
        records = self.heights[-1] | changes
        self.heights.append({key: record for key, record in records.items() if record is not None})
        self.pending.append(staged)
        layered: Layered | Store = self.store
        for pending in self.pending:
            layered = Layered(layered, pending.writes.changes, pending.writes.replay_ids)
        assert list(layered.scan(b"")) == sorted(self.heights[-1].items())
        assert layered.get(b"t/3") == self.heights[-1].get(b"t/3")
        assert layered.has_replay_id(height * 1000 + MINUTE_MS, tx_id(height, 0))

    @rule()
    def commit(self) -> None:
        if self.pending:
            self.store.commit(self.pending.pop(0))

    @rule(back=st.integers(0, 4), limit=st.integers(1, 20))
    def prune(self, back: int, limit: int) -> None:
        keep_from = max(0, self.store.height - back)
        self.store.prune(keep_from, limit)
        self.first = max(self.first, keep_from)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(self.directory, reserve_bytes=0)

    @invariant()
    def same_at_every_height(self) -> None:
        last = self.store.height
        present = self.heights[last]
        assert dict(self.store.scan(b"")) == present
        assert [key for key, _ in self.store.scan(b"u/", b"u/a")] == sorted(key for key in present if key > b"u/a")
        for height in range(self.first, last + 1):
            records = self.heights[height]
            assert self.store.app_hash_at(height) == root_by_hand(records)
            for key in (b"t/1", b"t/5", b"u/a\x00"):
                assert self.store.get_at(height, key) == records.get(key)
                if records:
                    check_proof(self.store, height, key, records.get(key))

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.directory)


StoreAgainstDict.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestStoreAgainstDict = StoreAgainstDict.TestCase
