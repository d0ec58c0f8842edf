"""No acknowledgement before the disk has it, and a disk that fails stops the node with a Fault.

`slow_fdatasync.c` is preloaded into a real node and lets the test hold or break the disk under its block log or store.
"""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from feiqian.core.transactions import decode_signed, transaction_id
from feiqian.core.wire import Committed, Stored, Submit
from feiqian.execution.blocks import RESULTS_CODEC
from feiqian.execution.registry import discover
from feiqian.node.configuration import Layout
from feiqian.state.store import Store
from feiqian.testing.ledgers import SampleLedger
from feiqian.testing.processes import Channel, NodeProcess

LOG, STORE = "/block-log/", "data.mdb"
StartHeld = Callable[[str], NodeProcess]


@pytest.fixture
def ledger(tmp_path: Path) -> SampleLedger:
    return SampleLedger(tmp_path / "ledger", discover())


@pytest.fixture
def start_held(library: Path, ledger: SampleLedger, gate: Any) -> StartHeld:
    """Give a function that starts a node whose syncs of a file pass the gate."""

    def start(file: str) -> NodeProcess:
        held = {"LD_PRELOAD": str(library), "DISK_FILE": file, "DISK_GATE": str(gate.directory)}
        return NodeProcess(ledger.directory, held)

    return start


def id_of(signed: bytes) -> bytes:
    return transaction_id(decode_signed(signed).body)


def ids_in(block: Stored | Committed) -> list[bytes]:
    return [entry.id for entry in RESULTS_CODEC.decode(block.results)]


def next_committed_with_results(channel: Channel) -> Committed:
    """Return the next word of a block that is not one made to prove the one before it."""
    while not ids_in(told := channel.next_committed()):
        continue
    return told


def told_ids(channel: Channel) -> list[bytes]:
    """Return the ids in every block that is told of until the node closes the connection."""
    ids: list[bytes] = []
    while (frame := channel.read()) is not None:
        if isinstance(frame, Stored | Committed):
            ids += ids_in(frame)
    return ids


def assert_taken_anew(ledger: SampleLedger, order: bytes) -> None:
    """Start the node at height 1, which knows nothing of the order: it takes it and commits it."""
    with NodeProcess(ledger.directory) as node:
        node.await_ready()
        with node.connect() as channel:
            channel.subscribe(2)
            assert channel.status().height == 1
            assert channel.submit([order])[0].number == 0
            assert ids_in(channel.next_stored()) == [id_of(order)]


def test_no_acknowledgement_precedes_the_sync(start_held: StartHeld, ledger: SampleLedger, gate: Any) -> None:
    with start_held(LOG) as node:
        node.await_ready()
        with node.connect() as follower, node.connect() as channel:
            follower.subscribe()
            follower.follow_committed(2)
            assert follower.next_stored().height == 1
            gate.close()
            issue = ledger.issue("treasury", 100)
            assert channel.submit([issue])[0].number == 0
            gate.await_sync()
            # The sync has begun and is held. On the follower's own connection the answer to a question comes before any
            # acknowledgement, and the node says that it is where it was.
            assert channel.submit([issue])[0].number == 0
            assert channel.submit([ledger.issue("treasury", 1)])[0].number == 0
            assert follower.status().height == 1
            assert not follower.has_committed
            assert not follower.has_stored
            store = Store.open(Layout(ledger.directory).ledger, read_only=True)
            assert store.height == 1
            store.close()
            gate.let_through()
            told = follower.next_committed()
            assert (told.height, ids_in(told)) == (2, [id_of(issue)])
            assert (follower.next_stored().height, follower.status().height >= 2) == (2, True)
        assert node.terminate() == 0


def test_what_is_committed_is_kept_though_the_store_never_got_it(
    start_held: StartHeld, ledger: SampleLedger, gate: Any
) -> None:
    orders = [ledger.issue("treasury", 100) for _ in range(2)]
    with start_held(STORE) as node:
        node.await_ready()
        with node.connect() as channel:
            channel.subscribe(2)
            channel.follow_committed(2)
            gate.close()
            told: list[Committed] = []
            for order in orders:
                channel.submit([order])
                told.append(next_committed_with_results(channel))
            gate.await_sync()
            assert channel.status().height == 1
            assert not channel.has_stored
            node.kill()
    assert [ids_in(each) for each in told] == [[id_of(order)] for order in orders]
    with NodeProcess(ledger.directory) as node:
        node.await_ready()
        with node.connect() as channel:
            assert channel.status().height >= told[-1].height
            channel.subscribe(2)
            blocks = [channel.next_stored() for _ in range(2, told[-1].height + 1)]
            stored = {block.height: block.results for block in blocks}
            assert {each.height: each.results for each in told}.items() <= stored.items()
            # Replayed: each stands on the ledger already.
            assert {(verdict.codespace, verdict.number) for verdict in channel.submit(orders)} == {("ledger", 40)}
        assert '"event": "recovered"' in node.log_text()


