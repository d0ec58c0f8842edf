"""Fuzzes what a stranger can send: the envelope, the transaction in it, and single messages.

`python tests/faults/fuzz_transaction.py -max_total_time=300 [-seed=N]`. Only `InvalidTransaction`, with a codespace and
a number, may come out; and what is accepted encodes to exactly the bytes that were given.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import atheris
import msgspec
from fuzzing import check_refusal, fuzz

with atheris.instrument_imports(include=["feiqian"]):  # pyright: ignore[reportAttributeAccessIssue]
    from feiqian.core.encoding import MAX_TRANSACTION_BYTES, encode
    from feiqian.core.errors import InvalidTransaction
    from feiqian.core.transactions import SignedTransaction, decode_signed
    from feiqian.execution.admission import Prepared, prepare
    from feiqian.execution.registry import discover
    from feiqian.wallet.keys import Ed25519Key
    from feiqian.wallet.signing import sign_body

RECORDING = json.loads(
    (Path(__file__).resolve().parent.parent / "vectors" / "golden" / "blocks.json").read_text(encoding="utf-8")
)
REGISTRY = discover()
KEY = Ed25519Key(bytes(range(32)))
CHAIN_ID = RECORDING["genesis"]["chain"]["id"]
WHOLE, BODY, MESSAGE = b"\x00", b"\x01", b"\x02"
"""What the first byte says of the rest: signed bytes as they come, a body that gets a true signature, a message."""

VALUES: tuple[Any, ...] = (
    *(0, -1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 2**62, 2**62 + 1, None, True, 0.5, float("nan")),
    *(b"", b"\x00" * 32, b"\x00" * 33, b"\xff" * 31, "", "x" * 2_000, "\u0000", "é", "assets.Issue", "*", [], {}),
    *([[[[[[]]]]]], {"a": 1}, [None] * 40, msgspec.msgpack.Ext(5, b"x"), b"x" * 70_000),
)


def seeds() -> Iterator[bytes]:
    """Yield each golden transaction whole, its body, and its messages."""
    for block in RECORDING["blocks"]:
        for text in block["transactions"]:
            signed = bytes.fromhex(text)
            body = decode_signed(signed).body
            yield WHOLE + signed
            yield BODY + body
            for message in REGISTRY.transaction_codec.decode(body).messages:
                yield MESSAGE + encode(message)


SEEDS = list(seeds())
TREES = [msgspec.msgpack.decode(data[1:]) for data in SEEDS]


def main(data: bytes) -> None:
    """Feed one input."""
    try:
        accept(data[:1], data[1:])
    except InvalidTransaction as refusal:
        check_refusal(refusal, 1_000)


def accept(kind: bytes, rest: bytes) -> None:
    """Take bytes in as a node does, and check whatever comes through."""
    if kind == MESSAGE:
        message = REGISTRY.message_codec.decode(rest)
        assert encode(message) == rest, "accepted bytes that are not the message's own"
        for claim in message.claims():
            assert len(claim.account) == 32, "a claim names no address"
    elif kind == BODY and 0 < len(rest) < MAX_TRANSACTION_BYTES:
        check(prepare(REGISTRY, CHAIN_ID, sign_body(rest, [KEY])), rest)
    else:
        check(prepare(REGISTRY, CHAIN_ID, rest), None)


def check(prepared: Prepared, body: bytes | None) -> None:
    """What was accepted is canonical through and through, and stands for the bytes that were signed."""
    envelope = decode_signed(prepared.signed)
    assert encode(SignedTransaction(envelope.body, envelope.signatures)) == prepared.signed
    assert encode(prepared.transaction) == envelope.body
    assert body is None or body == envelope.body
    assert prepared.signers == {signature.key for signature in envelope.signatures}


def vary(source: random.Random) -> bytes:
    """Return a true input changed in a few bytes, or in a few values. The native decoder's branches steer no fuzzer."""
    number = source.randrange(len(SEEDS))
    if source.random() < 0.5:
        return edited(bytearray(SEEDS[number]), source)
    tree = TREES[number]
    for _ in range(source.randint(1, 3)):
        tree = replaced(tree, source)
    try:
        return SEEDS[number][:1] + msgspec.msgpack.encode(tree)
    except (OverflowError, TypeError):
        return SEEDS[number]


def edited(data: bytearray, source: random.Random) -> bytes:
    """Set, put in, take out or flip a few bytes."""
    for _ in range(source.randint(1, 6)):
        place = source.randint(1, max(1, len(data) - 1))
        value = source.choice((0x00, 0x7F, 0x80, 0x90, 0xC0, 0xC4, 0xCF, 0xD9, 0xFF, source.randrange(256)))
        kind = source.randrange(5)
        if kind == 0:
            data[place : place + 1] = bytes([value])
        elif kind == 1:
            data[place:place] = bytes([value])
        elif kind == 2:
            del data[place : place + source.randint(1, 4)]
        elif kind == 3:
            data[place : place + 1] = bytes([data[min(place, len(data) - 1)] ^ 1 << source.randrange(8)])
        else:
            del data[place:]
    return bytes(data)


def replaced(tree: Any, source: random.Random) -> Any:
    """Replace, double or leave out one value, anywhere in the tree."""
    if not isinstance(tree, list) or not tree or source.random() < 0.1:
        return source.choice(VALUES)
    place = source.randrange(len(tree))
    kind = source.randrange(8)
    if kind == 0:
        return [*tree[: place + 1], *tree[place:]]
    if kind == 1:
        return [*tree[:place], *tree[place + 1 :]]
    return [*tree[:place], replaced(tree[place], source), *tree[place + 1 :]]


if __name__ == "__main__":
    fuzz(main, SEEDS, vary)
