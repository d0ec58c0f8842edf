"""Keeps sealed documents in SQL by commitment; erasing leaves a tombstone and nothing of the envelope.

What no message on the ledger ever named is deleted without one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Delete,
    Engine,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Update,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from feiqian.index.durable import open_durable
from feiqian.vault.documents import check_envelope, commitment_of

METADATA = MetaData()

DOCUMENTS = Table(
    "vault_documents",
    METADATA,
    Column("commitment", LargeBinary(32), primary_key=True),
    Column("envelope", LargeBinary, nullable=True),
    Column("readers", Text, nullable=True),
    Column("stored_by", Text, nullable=False),
    Column("stored_at_ms", BigInteger, nullable=False),
    Column("erased_at_ms", BigInteger, nullable=True),
)
"""`readers`: the member ids that the envelope is sealed for, in order, separated by spaces; erased with it."""


class DocumentErased(Exception):
    """The document was here and was erased; it does not come back."""


class StoredDocument(NamedTuple):
    """One row: `envelope` and `readers` are None once `erased_at_ms` is set."""

    commitment: bytes
    envelope: bytes | None
    readers: str | None
    stored_by: str
    stored_at_ms: int
    erased_at_ms: int | None


class KeptDocument(NamedTuple):
    """A document that is not erased, without its envelope."""

    commitment: bytes
    readers: str
    stored_at_ms: int


class VaultStore:
    """One member's vault. Each method is a transaction of its own; safe for use by threads as its engine is."""

    def __init__(self, engine: Engine) -> None:
        """`engine` is `open_durable`'s, with this room's table."""
        self._engine = engine

    def put(self, envelope: bytes, stored_by: str, now_ms: int) -> bytes:
        """Keep a sealed document and return its commitment; the same one again changes nothing.

        Raises:
            DocumentRefused: malformed or too large.
            DocumentErased: it was erased before.
        """
        readers = " ".join(wrapped.reader for wrapped in check_envelope(envelope).readers)
        commitment = commitment_of(envelope)
        with self._engine.begin() as connection:
            known = _row(connection, commitment)
            if known is None:
                _insert(connection, commitment, envelope, readers, stored_by, now_ms)
            elif known.erased_at_ms is not None:
                raise DocumentErased(f"document {commitment.hex()} was erased")
        return commitment

    def get(self, commitment: bytes) -> StoredDocument | None:
        """Return what is kept under a commitment, a tombstone too, or None."""
        with self._engine.connect() as connection:
            return _row(connection, commitment)

    def erase(self, commitment: bytes, now_ms: int) -> bool:
        """Erase wrapped keys, salt and ciphertext; say whether there was anything. Whether one may is not asked."""
        return bool(self.erase_all([commitment], now_ms))

    def erase_all(self, commitments: Sequence[bytes], now_ms: int) -> int:
        """Erase as `erase` does, all at once; return how many there were."""
        return self._change(update(DOCUMENTS).values(envelope=None, readers=None, erased_at_ms=now_ms), commitments)

    def forget_all(self, commitments: Sequence[bytes]) -> int:
        """Delete documents that nothing refers to; return how many there were. They may be put again."""
        return self._change(delete(DOCUMENTS), commitments)

    def kept_after(self, commitment: bytes, limit: int) -> list[KeptDocument]:
        """Return documents that are not erased in the order of their commitments, from after this one on."""
        question = (
            select(DOCUMENTS.c.commitment, DOCUMENTS.c.readers, DOCUMENTS.c.stored_at_ms)
            .where(DOCUMENTS.c.commitment > commitment, DOCUMENTS.c.erased_at_ms.is_(None))
            .order_by(DOCUMENTS.c.commitment)
            .limit(limit)
        )
        with self._engine.connect() as connection:
            return [KeptDocument(*row) for row in connection.execute(question)]

    def _change(self, statement: Update | Delete, commitments: Sequence[bytes]) -> int:
        with self._engine.begin() as connection:
            result = connection.execute(
                statement.where(DOCUMENTS.c.commitment.in_(commitments), DOCUMENTS.c.erased_at_ms.is_(None))
            )
        if result.rowcount:
            self._truncate_log()
        return result.rowcount

    def _truncate_log(self) -> None:
        # What was erased would otherwise still stand in SQLite's write-ahead log.
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def open_vault(path: Path) -> VaultStore:
    """Open the vault in an SQLite file, made at first."""
    return VaultStore(open_durable(path, METADATA))


def _row(connection: Connection, commitment: bytes) -> StoredDocument | None:
    row = connection.execute(select(DOCUMENTS).where(DOCUMENTS.c.commitment == commitment)).one_or_none()
    return None if row is None else StoredDocument(*row)


def _insert(
    connection: Connection, commitment: bytes, envelope: bytes, readers: str, stored_by: str, now_ms: int
) -> None:
    try:
        with connection.begin_nested():
            connection.execute(
                insert(DOCUMENTS).values(
                    commitment=commitment,
                    envelope=envelope,
                    readers=readers,
                    stored_by=stored_by,
                    stored_at_ms=now_ms,
                )
            )
    except IntegrityError:
        # Someone else stored the very same envelope between our read and write.
        return
