"""Builds a transaction, encodes it once and signs those bytes."""

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from feiqian.core.encoding import Record, encode
from feiqian.core.signatures import PublicKey
from feiqian.core.transactions import (
    NO_SIGNATURE,
    TRANSACTION_VERSION,
    Signature,
    Transaction,
    encode_signed,
    signing_bytes,
    transaction_id,
)
from feiqian.wallet.keys import SigningKey

SALT_BYTES = 8


def build_transaction(
    chain_id: str, sponsor: str, messages: Sequence[Record], expires_at_ms: int, salt: bytes | None = None
) -> Transaction[Any]:
    """Return an unsigned transaction; a fresh random salt unless one is given (8 to 16 bytes)."""
    salt = secrets.token_bytes(SALT_BYTES) if salt is None else salt
    return Transaction(TRANSACTION_VERSION, chain_id, sponsor, expires_at_ms, salt, tuple(messages))


def sign_transaction(transaction: Transaction[Any], keys: Iterable[SigningKey]) -> bytes:
    """Return the bytes to submit: the transaction signed by every key."""
    return sign_body(encode(transaction), keys)


def leave_unsigned(transaction: Transaction[Any], keys: Iterable[PublicKey]) -> bytes:
    """Return a transaction for a dry run: it names the keys that would sign, and no ledger takes it."""
    return encode_signed(encode(transaction), tuple(Signature(key, NO_SIGNATURE) for key in keys))


def sign_body(body: bytes, keys: Iterable[SigningKey]) -> bytes:
    """Return the bytes to submit for an encoded transaction; each key signs its id."""
    message = signing_bytes(transaction_id(body))
    return encode_signed(body, tuple(Signature(key.public, key.sign(message)) for key in keys))
