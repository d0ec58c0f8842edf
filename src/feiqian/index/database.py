"""Opens the index's database, SQLite or PostgreSQL, and writes many rows at a time by each one's fastest way."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.event import listens_for

from feiqian.index.tables import ACCOUNTS, ENTRIES

SQLITE_CACHE_KIB = 128 * 1024
SQLITE_BUSY_MS = 5_000
POSTGRESQL_SCHEMA = "feiqian_index"
"""The index has a schema of its own there, so that building it anew can drop all of it and nothing else."""

WRITTEN_AT_ONCE = 256
"""Rows that one call adds: a few milliseconds."""

ASKED_AT_ONCE = 500
"""Values that one question to SQLite names; each number of them is a statement of its own."""


def database_url(configured: str, directory: Path) -> str:
    """Return the SQLAlchemy URL of the index: the configured PostgreSQL, or SQLite below the ledger's directory."""
    if configured:
        return configured.replace("postgresql://", "postgresql+psycopg://", 1)
    return f"sqlite:///{directory / 'data' / 'index.db'}"


def open_engine(url: str) -> sa.Engine:
    """Return an engine for reading and writing; SQLite in WAL mode, so that readers never wait for the follower."""
    if not url.startswith("sqlite"):
        options = {"options": f"-c search_path={POSTGRESQL_SCHEMA}"}
        return sa.create_engine(url, pool_size=8, max_overflow=8, pool_pre_ping=True, connect_args=options)
    engine = sa.create_engine(url, pool_size=8, max_overflow=8)

    @listens_for(engine, "connect")
    def configure(connection: Any, record: Any) -> None:
        # A lost tail after a power cut is re-read from the ledger, so the log need not be synced at each commit.
        for pragma in (
            "journal_mode=WAL",
            "synchronous=NORMAL",
            f"cache_size=-{SQLITE_CACHE_KIB}",
            f"busy_timeout={SQLITE_BUSY_MS}",
            "temp_store=MEMORY",
            "wal_autocheckpoint=32000",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def migrate(engine: sa.Engine) -> None:
    """Bring the core tables to this release's shape."""
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {POSTGRESQL_SCHEMA}"))
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")


class Writer:
    """Bulk reads and writes of the core tables inside one transaction; calls `give_way` between pieces of it."""

    def __init__(self, connection: sa.Connection, give_way: Callable[[], None]) -> None:
        self._connection = connection
        self._give_way = give_way
        self._is_postgresql = connection.dialect.name == "postgresql"
        self._driver: Any = connection.connection.driver_connection

    def insert(self, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> None:
        """Add rows; each holds every column of the table in order."""
        if not rows:
            return
        columns = ", ".join(column.name for column in table.columns)
        if self._is_postgresql:
            with (
                self._driver.cursor() as cursor,
                cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN (FORMAT BINARY)") as copy,
            ):
                copy.set_types([_POSTGRES_TYPES[type(column.type)] for column in table.columns])
                for row in rows:
                    copy.write_row(row)
            return
        marks = ", ".join("?" * len(table.columns))
        text = f"INSERT INTO {table.name} ({columns}) VALUES ({marks})"
        for start in range(0, len(rows), WRITTEN_AT_ONCE):
            self._give_way()
            self._driver.executemany(text, rows[start : start + WRITTEN_AT_ONCE])

    def members_of(self, addresses: Iterable[bytes]) -> dict[bytes, str]:
        """Return the member of each account that the index knows."""
        asked = list(addresses)
        if self._is_postgresql:
            text = f"SELECT address, member FROM {ACCOUNTS.name} WHERE address = ANY(%s)"
            return dict(self._driver.execute(text, [asked]).fetchall())
        found: dict[bytes, str] = {}
        for start in range(0, len(asked), ASKED_AT_ONCE):
            self._give_way()
            part = asked[start : start + ASKED_AT_ONCE]
            marks = ", ".join("?" * len(part))
            text = f"SELECT address, member FROM {ACCOUNTS.name} WHERE address IN ({marks})"
            found.update(self._driver.execute(text, part).fetchall())
        return found

    def balances(self, keys: Iterable[tuple[bytes, str]]) -> dict[tuple[bytes, str], tuple[int, int]]:
        """Return posted amount and number of entries, as of the last one, of each (account, asset) that has any."""
        last = "ORDER BY position DESC, leg_index DESC LIMIT 1"
        if self._is_postgresql:
            text = (
                "SELECT k.account, k.asset, e.posted_minor, e.sequence FROM unnest(%s::bytea[], %s::text[]) "
                f"AS k(account, asset), LATERAL (SELECT posted_minor, sequence FROM {ENTRIES.name} "
                f"WHERE account = k.account AND asset = k.asset {last}) AS e"
            )
            asked = list(keys)
            rows = self._driver.execute(text, [[key[0] for key in asked], [key[1] for key in asked]]).fetchall()
            return {(row[0], row[1]): (row[2], row[3]) for row in rows}
        fetch = self._driver.cursor().execute
        text = f"SELECT posted_minor, sequence FROM {ENTRIES.name} WHERE account = ? AND asset = ? {last}"
        found: dict[tuple[bytes, str], tuple[int, int]] = {}
        for key in keys:
            self._give_way()
            row = fetch(text, key).fetchone()
            if row is not None:
                found[key] = row
        return found


_POSTGRES_TYPES: Mapping[type[Any], str] = {
    sa.BigInteger: "int8",
    sa.Integer: "int4",
    sa.Text: "text",
    sa.LargeBinary: "bytea",
    sa.Boolean: "bool",
}
