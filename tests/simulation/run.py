"""The long form of the simulation: `python tests/simulation/run.py --minutes N [--seed S]`.

Runs rounds of random ledgers until the time is over; each round has its own seed, printed before it starts. A failure
is shrunk, printed, and ends with status 1; `--seed S --rounds 1` runs that round again, exactly.
"""

import argparse
import sys
import time

from feiqian.testing.simulation.machine import fresh_seed, simulate

RUNS = 100
STEPS = 200


def main() -> int:
    """Run rounds until the time is over; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=0, help="stop after so many rounds, whatever the time")
    parser.add_argument("--seed", type=int, default=None, help="seed of the first round; a fresh one if none is given")
    options = parser.parse_args()
    ends_at = time.monotonic() + options.minutes * 60
    first = fresh_seed() if options.seed is None else options.seed
    done = 0
    while (not options.rounds or done < options.rounds) and (done == 0 or time.monotonic() < ends_at):
        print(f"round {done + 1}: seed {first + done}, {RUNS} runs of up to {STEPS} steps", flush=True)
        simulate(first + done, RUNS, STEPS)
        done += 1
    print(f"{done} rounds of {RUNS} runs: the ledger and the model agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())
