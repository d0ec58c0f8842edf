"""What the embedded ledger does on this machine: transfers over HTTP, committed and on disk.

Run: python bench/solo.py [--accounts 1000000] [--seconds 60] [--directory DIR]   (default: as the aims are stated; with
populating a million accounts it takes about twenty minutes and 12 GB of disk)

One ledger of 10,000 accounts and one of `--accounts`, each behind `feiqian start` with its gateway and index. Transfers
of one unit between accounts drawn uniformly, one signature each, are signed beforehand and submitted over HTTP in
batches by a process of its own; what is counted is what the node has committed with fsync. The raw rate of Ed25519
verification on two threads is measured before, between and after, in a process of its own that has the machine to
itself.

On the large ledger rounds alternate, since a shared machine is not equally fast from minute to minute: as many as go
in, then, once the pool is empty, a steady share of what this round's first part reached, whose latencies count.
"""

import argparse
import json
import multiprocessing
import platform
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ledgers import make_solo
from load import (
    FILLING_S,
    LIFETIME_MS,
    PACED_SHARE,
    Client,
    connect,
    in_threads,
    note,
    percentile_ms,
    submit,
    verify_rate,
    working_directory,
)
from running import Ledger, command_line, cpu_s, descendants

from feiqian.consensus.audit import audit
from feiqian.consensus.genesis_file import load_genesis
from feiqian.node.configuration import Layout
from feiqian.node.metrics import STAGES
from feiqian.process.logs import configure_logs
from feiqian.state.store import Store
from feiqian.testing.ledgers import SampleLedger
from feiqian.testing.population import Population

SMALL_ACCOUNTS = 10_000
LEGS, LEGS_BATCH = 1_000, 20
ROUNDS = 3

HIGHEST_RATE = 20_000
"""No machine that this was made for commits more a second; so many transfers are signed for each second."""

PROCESS_CPU = "feiqian_process_cpu_seconds_total"


class Saturated(NamedTuple):
    """What the ledger did under as much as goes in, with µs of processor time by stage and by process."""

    committed: float
    elapsed_s: float
    spent_us: dict[str, float]

    @property
    def rate(self) -> float:
        """Transactions a second."""
        return self.committed / self.elapsed_s


