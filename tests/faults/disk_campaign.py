"""Runs ledgers with narrow windows for many blocks, and measures whether their disk stops growing: `make disk`.

Blocks stay for the ten minutes in which their ids count, so that these ledgers' clocks run fast. What is kept for good
is counted apart: segment files, and the signed headers which later trails lead over.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from feiqian.consensus.genesis_file import load_genesis, save_genesis
from feiqian.execution.registry import discover
from feiqian.node.configuration import Layout
from feiqian.state.store import Store
from feiqian.testing.comet_binary import require_cometbft
from feiqian.testing.ledgers import SampleLedger, consortium_text
from feiqian.testing.processes import Channel, NodeProcess
from feiqian.testing.turned_clock import fast_clock
from feiqian.testing.validators import Network

SPEED = 200
"""Ten minutes pass in three seconds."""

LIFETIME_MS = 500_000
"""By the ledger's clock: what is sent may wait two and a half seconds."""

BACK_MS = 90 * 86_400_000
"""A network's clock begins so far back: in ten hours it does not come to the machine's own."""

LEAST_PROOF_WINDOW = 600
"""Of so many blocks state holds the roots of results, at least; of 100,000 unless the ledger's parameters say so."""

MOST_GROWTH = 1.5
SAMPLES = 20
WARM_UP_SAMPLES = 10
"""Half of the blocks. The most that is measured then is what later samples are compared with."""

AFTER_S = 2.0
"""CometBFT's databases give room back a little later than they are told to."""

BUFFER_BYTES = 2 * (4 << 20)
"""What CometBFT's two busy databases write into journals of 4 MiB before a table is made (goleveldb, `WriteBuffer`)."""

WAL_BYTES = 32 << 20
"""CometBFT's log of votes: files of 10 MiB, one that is written and those that became whole a little while ago."""

COLUMNS = ("height", "first", "store", "trail", "segments", "snapshots", "blockstore", "state", "evidence", "wal")


class Sizes(NamedTuple):
    """Bytes on disk at one height."""

    height: int
    first_block: int
    store: int
    """The ledger's store and solo's log of blocks, the kept trail left out."""
    trail: int
    segments: int
    snapshots: int
    blockstore: int
    state: int
    evidence: int
    wal: int

    @property
    def comet(self) -> int:
        """CometBFT's databases."""
        return self.blockstore + self.state + self.evidence

    @property
    def ledger(self) -> int:
        """The ledger's own side."""
        return self.store + self.snapshots


