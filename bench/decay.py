"""Whether a ledger gets slower as it goes: ten minutes at the top rate, solo and with four validators.

Run: python bench/decay.py [--minutes 10] [--accounts 100000] [--engines solo 4]   (about half an hour, 30 GB of disk)

Each minute's rate, counted in committed blocks, is divided by the rate at which this machine verified Ed25519
signatures just before and just after the run, interpolated: a shared machine is not equally fast from minute to minute.
What the last two minutes reached stands over what the second and the third did. The client signs as it sends, since
orders signed ten minutes ahead are not taken: that costs some of the processor, the same in each minute.
"""

import argparse
import platform
import shutil
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import msgspec
from ledgers import make_solo, make_validators
from load import FILLING_S, Client, note, verify_rate, working_directory
from running import Ledger, Mark

from feiqian.process.logs import configure_logs

WANTED = 0.95
FEWEST_MINUTES = 4
"""So that the last two are not the second and the third."""


class Decay(msgspec.Struct):
    """What one engine did, minute by minute."""

    tx_per_s: list[float]
    verify_per_s: list[float]
    ratios: list[float]
    last_over_second_and_third: float


def main() -> None:
    """Run everything and print the tables and the line of JSON."""
    parser = argparse.ArgumentParser(description="whether a ledger gets slower as it goes")
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--engines", nargs="+", default=["solo", "4"], help="solo, or how many validators")
    parser.add_argument("--minute-s", type=float, default=60, help="how long a minute is, for a quick trial")
    parser.add_argument("--verify-s", type=float, default=10)
    parser.add_argument("--directory", type=Path, help="where the ledgers go; they are removed afterwards")
    options = parser.parse_args()
    if options.minutes < FEWEST_MINUTES:
        parser.error(f"--minutes {options.minutes}; at least {FEWEST_MINUTES}, so that there is something to compare")
    configure_logs("warning", "bench")
    print(f"Python {platform.python_version()}, {platform.machine()}, Linux {platform.release()}; ", end="")
    print(f"{options.minutes} minutes of {options.minute_s:g} s, {options.accounts:,} accounts", flush=True)
    figures: dict[str, Decay] = {}
    with working_directory(options.directory) as directory:
        for engine in options.engines:
            figures[engine] = measure(directory / engine, engine, options)
            print_table(engine, figures[engine])
    print(msgspec.json.encode(figures).decode())


def measure(directory: Path, engine: str, options: argparse.Namespace) -> Decay:
    """Return what one engine does."""
    with ExitStack() as stack:
        if engine == "solo":
            ledgers = [stack.enter_context(Ledger(make_solo(directory, options.accounts).directory))]
        else:
            network = stack.enter_context(make_validators(directory, int(engine)))
            network.populate(options.accounts)
            ledgers = network.ledgers
        client = stack.enter_context(Client(options.accounts))
        before, before_s = verify_rate(options.verify_s), time.monotonic()
        marks = run(ledgers, client, options)
        after_s, after = time.monotonic(), verify_rate(options.verify_s)
        rates = [
            ledgers[0].count_applied(range(begun.height + 1, ended.height + 1)) / (ended.at_s - begun.at_s)
            for begun, ended in pairwise(marks)
        ]
    shutil.rmtree(directory)
    middles = [(begun.at_s + ended.at_s) / 2 for begun, ended in pairwise(marks)]
    verified = [before + (after - before) * (middle - before_s) / (after_s - before_s) for middle in middles]
    ratios = [rate / verify for rate, verify in zip(rates, verified, strict=True)]
    return Decay(
        [round(rate, 1) for rate in rates],
        [round(verify, 1) for verify in verified],
        [round(ratio, 4) for ratio in ratios],
        round((ratios[-2] + ratios[-1]) / (ratios[1] + ratios[2]), 4),
    )


def run(ledgers: list[Ledger], client: Client, options: argparse.Namespace) -> list[Mark]:
    """Load the ledgers for so many minutes; return the block with which each minute begins, and the last's end."""
    seconds = options.minutes * options.minute_s
    client.go([ledger.address for ledger in ledgers], seconds + FILLING_S, 0)
    marks = [ledgers[0].next_block()]
    for minute in range(1, options.minutes + 1):
        time.sleep(max(0, marks[0].at_s + minute * options.minute_s - time.monotonic()))
        marks.append(ledgers[0].next_block())
        note(f"minute {minute}: height {marks[-1].height:,}")
    client.finish()
    for ledger in ledgers:
        ledger.drain()
    return marks


def print_table(engine: str, decay: Decay) -> None:
    """Print one engine's minutes."""
    print(f"\n{'solo' if engine == 'solo' else f'{engine} validators'}:")
    print(f"{'minute':>8} {'committed /s':>14} {'verified /s':>14} {'ratio':>8}")
    for minute, (rate, verify, ratio) in enumerate(
        zip(decay.tx_per_s, decay.verify_per_s, decay.ratios, strict=True), start=1
    ):
        print(f"{minute:8} {rate:14,.0f} {verify:14,.0f} {ratio:8.3f}")
    reached = decay.last_over_second_and_third
    print(f"the last two minutes over the second and third: {reached:.3f}, at least {WANTED} is wanted", flush=True)


if __name__ == "__main__":
    main()
