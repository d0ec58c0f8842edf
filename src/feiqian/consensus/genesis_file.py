"""The genesis file: CometBFT's JSON, whose `app_state` is the compiled consortium.

What is read is checked as CometBFT would check it, and further: only Ed25519 validators, no unknown or repeated field,
no fraction in the application's state.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec

from feiqian.consensus import comet_json, headers
from feiqian.consensus.comet_json import KeyJson, MalformedJson
from feiqian.consensus.headers import ZERO_TIME_NS, Validator, ValidatorSet
from feiqian.core.transactions import ChainId

MAX_BLOCK_BYTES = 104_857_600
"""CometBFT's own bound on a block, types/params.go."""

_NS_PER_MS = 1_000_000
_INT64_MAX = 2**63 - 1


class InvalidGenesis(Exception):
    """A genesis file that no ledger can start from; the message names the field and what is accepted."""


class ConsensusParams(NamedTuple):
    """CometBFT's consensus parameters. Headers commit to the first two only; sizes in bytes, ages in blocks and ns."""

    block_max_bytes: int
    block_max_gas: int = -1
    evidence_max_age_blocks: int = 100_000
    evidence_max_age_ns: int = 48 * 3600 * 1_000_000_000
    evidence_max_bytes: int = 1_048_576
    pub_key_types: tuple[str, ...] = ("ed25519",)
    app_version: int = 0
    vote_extensions_enable_height: int = 0
    authority: str = ""

    def hash(self) -> bytes:
        """Return what headers call `consensus_hash`."""
        return headers.consensus_hash(self.block_max_bytes, self.block_max_gas)


class GenesisValidator(NamedTuple):
    """A validator of the first block: Ed25519 key, voting power, a name for people."""

    public_key: bytes
    power: int
    name: str


class Genesis(NamedTuple):
    """What a ledger starts from. `time_ns` is `ZERO_TIME_NS` until the first start writes it."""

    time_ns: int
    chain_id: str
    initial_height: int
    params: ConsensusParams
    validators: tuple[GenesisValidator, ...]
    app_hash: bytes
    app_state: Mapping[str, Any]

    @property
    def is_started(self) -> bool:
        """Whether the time of the first block has been written."""
        return self.time_ns != ZERO_TIME_NS

    @property
    def time_ms(self) -> int:
        """The genesis time in whole milliseconds since 1970, the time of the first block."""
        return self.time_ns // _NS_PER_MS

    def started_at(self, time_ms: int) -> "Genesis":
        """Return this genesis with the time of the first block set."""
        return self._replace(time_ns=time_ms * _NS_PER_MS)

    def validator_set(self) -> ValidatorSet:
        """Return the set that decides the first block."""
        return ValidatorSet.ordered([Validator(validator.public_key, validator.power) for validator in self.validators])

    def digest(self) -> bytes:
        """Return SHA-256 of the file as `write_genesis` writes it; names a genesis to people."""
        return hashlib.sha256(write_genesis(self)).digest()


