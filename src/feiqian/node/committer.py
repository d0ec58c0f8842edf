"""Puts executed blocks on disk in a process of its own, the only one that writes the ledger's store.

For each height in turn: header and commit, state tree, then one write transaction with its fsync; only then does the
node hear of it. A thread writes, so that the next height's tree is worked out while the one before it goes to disk; and
while this process works, the node's executes the block after that.
"""

import fcntl
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRWPair
from pathlib import Path
from typing import NamedTuple

import msgspec

from feiqian.consensus.genesis_file import Genesis, load_genesis
from feiqian.consensus.solo import SoloSigner, make_archive_row
from feiqian.core.encoding import Hash32, Height, Record, Uint63, encode
from feiqian.core.errors import Fault
from feiqian.execution.blocks import BLOCK, RESULTS_CODEC, bundle_results, open_bundle
from feiqian.node.configuration import Layout
from feiqian.node.executed import Executed
from feiqian.node.faults import DONE, start_thread
from feiqian.node.pruning import Pruner
from feiqian.node.workers import Worker, read_message, serve_as_worker, start_worker, write_message
from feiqian.process.memory import tune_memory
from feiqian.state.archive import ArchiveRow
from feiqian.state.store import HeightWrites, Staged, Store

STAGES = ("archive", "tree", "commit", "prune")
"""What takes this process's time."""


class Kept(Record):
    """Committer to node: the height is on disk. The times are of `STAGES`, pruning that after the height before."""

    height: Height
    app_hash: Hash32
    elapsed_us: tuple[Uint63, ...]
    cpu_us: tuple[Uint63, ...]


_EXECUTED = msgspec.msgpack.Decoder(Executed)
_KEPT = msgspec.msgpack.Decoder(Kept)


class Committer:
    """Makes heights durable, in order: `stage` on one thread, `write` on another, which is one height behind.

    What calls the database often takes turns, since each call gives the interpreter's lock up and would wait long to
    have it back beside a busy thread. Only the sync of a height, one call, goes on beside the other thread.
    """

    def __init__(self, store: Store, pruner: Pruner, archiver: "SoloArchiver | None" = None) -> None:
        """`archiver` signs heights as they are staged; without one their archive rows come later."""
        self._store = store
        self._pruner = pruner
        self._archiver = archiver
        self._turn = threading.Lock()
        self._pruning_times = Times()

    def stage(self, executed: Executed, base: Staged | None = None) -> "Made":
        """Work out all that a height writes; `base` is the one before it where that may not be on disk yet.

        Raises:
            Fault: it does not follow the base, or the last one on disk.
        """
        times = Times()
        with self._turn:
            archive = None
            if self._archiver is not None:
                with times.stage("archive"):
                    archive = self._archiver.make(executed, self._store.app_hash if base is None else base.app_hash)
            writes = HeightWrites(
                executed.height,
                executed.time_ms,
                executed.block,
                executed.results,
                dict(executed.changes),
                executed.replay_ids,
                archive,
            )
            with times.stage("tree"):
                staged = self._store.stage(writes, base)
        return Made(staged, times)

    def write(self, made: "Made") -> Kept:
        """Put a height on disk; returns when it is there.

        Raises:
            Fault: the disk refuses.
        """
        self._turn.acquire()
        with made.times.stage("commit"):
            self._store.commit(made.staged, self._turn.release)
        made.times.add(self._pruning_times)
        self._pruning_times = Times()
        return Kept(made.staged.writes.height, made.staged.app_hash, *made.times.by_stage())

    def prune(self) -> None:
        """Give up a little of what lies too far back."""
        with self._turn, self._pruning_times.stage("prune"):
            self._pruner.step()


class SoloArchiver:
    """Signs one height after another with the solo ledger's one key."""

    def __init__(self, store: Store, genesis: Genesis, signer: SoloSigner) -> None:
        self._genesis = genesis
        self._signer = signer
        self._results_before = last_bundle_results(store)
        self._row_before = store.archive_row(store.height)

    def make(self, executed: Executed, app_hash_before: bytes) -> ArchiveRow:
        """Return the row of the height after the one that was asked for before.

        Raises:
            Fault: it does not follow that one.
        """
        row = make_archive_row(
            self._genesis,
            self._signer,
            None if executed.height == self._genesis.initial_height else self._row_before,
            height=executed.height,
            time_ms=executed.time_ms,
            bundles=BLOCK.decode_trusted(executed.block).bundles,
            app_hash_before=app_hash_before,
            results_before=self._results_before,
            app_version=executed.app_version,
        )
        self._results_before = executed.bundle_results
        self._row_before = row
        return row


class Made(NamedTuple):
    """A height on its way to disk, and what it took so far."""

    staged: Staged
    times: "Times"


