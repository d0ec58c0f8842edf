"""CometBFT's own JSON for headers, commits and validator sets, as its RPC writes it; both ways, strict.

64-bit numbers are strings, hashes and addresses upper-case hex, keys and signatures base64, times RFC 3339 in UTC with
as many fraction digits as needed. What is read must be what would be written, white space apart.
"""

import base64
import binascii
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from feiqian.consensus.headers import (
    ADDRESS_BYTES,
    ZERO_TIME_NS,
    BlockID,
    BlockIDFlag,
    Commit,
    CommitSig,
    Header,
    PartSetHeader,
    Validator,
    ValidatorSet,
    validator_address,
)

PUBLIC_KEY_TYPE = "tendermint/PubKeyEd25519"
PRIVATE_KEY_TYPE = "tendermint/PrivKeyEd25519"
MAX_VALIDATORS = 10_000
MAX_CHAIN_ID_CHARACTERS = 50

_HASH_LENGTHS = (0, 32)
_TIME = re.compile(r"\A(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z\Z", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_NS = 1_000_000_000

T = TypeVar("T")


class MalformedJson(Exception):
    """JSON that CometBFT would not have written for any value; the message says where and what was expected."""


class KeyJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key with CometBFT's name of its type; `value` is base64."""

    type: str
    value: str


class _Version(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    block: str = ""
    app: str = ""


class _Parts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    total: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    hash: str


class _BlockID(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    hash: str
    parts: _Parts


class HeaderJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`types.Header`."""

    version: _Version
    chain_id: Annotated[str, Meta(min_length=1, max_length=MAX_CHAIN_ID_CHARACTERS)]
    height: str
    time: str
    last_block_id: _BlockID
    last_commit_hash: str
    data_hash: str
    validators_hash: str
    next_validators_hash: str
    consensus_hash: str
    app_hash: str
    last_results_hash: str
    evidence_hash: str
    proposer_address: str


class _CommitSig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    block_id_flag: Annotated[int, Meta(ge=1, le=3)]
    validator_address: str
    timestamp: str
    signature: str | None


class CommitJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`types.Commit`."""

    height: str
    round: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    block_id: _BlockID
    signatures: Annotated[tuple[_CommitSig, ...], Meta(max_length=MAX_VALIDATORS)]


class ValidatorJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`types.Validator` without the proposer's priority, which no hash covers."""

    address: str
    pub_key: KeyJson
    voting_power: str


class ValidatorSetJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`types.ValidatorSet` without its proposer."""

    validators: Annotated[tuple[ValidatorJson, ...], Meta(max_length=MAX_VALIDATORS)]


class SignedHeaderJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`types.SignedHeader`."""

    header: HeaderJson
    commit: CommitJson


class LightBlockJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`types.LightBlock` without proposer and priorities."""

    signed_header: SignedHeaderJson
    validator_set: ValidatorSetJson


def write_header(header: Header) -> HeaderJson:
    """Return the JSON form of a header."""
    return HeaderJson(
        _Version(_write_version(header.block_version), _write_version(header.app_version)),
        header.chain_id,
        str(header.height),
        write_time(header.time_ns),
        _write_block_id(header.last_block_id),
        write_hex(header.last_commit_hash),
        write_hex(header.data_hash),
        write_hex(header.validators_hash),
        write_hex(header.next_validators_hash),
        write_hex(header.consensus_hash),
        write_hex(header.app_hash),
        write_hex(header.last_results_hash),
        write_hex(header.evidence_hash),
        write_hex(header.proposer_address),
    )


def read_header(value: HeaderJson) -> Header:
    """Return the header; every hash is empty or has 32 bytes, the application's hash has any length.

    Raises:
        MalformedJson: a field is not in CometBFT's form or out of range.
    """
    return Header(
        _read_version(value.version.block, "version.block"),
        _read_version(value.version.app, "version.app"),
        value.chain_id,
        read_integer(value.height, "height", 1, 2**63 - 1),
        read_time(value.time, "time"),
        _read_block_id(value.last_block_id, "last_block_id"),
        _read_hash(value.last_commit_hash, "last_commit_hash"),
        _read_hash(value.data_hash, "data_hash"),
        _read_hash(value.validators_hash, "validators_hash"),
        _read_hash(value.next_validators_hash, "next_validators_hash"),
        _read_hash(value.consensus_hash, "consensus_hash"),
        read_hex(value.app_hash, "app_hash", None),
        _read_hash(value.last_results_hash, "last_results_hash"),
        _read_hash(value.evidence_hash, "evidence_hash"),
        read_hex(value.proposer_address, "proposer_address", (ADDRESS_BYTES,)),
    )


def write_commit(commit: Commit) -> CommitJson:
    """Return the JSON form of a commit."""
    signatures = tuple(
        _CommitSig(
            int(signature.flag),
            write_hex(signature.validator_address),
            write_time(signature.timestamp_ns),
            write_base64(signature.signature) if signature.signature else None,
        )
        for signature in commit.signatures
    )
    return CommitJson(str(commit.height), commit.round, _write_block_id(commit.block_id), signatures)


def read_commit(value: CommitJson) -> Commit:
    """Return the commit; an absent signature has no address, time or signature, any other has them all.

    Raises:
        MalformedJson: a field is not in CometBFT's form or out of range.
    """
    return Commit(
        read_integer(value.height, "commit.height", 1, 2**63 - 1),
        value.round,
        _read_block_id(value.block_id, "commit.block_id"),
        tuple(_read_commit_sig(signature, f"signatures[{at}]") for at, signature in enumerate(value.signatures)),
    )


def write_validators(validators: ValidatorSet) -> ValidatorSetJson:
    """Return the JSON form of a validator set: address, key and power of each."""
    return ValidatorSetJson(
        tuple(
            ValidatorJson(
                write_hex(validator.address),
                KeyJson(PUBLIC_KEY_TYPE, write_base64(validator.public_key)),
                str(validator.power),
            )
            for validator in validators.validators
        )
    )


def read_validators(value: ValidatorSetJson) -> ValidatorSet:
    """Return the validator set; each address is that of its key, each power is at least 1.

    Raises:
        MalformedJson: a field is not in CometBFT's form, out of range, or the address is another key's.
    """
    return ValidatorSet(
        tuple(_read_validator(validator, f"validators[{at}]") for at, validator in enumerate(value.validators))
    )


def parse(data: bytes, type_: type[T], what: str) -> T:
    """Return the Struct that JSON bytes hold.

    Raises:
        MalformedJson: no JSON, an unknown, missing or twice given field, or one of the wrong type.
    """
    try:
        value = msgspec.json.decode(data, type=type_)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedJson(f"{what}: {str(error)[:200]}") from None
    if msgspec.json.encode(value) != data:
        raise MalformedJson(f"{what}: not the compact JSON of its value, fields in CometBFT's order")
    return value


def write_time(time_ns: int) -> str:
    """Return RFC 3339 text in UTC with up to nine fraction digits, trailing zeros left out."""
    seconds, nanos = divmod(time_ns, _SECOND_NS)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
    fraction = f".{nanos:09d}".rstrip("0") if nanos else ""
    return f"{text}{fraction}Z"


def read_time(text: str, where: str) -> int:
    """Return nanoseconds since 1970 of text as `write_time` writes it.

    Raises:
        MalformedJson: another form, or no such time.
    """
    match = _TIME.match(text)
    if match is None:
        raise MalformedJson(f"{where}: {text[:40]!r} is no RFC 3339 time in UTC such as 2026-01-31T08:00:00.5Z")
    whole, fraction = match.groups()
    try:
        elapsed = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC) - _EPOCH
    except ValueError:
        raise MalformedJson(f"{where}: {text!r} is no date and time of the calendar") from None
    seconds = elapsed.days * 86_400 + elapsed.seconds
    time_ns = seconds * _SECOND_NS + int((fraction or "0").ljust(9, "0"))
    if write_time(time_ns) != text:
        raise MalformedJson(f"{where}: {text!r} has trailing zeros; expected {write_time(time_ns)!r}")
    return time_ns


def read_integer(text: str, where: str, low: int, high: int) -> int:
    """Return the number that a decimal string stands for, without sign, spaces or leading zeros.

    Raises:
        MalformedJson: another form or out of range.
    """
    if not text.isascii() or not text.isdigit() or len(text) > 20 or str(int(text)) != text:
        raise MalformedJson(f"{where}: {text[:40]!r} is no decimal number")
    value = int(text)
    if not low <= value <= high:
        raise MalformedJson(f"{where}: {value} is not between {low} and {high}")
    return value


def write_hex(value: bytes) -> str:
    """Return upper-case hex."""
    return value.hex().upper()


def read_hex(text: str, where: str, lengths: tuple[int, ...] | None) -> bytes:
    """Return the bytes of upper-case hex, of one of the `lengths` where given.

    Raises:
        MalformedJson: another form or length.
    """
    try:
        value = bytes.fromhex(text)
    except ValueError:
        raise MalformedJson(f"{where}: {text[:80]!r} is no upper-case hex") from None
    if write_hex(value) != text:
        raise MalformedJson(f"{where}: {text[:80]!r} is no upper-case hex")
    if lengths is not None and len(value) not in lengths:
        raise MalformedJson(f"{where}: {len(value)} bytes; expected {' or '.join(map(str, lengths))}")
    return value


def write_base64(value: bytes) -> str:
    """Return standard base64 with padding."""
    return base64.b64encode(value).decode()


def read_base64(text: str, where: str) -> bytes:
    """Return the bytes of standard base64, in its one canonical form.

    Raises:
        MalformedJson: another form.
    """
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedJson(f"{where}: no base64") from None
    if write_base64(value) != text:
        raise MalformedJson(f"{where}: base64 with stray bits or padding")
    return value


def read_public_key(value: KeyJson, where: str) -> bytes:
    """Return the 32 bytes of an Ed25519 key.

    Raises:
        MalformedJson: another type or length.
    """
    if value.type != PUBLIC_KEY_TYPE:
        raise MalformedJson(f"{where}: key type {value.type[:60]!r}; only {PUBLIC_KEY_TYPE} is accepted")
    key = read_base64(value.value, where)
    if len(key) != 32:
        raise MalformedJson(f"{where}: key of {len(key)} bytes; expected 32")
    return key


def _write_version(number: int) -> str:
    # CometBFT leaves a zero version out.
    return str(number) if number else ""


def _read_version(text: str, where: str) -> int:
    return read_integer(text, where, 1, 2**64 - 1) if text else 0


def _write_block_id(block_id: BlockID) -> _BlockID:
    return _BlockID(write_hex(block_id.hash), _Parts(block_id.parts.total, write_hex(block_id.parts.hash)))


def _read_block_id(value: _BlockID, where: str) -> BlockID:
    parts = PartSetHeader(value.parts.total, _read_hash(value.parts.hash, f"{where}.parts.hash"))
    return BlockID(_read_hash(value.hash, f"{where}.hash"), parts)


def _read_hash(text: str, where: str) -> bytes:
    return read_hex(text, where, _HASH_LENGTHS)


def _read_commit_sig(value: _CommitSig, where: str) -> CommitSig:
    flag = BlockIDFlag(value.block_id_flag)
    time_ns = read_time(value.timestamp, f"{where}.timestamp")
    if flag == BlockIDFlag.ABSENT:
        if value.validator_address or value.signature is not None or time_ns != ZERO_TIME_NS:
            raise MalformedJson(f"{where}: an absent signature has an address, a time or a signature")
        return CommitSig(flag, b"", time_ns, b"")
    if value.signature is None:
        raise MalformedJson(f"{where}: the signature is missing")
    signature = read_base64(value.signature, f"{where}.signature")
    if len(signature) != 64:
        raise MalformedJson(f"{where}: signature of {len(signature)} bytes; expected 64")
    address = read_hex(value.validator_address, f"{where}.validator_address", (ADDRESS_BYTES,))
    return CommitSig(flag, address, time_ns, signature)


def _read_validator(value: ValidatorJson, where: str) -> Validator:
    public_key = read_public_key(value.pub_key, f"{where}.pub_key")
    address = read_hex(value.address, f"{where}.address", (ADDRESS_BYTES,))
    if address != validator_address(public_key):
        raise MalformedJson(f"{where}: address {value.address} is not that of its key")
    return Validator(public_key, read_integer(value.voting_power, f"{where}.voting_power", 1, 2**63 - 1))
