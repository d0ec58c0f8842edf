"""Opens the index's database, SQLite or PostgreSQL, and writes many rows at a time by each one's fastest way."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.event import listens_for

from feiqian.index.tables import ACCOUNTS, BALANCES

SQLITE_CACHE_KIB = 128 * 1024
SQLITE_BUSY_MS = 5_000
POSTGRESQL_SCHEMA = "feiqian_index"
"""The index has a schema of its own there, so that building it anew can drop all of it and nothing else."""

BalanceRow = tuple[bytes, str, int, int, int]
"""account, asset, posted_minor, entry_count, position."""


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
            "wal_autocheckpoint=4000",
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
    """Bulk reads and writes of the core tables inside one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
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
        self._driver.executemany(f"INSERT INTO {table.name} ({columns}) VALUES ({marks})", rows)

    def members_of(self, addresses: Iterable[bytes]) -> dict[bytes, str]:
        """Return the member of each account that the index knows."""
        asked = list(addresses)
        if self._is_postgresql:
            text = f"SELECT address, member FROM {ACCOUNTS.name} WHERE address = ANY(%s)"
            return dict(self._driver.execute(text, [asked]).fetchall())
        fetch = self._driver.cursor().execute
        text = f"SELECT member FROM {ACCOUNTS.name} WHERE address = ?"
        found = ((address, fetch(text, (address,)).fetchone()) for address in asked)
        return {address: row[0] for address, row in found if row is not None}

    def balances(self, keys: Iterable[tuple[bytes, str]]) -> dict[tuple[bytes, str], tuple[int, int]]:
        """Return posted amount and entry count of each (account, asset) that has any entry."""
        asked = list(keys)
        if self._is_postgresql:
            text = (
                f"SELECT b.account, b.asset, b.posted_minor, b.entry_count FROM {BALANCES.name} b "
                "JOIN unnest(%s::bytea[], %s::text[]) AS k(account, asset) USING (account, asset)"
            )
            rows = self._driver.execute(text, [[key[0] for key in asked], [key[1] for key in asked]]).fetchall()
            return {(row[0], row[1]): (row[2], row[3]) for row in rows}
        fetch = self._driver.cursor().execute
        text = f"SELECT posted_minor, entry_count FROM {BALANCES.name} WHERE account = ? AND asset = ?"
        found = ((key, fetch(text, key).fetchone()) for key in asked)
        return {key: row for key, row in found if row is not None}

    def put_balances(self, rows: Sequence[BalanceRow]) -> None:
        """Write balances, new ones and changed ones."""
        if not rows:
            return
        columns = "account, asset, posted_minor, entry_count, position"
        conflict = (
            " ON CONFLICT (account, asset) DO UPDATE SET posted_minor = excluded.posted_minor, "
            "entry_count = excluded.entry_count, position = excluded.position"
        )
        if self._is_postgresql:
            text = (
                f"INSERT INTO {BALANCES.name} ({columns}) SELECT * FROM "
                f"unnest(%s::bytea[], %s::text[], %s::bigint[], %s::bigint[], %s::bigint[]){conflict}"
            )
            self._driver.execute(text, [list(column) for column in zip(*rows, strict=True)])
            return
        # OR REPLACE would do the same, but touches the row twice.
        self._driver.executemany(f"INSERT INTO {BALANCES.name} ({columns}) VALUES (?, ?, ?, ?, ?){conflict}", rows)


_POSTGRES_TYPES: Mapping[type[Any], str] = {
    sa.BigInteger: "int8",
    sa.Integer: "int4",
    sa.Text: "text",
    sa.LargeBinary: "bytea",
    sa.Boolean: "bool",
}
