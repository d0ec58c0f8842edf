"""What the ledger holds of a private document: its commitment, who may read it, how long it is to be kept.

The document itself lies sealed in the vaults of the members concerned (`feiqian.vault`), never here.
"""

from itertools import pairwise
from typing import Annotated

from msgspec import Meta

from feiqian.core.encoding import Hash32, MemberId, Record, TimeMs
from feiqian.core.errors import InvalidTransaction
from feiqian.ledger.context import Context, Event
from feiqian.ledger.members import MEMBERS

MAX_DOCUMENT_READERS = 16

Readers = Annotated[tuple[MemberId, ...], Meta(min_length=1, max_length=MAX_DOCUMENT_READERS)]


class DocumentError(InvalidTransaction):
    """Root of the codespace."""

    codespace = "documents"


class ReadersOutOfOrder(DocumentError):
    """A document's readers that are not sorted by member id, each once."""

    number = 1


class ReaderUnknown(DocumentError):
    """A reader that is no member of this ledger."""

    number = 2


class DocumentReference(Record):
    """A sealed document as messages name it.

    `commitment` is that of `feiqian.vault.documents`; `readers` are member ids in order, each once; the document is to
    be kept until `retain_until_ms` and may be erased after that.
    """

    commitment: Hash32
    readers: Readers
    retain_until_ms: TimeMs


class DocumentCommitted(Event, tag="ledger.DocumentCommitted"):
    """A message committed to a sealed document; vaults serve it to these readers only."""

    document: DocumentReference

    def members(self) -> tuple[str, ...]:
        return self.document.readers


def check_document(ctx: Context, document: DocumentReference) -> None:
    """Refuse a reference whose readers are not members of this ledger, in order, each once.

    Raises:
        ReadersOutOfOrder, ReaderUnknown: see each.
    """
    check_readers(ctx, document.readers)


def check_readers(ctx: Context, readers: tuple[str, ...]) -> None:
    """Refuse readers that are not members of this ledger, in order, each once.

    Raises:
        ReadersOutOfOrder, ReaderUnknown: see each.
    """
    if any(left >= right for left, right in pairwise(readers)):
        raise ReadersOutOfOrder("a document's readers are sorted by member id, each once")
    for reader in readers:
        if MEMBERS.get(ctx.state, reader.encode()) is None:
            raise ReaderUnknown(f"{reader!r} is to read a document but is no member of this ledger")


def commit_document(ctx: Context, document: DocumentReference) -> None:
    """Emit that a document stands behind what happened; call `check_document` before the first write."""
    ctx.emit(DocumentCommitted(document))


ERRORS: tuple[type[DocumentError], ...] = (ReadersOutOfOrder, ReaderUnknown)
