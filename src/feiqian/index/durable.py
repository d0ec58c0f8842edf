"""Opens an SQLite file for what no block holds and nothing rebuilds: the vault's documents, a module's own notes."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.event import listens_for

BUSY_MS = 5_000


def open_durable(path: Path, tables: sa.MetaData) -> sa.Engine:
    """Return an engine on a file, made at first with these tables; commits are synced, erased bytes overwritten."""
    engine = sa.create_engine(f"sqlite:///{path}")

    @listens_for(engine, "connect")
    def configure(connection: Any, record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", f"busy_timeout={BUSY_MS}"):
            connection.execute(f"PRAGMA {pragma}")

    tables.create_all(engine)
    return engine