class Times:
    """Elapsed and processor time of one height by stage, in microseconds."""

    def __init__(self) -> None:
        self._elapsed_us: dict[str, int] = dict.fromkeys(STAGES, 0)
        self._cpu_us: dict[str, int] = dict.fromkeys(STAGES, 0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count a block of code, which ends on the thread that it begins on, towards a stage."""
        elapsed_ns, cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
        yield
        self._elapsed_us[name] += (time.perf_counter_ns() - elapsed_ns) // 1000
        self._cpu_us[name] += (time.thread_time_ns() - cpu_ns) // 1000

    def add(self, other: "Times") -> None:
        """Count what another counted."""
        for name in STAGES:
            self._elapsed_us[name] += other._elapsed_us[name]
            self._cpu_us[name] += other._cpu_us[name]

    def by_stage(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return both, in the order of `STAGES`."""
        return tuple(self._elapsed_us.values()), tuple(self._cpu_us.values())


class CommitterProcess:
    """The node's end: heights go out in order, and word of each comes back in order."""

    def __init__(self, layout: Layout, plain_tables: frozenset[str], past_heights: int, keep_blocks: int = 0) -> None:
        """Start the process and wait until it has the store.

        Raises:
            Fault: it ended before.
        """
        self._worker: Worker = start_worker(
            "feiqian.node.committer",
            [str(layout.directory), ",".join(sorted(plain_tables)), str(past_heights), str(keep_blocks)],
        )
        self._stream = self._worker.channel.makefile("rwb")
        if read_message(self._stream) is None:
            raise Fault("the process that commits blocks could not open the ledger; its own log line says why")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._worker.process.pid

    def send(self, executed: Executed) -> None:
        """Hand a height over; may wait until the one before is on disk. For one thread."""
        write_message(self._stream, encode(executed))

    def receive(self, height: int) -> Kept | None:
        """Return word that `height`, the next one, is on disk, or None after `close` when all are. For one thread.

        Raises:
            Fault: the process has died, or speaks of another height.
        """
        data = read_message(self._stream)
        if data is not None:
            kept = _KEPT.decode(data)
            if kept.height != height:
                raise Fault(f"the committer speaks of height {kept.height}; {height} was next")
            return kept
        if self._worker.process.wait() != 0:
            raise Fault("the process that commits blocks has died")
        return None

    def close(self) -> None:
        """Send no more; the process ends when everything sent is on disk."""
        self._stream.flush()
        self._worker.channel.shutdown(socket.SHUT_WR)


def last_bundle_results(store: Store) -> tuple[bytes, ...]:
    """Return the bundles' results of the last block on disk, which the next header commits to."""
    stored = store.block(store.height)
    if stored is None:
        return ()
    results = [(entry.id, entry.result) for entry in RESULTS_CODEC.decode_trusted(stored.results)]
    counts = [len(open_bundle(bundle)) for bundle in BLOCK.decode_trusted(stored.block).bundles]
    place = len(results) - sum(counts)
    digests: list[bytes] = []
    for count in counts:
        digests.append(bundle_results(results[place : place + count]))
        place += count
    return tuple(digests)


def _serve(stream: BufferedRWPair) -> None:
    directory, plain_tables, past_heights, keep_blocks = sys.argv[1:]
    layout = Layout(Path(directory))
    with layout.committer_lock.open("ab") as lock:
        # The committer of a node that was killed dies with it, but perhaps not before a new one starts.
        fcntl.flock(lock, fcntl.LOCK_EX)
        store = Store.open(layout.ledger, plain_tables=frozenset(filter(None, plain_tables.split(","))))
        pruner = Pruner(store, int(past_heights), int(keep_blocks), layout.segments)
        archiver = SoloArchiver(store, load_genesis(layout.genesis), SoloSigner.load(layout.validator_key))
        committer = Committer(store, pruner, archiver)
        to_write: queue.Queue[Made | None] = queue.Queue(maxsize=1)
        tune_memory()
        write_message(stream, b"open")
        writer = start_thread("write", lambda: _write_all(committer, to_write, stream))
        base: Staged | None = None
        try:
            while (data := read_message(stream)) is not None:
                made = committer.stage(_EXECUTED.decode(data), base)
                base = made.staged
                to_write.put(made)
        except ConnectionResetError:
            pass  # The node is gone: what it sent is finished all the same.
        to_write.put(None)
        writer.join()
        pruner.close()
        store.close()


def _write_all(committer: Committer, to_write: "queue.Queue[Made | None]", stream: BufferedRWPair) -> None:
    """Put heights on disk as they are staged, and tell the node of each that is there."""
    try:
        while (made := to_write.get()) is not None:
            write_message(stream, encode(committer.write(made)))
            committer.prune()
    except (BrokenPipeError, ConnectionResetError):
        # The node is gone: nobody waits for an answer.
        os._exit(DONE)


if __name__ == "__main__":
    serve_as_worker("committer", _serve)
