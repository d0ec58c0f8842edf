"""Turns one committed block, as the node streams it, into what the index writes and the gateway's readers see."""

from typing import Any, NamedTuple

import msgspec

from feiqian.core.errors import InvalidTransaction
from feiqian.core.transactions import Transaction, decode_signed, transaction_id
from feiqian.core.wire import Stored
from feiqian.execution.blocks import BLOCK, RESULT, RESULTS_CODEC, Result, open_bundle
from feiqian.execution.registry import Registry
from feiqian.ledger.context import Event


class DecodedTransaction(NamedTuple):
    """A transaction as it stands in a block. `transaction` is None where its bytes are none (only by sync)."""

    signed: bytes
    tx_id: bytes
    transaction: Transaction[Any] | None


class DecodedResult(NamedTuple):
    """A result with the transaction that it belongs to; None for misbehaviour and for a trigger."""

    id: bytes
    result: Result
    asked: DecodedTransaction | None


def decode_results(registry: Registry, committed: Stored) -> list[DecodedResult]:
    """Return the block's results in order: those nobody asked for first, then one for each transaction."""
    stored = RESULTS_CODEC.decode_trusted(committed.results)
    transactions = decode_transactions(registry, committed.block)
    unasked = len(stored) - len(transactions)
    decode = RESULT.decode_trusted
    decoded = [DecodedResult(entry.id, decode(entry.result), None) for entry in stored[:unasked]]
    decoded.extend(
        DecodedResult(entry.id, decode(entry.result), asked)
        for entry, asked in zip(stored[unasked:], transactions, strict=True)
    )
    return decoded


def decode_transactions(registry: Registry, block: bytes) -> list[DecodedTransaction]:
    """Return the transactions of an encoded block in order."""
    return [
        decode_transaction(registry, signed)
        for bundle in BLOCK.decode_trusted(block).bundles
        for signed in open_bundle(bundle)
    ]


def decode_transaction(registry: Registry, signed: bytes) -> DecodedTransaction:
    """Return a transaction of a block; its signatures were checked by consensus and are not checked here."""
    try:
        body = decode_signed(signed).body
        return DecodedTransaction(signed, transaction_id(body), registry.transaction_codec.decode_trusted(body))
    except (InvalidTransaction, msgspec.MsgspecError, ValueError):
        return DecodedTransaction(signed, b"", None)


def decode_events(registry: Registry, result: Result) -> list[Event]:
    """Return the events of a result in order."""
    decode = registry.event_codec.decode_trusted
    return [decode(data) for data in result.events]
