"""The transaction: what is signed, how it is named, what carries it."""

from typing import Annotated, Generic, TypeVar

from msgspec import Meta

from feiqian.core.encoding import MAX_TRANSACTION_BYTES, Codec, Record, TimeMs, Uint8, encode
from feiqian.core.errors import TooLarge
from feiqian.core.hashing import Domain
from feiqian.core.signatures import PublicKey

MAX_SIGNATURES = 16
MAX_MESSAGES = 100
TRANSACTION_VERSION = 1
REPLAY_WINDOW_MS = 600_000
"""A transaction expires at most this long after the block that takes it; its id is remembered as long."""

TRANSACTION_ID = Domain("feiqian/transaction/v1")
_SIGNATURE_DOMAIN = b"feiqian/transaction-signature/v1\x00"

ChainId = Annotated[str, Meta(min_length=1, max_length=50, pattern=r"\A[a-z0-9][a-z0-9-]*\Z")]
Salt = Annotated[bytes, Meta(min_length=8, max_length=16)]

NO_SIGNATURE = bytes(64)
"""Stands for a signature where none is given, in a dry run; by no scheme is it one that verifies."""

M = TypeVar("M")


class Signature(Record):
    """One key's signature over the transaction's id."""

    key: PublicKey
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]


class SignedTransaction(Record):
    """The signed bytes and who signed them; signatures are sorted by key, each key once."""

    body: Annotated[bytes, Meta(min_length=1, max_length=MAX_TRANSACTION_BYTES)]
    signatures: Annotated[tuple[Signature, ...], Meta(max_length=MAX_SIGNATURES)]


class Transaction(Record, Generic[M]):
    """What `body` decodes to. Messages execute together or not at all.

    `sponsor` is the member at whose cost it is admitted; `expires_at_ms` is in block time; `salt` sets equal
    orders apart. Chain and sponsor must equal what the ledger holds, which spares a check of their form (1 µs each).
    """

    version: Uint8
    chain_id: Annotated[str, Meta(min_length=1, max_length=50)]
    sponsor: Annotated[str, Meta(min_length=2, max_length=32)]
    expires_at_ms: TimeMs
    salt: Salt
    messages: Annotated[tuple[M, ...], Meta(min_length=1, max_length=MAX_MESSAGES)]


SIGNED_TRANSACTION: Codec[SignedTransaction] = Codec(SignedTransaction, "signed transaction")


def transaction_id(body: bytes) -> bytes:
    """Return the 32-byte id of a transaction; signatures cannot change it."""
    return TRANSACTION_ID.hash(body)


def signing_bytes(tx_id: bytes) -> bytes:
    """Return what each key signs for the transaction with this id."""
    return _SIGNATURE_DOMAIN + tx_id


def decode_signed(data: bytes) -> SignedTransaction:
    """Decode the outer envelope.

    Raises:
        TooLarge: more than 128 KiB.
        Undecodable, NonCanonical: see `Codec.decode`.
    """
    if len(data) > MAX_TRANSACTION_BYTES:
        raise TooLarge(f"transaction of {len(data)} bytes; at most {MAX_TRANSACTION_BYTES} are accepted")
    return SIGNED_TRANSACTION.decode(data)


def encode_signed(body: bytes, signatures: tuple[Signature, ...]) -> bytes:
    """Return the canonical bytes of a signed transaction, its signatures put in order."""
    ordered = sorted(signatures, key=lambda signature: (signature.key.scheme, signature.key.data))
    return encode(SignedTransaction(body, tuple(ordered)))
