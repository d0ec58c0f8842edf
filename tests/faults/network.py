"""Plays what befalls a network of four real validators: `make faults`, or `network.py CASE…` for some of the cases.

Cases with links need root, network namespaces and nftables.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from feiqian.execution.registry import discover
from feiqian.testing.loads import Known, fund
from feiqian.testing.network_faults import CASES, ENVIRONMENT, LINK_CASES, play
from feiqian.testing.validators import Network

HEAD = f"{'case':<24} {'height':>6} {'next, s':>8} {'acknowledged':>12}  seen"

CASES_EACH = 6
"""So many cases share a network: each audit goes through the whole of its chain."""


def play_all(names: Sequence[str], *, is_linked: bool) -> list[str]:
    """Play cases one after another on a network of their own; return their lines."""
    lines: list[str] = []
    if not names:
        return lines
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fq-")))
        network = stack.enter_context(Network(directory, discover(), is_linked=is_linked, environment=ENVIRONMENT))
        network.start()
        known = Known()
        fund(network, known)
        for name in names:
            started = time.monotonic()
            played = play(network, known, name)
            lines.append(
                f"{name:<24} {played.height:>6} {played.next_s:>8.1f} {played.acknowledged:>12}  {played.note}"
            )
            print(f"{lines[-1]}  ({time.monotonic() - started:.0f} s in all)", flush=True)
    return lines


def main() -> int:
    """Run from the command line."""
    names = [*CASES, *LINK_CASES]
    parser = argparse.ArgumentParser(description="what befalls a network of four validators")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(names)}; all where none is named")
    asked = parser.parse_args().cases or names
    if unknown := [name for name in asked if name not in names]:
        parser.error(f"no case {unknown[0]!r}; there are {', '.join(names)}")
    # Whoever ends this ends the validators too.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    plain, linked = [name for name in asked if name in CASES], [name for name in asked if name in LINK_CASES]
    lines: list[str] = []
    for start in range(0, len(plain), CASES_EACH):
        lines += play_all(plain[start : start + CASES_EACH], is_linked=False)
    lines += play_all(linked, is_linked=True)
    print("\n".join(["", HEAD, *lines]))
    print("after each case: all that was acknowledged is there once, roots are the same on all nodes, audits are clean")
    return 0


if __name__ == "__main__":
    sys.exit(main())
