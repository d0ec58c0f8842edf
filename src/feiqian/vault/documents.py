"""Seals a private document for named readers and makes the commitment that stands on the ledger.

A fresh key a document (XChaCha20-Poly1305), wrapped for each reader's X25519 key (libsodium sealed box). The
commitment is a hash of the whole envelope, so that a vault can check what it is given without being able to read it;
the envelope carries a salted digest of the content, salt inside the ciphertext, so that every reader who opens it knows
to have read the same as the others (Poly1305 alone does not bind a key to one content).
"""

import secrets
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, NamedTuple

from msgspec import Meta
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    sodium_pad,
    sodium_unpad,
)
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox

from feiqian.core.encoding import Codec, Hash32, MemberId, Record, Uint8, encode
from feiqian.core.errors import InvalidTransaction
from feiqian.core.hashing import Domain

MAX_CONTENT_BYTES = 1024 * 1024
MAX_ENVELOPE_BYTES = MAX_CONTENT_BYTES + 16 * 1024
MAX_READERS = 16
ENVELOPE_VERSION = 1
KEY_BYTES = 32
SALT_BYTES = 32
NONCE_BYTES = 24
WRAPPED_KEY_BYTES = 80
PADDING_BYTES = 256
"""Contents are padded to a multiple of this, so that the length of a name does not show."""

_COMMITMENT = Domain("feiqian/sealed-document/v1")
_CONTENT = Domain("feiqian/document-content/v1")


class DocumentRefused(Exception):
    """The envelope or content is not what it should be: malformed, too large, altered, or not for this reader."""


class WrappedKey(Record):
    """The document's key for one reader: a sealed box of 32 bytes."""

    reader: MemberId
    sealed_key: Annotated[bytes, Meta(min_length=WRAPPED_KEY_BYTES, max_length=WRAPPED_KEY_BYTES)]


class Envelope(Record):
    """A sealed document as it lies in vaults; readers sorted by member id, each once."""

    version: Uint8
    content_digest: Hash32
    readers: Annotated[tuple[WrappedKey, ...], Meta(min_length=1, max_length=MAX_READERS)]
    nonce: Annotated[bytes, Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]
    ciphertext: Annotated[bytes, Meta(min_length=1, max_length=MAX_ENVELOPE_BYTES)]


class Sealed(NamedTuple):
    """What `seal` makes: the commitment for the ledger, the envelope for the vaults."""

    commitment: bytes
    envelope: bytes


_ENVELOPE: Codec[Envelope] = Codec(Envelope, "sealed document")


def seal(content: bytes, readers: Mapping[str, bytes]) -> Sealed:
    """Seal `content` for readers given as member id to X25519 public key.

    Raises:
        DocumentRefused: more than 1 MiB, no reader or more than 16, a key that is none.
    """
    if len(content) > MAX_CONTENT_BYTES:
        raise DocumentRefused(f"document of {len(content)} bytes; a vault keeps at most {MAX_CONTENT_BYTES}")
    if not 1 <= len(readers) <= MAX_READERS:
        raise DocumentRefused(f"{len(readers)} readers; a document has 1 to {MAX_READERS}")
    key, salt, nonce = (secrets.token_bytes(size) for size in (KEY_BYTES, SALT_BYTES, NONCE_BYTES))
    digest = _CONTENT.hash(salt + content)
    wrapped = tuple(WrappedKey(reader, _wrap(key, reader, readers[reader])) for reader in sorted(readers))
    header = _header(ENVELOPE_VERSION, digest, wrapped)
    plaintext = sodium_pad(salt + content, PADDING_BYTES)
    ciphertext = crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, header, nonce, key)
    envelope = encode(Envelope(ENVELOPE_VERSION, digest, wrapped, nonce, ciphertext))
    return Sealed(commitment_of(envelope), envelope)


def open_(envelope: bytes, reader: str, private_key: bytes, commitment: bytes | None = None) -> bytes:
    """Return the content of an envelope; with `commitment`, only if it is the one that the ledger holds.

    Raises:
        DocumentRefused: another commitment, malformed, altered, or not sealed for this reader and key.
    """
    decoded = check_envelope(envelope)
    if commitment is not None and commitment_of(envelope) != commitment:
        raise DocumentRefused("the envelope is not the one that the ledger committed to")
    sealed_key = next((wrapped.sealed_key for wrapped in decoded.readers if wrapped.reader == reader), None)
    if sealed_key is None:
        raise DocumentRefused(f"the document is not sealed for {reader!r}")
    try:
        key = SealedBox(PrivateKey(private_key)).decrypt(sealed_key)
        header = _header(decoded.version, decoded.content_digest, decoded.readers)
        padded = crypto_aead_xchacha20poly1305_ietf_decrypt(decoded.ciphertext, header, decoded.nonce, key)
        plaintext = sodium_unpad(padded, PADDING_BYTES)
    except (CryptoError, TypeError, ValueError):
        raise DocumentRefused("the document cannot be opened with this key, or was altered") from None
    if len(plaintext) < SALT_BYTES or _CONTENT.hash(plaintext) != decoded.content_digest:
        raise DocumentRefused("the content is not what the sender committed to")
    return plaintext[SALT_BYTES:]


def check_envelope(envelope: bytes) -> Envelope:
    """Return a decoded envelope after every check that needs no key.

    Raises:
        DocumentRefused: too large, not canonical, of another version, readers out of order.
    """
    if len(envelope) > MAX_ENVELOPE_BYTES:
        raise DocumentRefused(f"sealed document of {len(envelope)} bytes; a vault keeps at most {MAX_ENVELOPE_BYTES}")
    try:
        decoded = _ENVELOPE.decode(envelope)
    except InvalidTransaction as refusal:
        raise DocumentRefused(refusal.message) from None
    if decoded.version != ENVELOPE_VERSION:
        raise DocumentRefused(f"sealed document of version {decoded.version}; this release reads {ENVELOPE_VERSION}")
    if any(left.reader >= right.reader for left, right in pairwise(decoded.readers)):
        raise DocumentRefused("readers are sorted by member id, each once")
    return decoded


def commitment_of(envelope: bytes) -> bytes:
    """Return the 32-byte commitment to a sealed document; once that is erased, it says nothing of the content."""
    return _COMMITMENT.hash(envelope)


def _wrap(key: bytes, reader: str, public_key: bytes) -> bytes:
    try:
        return SealedBox(PublicKey(public_key)).encrypt(key)
    except (CryptoError, TypeError, ValueError):
        raise DocumentRefused(f"the vault key of {reader!r} is no X25519 public key") from None


def _header(version: int, digest: bytes, wrapped: tuple[WrappedKey, ...]) -> bytes:
    return encode((version, digest, wrapped))
