"""No acknowledgement before the disk has it, and a disk that fails stops the node with a Fault.

`slow_fdatasync.c` is preloaded into a real node and lets the test hold or break the ledger's disk.
"""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from feiqian.core.transactions import decode_signed, transaction_id
from feiqian.core.wire import Committed
from feiqian.execution.blocks import RESULTS_CODEC
from feiqian.execution.registry import discover
from feiqian.node.configuration import Layout
from feiqian.state.store import Store
from feiqian.testing.ledgers import SampleLedger
from feiqian.testing.processes import Channel, NodeProcess


@pytest.fixture
def ledger(tmp_path: Path) -> SampleLedger:
    return SampleLedger(tmp_path / "ledger", discover())


def ids_in(block: Committed) -> list[bytes]:
    return [entry.id for entry in RESULTS_CODEC.decode(block.results)]


def committed_ids(channel: Channel) -> list[bytes]:
    """Return the ids in every block that comes until the node closes the connection."""
    ids: list[bytes] = []
    while (frame := channel.read()) is not None:
        if isinstance(frame, Committed):
            ids += ids_in(frame)
    return ids


def test_no_acknowledgement_precedes_the_sync(library: Path, ledger: SampleLedger, gate: Any) -> None:
    with NodeProcess(ledger.directory, {"LD_PRELOAD": str(library), "DISK_GATE": str(gate.directory)}) as node:
        node.await_ready()
        with node.connect() as follower, node.connect() as channel:
            follower.subscribe()
            assert follower.next_committed().height == 1
            gate.close()
            issue = ledger.issue("treasury", 100)
            assert channel.submit([issue])[0].number == 0
            gate.await_sync()
            # The sync has begun and is held. On the follower's own connection the answer to a question comes before any
            # acknowledgement, and the node says that it is where it was.
            assert follower.status().height == 1
            assert not follower.has_committed
            assert channel.submit([issue])[0].number == 0
            assert channel.submit([ledger.issue("treasury", 1)])[0].number == 0
            assert follower.status().height == 1
            assert not follower.has_committed
            store = Store.open(Layout(ledger.directory).ledger, read_only=True)
            assert store.height == 1
            store.close()
            gate.let_through()
            paid = follower.next_committed()
            assert (paid.height, ids_in(paid)) == (2, [transaction_id(decode_signed(issue).body)])
        assert node.terminate() == 0


def test_a_kill_while_the_sync_is_held_loses_only_what_was_not_acknowledged(
    library: Path, ledger: SampleLedger, gate: Any
) -> None:
    issue = ledger.issue("treasury", 100)
    with NodeProcess(ledger.directory, {"LD_PRELOAD": str(library), "DISK_GATE": str(gate.directory)}) as node:
        node.await_ready()
        with node.connect() as channel:
            channel.subscribe(2)
            gate.close()
            channel.submit([issue])
            gate.await_sync()
            node.kill()
            assert committed_ids(channel) == []
    with NodeProcess(ledger.directory) as node:
        node.await_ready()
        with node.connect() as channel:
            channel.subscribe(2)
            assert channel.status().height == 1
            assert channel.submit([issue])[0].number == 0
            assert ids_in(channel.next_committed()) == [transaction_id(decode_signed(issue).body)]


def test_a_restart_makes_the_proof_block_that_a_crash_prevented(library: Path, ledger: SampleLedger, gate: Any) -> None:
    with NodeProcess(ledger.directory, {"LD_PRELOAD": str(library), "DISK_GATE": str(gate.directory)}) as node:
        node.await_ready()
        with node.connect() as channel:
            channel.subscribe(2)
            gate.close()
            channel.submit([ledger.issue("treasury", 100)])
            gate.await_sync()
            gate.let_one_through()
            paid = channel.next_committed()
            # The next sync is that of the empty block which would prove the payment.
            gate.await_sync()
            node.kill()
            assert committed_ids(channel) == []
    with NodeProcess(ledger.directory) as node:
        node.await_ready()
        with node.connect() as channel:
            channel.subscribe(paid.height)
            assert channel.next_committed() == paid
            proof = channel.next_committed()
            assert (proof.height, ids_in(proof), proof.app_hash) == (paid.height + 1, [], paid.app_hash)


@pytest.mark.parametrize(
    ("call", "number"),
    [("sync", errno.EIO), ("write", errno.ENOSPC), ("write", errno.EROFS), ("write", errno.EIO)],
    ids=["sync fails", "disk full", "read-only disk", "write fails"],
)
def test_a_disk_that_fails_is_a_fault_before_any_acknowledgement(
    library: Path, ledger: SampleLedger, tmp_path: Path, call: str, number: int
) -> None:
    fault = tmp_path / "fault"
    issue = ledger.issue("treasury", 100)
    with NodeProcess(ledger.directory, {"LD_PRELOAD": str(library), "DISK_FAULT": str(fault)}) as node:
        node.await_ready()
        with node.connect() as channel:
            channel.subscribe(2)
            fault.with_suffix(".new").write_text(f"{call} {number}\n")
            fault.with_suffix(".new").rename(fault)
            channel.submit([issue])
            assert committed_ids(channel) == []
        assert node.await_exit() == 3
        assert '"event": "fault"' in node.log_text()
        assert os.strerror(number) in node.log_text()
    # The disk is well again: the ledger is where it was, and takes what it could not keep.
    with NodeProcess(ledger.directory) as node:
        node.await_ready()
        with node.connect() as channel:
            channel.subscribe(2)
            assert channel.status().height == 1
            assert channel.submit([issue])[0].number == 0
            assert ids_in(channel.next_committed()) == [transaction_id(decode_signed(issue).body)]
