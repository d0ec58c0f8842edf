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
import http.client
import json
import multiprocessing
import os
import platform
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair

from feiqian.consensus.audit import audit
from feiqian.consensus.genesis_file import load_genesis
from feiqian.execution.registry import discover
from feiqian.node.configuration import Layout
from feiqian.node.metrics import STAGES
from feiqian.process.logs import configure_logs
from feiqian.state.store import Store
from feiqian.testing.ledgers import SampleLedger, consortium_text
from feiqian.testing.population import Population, populate
from feiqian.testing.processes import Channel

SMALL_ACCOUNTS = 10_000
BATCH, CONNECTIONS = 1_000, 32
PACED_BATCH, PACED_CONNECTIONS = 500, 64
PACED_SHARE = 0.8
LEGS, LEGS_BATCH = 1_000, 20
ROUNDS = 3
FILLING_S = 5
"""How long each load runs before it is measured."""

HIGHEST_RATE = 20_000
"""No machine that this was made for commits more a second; so many transfers are signed for each second."""

LIFETIME_MS = 590_000
"""How far ahead the last transfer signed expires. The others expire before it, as if signed at the highest rate."""

PARAMETERS = {"max_block_work": 20_000_000, "sponsor_block_work": 20_000_000}
"""About one second of this ledger's work on two cores; the default is half of that."""

PROCESS_CPU = "feiqian_process_cpu_seconds_total"


_OUTCOMES = msgspec.json.Decoder(list[dict[str, Any]])


class Load(NamedTuple):
    """What the client's process signs: so many transfers between so many accounts."""

    accounts: int
    transfers: int
    seed: int


class Saturated(NamedTuple):
    """What the ledger did under as much as goes in, with µs of processor time by stage and by process."""

    committed: float
    elapsed_s: float
    spent_us: dict[str, float]

    @property
    def rate(self) -> float:
        """Transactions a second."""
        return self.committed / self.elapsed_s


class Sending(NamedTuple):
    """How the client's process sends them: `rate` a second, 0 for as many as go in."""

    address: str
    seconds: float
    rate: float


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
    with _directory(options.directory) as directory:
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