def main() -> None:
    """Run everything and print the table and the line of JSON."""
    parser = argparse.ArgumentParser(description="throughput and latency of the embedded ledger")
    parser.add_argument("--accounts", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--warm-up", type=float, default=30, help="until what is touched all the time lies in memory")
    parser.add_argument("--directory", type=Path, help="where the ledgers go; those found there are used again")
    options = parser.parse_args()
    configure_logs("warning", "bench")
    figures: dict[str, float] = {}
    with working_directory(options.directory) as directory:
        verified = [verify_rate()]
        measure_small(directory / "small", options, figures)
        verified.append(verify_rate())
        measure_large(directory / "large", options, figures)
        verified.append(verify_rate())
    note(f"Ed25519 verifications a second, before, between and after: {', '.join(f'{rate:,.0f}' for rate in verified)}")
    figures["verify_per_s"] = sum(verified) / len(verified)
    figures["ratio"] = figures["tx_per_s"] / figures["verify_per_s"]
    figures["small_ratio"] = figures["tx_per_s"] / figures["tx_per_s_10k"]
    print_table(figures, options)
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


def measure_small(directory: Path, options: argparse.Namespace, figures: dict[str, float]) -> None:
    """Measure transfers, audit and batch transfers on the small ledger."""
    ledger = make_solo(directory, SMALL_ACCOUNTS)
    sending_s = options.warm_up + options.seconds
    with Client(SMALL_ACCOUNTS, HIGHEST_RATE, sending_s) as client, Running(ledger) as running:
        running.settle()
        figures["tx_per_s_10k"] = running.saturate(client, options.warm_up, options.seconds).rate
        note(f"{SMALL_ACCOUNTS:,} accounts: {figures['tx_per_s_10k']:,.0f} transactions a second")
    for name, checks in (("audit_ratio", True), ("audit_ratio_unsigned", False)):
        figures[name] = audit_rate(ledger, check_signatures=checks) / figures["tx_per_s_10k"]
    with Running(ledger) as running:
        figures["legs_per_s"] = running.batch_legs(options)


def measure_large(directory: Path, options: argparse.Namespace, figures: dict[str, float]) -> None:
    """Measure transfers and latency on the large ledger, and where the time goes.

    All is signed before the ledger starts: while it had nothing to do, the system would take its pages away.
    """
    ledger = make_solo(directory, options.accounts)
    round_s = options.seconds / ROUNDS
    sending_s = options.warm_up + (1 + PACED_SHARE) * ROUNDS * (FILLING_S + round_s)
    rounds: list[Saturated] = []
    latencies: list[float] = []
    with Client(options.accounts, HIGHEST_RATE, sending_s) as client, Running(ledger) as running:
        running.settle()
        for number in range(ROUNDS):
            full = running.saturate(client, FILLING_S if number else options.warm_up, round_s)
            running.drain()
            here = running.latencies(client, round_s, PACED_SHARE * full.rate)
            rounds.append(full)
            latencies += here
            note(f"{options.accounts:,} accounts: {full.rate:,.0f} transactions a second; {_at_share(here)}")
        count = sum(full.committed for full in rounds)
        figures["tx_per_s"] = count / sum(full.elapsed_s for full in rounds)
        for name in rounds[0].spent_us:
            figures[f"us_{name}"] = sum(full.spent_us[name] for full in rounds) / count
        figures["p50_ms"], figures["p99_ms"] = percentile_ms(latencies, 50), percentile_ms(latencies, 99)
        figures["index_behind_s"] = running.settle()
        figures["rss_anon_mib"] = running.memory_peak_mib


def _at_share(latencies: Sequence[float]) -> str:
    median, high = percentile_ms(latencies, 50), percentile_ms(latencies, 99)
    return f"at {PACED_SHARE:.0%} of it p50 {median:,.0f} ms, p99 {high:,.0f} ms"


class Running(Ledger):
    """A ledger that runs under its supervisor, and the ways to load it."""

    def __init__(self, ledger: SampleLedger) -> None:
        super().__init__(ledger.directory)
        self.memory_peak_mib = 0.0

    def saturate(self, client: Client, before_s: float, seconds: float) -> Saturated:
        """Return what the ledger did while as many as possible were sent, after they had been for `before_s`."""
        client.go([self.address], before_s + seconds, 0)
        self._watch(before_s)
        begun_s, begun = time.monotonic(), self._figures(client.pid)
        self._watch(seconds)
        ended_s, ended = time.monotonic(), self._figures(client.pid)
        client.finish()
        return Saturated(committed(ended) - committed(begun), ended_s - begun_s, spent_us(begun, ended))

    def settle(self) -> float:
        """Wait until everything sent is committed and indexed; return how many seconds the index took for it."""
        self.drain()
        begun = time.monotonic()
        while self.index_height() < self.height():
            self._watch(0.2)
        return time.monotonic() - begun

    def latencies(self, client: Client, seconds: float, rate: float) -> list[float]:
        """Return the seconds from each batch's planned sending to `committed`, at `rate` transfers a second."""
        client.go([self.address], FILLING_S + seconds, rate)
        self._watch(FILLING_S + seconds)
        return [latency_s for planned_s, latency_s in client.finish() if planned_s >= FILLING_S]

    def batch_legs(self, options: argparse.Namespace) -> float:
        """Return legs booked a second by transfers of 1,000 legs each over the small ledger's accounts."""
        population = Population(SMALL_ACCOUNTS)
        chance = random.Random(7)
        expires_at_ms = time.time_ns() // 1_000_000 + LIFETIME_MS
        orders = [_legs_order(population, chance, expires_at_ms) for _ in range(int(options.seconds * 150))]
        counts = [0] * 4
        until = time.monotonic() + options.seconds

        def send(place: int) -> None:
            connection = connect(self.address)
            for start in range(place * LEGS_BATCH, len(orders), LEGS_BATCH * len(counts)):
                if time.monotonic() > until:
                    return
                done = submit(connection, orders[start : start + LEGS_BATCH])
                if time.monotonic() <= until:
                    counts[place] += done

        begun = time.monotonic()
        in_threads(send, len(counts))
        return sum(counts) * LEGS / (time.monotonic() - begun)

    def _figures(self, client_pid: int) -> dict[str, float]:
        """Return the node's figures, with the processor time of the gateway, its index and the client beside them."""
        figures = self.node.metrics()
        for pid in descendants(self.pid):
            module = command_line(pid)[2:3]
            if module in (["feiqian.api"], ["feiqian.api.indexer"]):
                figures[f'{PROCESS_CPU}{{process="{"index" if module[0].endswith("indexer") else "gateway"}"}}'] = (
                    cpu_s(pid)
                )
        figures[f'{PROCESS_CPU}{{process="client"}}'] = cpu_s(client_pid)
        return figures

    def _watch(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            time.sleep(min(1, left_s))
            figures = self.node.metrics()
            names = [name for name in figures if name.startswith("feiqian_rss_anon_bytes")]
            self.memory_peak_mib = max(self.memory_peak_mib, sum(figures[name] for name in names) / 2**20)


def _legs_order(population: Population, chance: random.Random, expires_at_ms: int) -> bytes:
    start = chance.randrange(population.count - LEGS)
    payees = range(start, start + LEGS)
    payer = chance.choice([*range(start), *range(start + LEGS, population.count)])
    return population.batch_transfer(payer, payees, chance.randbytes(8), expires_at_ms)


def audit_rate(ledger: SampleLedger, *, check_signatures: bool) -> float:
    """Return transactions audited a second, from the genesis on; the node must not run."""
    layout = Layout(ledger.directory)
    store = Store.open(layout.ledger, read_only=True, is_read_in_order=True)
    begun = time.monotonic()
    report = audit(store, ledger.registry, load_genesis(layout.genesis), check_signatures=check_signatures)
    elapsed_s = time.monotonic() - begun
    store.close()
    if not report.is_clean:
        raise SystemExit(f"the audit found: {report.problems}")
    how = "checked" if check_signatures else "taken as valid"
    note(f"audit, signatures {how}: {report.transactions / elapsed_s:,.0f} transactions a second")
    return report.transactions / elapsed_s


def committed(figures: dict[str, float]) -> float:
    """Return how many transactions the node has committed since it started."""
    return figures['feiqian_transactions_total{outcome="committed"}']


def spent_us(begun: dict[str, float], ended: dict[str, float]) -> dict[str, float]:
    """Return microseconds of processor time by stage and by process."""
    spent: dict[str, float] = {}
    for stage in STAGES:
        name = f'feiqian_stage_cpu_seconds_total{{stage="{stage}"}}'
        spent[stage.replace(" ", "_")] = (ended[name] - begun[name]) * 1e6
    processes = [name for name in ended if name.startswith(PROCESS_CPU)]
    for name in processes:
        process = name.partition('"')[2].partition('"')[0].partition("-")[0]
        process = "verify_and_admit" if process == "verifier" else f"{process}_process"
        spent[process] = spent.get(process, 0) + (ended[name] - begun[name]) * 1e6
    return spent


def print_table(figures: dict[str, float], options: argparse.Namespace) -> None:
    """Print the figures beside what is aimed at."""
    rows = [
        ("transfers committed /s", "tx_per_s", ""),
        (f"  with {SMALL_ACCOUNTS:,} accounts", "tx_per_s_10k", ""),
        ("  the first over the second", "small_ratio", ">= 0.6"),
        ("Ed25519 verifications /s, two threads", "verify_per_s", ""),
        ("  transfers over verifications", "ratio", ">= 0.20, aim 0.35"),
        ("after that load the index caught up in, s", "index_behind_s", ""),
        ("latency at 80 %, median ms", "p50_ms", ""),
        ("latency at 80 %, p99 ms", "p99_ms", "< 1000"),
        ("node's RssAnon peak, MiB, all its processes", "rss_anon_mib", "< 2048"),
        ("legs /s in batches of 1,000", "legs_per_s", ">= 50000"),
        ("audit over live rate, signatures checked", "audit_ratio", ">= 1.2"),
        ("audit over live rate, taken as valid", "audit_ratio_unsigned", ""),
    ]
    print(f"{options.accounts:,} accounts, {options.seconds:g} s after {options.warm_up:g} s of warm-up; ", end="")
    print(f"Python {platform.python_version()}, {multiprocessing.cpu_count()} cores, {platform.machine()}")
    for label, name, aim in rows:
        print(f"{label:46} {figures[name]:14,.2f}  {aim}")
    print(f"where the time goes with {options.accounts:,} accounts, µs of processor a transfer:")
    for name, value in figures.items():
        if name.startswith("us_"):
            print(f"  {name.removeprefix('us_').replace('_', ' '):44} {value:14,.1f}")


if __name__ == "__main__":
    main()
