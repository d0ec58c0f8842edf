"""What a module brings to the SQL index: its tables, and one function for each event that changes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from feiqian.ledger.context import Event


class CommittedEvent(NamedTuple):
    """One event of a committed block. `tx_id` is None where a trigger caused it.

    `position` orders events over the whole ledger and is what `feiqian.index.tables.EVENTS` has it under;
    `result_position` leads to the result in RESULTS.
    """

    height: int
    time_ms: int
    tx_id: bytes | None
    result_index: int
    event_index: int
    event: Event
    position: int
    result_position: int


@dataclass(frozen=True)
class Projection:
    """A module's tables and handlers. They depend on the event alone: no state, no clock, no other module's tables."""

    name: str
    metadata: sa.MetaData
    handlers: "Mapping[type[Event], Callable[[Rows, CommittedEvent], None]]" = field(default_factory=dict)


class Rows:
    """Writes of one batch of blocks, held back and run many at a time; all of them or none reach the database.

    Writes to one table happen in the order they were asked for. Between tables the order is that of each run's first
    write, so tables must not depend on one another by foreign keys.
    """

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._runs: list[tuple[Any, list[dict[str, Any]]]] = []
        self._open: dict[str, tuple[tuple[Any, ...], list[dict[str, Any]]]] = {}
        self._statements: dict[tuple[Any, ...], Any] = {}

    def insert(self, table: sa.Table, **values: Any) -> None:
        """Add a row."""
        self._add(table, ("insert", *values), values)

    def upsert(self, table: sa.Table, keys: tuple[str, ...], **values: Any) -> None:
        """Add a row, or overwrite the given columns of the one that has the same `keys` (unique columns)."""
        self._add(table, ("upsert", keys, *values), values)

    def update(self, table: sa.Table, keys: tuple[str, ...], **values: Any) -> None:
        """Overwrite the given columns in every row where the columns `keys` have these values."""
        self._add(table, ("update", keys, *values), {f"p_{name}": value for name, value in values.items()})

    def execute(self, statement: sa.Executable) -> None:
        """Run any other statement, after all writes asked for so far and before those that follow."""
        self._open.clear()
        self._runs.append((statement, []))

    def flush(self) -> None:
        """Run what was held back."""
        runs, self._runs = self._runs, []
        self._open.clear()
        for statement, rows in runs:
            if rows:
                self._connection.execute(statement, rows)
            else:
                self._connection.execute(statement)

    def _add(self, table: sa.Table, shape: tuple[Any, ...], values: dict[str, Any]) -> None:
        current = self._open.get(table.name)
        if current is None or current[0] != shape:
            current = (shape, [])
            self._open[table.name] = current
            self._runs.append((self._statement(table, shape), current[1]))
        current[1].append(_storable(values))

    def _statement(self, table: sa.Table, shape: tuple[Any, ...]) -> Any:
        key = (table.name, *shape)
        if key not in self._statements:
            self._statements[key] = self._make(table, shape)
        return self._statements[key]

    def _make(self, table: sa.Table, shape: tuple[Any, ...]) -> Any:
        if shape[0] == "insert":
            return sa.insert(table)
        kind, keys, *names = shape
        if kind == "update":
            statement = sa.update(table).where(*(table.c[name] == sa.bindparam(f"p_{name}") for name in keys))
            return statement.values({name: sa.bindparam(f"p_{name}") for name in names if name not in keys})
        insert = postgresql.insert if self._connection.dialect.name == "postgresql" else sqlite.insert
        statement = insert(table)
        others = {name: statement.excluded[name] for name in names if name not in keys}
        if not others:
            return statement.on_conflict_do_nothing(index_elements=list(keys))
        return statement.on_conflict_do_update(index_elements=list(keys), set_=others)


def _storable(values: dict[str, Any]) -> dict[str, Any]:
    """Replace what PostgreSQL's text cannot hold, so that no sender can stop the index by a zero character."""
    for name, value in values.items():
        if type(value) is str and "\x00" in value:
            return values | {
                name: value.replace("\x00", "\ufffd") for name, value in values.items() if isinstance(value, str)
            }
    return values