def read_genesis(data: bytes) -> Genesis:
    """Return the genesis that a file's bytes hold, checked.

    Raises:
        InvalidGenesis: no JSON, a field missing, unknown, repeated, malformed, or a value that no ledger starts from.
    """
    try:
        plain = json.loads(
            data, object_pairs_hook=_without_repeats, parse_float=_refuse_fraction, parse_constant=_refuse_fraction
        )
        value = msgspec.convert(plain, _GenesisJson, strict=True)
        genesis = _from_json(value)
        # An escaped half of a surrogate pair is text that no file can hold.
        write_genesis(genesis)
    except (MalformedJson, msgspec.ValidationError) as error:
        raise InvalidGenesis(f"genesis file: {error}") from None
    except UnicodeDecodeError:
        raise InvalidGenesis("genesis file: no JSON: not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise InvalidGenesis(f"genesis file: no JSON: {str(error)[:200]}") from None
    check_genesis(genesis)
    return genesis


def write_genesis(genesis: Genesis) -> bytes:
    """Return the bytes of the genesis file, indented for people, fields in CometBFT's order."""
    plain = msgspec.to_builtins(_to_json(genesis))
    return (json.dumps(plain, indent=2, ensure_ascii=False) + "\n").encode()


def load_genesis(path: Path) -> Genesis:
    """Read and check a genesis file.

    Raises:
        InvalidGenesis: see `read_genesis`.
        OSError: the file cannot be read.
    """
    return read_genesis(path.read_bytes())


def save_genesis(path: Path, genesis: Genesis) -> None:
    """Check a genesis and write its file at once and whole; a file that stood there is replaced.

    Raises:
        InvalidGenesis: see `check_genesis`.
        OSError: the file cannot be written.
    """
    check_genesis(genesis)
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
        file.write(write_genesis(genesis))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def check_genesis(genesis: Genesis) -> None:
    """Refuse a genesis that no ledger can start from.

    Raises:
        InvalidGenesis: the message names the field and what is accepted.
    """
    _check_chain_id(genesis.chain_id)
    if not 1 <= genesis.initial_height <= _INT64_MAX:
        raise InvalidGenesis(f"initial_height {genesis.initial_height} is not between 1 and 2^63 - 1")
    if genesis.is_started and genesis.time_ns < 0:
        raise InvalidGenesis("genesis_time is before 1970")
    _check_params(genesis.params)
    if not genesis.validators:
        raise InvalidGenesis("validators: at least one is needed")
    keys = [validator.public_key for validator in genesis.validators]
    if len(set(keys)) != len(keys):
        raise InvalidGenesis("validators: a key stands twice")
    if any(validator.power < 1 for validator in genesis.validators):
        raise InvalidGenesis("validators: each power is at least 1")
    if genesis.validator_set().total_power > headers.MAX_TOTAL_POWER:
        raise InvalidGenesis(f"validators: total power is over {headers.MAX_TOTAL_POWER}")


def _check_chain_id(chain_id: str) -> None:
    try:
        msgspec.convert(chain_id, ChainId)
    except msgspec.ValidationError:
        raise InvalidGenesis(
            f"chain_id {chain_id[:60]!r}: 1 to 50 lower-case letters, digits and hyphens, no hyphen first"
        ) from None


def _check_params(params: ConsensusParams) -> None:
    limit = MAX_BLOCK_BYTES if params.block_max_bytes == -1 else params.block_max_bytes
    if not 1 <= limit <= MAX_BLOCK_BYTES:
        raise InvalidGenesis(f"block.max_bytes {params.block_max_bytes} is not between 1 and {MAX_BLOCK_BYTES}, or -1")
    if params.block_max_gas < -1:
        raise InvalidGenesis(f"block.max_gas {params.block_max_gas} is below -1")
    if params.evidence_max_age_blocks < 1 or params.evidence_max_age_ns < 1:
        raise InvalidGenesis("evidence: both ages are at least 1")
    if not 0 <= params.evidence_max_bytes <= limit:
        raise InvalidGenesis(f"evidence.max_bytes {params.evidence_max_bytes} is not between 0 and {limit}")
    if params.pub_key_types != ("ed25519",):
        raise InvalidGenesis("validator.pub_key_types: only ed25519 is accepted")
    if params.vote_extensions_enable_height != 0:
        raise InvalidGenesis("abci.vote_extensions_enable_height: vote extensions are not used; expected 0")
    if len(params.authority) > 256:
        raise InvalidGenesis("authority.authority has more than 256 characters")


class _BlockJson(msgspec.Struct, forbid_unknown_fields=True):
    max_bytes: str
    max_gas: str


class _EvidenceJson(msgspec.Struct, forbid_unknown_fields=True):
    max_age_num_blocks: str
    max_age_duration: str
    max_bytes: str


class _ValidatorParamsJson(msgspec.Struct, forbid_unknown_fields=True):
    pub_key_types: tuple[str, ...]


class _VersionJson(msgspec.Struct, forbid_unknown_fields=True):
    app: str


class _AbciJson(msgspec.Struct, forbid_unknown_fields=True):
    vote_extensions_enable_height: str


class _AuthorityJson(msgspec.Struct, forbid_unknown_fields=True):
    authority: str


class _ParamsJson(msgspec.Struct, forbid_unknown_fields=True):
    block: _BlockJson
    evidence: _EvidenceJson
    validator: _ValidatorParamsJson
    version: _VersionJson
    abci: _AbciJson
    authority: _AuthorityJson


class _GenesisValidatorJson(msgspec.Struct, forbid_unknown_fields=True):
    address: str
    pub_key: KeyJson
    power: str
    name: str


class _GenesisJson(msgspec.Struct, forbid_unknown_fields=True):
    genesis_time: str
    chain_id: str
    initial_height: str
    consensus_params: _ParamsJson
    validators: tuple[_GenesisValidatorJson, ...]
    app_hash: str
    app_state: dict[str, Any]


def _from_json(value: _GenesisJson) -> Genesis:
    return Genesis(
        comet_json.read_time(value.genesis_time, "genesis_time"),
        value.chain_id,
        comet_json.read_integer(value.initial_height, "initial_height", 1, _INT64_MAX),
        _params_from_json(value.consensus_params),
        tuple(_validator_from_json(validator, at) for at, validator in enumerate(value.validators)),
        comet_json.read_hex(value.app_hash, "app_hash", (0, 32)),
        value.app_state,
    )


def _params_from_json(value: _ParamsJson) -> ConsensusParams:
    def number(text: str, where: str) -> int:
        return -1 if text == "-1" else comet_json.read_integer(text, where, 0, _INT64_MAX)

    return ConsensusParams(
        number(value.block.max_bytes, "block.max_bytes"),
        number(value.block.max_gas, "block.max_gas"),
        number(value.evidence.max_age_num_blocks, "evidence.max_age_num_blocks"),
        number(value.evidence.max_age_duration, "evidence.max_age_duration"),
        number(value.evidence.max_bytes, "evidence.max_bytes"),
        value.validator.pub_key_types,
        comet_json.read_integer(value.version.app, "version.app", 0, 2**64 - 1),
        number(value.abci.vote_extensions_enable_height, "abci.vote_extensions_enable_height"),
        value.authority.authority,
    )


def _validator_from_json(value: _GenesisValidatorJson, at: int) -> GenesisValidator:
    where = f"validators[{at}]"
    public_key = comet_json.read_public_key(value.pub_key, f"{where}.pub_key")
    if comet_json.read_hex(value.address, f"{where}.address", None) != headers.validator_address(public_key):
        raise MalformedJson(f"{where}.address is not that of its key")
    power = comet_json.read_integer(value.power, f"{where}.power", 0, _INT64_MAX)
    return GenesisValidator(public_key, power, value.name)


def _to_json(genesis: Genesis) -> _GenesisJson:
    params = genesis.params
    return _GenesisJson(
        comet_json.write_time(genesis.time_ns),
        genesis.chain_id,
        str(genesis.initial_height),
        _ParamsJson(
            _BlockJson(str(params.block_max_bytes), str(params.block_max_gas)),
            _EvidenceJson(
                str(params.evidence_max_age_blocks), str(params.evidence_max_age_ns), str(params.evidence_max_bytes)
            ),
            _ValidatorParamsJson(params.pub_key_types),
            _VersionJson(str(params.app_version)),
            _AbciJson(str(params.vote_extensions_enable_height)),
            _AuthorityJson(params.authority),
        ),
        tuple(_validator_to_json(validator) for validator in genesis.validators),
        comet_json.write_hex(genesis.app_hash),
        dict(genesis.app_state),
    )


def _validator_to_json(validator: GenesisValidator) -> _GenesisValidatorJson:
    return _GenesisValidatorJson(
        comet_json.write_hex(headers.validator_address(validator.public_key)),
        KeyJson(comet_json.PUBLIC_KEY_TYPE, comet_json.write_base64(validator.public_key)),
        str(validator.power),
        validator.name,
    )


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidGenesis("genesis file: a field stands twice in one object")
    return found


def _refuse_fraction(text: str) -> NoReturn:
    raise InvalidGenesis(f"genesis file: {text[:40]} is no whole number; nothing here has a fraction")
