"""The simulation as a program: `python tests/simulation/run.py --minutes N [--seed S]`; `--help` names the rest.

Runs one random ledger after another until the time is over; each run has its own seed. A failure is shrunk and printed,
and ends with status 1; the last line is the command that plays that run again.

It is a process of its own, whoever starts it: Hypothesis draws some values from the constants of whatever source is
imported, so a seed gives the same run only where the same code is.
"""

import argparse
import sys
import time

from feiqian.testing.simulation.machine import SimulationMachine, fresh_seed, simulate

TOLD_EACH = 20


def main(arguments: list[str] | None = None) -> int:
    """Make runs until the time is over; return the exit status.

    Raises:
        BaseException: whatever a run failed with, and a note of the command that plays it again.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--runs", type=int, default=0, help="stop after so many runs, whatever the time")
    parser.add_argument("--seed", type=int, default=None, help="seed of the first run; a fresh one if none is given")
    parser.add_argument("--steps", type=int, default=200, help="at most so many steps in a run")
    places = sorted(set(SimulationMachine.modes))
    parser.add_argument("--state", nargs="+", choices=places, default=[], help="where it lies; if not given, anywhere")
    options = parser.parse_args(arguments)
    ends_at = time.monotonic() + options.minutes * 60
    first = fresh_seed() if options.seed is None else options.seed
    done = 0
    while done < options.runs if options.runs else time.monotonic() < ends_at:
        seed = first + done
        if done % TOLD_EACH == 0:
            print(f"run {done + 1}: seed {seed}, up to {options.steps} steps", flush=True)
        try:
            simulate(seed, options.steps, *options.state)
        except BaseException as failure:
            failure.add_note(f"To play it again: {replay(seed, options)}")
            raise
        done += 1
    print(f"{done} runs: the ledger and the model agree")
    return 0


def replay(seed: int, options: argparse.Namespace) -> str:
    """Return the command that plays one run again."""
    state = f" --state {' '.join(options.state)}" if options.state else ""
    return f"python tests/simulation/run.py --runs 1 --seed {seed} --steps {options.steps}{state}"


if __name__ == "__main__":
    sys.exit(main())
