"""The load that the throughput benchmarks share: signed transfers, sent to gateways over HTTP by a process of its own.

Transfers of one unit between accounts of a population drawn uniformly, one signature each. Who submits waits for each
batch until the ledger says that it is committed.
"""

import http.client
import multiprocessing
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair

from feiqian.testing.population import Population

BATCH, CONNECTIONS = 1_000, 32
PACED_BATCH, PACED_CONNECTIONS = 500, 64
PACED_SHARE = 0.8
"""Latency is measured at this share of the top rate."""

FILLING_S = 5
"""How long each load runs before it is measured."""

LIFETIME_MS = 590_000
"""How far ahead the last transfer signed expires; the others before it, as if signed as fast as they are sent."""

_OUTCOMES = msgspec.json.Decoder(list[dict[str, Any]])


class Load(NamedTuple):
    """What the client's process signs: so many transfers between so many accounts, to be sent at `rate` a second at
    most. With no number of transfers it signs as it sends.
    """

    accounts: int
    transfers: int
    rate: int
    seed: int


class Sending(NamedTuple):
    """How the client's process sends them: `rate` a second, 0 for as many as go in, to each address alike."""

    addresses: tuple[str, ...]
    seconds: float
    rate: float


class Client:
    """The submitting process: signs first, then sends what is left of it whenever told to."""

    def __init__(self, accounts: int, rate: int = 0, seconds: float = 0) -> None:
        """Sign what so many seconds need at `rate` a second, the highest that may be reached; else sign as it sends."""
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        load = Load(accounts, int(rate * seconds), rate, random.SystemRandom().randrange(2**63))
        self._process = context.Process(target=_client, args=(load, theirs))
        self._process.start()
        theirs.close()
        self._answer()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ours.close()
        if kind is not None:
            self._process.terminate()
        self._process.join()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid or 0

    def go(self, addresses: Sequence[str], seconds: float, rate: float) -> None:
        """Begin to send."""
        self._ours.send(Sending(tuple(addresses), seconds, rate))

    def finish(self) -> list[tuple[float, float]]:
        """Return when each paced batch was planned and its latency, in seconds; nothing of what was not paced."""
        return self._answer()

    def _answer(self) -> Any:
        try:
            answer = self._ours.recv()
        except EOFError:
            raise SystemExit("the client died") from None
        if isinstance(answer, str) and answer != "signed":
            raise SystemExit(f"the client failed: {answer}")
        return answer


def _client(load: Load, pipe: Connection) -> None:
    try:
        signed = sign_transfers(load) if load.transfers else sign_endlessly(load)
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
        expires_at_ms = last_expires_at_ms - left * 2 * 1000 // load.rate
        orders.append(_transfer(population, chance, expires_at_ms))
    return orders


def sign_endlessly(load: Load) -> Iterator[bytes]:
    """Yield signed transfers between random accounts, each made when it is asked for."""
    population = Population(load.accounts)
    chance = random.Random(load.seed)
    while True:
        yield _transfer(population, chance, time.time_ns() // 1_000_000 + LIFETIME_MS)


def _transfer(population: Population, chance: random.Random, expires_at_ms: int) -> bytes:
    payer, payee = chance.sample(range(population.count), 2)
    return population.transfer(payer, payee, 1, chance.randbytes(8), expires_at_ms)


def send_all(sending: Sending, signed: Iterator[bytes]) -> None:
    """Keep so many batches on their way, until the time is over."""
    taking = threading.Lock()
    until = time.monotonic() + sending.seconds

    def send(place: int) -> None:
        connection = connect(sending.addresses[place % len(sending.addresses)])
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

    def send(place: int) -> None:
        connection = connect(sending.addresses[place % len(sending.addresses)])
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
        raise RuntimeError("everything signed was sent before the time was over; raise the highest rate")
    return batch


def connect(address: str) -> http.client.HTTPConnection:
    """Return a connection to a gateway, kept open between requests."""
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

    in_threads(run, len(counts))
    return sum(counts) / seconds


def percentile_ms(latencies: Sequence[float], percent: int) -> float:
    """Return a percentile of latencies in seconds, in milliseconds."""
    return sorted(latencies)[len(latencies) * percent // 100] * 1000


@contextmanager
def working_directory(given: Path | None) -> Iterator[Path]:
    """Yield the directory that was asked for, or a temporary one that is removed afterwards, on SIGTERM too."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="feiqian-bench-") as directory:
        yield Path(directory)


def note(text: str) -> None:
    """Say on standard error how far it is."""
    print(text, file=sys.stderr, flush=True)
