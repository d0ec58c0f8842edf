"""The vault's HTTP interface: members put sealed documents, the readers named on the ledger get and erase them."""

import time
from typing import Any

from litestar import Request, Response, delete, get, put

from feiqian.api.access import Access, Reader
from feiqian.api.edge import Edge
from feiqian.api.gateway import Gateway
from feiqian.api.problems import BodyTooLarge, NotFound, Problem
from feiqian.api.routes.parameters import V1, Asker, Here, IdHex, id_of
from feiqian.api.threads import on_thread
from feiqian.index.documents import PROJECTION, reference_of
from feiqian.ledger.documents import DocumentReference
from feiqian.vault.documents import MAX_ENVELOPE_BYTES, DocumentRefused, check_envelope, commitment_of
from feiqian.vault.store import DocumentErased, StoredDocument

OCTETS = "application/octet-stream"
MEMBER_DAY_BYTES = 4 * 1024**3
"""What one member may put into this vault on one day."""
DAY_MS = 86_400_000
NOT_YOURS = "no document is held under this commitment, or you do not speak for one of its readers"


class DocumentMalformed(Problem):
    """What was put is no sealed document, or not the one that its commitment names."""

    status, number, title = 400, 101, "Document malformed"


class DocumentGone(Problem):
    """The document was erased."""

    status, number, title = 410, 102, "Document erased"


class DocumentRetained(Problem):
    """The document is to be kept longer."""

    status, number, title = 409, 103, "Document retained"


class VaultFull(Problem):
    """The member has put as much into this vault today as it may."""

    status, number, title = 429, 104, "Vault share used up"


class DayShares:
    """How many bytes each member has put in today, for this process."""

    def __init__(self, day_bytes: int) -> None:
        self._day_bytes = day_bytes
        self._day = -1
        self._used: dict[str, int] = {}

    def take(self, member: str, size_bytes: int, now_ms: int) -> None:
        """Count bytes against a member's share. Raises: VaultFull."""
        day = now_ms // DAY_MS
        if day != self._day:
            self._day, self._used = day, {}
        used = self._used.get(member, 0) + size_bytes
        if used > self._day_bytes:
            raise VaultFull(f"at most {self._day_bytes} bytes a member and day", retry_after_s=3600)
        self._used[member] = used


_shares = DayShares(MEMBER_DAY_BYTES)


@put(f"{V1}/vault/{{commitment:str}}", opt={"access": Access.MEMBER}, status_code=204)
async def put_document(commitment: IdHex, request: Request[Any, Any, Any], gateway: Here, reader: Asker) -> None:
    """Keep a sealed document; the same one again changes nothing. Put it before the message that commits to it."""
    raw = id_of(commitment)
    envelope = await _body(request)
    try:
        check_envelope(envelope)
    except DocumentRefused as refusal:
        raise DocumentMalformed(str(refusal)) from None
    if commitment_of(envelope) != raw:
        raise DocumentMalformed("the document's commitment is another than the address it was put under")
    assert reader.member is not None, "the route admits members only"
    now_ms = _now_ms()
    _shares.take(reader.member, len(envelope), now_ms)
    try:
        await on_thread(gateway.vault.put, envelope, reader.member, now_ms)
    except DocumentErased:
        raise DocumentGone("the document was erased; it does not come back") from None


@get(f"{V1}/vault/{{commitment:str}}", opt={"access": Access.PARTY}, media_type=OCTETS)
async def get_document(commitment: IdHex, gateway: Here, reader: Asker) -> Response[bytes]:
    """Return a sealed document to who speaks for a reader that the ledger names."""
    document, _ = await _document_for(gateway, id_of(commitment), reader)
    if document.envelope is None:
        raise DocumentGone("the document was erased")
    return Response(document.envelope, media_type=OCTETS, headers={"Cache-Control": "no-store"})


@delete(f"{V1}/vault/{{commitment:str}}", opt={"access": Access.PARTY}, status_code=204)
async def erase_document(commitment: IdHex, gateway: Here, reader: Asker) -> None:
    """Erase a document for good: a reader once its retention has ended, a regulator among its readers at any time."""
    document, reference = await _document_for(gateway, id_of(commitment), reader)
    now_ms = _now_ms()
    if now_ms < reference.retain_until_ms and not reader.is_regulator:
        raise DocumentRetained(f"the document is kept until {reference.retain_until_ms} (ms since 1970)")
    await on_thread(gateway.vault.erase, document.commitment, now_ms)


async def _document_for(
    gateway: Gateway, commitment: bytes, reader: Reader
) -> tuple[StoredDocument, DocumentReference]:
    """Return a document, or its tombstone, with its mention on the ledger, if this reader is among its readers.

    It is sealed for members, by keys that each keeps for itself: who signs in for the member's administration account
    has it.

    Raises:
        NotFound: there is none, it is not on the ledger, or the reader does not speak for a reader of it.
        DocumentGone: it was erased.
    """
    document = await on_thread(gateway.vault.get, commitment)
    if document is None or not reader.is_administration:
        raise NotFound(NOT_YOURS)
    if document.envelope is None:
        raise DocumentGone("the document was erased")
    assert document.readers is not None, "what is not erased has readers"
    readers = tuple(document.readers.split(" "))
    if reader.member not in readers:
        raise NotFound(NOT_YOURS)
    await gateway.indexed_height()
    reference = await on_thread(reference_of, gateway.index.engine, commitment, readers)
    if reference is None:
        raise NotFound(NOT_YOURS)
    return document, reference


async def _body(request: Request[Any, Any, Any]) -> bytes:
    parts: list[bytes] = []
    size_bytes = 0
    async for part in request.stream():
        size_bytes += len(part)
        if size_bytes > MAX_ENVELOPE_BYTES:
            raise BodyTooLarge(f"a sealed document has at most {MAX_ENVELOPE_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


VAULT_EDGE = Edge(projections=(PROJECTION,), routes=(put_document, get_document, erase_document))