def verify_rate(seconds: float = 10) -> float:
    """Return Ed25519 verifications a second on two threads, over 64-byte messages, in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_verify, (seconds,))


def _verify(seconds: float) -> float:
    public, secret = crypto_sign_seed_keypair(bytes(32))
    signed = crypto_sign(bytes(64), secret)
    counts = [0, 0]
    until = time.perf_counter() + seconds

    def run(place: int) -> None:
        while time.perf_counter() < until:
            crypto_sign_open(signed, public)
            counts[place] += 1

    threads = [threading.Thread(target=run, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def measure_small(directory: Path, options: argparse.Namespace, figures: dict[str, float]) -> None:
    """Measure transfers, audit and batch transfers on the small ledger."""
    ledger = make_ledger(directory, SMALL_ACCOUNTS)
    sending_s = options.warm_up + options.seconds
    with Client(SMALL_ACCOUNTS, HIGHEST_RATE * sending_s) as client, Running(ledger) as running:
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
    ledger = make_ledger(directory, options.accounts)
    round_s = options.seconds / ROUNDS
    sending_s = options.warm_up + (1 + PACED_SHARE) * ROUNDS * (FILLING_S + round_s)
    rounds: list[Saturated] = []
    latencies: list[float] = []
    with Client(options.accounts, HIGHEST_RATE * sending_s) as client, Running(ledger) as running:
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


def percentile_ms(latencies: Sequence[float], percent: int) -> float:
    """Return a percentile of latencies in seconds, in milliseconds."""
    return sorted(latencies)[len(latencies) * percent // 100] * 1000


def make_ledger(directory: Path, accounts: int) -> SampleLedger:
    """Return a populated ledger, made anew unless the directory holds one."""
    registry = discover()
    if (directory / "populated").exists():
        return SampleLedger.reopen(directory, registry)
    shutil.rmtree(directory, ignore_errors=True)
    ledger = SampleLedger(directory, registry, consortium_text(PARAMETERS))
    (directory / "feiqian.toml").write_text("[node]\n[gateway]\nport = 0\n", "utf-8")
    note(f"populating {accounts:,} accounts")
    populate(ledger, Population(accounts), lambda what, done: None)
    (directory / "populated").touch()
    return ledger


class Running:
    """A ledger that runs under its supervisor, and the ways to load it."""

    def __init__(self, ledger: SampleLedger) -> None:
        self.ledger = ledger
        self.memory_peak_mib = 0.0
        self._log = ledger.directory.with_name(ledger.directory.name + ".log").open("ab")
        command = [sys.executable, "-m", "feiqian.node.supervisor", str(ledger.directory)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log)
        assert self._process.stdout is not None
        line = b""
        while b"http://" not in line:
            line = self._process.stdout.readline()
            if not line:
                raise SystemExit(f"the ledger did not start; see {self._log.name}")
        self.address = line.decode().split()[-1]
        self._node = Channel(Layout(ledger.directory).socket)

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self._node.close()
        self._process.terminate()
        self._process.wait()
        self._log.close()

    def saturate(self, client: "Client", before_s: float, seconds: float) -> Saturated:
        """Return what the ledger did while as many as possible were sent, after they had been for `before_s`."""
        client.go(self.address, before_s + seconds, 0)
        self._watch(before_s)
        begun_s, begun = time.monotonic(), self._figures(client.pid)
        self._watch(seconds)
        ended_s, ended = time.monotonic(), self._figures(client.pid)
        client.finish()
        return Saturated(committed(ended) - committed(begun), ended_s - begun_s, spent_us(begun, ended))

    def drain(self) -> None:
        """Wait until everything sent is committed."""
        while self._node.metrics()["feiqian_pool_transactions"]:
            self._watch(0.1)

    def settle(self) -> float:
        """Wait until everything sent is committed and indexed; return how many seconds the index took for it."""
        self.drain()
        begun = time.monotonic()
        while self._index_height() < self._node.status().height:
            self._watch(0.2)
        return time.monotonic() - begun

    def _index_height(self) -> int:
        try:
            path = self.ledger.directory / "data" / "index.db"
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as index:
                return index.execute("SELECT height FROM index_marker").fetchone()[0]
        except (sqlite3.OperationalError, TypeError):
            return -1  # it has not begun

    def latencies(self, client: "Client", seconds: float, rate: float) -> list[float]:
        """Return the seconds from each batch's planned sending to `committed`, at `rate` transfers a second."""
        client.go(self.address, FILLING_S + seconds, rate)
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
        figures = self._node.metrics()
        for pid in descendants(self._process.pid):
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
            figures = self._node.metrics()
            names = [name for name in figures if name.startswith("feiqian_rss_anon_bytes")]
            self.memory_peak_mib = max(self.memory_peak_mib, sum(figures[name] for name in names) / 2**20)