class Running(NamedTuple):
    """A ledger that runs: how to hand it orders, and how high it is."""

    ledger: SampleLedger
    layout: Layout
    channel: Channel
    from_ms: int
    shift_ms: int = 0

    @property
    def height(self) -> int:
        """The last height in the store."""
        return self.channel.status().height

    def send(self, count: int) -> None:
        """Hand in a few orders; those that came too late are not missed."""
        ahead_ms = (time.time_ns() // 1_000_000 - self.from_ms) * (SPEED - 1) + self.shift_ms
        self.channel.submit(
            [self.ledger.issue("treasury", 1, lifetime_ms=ahead_ms + LIFETIME_MS) for _ in range(count)]
        )


def measure(layout: Layout) -> Sizes:
    """Return what everything takes."""
    data = layout.comet / "data"
    store = Store.open(layout.ledger, read_only=True)
    try:
        head, trail = store.head, trail_bytes(store)
    finally:
        store.close()
    return Sizes(
        head.height,
        head.first_block,
        disk_bytes(layout.ledger) + disk_bytes(layout.block_log) - trail,
        trail,
        disk_bytes(layout.segments),
        disk_bytes(layout.snapshots),
        disk_bytes(data / "blockstore.db"),
        disk_bytes(data / "state.db"),
        disk_bytes(data / "evidence.db"),
        disk_bytes(data / "cs.wal"),
    )


def trail_bytes(store: Store) -> int:
    """Return how much the archive rows take that stay below everything else, for trails alone."""
    taken, below = 0, max(0, min(store.head.first_block, store.head.first_provable) - 1)
    while (row := store.archive_row_below(below)) is not None:
        taken += len(row.header) + len(row.commit) + len(row.validators)
        below = row.height
    return taken


def disk_bytes(path: Path) -> int:
    """Return what a file or folder takes on disk; nothing where there is none."""
    taken = 0
    for file in [path] if path.is_file() else path.rglob("*"):
        try:
            taken += file.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return taken


def run_to(running: Running, blocks: int, tell: Callable[[str], None]) -> list[Sizes]:
    """Send orders until there are so many blocks; return what was measured on the way, at even distances."""
    samples: list[Sizes] = []
    tell(" ".join(f"{name:>10}" for name in COLUMNS))
    for number in range(1, SAMPLES + 1):
        target = blocks * number // SAMPLES
        while running.height < target:
            running.send(2)
        time.sleep(AFTER_S)
        samples.append(measure(running.layout))
        tell(_line(samples[-1]))
    return samples


def judge(samples: Sequence[Sizes]) -> list[str]:
    """Return what grew, each in words; the most that later samples show is compared with the most of the warm-up."""
    warm, later = samples[:WARM_UP_SAMPLES], samples[WARM_UP_SAMPLES:]
    grown: list[str] = []
    sides = (("the ledger", lambda each: each.ledger, 0), ("CometBFT", lambda each: each.comet, BUFFER_BYTES))
    for name, size, allowed in sides:
        before, after = max(map(size, warm)), max(map(size, later))
        if after > MOST_GROWTH * before and after > MOST_GROWTH * allowed:
            grown.append(f"{name} grew from {before} to {after} bytes")
    if (wal := max(each.wal for each in samples)) > WAL_BYTES:
        grown.append(f"CometBFT's log of votes took {wal} bytes")
    return grown


def _line(sizes: Sizes) -> str:
    counts = [f"{value:>10}" for value in sizes[:2]]
    return " ".join(counts + [f"{value / 1024:>10.0f}" for value in sizes[2:]])


def limits(window: int) -> Mapping[str, str]:
    """Return the settings of a ledger that keeps little."""
    return {
        "FEIQIAN_NODE_KEEP_BLOCKS": str(window),
        "FEIQIAN_NODE_PAST_HEIGHTS": str(window),
        "FEIQIAN_NODE_BLOCK_INTERVAL_MS": "1",
        "FEIQIAN_NODE_LOG_LEVEL": "warning",
        "FEIQIAN_COMET_TIMEOUT_COMMIT_MS": "1",
        "FEIQIAN_COMET_IDLE_MS": "0",
        "FEIQIAN_COMET_SNAPSHOT_BLOCKS": str(window // 5),
        "FEIQIAN_COMET_SNAPSHOT_KEEP": "2",
    }


@contextmanager
def solo(directory: Path, window: int) -> Iterator[Running]:
    """Run a ledger that orders by itself."""
    text = consortium_text({"proof_window": max(window, LEAST_PROOF_WINDOW)})
    ledger, from_ms = SampleLedger(directory / "ledger", discover(), text), time.time_ns() // 1_000_000
    environment = {**limits(window), **fast_clock(from_ms, SPEED, is_solo=True)}
    with NodeProcess(ledger.directory, environment).await_ready() as node, node.connect() as channel:
        yield Running(ledger, Layout(ledger.directory), channel, from_ms)
        assert node.terminate() == 0, node.log_text()[-2000:]


@contextmanager
def network(directory: Path, window: int) -> Iterator[Running]:
    """Run a network of one validator, whose evidence is as short-lived as its window is narrow."""
    require_cometbft()
    from_ms = time.time_ns() // 1_000_000
    environment = {**limits(window), **fast_clock(from_ms, SPEED, -BACK_MS)}
    with Network(directory, discover(), 1, environment=environment) as running:
        (validator,) = running.validators
        genesis = load_genesis(validator.layout.genesis)
        params = genesis.params._replace(evidence_max_age_blocks=window, evidence_max_age_ns=60 * 10**9)
        parameters = {**genesis.app_state["parameters"], "proof_window": max(window, LEAST_PROOF_WINDOW)}
        genesis = genesis._replace(app_state={**genesis.app_state, "parameters": parameters})
        genesis = genesis._replace(params=params, time_ns=genesis.time_ns - BACK_MS * 1_000_000)
        save_genesis(validator.layout.genesis, genesis)
        running.start()
        with Channel(validator.layout.socket) as channel:
            yield Running(running.ledger, validator.layout, channel, from_ms, -BACK_MS)
        # What is left of CometBFT's log of votes must do for a power cut.
        height = validator.height
        validator.kill()
        validator.start().await_height(height + 2)
        assert validator.stop() == 0, validator.log_text()[-2000:]


def audited(directory: Path) -> list[str]:
    """Return what an audit from the ledger's base finds."""
    command = [sys.executable, "-m", "feiqian.cli.main", "audit", str(directory), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else [f"audit: {done.stdout[-2000:]}{done.stderr[-2000:]}"]


KINDS = {"solo": (solo, 100_000), "comet": (network, 5_000)}


def play(kind: str, directory: Path, blocks: int, window: int, tell: Callable[[str], None]) -> list[str]:
    """Run one ledger for so many blocks; return what is wrong with it."""
    began_s = time.monotonic()
    tell(f"{kind}: {blocks} blocks with windows of {window}; KiB on disk")
    with KINDS[kind][0](directory, window) as running:
        samples = run_to(running, blocks, tell)
    tell(f"{time.monotonic() - began_s:.0f} s; auditing")
    wrong = judge(samples)
    if samples[-1].first_block <= 1 or not samples[-1].segments:
        wrong.append("no block was given up")
    wrong += audited(running.layout.directory)
    tell(f"{kind}: " + ("; ".join(wrong) or f"within {MOST_GROWTH} times of its warm-up, audit clean"))
    return wrong


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="whether the disk of a ledger with narrow windows stops growing")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="solo, comet; both where none is named")
    parser.add_argument("--blocks", type=int, help="100,000 of solo and 5,000 of comet otherwise")
    parser.add_argument("--window", type=int, default=500)
    parser.add_argument("--directory", type=Path, help="an existing folder for the ledgers, which are left there")
    options = parser.parse_args()
    if unknown := [kind for kind in options.kinds if kind not in KINDS]:
        parser.error(f"no {unknown[0]!r}; there are {', '.join(KINDS)}")
    wrong: list[str] = []
    for kind in options.kinds or KINDS:
        with tempfile.TemporaryDirectory(prefix="fq-") as temporary:
            directory = (options.directory or Path(temporary)) / kind
            blocks = options.blocks or KINDS[kind][1]
            wrong += play(kind, directory, blocks, options.window, lambda line: print(line, flush=True))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