def test_a_kill_while_the_sync_is_held_loses_only_what_was_not_acknowledged(
    start_held: StartHeld, ledger: SampleLedger, gate: Any
) -> None:
    issue = ledger.issue("treasury", 100)
    with start_held(LOG) as node:
        node.await_ready()
        with node.connect() as channel:
            channel.subscribe(2)
            channel.follow_committed(2)
            gate.close()
            channel.submit([issue])
            gate.await_sync()
            node.kill()
            assert told_ids(channel) == []
    # A process's death loses nothing that it wrote: what a power cut might have taken with it, is taken away here.
    (Layout(ledger.directory).block_log / "2").write_bytes(b"")
    assert_taken_anew(ledger, issue)


def test_a_restart_makes_the_proof_block_that_a_crash_prevented(
    start_held: StartHeld, ledger: SampleLedger, gate: Any
) -> None:
    with start_held(LOG) as node:
        node.await_ready()
        with node.connect() as channel:
            channel.subscribe(2)
            gate.close()
            channel.submit([ledger.issue("treasury", 100)])
            gate.await_sync()
            gate.let_one_through()
            paid = channel.next_stored()
            # The next sync is that of the empty block which would prove the payment.
            gate.await_sync()
            node.kill()
            assert told_ids(channel) == []
    (Layout(ledger.directory).block_log / "3").write_bytes(b"")
    with NodeProcess(ledger.directory) as node:
        node.await_ready()
        with node.connect() as channel:
            channel.subscribe(paid.height)
            assert channel.next_stored() == paid
            proof = channel.next_stored()
            assert (proof.height, ids_in(proof), proof.app_hash) == (paid.height + 1, [], paid.app_hash)


FAILURES = pytest.mark.parametrize(
    ("call", "number"),
    [("sync", errno.EIO), ("write", errno.ENOSPC), ("write", errno.EROFS), ("write", errno.EIO)],
    ids=["sync fails", "disk full", "read-only disk", "write fails"],
)


@pytest.fixture
def run_on_failing_disk(library: Path, ledger: SampleLedger, tmp_path: Path) -> Callable[..., list[bytes]]:
    """Give a function that sends an order to a node whose calls on a file fail; it returns the ids it was told of."""

    def run(file: str, call: str, number: int, order: bytes) -> list[bytes]:
        fault = tmp_path / "fault"
        broken = {"LD_PRELOAD": str(library), "DISK_FILE": file, "DISK_FAULT": str(fault)}
        with NodeProcess(ledger.directory, broken) as node:
            node.await_ready()
            with node.connect() as channel:
                channel.subscribe(2)
                channel.follow_committed(2)
                fault.with_suffix(".new").write_text(f"{call} {number}\n")
                fault.with_suffix(".new").rename(fault)
                # The node may end before it answers.
                channel.send(Submit(1, (order,)))
                told = told_ids(channel)
            assert node.await_exit() == 3
            assert '"event": "fault"' in node.log_text()
            assert os.strerror(number) in node.log_text()
        return told

    return run


@FAILURES
def test_a_log_that_fails_is_a_fault_before_any_acknowledgement(
    run_on_failing_disk: Callable[..., list[bytes]], ledger: SampleLedger, call: str, number: int
) -> None:
    issue = ledger.issue("treasury", 100)
    assert run_on_failing_disk(LOG, call, number, issue) == []
    # A sync that failed may have left the block in the file all the same, or not: here it did not.
    (Layout(ledger.directory).block_log / "2").write_bytes(b"")
    assert_taken_anew(ledger, issue)


@FAILURES
def test_a_store_that_fails_is_a_fault_and_gets_what_was_committed_when_the_disk_is_well(
    run_on_failing_disk: Callable[..., list[bytes]], ledger: SampleLedger, call: str, number: int
) -> None:
    issue = ledger.issue("treasury", 100)
    # Committed it is; the node may end before it has told so.
    assert run_on_failing_disk(STORE, call, number, issue) in ([], [id_of(issue)])
    store = Store.open(Layout(ledger.directory).ledger, read_only=True)
    assert store.height == 1
    store.close()
    with NodeProcess(ledger.directory) as node:
        node.await_ready()
        with node.connect() as channel:
            assert channel.status().height >= 2
            channel.subscribe(2)
            assert ids_in(channel.next_stored()) == [id_of(issue)]
