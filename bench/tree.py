"""The state tree's speed: µs a changed key, rows and bytes a key, over a dict and over LMDB, and of results trees.

Run: python bench/tree.py [LEAVES ...]   (default 10000 100000 1000000; the last needs about 2 GB and five minutes)

Each figure is the median of its rounds; the cost of one SHA-256 over 80 bytes, measured beside every round, is given
so that machines can be compared: an inner node of the tree can not cost less.
"""

import gc
import hashlib
import json
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import lmdb

from feiqian.state import tree, tree_rows
from feiqian.state.tree import MemoryTree, TreeUpdate

BATCH = 10_000
ROUNDS = 5
MAP_BYTES = 1 << 36


class Mix(NamedTuple):
    """What a round changes, in percent of its keys; the rest are new values of present keys."""

    name: str
    inserted: int
    deleted: int


MIXES = (Mix("updates", 0, 0), Mix("20 % inserts, 10 % deletes", 20, 10))


class DictRows(dict[bytes, bytes]):
    """Rows in memory."""

    name = "dict"

    def node(self, node_key: bytes, /) -> bytes | None:
        return self.get(node_key)

    def commit(self, update: TreeUpdate) -> None:
        for node_key in update.stale:
            del self[node_key]
        self.update(update.nodes)


class LmdbRows:
    """Rows in LMDB as the store keeps them: one appending write with fsync, pruned later; none kept in memory."""

    name = "lmdb"

    def __init__(self, directory: str) -> None:
        self.environment: Any = lmdb.open(directory, map_size=MAP_BYTES)
        self.reading: Any = self.environment.begin()

    def node(self, node_key: bytes, /) -> bytes | None:
        return self.reading.get(node_key)

    def commit(self, update: TreeUpdate) -> None:
        self.reading.abort()
        with self.environment.begin(write=True) as transaction:
            transaction.cursor().putmulti(list(update.nodes.items()), append=True)
        self.reading = self.environment.begin()


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds and what the work returned."""
    gc.collect()
    started = time.perf_counter()
    done = work()
    return time.perf_counter() - started, done


def hash_us() -> float:
    data, sha256 = bytes(80), hashlib.sha256

    def work() -> None:
        for _ in range(50_000):
            sha256(data).digest()

    return timed(work)[0] / 50_000 * 1e6


def measure_updates(rows: DictRows | LmdbRows, leaves: int) -> list[dict[str, Any]]:
    """Build a tree of `leaves` and change BATCH keys a round, for each mix in turn."""
    source = random.Random(leaves)
    keys = [source.randbytes(32) for _ in range(leaves)]
    build_seconds, update = timed(lambda: tree.update(rows, None, 1, [(key, key) for key in keys]))
    rows.commit(update)
    root_key, height, results = update.root_key, 1, []
    for mix in MIXES:
        figures: list[tuple[float, float, float, float, float]] = []
        for _ in range(ROUNDS):
            height += 1
            batch = min(BATCH, leaves)
            changed = source.sample(keys, batch * (100 - mix.inserted) // 100)
            gone = len(changed) * mix.deleted // 100
            changes: list[tuple[bytes, bytes | None]] = [(key, None) for key in changed[:gone]]
            changes += [(key, source.randbytes(32)) for key in changed[gone:]]
            changes += [(key, key) for key in (source.randbytes(32) for _ in range(batch - len(changed)))]
            hash_before = hash_us()
            seconds, update = timed(lambda: tree.update(rows, root_key, height, changes))  # noqa: B023
            commit_seconds, _ = timed(lambda: rows.commit(update))  # noqa: B023
            root_key = update.root_key
            size = sum(map(len, update.nodes.values()))
            scale = 1e6 / len(changes)
            figures.append(
                (
                    seconds * scale,
                    commit_seconds * scale,
                    len(update.nodes) / len(changes),
                    size / len(changes),
                    (hash_before + hash_us()) / 2,
                )
            )
        update_us, commit_us, row_count, size, hashed = map(statistics.median, zip(*figures, strict=True))
        results.append(
            {
                "store": rows.name,
                "leaves": leaves,
                "batch": min(BATCH, leaves),
                "mix": mix.name,
                "update_us_per_key": round(update_us, 2),
                "commit_us_per_key": round(commit_us, 2),
                "rows_per_key": round(row_count, 2),
                "row_bytes_per_key": round(size),
                "hash_us": round(hashed, 3),
                "build_us_per_leaf": round(build_seconds / leaves * 1e6, 2),
            }
        )
    return results


def measure_results_tree(leaves: int = 5_000) -> dict[str, Any]:
    """Build the tree of a block's results."""
    values = {random.Random(number).randbytes(32): bytes(150) for number in range(leaves)}
    seconds = statistics.median(timed(lambda: MemoryTree(values))[0] for _ in range(ROUNDS))
    return {"leaves": leaves, "us_per_leaf": round(seconds / leaves * 1e6, 2)}


def main() -> None:
    """Print the table, then one line of JSON."""
    sizes = [int(word) for word in sys.argv[1:]] or [10_000, 100_000, 1_000_000]
    machine = (
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, lmdb {lmdb.__version__}"
    )
    print(f"{machine}; {tree_rows.INLINE_LEAVES} leaves inline; µs a key, median of {ROUNDS} rounds")
    print(
        f"{'store':6}{'leaves':>10}{'keys':>8}  {'mix':28}{'update':>8}{'commit':>8}{'rows':>7}{'bytes':>7}{'hash':>7}"
    )
    results = []
    for leaves in sizes:
        with tempfile.TemporaryDirectory() as directory:
            for rows in (DictRows(), LmdbRows(directory)):
                for line in measure_updates(rows, leaves):
                    results.append(line)
                    print(
                        f"{line['store']:6}{leaves:>10}{line['batch']:>8}  {line['mix']:28}"
                        f"{line['update_us_per_key']:>8}{line['commit_us_per_key']:>8}"
                        f"{line['rows_per_key']:>7}{line['row_bytes_per_key']:>7}{line['hash_us']:>7}",
                        flush=True,
                    )
    of_results = measure_results_tree()
    print(f"results tree of {of_results['leaves']} leaves: {of_results['us_per_leaf']} µs a leaf")
    print(json.dumps({"machine": machine, "updates": results, "results_tree": of_results}, ensure_ascii=False))


if __name__ == "__main__":
    main()
