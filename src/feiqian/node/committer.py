"""Puts executed blocks on disk in a process of its own, the only one that writes the ledger's store.

For each height in turn: header and commit, state tree, then one write transaction with its fsync; only then does the
node hear of it. While this process works, the node's executes the next block.
"""

import fcntl
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRWPair
from pathlib import Path

import msgspec

from feiqian.consensus.genesis_file import Genesis, load_genesis
from feiqian.consensus.solo import SoloSigner, make_archive_row
from feiqian.core.encoding import Hash32, Height, Record, TimeMs, Uint32, Uint63, encode
from feiqian.core.errors import Fault
from feiqian.execution.blocks import BLOCK, BUNDLE, RESULTS_CODEC, bundle_results
from feiqian.node.configuration import Layout
from feiqian.node.workers import Worker, read_message, serve_as_worker, start_worker, tune_collector, write_message
from feiqian.state.store import HeightWrites, Store

STAGES = ("archive", "tree", "commit", "prune")
"""What takes this process's time."""

PRUNE_HEIGHTS = 64
PRUNE_ROWS = 20_000
"""A step of pruning: begun when so many heights lie too far back, ended after so many rows."""


class Executed(Record):
    """Node to committer: all that a height is, as execution left it. `app_version` goes into its header."""

    height: Height
    time_ms: TimeMs
    app_version: Uint32
    block: bytes
    bundle_results: tuple[bytes, ...]
    results: tuple[tuple[bytes, bytes], ...]
    changes: tuple[tuple[bytes, bytes | None], ...]
    replay_ids: tuple[tuple[Uint63, bytes], ...]


class Kept(Record):
    """Committer to node: the height is on disk. The times are of `STAGES` since the last answer."""

    height: Height
    app_hash: Hash32
    elapsed_us: tuple[Uint63, ...]
    cpu_us: tuple[Uint63, ...]


_EXECUTED = msgspec.msgpack.Decoder(Executed)
_KEPT = msgspec.msgpack.Decoder(Kept)


class Committer:
    """Makes heights durable, one after another."""

    def __init__(self, store: Store, genesis: Genesis, signer: SoloSigner, past_heights: int) -> None:
        self._store = store
        self._genesis = genesis
        self._signer = signer
        self._past_heights = past_heights
        self._results_before = last_bundle_results(store)
        self._is_pruning = False
        self._times = Times()

    def commit(self, executed: Executed) -> Kept:
        """Put a height on disk; returns when it is there.

        Raises:
            Fault: it does not follow the last one, or the disk refuses.
        """
        store = self._store
        with self._times.stage("archive"):
            is_first = executed.height == self._genesis.initial_height
            archive = make_archive_row(
                self._genesis,
                self._signer,
                None if is_first else store.archive_row(executed.height - 1),
                height=executed.height,
                time_ms=executed.time_ms,
                bundles=BLOCK.decode_trusted(executed.block).bundles,
                app_hash_before=store.app_hash,
                results_before=self._results_before,
                app_version=executed.app_version,
            )
        writes = HeightWrites(
            executed.height,
            executed.time_ms,
            executed.block,
            executed.results,
            dict(executed.changes),
            executed.replay_ids,
            archive,
        )
        with self._times.stage("tree"):
            staged = store.stage(writes)
        with self._times.stage("commit"):
            store.commit(staged)
        self._results_before = executed.bundle_results
        return Kept(executed.height, staged.app_hash, *self._times.take())

    def prune(self) -> None:
        """Give up what lies too far back, in steps: each is a write of its own, and many heights at once cost less."""
        with self._times.stage("prune"):
            keep_from = self._store.height - self._past_heights
            behind = keep_from - self._store.head.first_provable
            if self._is_pruning or behind >= PRUNE_HEIGHTS:
                self._is_pruning = self._store.prune(max(keep_from, 0), PRUNE_ROWS) > 0


class Times:
    """Elapsed and processor time by stage, in microseconds, since it was last taken."""

    def __init__(self) -> None:
        self._elapsed_us: dict[str, int] = dict.fromkeys(STAGES, 0)
        self._cpu_us: dict[str, int] = dict.fromkeys(STAGES, 0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count a block of code towards a stage."""
        elapsed_ns, cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
        yield
        self._elapsed_us[name] += (time.perf_counter_ns() - elapsed_ns) // 1000
        self._cpu_us[name] += (time.thread_time_ns() - cpu_ns) // 1000

    def take(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return both, in the order of `STAGES`, and begin anew."""
        taken = tuple(self._elapsed_us.values()), tuple(self._cpu_us.values())
        self._elapsed_us, self._cpu_us = dict.fromkeys(STAGES, 0), dict.fromkeys(STAGES, 0)
        return taken


class CommitterProcess:
    """The node's end: heights go out in order, and word of each comes back in order."""

    def __init__(self, layout: Layout, plain_tables: frozenset[str], past_heights: int) -> None:
        """Start the process and wait until it has the store.

        Raises:
            Fault: it ended before.
        """
        self._worker: Worker = start_worker(
            "feiqian.node.committer", [str(layout.directory), ",".join(sorted(plain_tables)), str(past_heights)]
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

    def receive(self) -> Kept | None:
        """Return word of the next height that is on disk, or None after `close` when all are. For one thread.

        Raises:
            Fault: the process has died.
        """
        data = read_message(self._stream)
        if data is not None:
            return _KEPT.decode(data)
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
    counts = [len(BUNDLE.decode_trusted(bundle)) for bundle in BLOCK.decode_trusted(stored.block).bundles]
    place = len(results) - sum(counts)
    digests: list[bytes] = []
    for count in counts:
        digests.append(bundle_results(results[place : place + count]))
        place += count
    return tuple(digests)


def _serve(stream: BufferedRWPair) -> None:
    directory, plain_tables, past_heights = sys.argv[1:]
    layout = Layout(Path(directory))
    with layout.committer_lock.open("ab") as lock:
        # The committer of a node that was killed dies with it, but perhaps not before a new one starts.
        fcntl.flock(lock, fcntl.LOCK_EX)
        store = Store.open(layout.ledger, plain_tables=frozenset(filter(None, plain_tables.split(","))))
        committer = Committer(
            store, load_genesis(layout.genesis), SoloSigner.load(layout.validator_key), int(past_heights)
        )
        tune_collector()
        write_message(stream, b"open")
        while (data := read_message(stream)) is not None:
            write_message(stream, encode(committer.commit(_EXECUTED.decode(data))))
            committer.prune()
        store.close()


if __name__ == "__main__":
    serve_as_worker("committer", _serve)
