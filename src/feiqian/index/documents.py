"""What the ledger says of documents: who may read each and how long it is kept, in a table of the index."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from feiqian.index.projection import CommittedEvent, Projection, Rows
from feiqian.index.reading import IndexReader
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


class Mention(NamedTuple):
    """One mention of a document on the ledger; `readers` as the table has them."""

    readers: str
    retain_until_ms: int


class Mentions(NamedTuple):
    """Every mention of some documents, oldest first, that stands in a block after `base_height`.

    The index has no block before the one of `first_time_ms`; None: it has none at all.
    """

    base_height: int
    first_time_ms: int | None
    by_commitment: Mapping[bytes, Sequence[Mention]]


def mentions_of(index: IndexReader, commitments: Sequence[bytes], height: int) -> Mentions | None:
    """Return the mentions up to at least this height; None where the index has not come so far.

    Raises:
        IndexAway: it does not answer, or is being built.
    """
    question = (
        sa.select(REFERENCES.c.commitment, REFERENCES.c.readers, REFERENCES.c.retain_until_ms)
        .where(REFERENCES.c.commitment.in_(commitments))
        .order_by(REFERENCES.c.position)
    )
    found = index.rows_as_of(height, question)
    if found is None:
        return None
    mentions: dict[bytes, list[Mention]] = {}
    for commitment, readers, retain_until_ms in found.rows:
        mentions.setdefault(commitment, []).append(Mention(readers, retain_until_ms))
    return Mentions(found.base_height, found.first_time_ms, mentions)


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
