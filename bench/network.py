"""What a network commits on this machine, beside CometBFT's own key-value store: rates, their ratio, and latency.

Run: python bench/network.py [--validators 1 4] [--accounts 100000] [--seconds 60] [--warm-up 20]   (about 14 minutes)

For each size: validators of the ledger, each behind `feiqian start` with its own CometBFT and gateway, take signed
transfers over HTTP, each client thread at its gateway; in turns with them, CometBFT's built-in key-value store takes
transactions of as many bytes over its RPC: a shared machine is not equally fast from minute to minute. Both go on from
turn to turn, warm up and are counted for as long; while it is the one's turn, the other's processes are halted. Every
validator runs on this one machine. What is counted is what stands in committed
blocks, read from the first validator's store or chain, between two blocks; a validator of the ledger writes each block
with fsync. Latency is measured at 80 % of the rate of just before: from the moment at which a batch should have been
sent to the answer that all of it is committed.
"""

import argparse
import os
import platform
import shutil
import time
from pathlib import Path
from typing import NamedTuple

import msgspec
from kvstore import BATCH as FEED_BATCH
from kvstore import CONNECTIONS as FEED_CONNECTIONS
from kvstore import MAX_BLOCK_BYTES, WAITING, Feed, Feeder, KeyValueStore, Settings, settings_beside
from ledgers import Validators, make_validators
from load import (
    BATCH,
    CONNECTIONS,
    FILLING_S,
    PACED_BATCH,
    PACED_CONNECTIONS,
    PACED_SHARE,
    Client,
    note,
    percentile_ms,
    verify_rate,
    working_directory,
)
from running import added, cpu_s, since

from feiqian.core.settings import SettingsError
from feiqian.node.comet.binary import VERSION, find_binary
from feiqian.node.comet.configuration import read_comet_settings
from feiqian.node.configuration import Layout
from feiqian.process.logs import configure_logs
from feiqian.testing.population import Population

HIGHEST_RATES = {1: 15_000, 4: 8_000}
"""By size: no machine that this was made for commits more a second; so many transfers are signed for each second."""

ROUNDS = 2
"""How often the key-value store and the ledger are measured, each after the other."""

FEED_NUMBERS = 100_000_000
"""So far apart are the numbers of the key-value store's transactions in one turn and the next."""

SIGNING_SLACK_S = 2
"""Transfers are signed for so many seconds more: what is on its way when the time is over."""

FLOORS = {1: 0.25, 4: 0.35}
AIMS = {1: 0.5, 4: 0.7}
MOST_P99_MS = 3_000


class Sample(NamedTuple):
    """What was spent so far, in seconds of processor time, by process and by stage."""

    by_process: dict[str, float]
    by_stage: dict[str, float]


class Round(NamedTuple):
    """What the ledger did in one of its rounds, and how long each batch took at a share of that."""

    transactions: int
    blocks: int
    elapsed_s: float
    spent: Sample
    latencies_s: list[float]
    index_behind_blocks: int


class KeyValueRun(NamedTuple):
    """What the key-value store did in one of its turns."""

    transactions: int
    blocks: int
    elapsed_s: float
    cpu_s: dict[str, float]


class Figures(msgspec.Struct):
    """What one size did."""

    tx_per_s: float
    kvstore_tx_per_s: float
    ratio: float
    p50_ms: float
    p99_ms: float
    blocks_per_s: float
    kvstore_blocks_per_s: float
    index_behind_blocks: int
    cpu_s: dict[str, float]
    kvstore_cpu_s: dict[str, float]
    stage_us_per_tx: dict[str, float]