class Client:
    """The submitting process: signs first, then sends what is left of it whenever told to."""

    def __init__(self, accounts: int, transfers: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        load = Load(accounts, int(transfers), random.SystemRandom().randrange(2**63))
        self._process = context.Process(target=_client, args=(load, theirs))
        self._process.start()
        self._answer()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self._process.join()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid or 0

    def go(self, address: str, seconds: float, rate: float) -> None:
        """Begin to send."""
        self._ours.send(Sending(address, seconds, rate))

    def finish(self) -> list[tuple[float, float]]:
        """Return when each paced batch was planned and its latency, in seconds; nothing of what was not paced."""
        return self._answer()

    def _answer(self) -> Any:
        answer = self._ours.recv()
        if isinstance(answer, str) and answer != "signed":
            raise SystemExit(f"the client failed: {answer}")
        return answer


def _client(load: Load, pipe: Connection) -> None:
    try:
        signed = sign_transfers(load)
        pipe.send("signed")
        while True:
            sending = pipe.recv()
            planned: list[tuple[float, float]] = []
            if sending.rate:
                planned = send_paced(sending, signed)
            else:
                send_all(sending, signed)
            pipe.send(planned)
    except EOFError:
        pass  # nothing is to be sent any more
    except Exception as error:  # noqa: BLE001 - told to the process that measures, which ends with it
        pipe.send(f"{type(error).__name__}: {error}")


def sign_transfers(load: Load) -> Iterator[bytes]:
    """Return signed transfers between random accounts, made on both cores, in the order of their expiry."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        parts = pool.map(_sign_part, [(load, part) for part in range(2)])
    return (signed for pair in zip(*parts, strict=True) for signed in pair)


def _sign_part(job: tuple[Load, int]) -> list[bytes]:
    load, part = job
    population = Population(load.accounts)
    chance = random.Random(load.seed + part)
    count = load.transfers // 2
    last_expires_at_ms = time.time_ns() // 1_000_000 + LIFETIME_MS
    orders: list[bytes] = []
    for left in range(count, 0, -1):
        payer, payee = chance.sample(range(load.accounts), 2)
        expires_at_ms = last_expires_at_ms - left * 2 * 1000 // HIGHEST_RATE
        orders.append(population.transfer(payer, payee, 1, chance.randbytes(8), expires_at_ms))
    return orders


def _legs_order(population: Population, chance: random.Random, expires_at_ms: int) -> bytes:
    start = chance.randrange(population.count - LEGS)
    payees = range(start, start + LEGS)
    payer = chance.choice([*range(start), *range(start + LEGS, population.count)])
    return population.batch_transfer(payer, payees, chance.randbytes(8), expires_at_ms)


def send_all(sending: Sending, signed: Iterator[bytes]) -> None:
    """Keep so many batches on their way, until the time is over."""
    taking = threading.Lock()
    until = time.monotonic() + sending.seconds

    def send(_: int) -> None:
        connection = connect(sending.address)
        while time.monotonic() < until:
            with taking:
                batch = _take(signed, BATCH)
            submit(connection, batch, until)

    in_threads(send, CONNECTIONS)


def send_paced(sending: Sending, signed: Iterator[bytes]) -> list[tuple[float, float]]:
    """Send a batch at each planned moment; its latency counts from then, whenever it could be sent."""
    interval_s = PACED_BATCH / sending.rate
    turns = iter(range(int(sending.seconds / interval_s)))
    taking = threading.Lock()
    begun = time.monotonic()
    latencies: list[tuple[float, float]] = []

    def send(_: int) -> None:
        connection = connect(sending.address)
        while True:
            with taking:
                turn = next(turns, None)
                if turn is None:
                    return
                batch = _take(signed, PACED_BATCH)
            planned_s = turn * interval_s
            time.sleep(max(0, begun + planned_s - time.monotonic()))
            submit(connection, batch)
            latencies.append((planned_s, time.monotonic() - begun - planned_s))

    in_threads(send, PACED_CONNECTIONS)
    return latencies


def _take(signed: Iterator[bytes], count: int) -> list[bytes]:
    batch = list(islice(signed, count))
    if not batch:
        raise RuntimeError("everything signed was sent before the time was over; raise HIGHEST_RATE")
    return batch


def connect(address: str) -> http.client.HTTPConnection:
    """Return a connection to the gateway, kept open between requests."""
    parts = urlsplit(address)
    assert parts.hostname is not None
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=120)


def submit(connection: http.client.HTTPConnection, batch: Sequence[bytes], until: float = float("inf")) -> int:
    """Submit until every transaction is committed, or until the time is over; return how many are."""
    left = list(batch)
    while left and time.monotonic() < until:
        body = msgspec.msgpack.encode(left)
        headers = {"Content-Type": "application/msgpack"}
        try:
            connection.request("POST", "/api/v1/transactions?wait=committed&timeout_s=60", body, headers)
            response = connection.getresponse()
        except (BrokenPipeError, ConnectionResetError):
            connection.close()  # it had rested for too long; the next request opens it again
            continue
        data = response.read()
        if response.status in (429, 503):
            time.sleep(min(0.2, float(response.headers["Retry-After"])))
            continue
        if response.status not in (200, 202):
            raise RuntimeError(f"{response.status}: {data[:500]!r}")
        outcomes = _OUTCOMES.decode(data)
        broken = [outcome for outcome in outcomes if outcome.get("error") or outcome["status"] == "refused"]
        if broken:
            raise RuntimeError(f"refused: {broken[0]}")
        left = [signed for signed, outcome in zip(left, outcomes, strict=True) if outcome["status"] != "committed"]
        if left:
            time.sleep(0.05)
    return len(batch) - len(left)


def in_threads(work: Callable[[int], None], count: int) -> None:
    """Run `work` on so many threads; raise what the first of them raised."""
    errors: list[BaseException] = []

    def run(place: int) -> None:
        try:
            work(place)
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


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


def descendants(pid: int) -> list[int]:
    """Return the ids of every process below this one."""
    children = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text("ascii").split()
    ]
    return children + [below for child in children for below in descendants(child)]


def command_line(pid: int) -> list[str]:
    """Return a process's command and arguments."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")


def cpu_s(pid: int) -> float:
    """Return the processor time of a process so far, in seconds (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii", "replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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


@contextmanager
def _directory(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="feiqian-bench-") as directory:
        yield Path(directory)


def note(text: str) -> None:
    """Say on standard error how far it is."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
