"""Writes docs/developers/errors.md: every rule that can be broken, by codespace and permanent number.

Nothing is listed here: all of the package is imported and every numbered refusal in it is found.
"""

import argparse
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import feiqian
from feiqian.api.problems import Problem
from feiqian.core.errors import InvalidTransaction
from feiqian.execution.registry import discover

FILE = Path(__file__).resolve().parent.parent / "docs" / "developers" / "errors.md"
NOT_SHIPPED = {"tests", "testing", "migrations", "__main__"}

HEADING = """\
# Errors

Written by `python tools/errors_table.py`; a test holds it to the code. A refusal is known for good by its codespace and
number; words may change. A number is never given again.
"""
RECORDED = """\
## On the ledger

A transaction that breaks one of these is answered with it. Where the transaction was authorised and stood in a block,
codespace and number lie in its result, which can be proved.
"""
ANSWERED = """\
## Answered only

These come from a gateway (`api`), a node (`node`), or a program that reads files (`payments.files`, `state`); those of
`network` stand in a node's log, about what another node told it. No result on the ledger holds one.
"""


def render() -> str:
    """Return the page."""
    for name in _modules():
        importlib.import_module(name)
    recorded = discover().errors
    answered: dict[tuple[str, int], type[Exception]] = {}
    for type_ in [*_below(InvalidTransaction), *_below(Problem)]:
        rule = (getattr(type_, "codespace", "api"), getattr(type_, "number", 0))
        if rule[1] and recorded.get(rule) is not type_:
            assert rule not in recorded, f"{rule} names two rules"
            assert answered.setdefault(rule, type_) is type_, f"{rule} names two rules"
    return "\n".join([HEADING, RECORDED, _table(recorded), ANSWERED, _table(answered)])


def _modules() -> Iterator[str]:
    for found in pkgutil.walk_packages(feiqian.__path__, "feiqian."):
        if not NOT_SHIPPED & set(found.name.split(".")):
            yield found.name


def _below(root: type[Any]) -> Iterator[type[Any]]:
    for child in root.__subclasses__():
        yield child
        yield from _below(child)


def _table(errors: dict[Any, type[Any]]) -> str:
    lines = ["| codespace | number | name | meaning |", "|---|---|---|---|"]
    for (codespace, number), type_ in sorted(errors.items()):
        words = " ".join((type_.__doc__ or "").strip().partition("\n\n")[0].split()).replace("|", "/")
        lines.append(f"| {codespace} | {number} | `{type_.__name__}` | {words} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the page where it belongs, or to another file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=FILE)
    options = parser.parse_args()
    options.to.write_text(render(), "utf-8")


if __name__ == "__main__":
    main()
