"""How the demo tells what it saw: one line a check, grouped, and whether all held."""

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console


class Check(NamedTuple):
    """One thing that had to hold: under which heading, its name, whether it did, and what was seen."""

    heading: str
    name: str
    has_held: bool
    seen: str


def print_report(console: Console, checks: Sequence[Check]) -> bool:
    """Print the checks under their headings; return whether all held."""
    heading = ""
    width = max(len(check.name) for check in checks)
    for check in checks:
        if check.heading != heading:
            heading = check.heading
            console.print(f"\n{heading}", style="bold")
        mark = "[green]ok[/green]  " if check.has_held else "[red]FAIL[/red]"
        console.print(f"  {mark} {check.name:<{width}}  {check.seen}", soft_wrap=True)
    failed = [check for check in checks if not check.has_held]
    if failed:
        console.print(f"\n{len(failed)} of {len(checks)} checks failed.", style="bold red")
    else:
        console.print(f"\nAll {len(checks)} checks held.", style="bold green")
    return not failed
