"""Keeps sealed documents in SQL by commitment; erasing leaves a tombstone and nothing of the envelope."""

from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    LargeBinary,
    MetaData,
    Table,
    Text,
    create_engine,
    insert,
    select,
    update,
)
from sqlalchemy.event import listens_for
from sqlalchemy.exc import IntegrityError

from feiqian.vault.documents import check_envelope, commitment_of

SQLITE_BUSY_MS = 5_000

METADATA = MetaData()

DOCUMENTS = Table(
    "vault_documents",
    METADATA,
    Column("commitment", LargeBinary(32), primary_key=True),
    Column("envelope", LargeBinary, nullable=True),
    Column("stored_by", Text, nullable=False),
    Column("stored_at_ms", BigInteger, nullable=False),
    Column("erased_at_ms", BigInteger, nullable=True),
)


class DocumentErased(Exception):
    """The document was here and was erased; it does not come back."""


class StoredDocument(NamedTuple):
    """One row: `envelope` is None once `erased_at_ms` is set."""

    commitment: bytes
    envelope: bytes | None
    stored_by: str
    stored_at_ms: int
    erased_at_ms: int | None


class VaultStore:
    """One member's vault. Each method is a transaction of its own; safe for use by threads as its engine is."""

    def __init__(self, engine: Engine) -> None:
        """Create the table where there is none."""
        self._engine = engine
        METADATA.create_all(engine)

    def put(self, envelope: bytes, stored_by: str, now_ms: int) -> bytes:
        """Keep a sealed document and return its commitment; the same one again changes nothing.

        Raises:
            DocumentRefused: malformed or too large.
            DocumentErased: it was erased before.
        """
        check_envelope(envelope)
        commitment = commitment_of(envelope)
        with self._engine.begin() as connection:
            known = _row(connection, commitment)
            if known is None:
                _insert(connection, commitment, envelope, stored_by, now_ms)
            elif known.erased_at_ms is not None:
                raise DocumentErased(f"document {commitment.hex()} was erased")
        return commitment

    def get(self, commitment: bytes) -> StoredDocument | None:
        """Return what is kept under a commitment, a tombstone too, or None."""
        with self._engine.connect() as connection:
            return _row(connection, commitment)

    def erase(self, commitment: bytes, now_ms: int) -> bool:
        """Erase wrapped keys, salt and ciphertext; say whether there was anything. Whether one may is not asked."""
        with self._engine.begin() as connection:
            result = connection.execute(
                update(DOCUMENTS)
                .where(DOCUMENTS.c.commitment == commitment, DOCUMENTS.c.erased_at_ms.is_(None))
                .values(envelope=None, erased_at_ms=now_ms)
            )
        if not result.rowcount:
            return False
        self._truncate_log()
        return True

    def _truncate_log(self) -> None:
        # What was erased would otherwise still stand in SQLite's write-ahead log.
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def open_vault(path: Path) -> VaultStore:
    """Open the vault in an SQLite file, made at first. Nothing rebuilds it, so each commit is synced to disk."""
    engine = create_engine(f"sqlite:///{path}")

    @listens_for(engine, "connect")
    def configure(connection: Any, record: Any) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON", f"busy_timeout={SQLITE_BUSY_MS}"):
            connection.execute(f"PRAGMA {pragma}")

    return VaultStore(engine)


def _row(connection: Connection, commitment: bytes) -> StoredDocument | None:
    row = connection.execute(select(DOCUMENTS).where(DOCUMENTS.c.commitment == commitment)).one_or_none()
    return None if row is None else StoredDocument(*row)


def _insert(connection: Connection, commitment: bytes, envelope: bytes, stored_by: str, now_ms: int) -> None:
    try:
        with connection.begin_nested():
            connection.execute(
                insert(DOCUMENTS).values(
                    commitment=commitment, envelope=envelope, stored_by=stored_by, stored_at_ms=now_ms
                )
            )
    except IntegrityError:
        # Someone else stored the very same envelope between our read and write.
        return