def main() -> None:
    """Run everything and print the tables and the line of JSON."""
    parser = argparse.ArgumentParser(description="throughput of a network beside CometBFT's key-value store")
    parser.add_argument("--validators", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--warm-up", type=float, default=20)
    parser.add_argument("--block-work", type=int, default=10_000_000, help="parameter of the ledger, for a member too")
    parser.add_argument("--verify-s", type=float, default=10, help="how long verification is measured, each time")
    parser.add_argument("--directory", type=Path, help="where the networks go; they are removed afterwards")
    options = parser.parse_args()
    configure_logs("warning", "bench")
    try:
        binary = find_binary("")
    except SettingsError as error:
        raise SystemExit(f"this benchmark runs CometBFT: {error}") from None
    verified = [verify_rate(options.verify_s)]
    sizes: dict[int, Figures] = {}
    with working_directory(options.directory) as directory:
        for validators in options.validators:
            sizes[validators] = measure(directory / str(validators), binary, validators, options)
            print_table(validators, sizes[validators])
            verified.append(verify_rate(options.verify_s))
    rates = ", ".join(f"{rate:,.0f}" for rate in verified)
    print(f"Ed25519 verifications a second on two threads, before, between and after: {rates}")
    figures = {str(validators): rounded(msgspec.to_builtins(size)) for validators, size in sizes.items()}
    print(msgspec.json.encode(figures).decode())


def measure(directory: Path, binary: Path, validators: int, options: argparse.Namespace) -> Figures:
    """Return what one size does: the ledger, in turns with the key-value store."""
    size_bytes = transfer_bytes()
    parameters = {"max_block_work": options.block_work, "sponsor_block_work": options.block_work}
    network = make_validators(directory, validators, parameters)
    settings = settings_beside(Layout(network.directories[0]))
    print_settings(network, parameters, settings, size_bytes, options)

    turns, rounds = list[KeyValueRun](), list[Round]()
    round_s = options.seconds / ROUNDS
    sending_s = ROUNDS * (options.warm_up + (1 + PACED_SHARE) * (round_s + FILLING_S)) + SIGNING_SLACK_S
    with network:
        network.populate(options.accounts)
        note(f"{validators} × the ledger: signing")
        with (
            Client(options.accounts, highest_rate(validators), sending_s) as client,
            KeyValueStore(directory / "kvstore", binary, validators, settings) as kvstore,
        ):
            kvstore.await_first_block()
            for number in range(ROUNDS):
                feed_s = options.warm_up + round_s + FILLING_S
                feed = Feed(kvstore.ports, size_bytes, feed_s, number * FEED_NUMBERS)
                with network.halted():
                    turns.append(measure_kvstore(kvstore, feed, round_s, options.warm_up))
                with kvstore.halted():
                    rounds.append(measure_round(network, client, round_s, options.warm_up))
    shutil.rmtree(directory)
    return figures_of(rounds, turns)


def figures_of(rounds: list[Round], turns: list[KeyValueRun]) -> Figures:
    """Return all rounds and turns as one."""
    count, elapsed_s = sum(each.transactions for each in rounds), sum(each.elapsed_s for each in rounds)
    kvstore_s = sum(each.elapsed_s for each in turns)
    rate, kvstore_rate = count / elapsed_s, sum(each.transactions for each in turns) / kvstore_s
    latencies = [latency_s for each in rounds for latency_s in each.latencies_s]
    stages = added([each.spent.by_stage for each in rounds])
    return Figures(
        tx_per_s=rate,
        kvstore_tx_per_s=kvstore_rate,
        ratio=rate / kvstore_rate,
        p50_ms=percentile_ms(latencies, 50),
        p99_ms=percentile_ms(latencies, 99),
        blocks_per_s=sum(each.blocks for each in rounds) / elapsed_s,
        kvstore_blocks_per_s=sum(each.blocks for each in turns) / kvstore_s,
        index_behind_blocks=max(each.index_behind_blocks for each in rounds),
        cpu_s=added([each.spent.by_process for each in rounds]),
        kvstore_cpu_s=added([each.cpu_s for each in turns]),
        stage_us_per_tx={name: value * 1e6 / count for name, value in stages.items()},
    )


def highest_rate(validators: int) -> int:
    """Return how many transfers are signed for each second."""
    return HIGHEST_RATES[1 if validators == 1 else 4]


def transfer_bytes() -> int:
    """Return the size of a signed transfer."""
    return len(Population(2).transfer(0, 1, 1, bytes(8), time.time_ns() // 1_000_000))


def measure_kvstore(kvstore: KeyValueStore, feed: Feed, seconds: float, warm_up_s: float) -> KeyValueRun:
    """Return what the key-value store does in one of its turns, warmed up and counted as long as the ledger."""
    feeder = Feeder(feed)
    time.sleep(warm_up_s)
    begun, spent = kvstore.next_block(), {"cometbft": kvstore.processor_s(), "client": cpu_s(feeder.pid)}
    time.sleep(max(0, begun.at_s + seconds - 1 - time.monotonic()))
    ended = kvstore.next_block()
    cpu = since(spent, {"cometbft": kvstore.processor_s(), "client": cpu_s(feeder.pid)})
    feeder.finish()
    count = kvstore.count(range(begun.height + 1, ended.height + 1))
    elapsed_s = ended.at_s - begun.at_s
    note(f"{len(kvstore.ports)} × CometBFT's key-value store: {count / elapsed_s:,.0f} transactions a second")
    return KeyValueRun(count, ended.height - begun.height, elapsed_s, cpu)


def measure_round(network: Validators, client: Client, seconds: float, warm_up_s: float) -> Round:
    """Return what the ledger does at most, and its latency at a share of that."""
    first = network.ledgers[0]
    client.go(network.addresses, warm_up_s + seconds + FILLING_S, 0)
    time.sleep(warm_up_s)
    begun, before = first.next_block(), sample(network, client)
    time.sleep(max(0, begun.at_s + seconds - 1 - time.monotonic()))
    ended, after = first.next_block(), sample(network, client)
    client.finish()
    network.drain()
    elapsed_s = ended.at_s - begun.at_s
    count = first.count_applied(range(begun.height + 1, ended.height + 1))
    behind = max(ledger.height() - ledger.index_height() for ledger in network.ledgers)
    note(f"{len(network.ledgers)} × the ledger: {count / elapsed_s:,.0f} transactions a second")
    client.go(network.addresses, FILLING_S + seconds, PACED_SHARE * count / elapsed_s)
    latencies = [latency_s for planned_s, latency_s in client.finish() if planned_s >= FILLING_S]
    spent = Sample(since(before.by_process, after.by_process), since(before.by_stage, after.by_stage))
    return Round(count, ended.height - begun.height, elapsed_s, spent, latencies, behind)


def sample(network: Validators, client: Client) -> Sample:
    """Return what all validators and the client have spent so far."""
    processes = [ledger.processor_s() for ledger in network.ledgers]
    stages = [ledger.stages_s() for ledger in network.ledgers]
    return Sample(added([*processes, {"client": cpu_s(client.pid)}]), added(stages))


def print_settings(
    network: Validators,
    parameters: dict[str, int],
    settings: Settings,
    size_bytes: int,
    options: argparse.Namespace,
) -> None:
    """Print on what, with what and how it is measured."""
    comet = read_comet_settings(Layout(network.directories[0]))
    print(
        f"\n{len(network.directories)} validators on one machine: Python {platform.python_version()}, "
        f"CometBFT {VERSION}, {len(os.sched_getaffinity(0))} cores, {platform.machine()}, Linux {platform.release()}\n"
        f"mix: transfers of one unit, one Ed25519 signature each, {size_bytes} bytes, over {options.accounts:,} "
        f"accounts uniformly; {options.seconds:g} s in {ROUNDS} rounds, each after {options.warm_up:g} s of warm-up, "
        "for ledger and key-value store alike\n"
        f"client: {CONNECTIONS} connections with batches of {BATCH:,}; for latency {PACED_BATCH} a batch, "
        f"{PACED_CONNECTIONS} connections\n"
        f"ledger: {parameters}, timeout_commit {comet.timeout_commit_ms} ms, reap_interval "
        f"{comet.reap_interval_ms} ms, LMDB with fsync at each block; the rest as `feiqian testnet` makes it\n"
        f"key-value store: proxy_app persistent_kvstore, blocks of {MAX_BLOCK_BYTES:,} bytes, {FEED_CONNECTIONS} "
        f"connections with {FEED_BATCH} broadcast_tx_async a request while fewer than {WAITING:,} wait in that pool; "
        f"CometBFT's defaults but for {_settings_text(settings)}",
        flush=True,
    )


def _settings_text(settings: Settings) -> str:
    addresses = ("laddr", "external_address", "persistent_peers")
    return ", ".join(
        f"{table}.{name} {str(value).lower()}"
        for table, values in settings.items()
        for name, value in values.items()
        if name not in addresses
    )


def print_table(validators: int, figures: Figures) -> None:
    """Print the figures of one size beside what is wanted."""
    reference = 1 if validators == 1 else 4
    rows = [
        ("transfers committed /s", figures.tx_per_s, f"{figures.blocks_per_s:.2f} blocks /s"),
        ("CometBFT's key-value store /s", figures.kvstore_tx_per_s, f"{figures.kvstore_blocks_per_s:.2f} blocks /s"),
        ("  the first over the second", figures.ratio, f">= {FLOORS[reference]}, aim {AIMS[reference]}"),
        (f"latency to committed at {PACED_SHARE:.0%}, median ms", figures.p50_ms, ""),
        (f"latency to committed at {PACED_SHARE:.0%}, p99 ms", figures.p99_ms, f"< {MOST_P99_MS}"),
        ("blocks that the slowest index lay behind then", figures.index_behind_blocks, ""),
    ]
    for label, value, aim in rows:
        print(f"{label:46} {value:14,.2f}  {aim}")
    print_spent("processor seconds by process, ledger", figures.cpu_s)
    print_spent("processor seconds by process, key-value store", figures.kvstore_cpu_s)
    print_spent("where the nodes' time goes, µs of processor a transfer, all validators", figures.stage_us_per_tx)


def print_spent(title: str, spent: dict[str, float]) -> None:
    """Print figures by name, the largest first."""
    print(f"{title}:")
    for name, value in sorted(spent.items(), key=lambda each: -each[1]):
        if value:
            print(f"  {name:44} {value:14,.1f}")


def rounded(value: object) -> object:
    """Return figures with three decimals."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
