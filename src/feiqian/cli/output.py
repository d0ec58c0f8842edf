"""How every command speaks: tables for people, one JSON value with `--json`, and what each failure exits with."""

import sys
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import Any, NoReturn

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_FAULT = 3

FILE_WIDTH = 240
"""Columns of a table that goes to a file or another program."""


class Output:
    """Where a command's answer goes. `is_json`: one JSON value on standard output and nothing else."""

    def __init__(self, *, is_json: bool) -> None:
        self.is_json = is_json
        is_terminal = sys.stdout.isatty()
        self._console = Console(soft_wrap=True, highlight=False, width=None if is_terminal else FILE_WIDTH)

    def value(self, value: Any, people: Callable[[Console], None] | None = None) -> None:
        """Give the answer: `value` as JSON, or what `people` prints (by default a table of its fields)."""
        if self.is_json:
            sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
        elif people is not None:
            people(self._console)
        else:
            self._console.print(fields_text(value), markup=False)

    def rows(self, columns: Iterable[str], rows: list[dict[str, Any]]) -> None:
        """Give a list: JSON array, or a table of these columns."""
        if self.is_json:
            self.value(rows)
            return
        table = Table(box=None, pad_edge=False, header_style="bold")
        names = list(columns)
        for name in names:
            table.add_column(name.replace("_", " "), overflow="fold")
        for row in rows:
            table.add_row(*(text_of(row.get(name)) for name in names))
        self._console.print(table)

    @contextmanager
    def progress(self, what: str):
        """Show a bar on standard error while long work runs; gives a function (done, total)."""
        console, shows = Console(stderr=True), sys.stderr.isatty() and not self.is_json
        columns = (TextColumn(what), BarColumn(), TextColumn("{task.completed:,.0f} of {task.total:,.0f}"))
        with Progress(*columns, TimeRemainingColumn(), console=console, disable=not shows, transient=True) as bar:
            task = bar.add_task(what, total=1)
            yield lambda done, total: bar.update(task, completed=done, total=max(total, 1))


def fields_text(value: dict[str, Any]) -> str:
    """Return a value's fields one a line, their names in a column; nothing is cut, so that it can be copied."""
    width = max((len(name) for name in value), default=0)
    lines = []
    for name, field in value.items():
        text = text_of(field).replace("\n", "\n" + " " * (width + 2))
        lines.append(f"{name.replace('_', ' '):<{width}}  {text}".rstrip())
    return "\n".join(lines)


def text_of(value: Any) -> str:
    """Return a field as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and not value:
        return "none"
    if isinstance(value, dict) and all(isinstance(inner, str | int) for inner in value.values()):
        return fields_text(value)
    if isinstance(value, dict | list):
        return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    return str(value)


def fail(message: str, status: int) -> NoReturn:
    """End the command with a sentence on standard error."""
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"feiqian: {message}", markup=False)
    sys.exit(status)
