"""What the ledger says of documents: who may read each and how long it is kept, in a table of the index."""

import sqlalchemy as sa

from feiqian.index.projection import CommittedEvent, Projection, Rows
from feiqian.ledger.documents import DocumentCommitted, DocumentReference

METADATA = sa.MetaData()

REFERENCES = sa.Table(
    "document_references",
    METADATA,
    sa.Column("commitment", sa.LargeBinary, primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("readers", sa.Text, nullable=False),
    sa.Column("retain_until_ms", sa.BigInteger, nullable=False),
    sa.Index("document_references_by_retention", "retain_until_ms"),
)
"""Each mention of a document on the ledger. `readers`: member ids in order, separated by spaces."""


def _on_committed(rows: Rows, committed: CommittedEvent) -> None:
    event = committed.event
    assert isinstance(event, DocumentCommitted)
    rows.insert(
        REFERENCES,
        commitment=event.document.commitment,
        position=committed.position,
        readers=" ".join(event.document.readers),
        retain_until_ms=event.document.retain_until_ms,
    )


PROJECTION = Projection("documents", METADATA, {DocumentCommitted: _on_committed})


def reference_of(engine: sa.Engine, commitment: bytes, readers: tuple[str, ...]) -> DocumentReference | None:
    """Return the first mention of a document that names exactly the readers it is sealed for.

    Others do not count: whoever sees a commitment on the ledger could mention it again with readers or a retention of
    his own choosing.
    """
    question = (
        sa.select(REFERENCES.c.retain_until_ms)
        .where(REFERENCES.c.commitment == commitment, REFERENCES.c.readers == " ".join(readers))
        .order_by(REFERENCES.c.position)
        .limit(1)
    )
    with engine.connect() as connection:
        retain_until_ms = connection.execute(question).scalar_one_or_none()
    return None if retain_until_ms is None else DocumentReference(commitment, readers, retain_until_ms)
