"""The hand-over: what a solo ledger's validator signs when several members go on with the ledger as a network.

It names who signed until then, the last block and the state after it, and with which validators, state and time the
network begins. So who trusts the genesis of either ledger can check proofs of both.
"""

from pathlib import Path
from typing import NamedTuple

import msgspec

from feiqian.consensus import comet_json
from feiqian.consensus.comet_json import MalformedJson, ValidatorSetJson
from feiqian.consensus.genesis_file import Genesis, InvalidGenesis
from feiqian.consensus.headers import ValidatorSet
from feiqian.consensus.light import Trust, trust_in_genesis
from feiqian.consensus.solo import SoloSigner
from feiqian.core.encoding import encode
from feiqian.core.hashing import Domain
from feiqian.core.signatures import ED25519, PublicKey, verify
from feiqian.state import snapshots
from feiqian.state.errors import SnapshotRefused
from feiqian.state.snapshots import Snapshot

ENTRY = "hand_over"
"""Where the genesis file of a network that was handed a ledger has it, in `app_state`."""

_STATEMENT = Domain("feiqian/hand-over/v1")
_INT64_MAX = 2**63 - 1


class Side(NamedTuple):
    """One of the two ledgers as its genesis begins it; `app_hash` is the state root that it begins or ends with."""

    chain_id: str
    time_ns: int
    initial_height: int
    validators: ValidatorSet
    app_hash: bytes

    def trust(self) -> Trust:
        """Return the trust in its first block."""
        validators_hash = self.validators.hash()
        return Trust(self.chain_id, self.initial_height - 1, self.time_ns - 1, self.validators, validators_hash)


class HandOver(NamedTuple):
    """`origin` ended with block `height`, whose header has this hash; `successor` goes on with the next height."""

    origin: Side
    height: int
    header_hash: bytes
    successor: Side
    signature: bytes


class _SideJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    chain_id: str
    genesis_time: str
    initial_height: str
    validators: ValidatorSetJson
    app_hash: str


class HandOverJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a hand-over stands in genesis and proof files."""

    origin: _SideJson
    height: str
    header_hash: str
    successor: _SideJson
    signature: str


class MalformedHandOver(Exception):
    """A hand-over that proves nothing; the message says what is wrong."""


def sign(signer: SoloSigner, origin: Side, height: int, header_hash: bytes, successor: Side) -> HandOver:
    """Return the hand-over, signed by the validator that signed the origin's blocks."""
    unsigned = HandOver(origin, height, header_hash, successor, b"")
    return unsigned._replace(signature=signer.sign(_statement(unsigned)))


def side_of(genesis: Genesis, app_hash: bytes) -> Side:
    """Return the ledger of a genesis."""
    return Side(genesis.chain_id, genesis.time_ns, genesis.initial_height, genesis.validator_set(), app_hash)


def of_genesis(genesis: Genesis) -> HandOver | None:
    """Return the hand-over by which a genesis begins, None where the ledger is new.

    Raises:
        InvalidGenesis: it is malformed, not signed, or that of another network.
    """
    entry = genesis.app_state.get(ENTRY)
    if entry is None and not genesis.app_hash:
        return None
    try:
        hand_over = read(msgspec.convert(entry, HandOverJson))
    except (msgspec.ValidationError, MalformedHandOver) as error:
        raise InvalidGenesis(f"genesis file: app_state.{ENTRY}: {error}") from None
    if hand_over.successor != side_of(genesis, genesis.app_hash):
        raise InvalidGenesis(f"genesis file: app_state.{ENTRY} is that of another network than this file's")
    return hand_over


def is_from(hand_over: HandOver, genesis: Genesis) -> bool:
    """Say whether the ledger of this genesis is the one that was handed over."""
    return hand_over.origin.trust() == trust_in_genesis(genesis)


def write(hand_over: HandOver) -> HandOverJson:
    """Return the JSON form."""
    return HandOverJson(
        _write_side(hand_over.origin),
        str(hand_over.height),
        comet_json.write_hex(hand_over.header_hash),
        _write_side(hand_over.successor),
        comet_json.write_base64(hand_over.signature),
    )


def read(value: HandOverJson) -> HandOver:
    """Return the hand-over of its JSON form, its signature checked.

    Raises:
        MalformedHandOver: not of the form, not signed by the origin's validator, or the heights do not meet.
    """
    try:
        hand_over = HandOver(
            _read_side(value.origin, "origin"),
            comet_json.read_integer(value.height, "height", 1, _INT64_MAX - 1),
            comet_json.read_hex(value.header_hash, "header_hash", (32,)),
            _read_side(value.successor, "successor"),
            comet_json.read_base64(value.signature, "signature"),
        )
    except MalformedJson as error:
        raise MalformedHandOver(str(error)) from None
    origin, successor = hand_over.origin, hand_over.successor
    if len(origin.validators.validators) != 1:
        raise MalformedHandOver("origin.validators: a ledger that is handed over has one")
    if not origin.initial_height <= hand_over.height == successor.initial_height - 1:
        raise MalformedHandOver(f"height {hand_over.height} is not the one before the successor's first")
    public_key = PublicKey(ED25519, origin.validators.validators[0].public_key)
    if not verify(public_key, _statement(hand_over), hand_over.signature):
        raise MalformedHandOver("signature: it is not that of the origin's validator over the rest")
    return hand_over


def read_state(path: Path, genesis: Genesis) -> Snapshot:
    """Read the state that a network begins with, checked by its genesis.

    Raises:
        InvalidGenesis: see `of_genesis`.
        SnapshotRefused: the file is missing, damaged, or not of this genesis.
    """
    if of_genesis(genesis) is None:
        raise SnapshotRefused("hand-over: the genesis names no ledger that was handed over")
    # Transactions of the former chain are of no use to this one: none of their ids can come again.
    snapshot = snapshots.read(path, genesis.app_hash, genesis.initial_height)
    manifest = snapshot.manifest
    found = (manifest.chain_id, manifest.initial_height, manifest.height, manifest.time_ms)
    expected = (genesis.chain_id, genesis.initial_height, genesis.initial_height - 1, genesis.time_ms)
    if found != expected or snapshot.used_ids:
        raise SnapshotRefused(f"hand-over: the state in {path.name} is of another beginning than the genesis")
    return snapshot


def _statement(hand_over: HandOver) -> bytes:
    """Return what is signed: every value but the signature."""
    sides = [
        (each.chain_id, each.time_ns, each.initial_height, each.validators.hash(), each.app_hash)
        for each in (hand_over.origin, hand_over.successor)
    ]
    return _STATEMENT.hash(encode((*sides, hand_over.height, hand_over.header_hash)))


def _write_side(side: Side) -> _SideJson:
    return _SideJson(
        side.chain_id,
        comet_json.write_time(side.time_ns),
        str(side.initial_height),
        comet_json.write_validators(side.validators),
        comet_json.write_hex(side.app_hash),
    )


def _read_side(value: _SideJson, where: str) -> Side:
    validators = comet_json.read_validators(value.validators)
    if not validators.validators or len({each.public_key for each in validators.validators}) < len(
        validators.validators
    ):
        raise MalformedJson(f"{where}.validators: one or more, each once")
    return Side(
        value.chain_id,
        comet_json.read_time(value.genesis_time, f"{where}.genesis_time"),
        comet_json.read_integer(value.initial_height, f"{where}.initial_height", 1, _INT64_MAX),
        validators,
        comet_json.read_hex(value.app_hash, f"{where}.app_hash", (32,)),
    )
