"""Who may enter a block: decoding, signatures, expiry, replay and authority, the same for mempool, proposer, validator.

`prepare` needs no state and may run on any thread; `admit` reads the state as of the start of the block.
"""

from itertools import pairwise
from typing import Any

import msgspec

from feiqian.core.encoding import encode
from feiqian.core.signatures import PublicKey, verify
from feiqian.core.transactions import (
    SIGNED_TRANSACTION,
    TRANSACTION_VERSION,
    Signature,
    SignedTransaction,
    Transaction,
    decode_signed,
    signing_bytes,
    transaction_id,
)
from feiqian.execution.errors import (
    NoSignature,
    SignatureInvalid,
    SignaturesOutOfOrder,
    WrongChain,
    WrongVersion,
)
from feiqian.execution.registry import Registry
from feiqian.ledger.authority import authorise
from feiqian.ledger.context import BlockInfo
from feiqian.ledger.metering import admission_work
from feiqian.ledger.replay import ReplayReader, check_replay, check_window
from feiqian.state.tables import Overlay


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """A transaction that is well-formed, for this chain, and whose every signature verified.

    `admission_work` is the work of taking it in.
    """

    signed: bytes
    tx_id: bytes
    transaction: Transaction[Any]
    signers: frozenset[PublicKey]
    admission_work: int


def prepare(registry: Registry, chain_id: str, signed: bytes) -> Prepared:
    """Check everything about a signed transaction that needs no state.

    Raises:
        InvalidTransaction: see `check_form`.
        SignatureInvalid: a signature that its key did not make.
    """
    envelope = decode_signed(signed)
    prepared = _check_form(registry, chain_id, signed, envelope)
    _verify(envelope.signatures, prepared.tx_id)
    return prepared


def verify_formed(formed: bytes, tx_id: bytes) -> None:
    """Verify the signatures of what `check_form` has passed, which said the id.

    Raises:
        SignatureInvalid: a signature that its key did not make.
    """
    _verify(SIGNED_TRANSACTION.decode_trusted(formed).signatures, tx_id)


def prepare_formed(registry: Registry, formed: bytes, tx_id: bytes) -> Prepared:
    """Do what is left of `prepare` once `check_form` has passed these very bytes and said their id.

    Raises:
        SignatureInvalid: a signature that its key did not make.
    """
    envelope = SIGNED_TRANSACTION.decode_trusted(formed)
    _verify(envelope.signatures, tx_id)
    return _prepared(formed, tx_id, registry.transaction_codec.decode_trusted(envelope.body), envelope.signatures)


def check_form(registry: Registry, chain_id: str, signed: bytes) -> Prepared:
    """Decode a signed transaction and check it, but for its signatures: whoever calls this verifies them elsewhere.

    Raises:
        TooLarge, Undecodable, NonCanonical: not the canonical bytes of a transaction.
        WrongVersion, WrongChain: not for this ledger.
        NoSignature, SignaturesOutOfOrder: see each.
    """
    return _check_form(registry, chain_id, signed, decode_signed(signed))


def _check_form(registry: Registry, chain_id: str, signed: bytes, envelope: SignedTransaction) -> Prepared:
    transaction = registry.transaction_codec.decode(envelope.body)
    if transaction.version != TRANSACTION_VERSION:
        raise WrongVersion(f"transaction version {transaction.version}; this ledger reads {TRANSACTION_VERSION}")
    if transaction.chain_id != chain_id:
        raise WrongChain(f"signed for ledger {transaction.chain_id!r}; this one is {chain_id!r}")
    _check_order(envelope.signatures)
    return _prepared(signed, transaction_id(envelope.body), transaction, envelope.signatures)


def _prepared(
    signed: bytes, tx_id: bytes, transaction: Transaction[Any], signatures: tuple[Signature, ...]
) -> Prepared:
    signers = frozenset([signature.key for signature in signatures])
    return Prepared(signed, tx_id, transaction, signers, admission_work(len(signed), len(signers)))


def _verify(signatures: tuple[Signature, ...], tx_id: bytes) -> None:
    message = signing_bytes(tx_id)
    for signature in signatures:
        if not verify(signature.key, message, signature.signature):
            raise SignatureInvalid(f"the signature by key {signature.key.data.hex()} does not verify")


def admit(state: Overlay, replay: ReplayReader, prepared: Prepared, block: BlockInfo, window_ms: int) -> None:
    """Check what decides whether the transaction may stand in the block at all; it uses up its id only then.

    Raises:
        InvalidTransaction: expired, too far ahead, already used, or not authorised as of the start of the block.
    """
    transaction = prepared.transaction
    check_unused(replay, transaction.expires_at_ms, prepared.tx_id, block, window_ms)
    authorise(state, transaction.messages, transaction.sponsor, prepared.signers)


def check_unused(replay: ReplayReader, expires_at_ms: int, tx_id: bytes, block: BlockInfo, window_ms: int) -> None:
    """Check the part of `admit` that is not authority.

    Raises:
        InvalidTransaction: expired, too far ahead or already used.
    """
    check_window(expires_at_ms, block.time_ms, window_ms)
    check_replay(replay, expires_at_ms, tx_id)


def encode_bundle(signed_transactions: tuple[bytes, ...]) -> bytes:
    """Return what CometBFT is given as one transaction: a tuple of signed transactions."""
    return encode(signed_transactions)


def _check_order(signatures: tuple[Signature, ...]) -> None:
    if not signatures:
        raise NoSignature("a transaction carries at least one signature")
    for left, right in pairwise(signatures):
        if (left.key.scheme, left.key.data) >= (right.key.scheme, right.key.data):
            raise SignaturesOutOfOrder("signatures are sorted by scheme and key, each key once")
