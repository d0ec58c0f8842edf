"""Compiles a readable `consortium.toml` into the genesis app state, and that into the ledger's first records."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from stdnum import bic as bic_number
from stdnum import lei as lei_number
from stdnum.cn import uscc as uscc_number

from feiqian.core import addresses
from feiqian.core.errors import InvalidTransaction
from feiqian.core.hashing import Domain
from feiqian.core.signatures import ED25519, SCHEMES, PublicKey, check_key
from feiqian.execution.registry import Registry, RegistryDispatcher
from feiqian.execution.upgrades import APP_VERSION
from feiqian.ledger.accounts import address_of, administration_of, open_account, set_administration
from feiqian.ledger.context import BlockInfo, Context, Event
from feiqian.ledger.members import add_member
from feiqian.ledger.parameters import set_parameters
from feiqian.ledger.records import (
    Member,
    NodeName,
    NodeRecord,
    Parameters,
    Policy,
    PolicyKey,
    PolicyRule,
    Power,
    RoleThreshold,
    ValidatorRecord,
)
from feiqian.ledger.validators import check_founding_validator, check_node, put_node, put_validator
from feiqian.state.replay import REPLAY_DIGESTS
from feiqian.state.tables import BlockState, Changes, Overlay, Reader

_GENESIS_ORIGIN = Domain("feiqian/genesis/v1")
_ACCOUNT_SALT = Domain("feiqian/genesis-account-salt/v1")
_RESERVED = ("chain", "parameters", "members", "accounts", "validators", "nodes")
SALT_BYTES = 16


class ConsortiumError(ValueError):
    """A `consortium.toml` that cannot become a ledger; the message names the entry and what would be accepted."""


class MemberEntry(msgspec.Struct, forbid_unknown_fields=True):
    """`[[members]]`: one founding institution. `vault_key`: `"x25519:<hex>"` or `"key:NAME"`.

    `administration`: `"@name"` of the one of its accounts that speaks for it, unless that is the first one listed.
    """

    id: str
    legal_name: str
    roles: list[str]
    lei: str | None = None
    uscc: str | None = None
    bic: str | None = None
    vault_key: str | None = None
    administration: str | None = None


class KeyEntry(msgspec.Struct, forbid_unknown_fields=True):
    """A key of an account: `"ed25519:<hex>"`, or `"key:NAME"` for a key file that the caller resolves."""

    key: str
    role: str = "owner"
    weight: int = 1


class NeedEntry(msgspec.Struct, forbid_unknown_fields=True):
    """How much weight of one role a rule needs."""

    role: str = "owner"
    weight: int = 1


class RuleEntry(msgspec.Struct, forbid_unknown_fields=True):
    """A rule of an account's policy; the first that matches kind, asset and amount decides."""

    kinds: list[str] = msgspec.field(default_factory=lambda: ["*"])
    needs: list[NeedEntry] = msgspec.field(default_factory=lambda: [NeedEntry()])
    asset: str | None = None
    up_to_minor: int | None = None


class AccountEntry(msgspec.Struct, forbid_unknown_fields=True):
    """`[[accounts]]`: `name` is how this file speaks of it elsewhere, as `"@name"`."""

    name: str
    member: str
    keys: list[KeyEntry]
    rules: list[RuleEntry] = msgspec.field(default_factory=lambda: [RuleEntry()])


class ValidatorEntry(msgspec.Struct, forbid_unknown_fields=True):
    """`[[validators]]`: a node whose vote counts, `public_key` `"ed25519:<hex>"`; a solo ledger has none here."""

    name: NodeName
    member: str
    public_key: str
    power: Power = 1


class NodeEntry(msgspec.Struct, forbid_unknown_fields=True):
    """`[[nodes]]`: a node that the network's nodes let in as a peer; `public_key` as a validator's."""

    name: NodeName
    member: str
    public_key: str


class ChainEntry(msgspec.Struct, forbid_unknown_fields=True):
    """`[chain]`."""

    id: str


class Consortium(msgspec.Struct):
    """What every consortium file has; each further table belongs to the module of its name."""

    chain: ChainEntry
    members: list[MemberEntry]
    accounts: list[AccountEntry]
    parameters: dict[str, int] = {}
    validators: list[ValidatorEntry] = []
    nodes: list[NodeEntry] = []


KeyResolver = Callable[[str], str]
"""Turns the NAME of `"key:NAME"` into `"scheme:hex"`."""


def compile_consortium(path: Path, registry: Registry, resolve_key: KeyResolver | None = None) -> dict[str, Any]:
    """Read a consortium file into the genesis app state: plain JSON values, every key explicit.

    Raises:
        ConsortiumError: not TOML, an unknown field or table, a wrong identifier, a key that does not resolve,
            or anything that the ledger's own rules refuse.
    """
    return compile_document(read_consortium(path, registry), registry, resolve_key)


def read_consortium(path: Path, registry: Registry) -> dict[str, Any]:
    """Return what a consortium file says, nothing of it checked but the names of its tables.

    Raises:
        ConsortiumError: it cannot be read, is not TOML, or has a table that belongs to nobody.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConsortiumError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConsortiumError(f"{path.name} is not UTF-8 text, as a consortium file is") from None
    except tomllib.TOMLDecodeError as error:
        raise ConsortiumError(f"{path.name} is not TOML: {error}") from None
    unknown = set(document) - set(_RESERVED) - {module.name for module in registry.modules}
    if unknown:
        raise ConsortiumError(f"{path.name}: no module is called {sorted(unknown)[0]!r}")
    return document


def compile_document(
    document: dict[str, Any], registry: Registry, resolve_key: KeyResolver | None = None
) -> dict[str, Any]:
    """Return the genesis app state that a consortium file's document becomes; its keys are made explicit in place.

    Raises:
        ConsortiumError: see `compile_consortium`.
    """
    for account in document.get("accounts", []):
        for key in account.get("keys", []):
            key["key"] = _explicit_key(key.get("key", ""), resolve_key)
    for member in document.get("members", []):
        if "vault_key" in member:
            member["vault_key"] = _explicit_key(member["vault_key"], resolve_key)
    app_state = {"app_version": APP_VERSION, **document}
    genesis_changes(registry, app_state, time_ms=0, height=0)
    return app_state


def genesis_changes(registry: Registry, app_state: Mapping[str, Any], time_ms: int, height: int) -> Changes:
    """Return the ledger's first records: state as of `height`, one below the first block.

    Raises:
        ConsortiumError: see `compile_consortium`.
    """
    return _run_genesis(registry, app_state, time_ms, height)[0]


def genesis_events(registry: Registry, app_state: Mapping[str, Any], time_ms: int, height: int) -> list[Event]:
    """Return what the first records came with: what an index that follows events begins from.

    Raises:
        ConsortiumError: see `compile_consortium`.
    """
    return _run_genesis(registry, app_state, time_ms, height)[1]


def _run_genesis(
    registry: Registry, app_state: Mapping[str, Any], time_ms: int, height: int
) -> tuple[Changes, list[Event]]:
    consortium = _parse(app_state)
    state = BlockState(_Nothing())
    block = BlockInfo(consortium.chain.id, height, time_ms)
    origin = _GENESIS_ORIGIN.hash(msgspec.json.encode(app_state, order="deterministic"))
    overlay = Overlay(state)
    ctx = Context(overlay, block, origin, None, frozenset(), RegistryDispatcher(registry))
    try:
        _write_parameters(ctx, consortium.parameters)
        for entry in consortium.members:
            add_member(ctx, entry.id, _member(entry))
        names = {entry.name: _open(ctx, entry) for entry in consortium.accounts}
        for entry in consortium.members:
            _hand_administration(ctx, entry, names)
        _write_network(ctx, consortium)
        for module in registry.modules:
            section = {} if module.name in _RESERVED else _resolve_names(app_state.get(module.name, {}), names)
            if module.genesis is not None:
                module.genesis(ctx, section)
            elif section:
                raise ConsortiumError(f"module {module.name!r} takes no settings at genesis")
    except InvalidTransaction as refusal:
        raise ConsortiumError(f"{refusal.codespace}: {refusal.message}") from None
    overlay.keep()
    return state.changes(), ctx.events


def hand_over_changes(
    registry: Registry, committed: Reader, app_state: Mapping[str, Any], time_ms: int, height: int
) -> Changes:
    """Return what makes the beginning of a network of a solo ledger's state: its validators and nodes come.

    Ids used up go: whoever signs for the network signs another chain's id, so none of them can come again.

    Raises:
        ConsortiumError: the ledger's rules refuse a validator or node.
    """
    consortium = _parse(app_state)
    state = BlockState(committed)
    overlay = Overlay(state)
    block = BlockInfo(consortium.chain.id, height, time_ms)
    ctx = Context(overlay, block, height.to_bytes(32, "big"), None, frozenset(), RegistryDispatcher(registry))
    try:
        _write_network(ctx, consortium)
    except InvalidTransaction as refusal:
        raise ConsortiumError(f"{refusal.codespace}: {refusal.message}") from None
    for key, _ in list(REPLAY_DIGESTS.scan(overlay)):
        REPLAY_DIGESTS.delete(overlay, key)
    overlay.keep()
    return state.changes()


def account_names(app_state: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the address of each account that the consortium file names."""
    return {entry.name: _address(entry) for entry in _parse(app_state).accounts}


def parse_key(text: str) -> PublicKey:
    """Return the key that `"ed25519:<hex>"`, `"p256:<hex>"` or `"sm2:<hex>"` names.

    Raises:
        ConsortiumError: another form.
        MalformedKey: the scheme refuses it.
    """
    scheme_name, _, digits = text.partition(":")
    schemes = {scheme.name.lower().replace("-", ""): number for number, scheme in SCHEMES.items()}
    try:
        key = PublicKey(schemes[scheme_name], bytes.fromhex(digits))
    except (KeyError, ValueError):
        raise ConsortiumError(f"key {text[:80]!r}; write one of {sorted(schemes)}, a colon and hex digits") from None
    check_key(key)
    return key


class _Nothing:
    """Committed state before there is any."""

    def get(self, key: bytes, /) -> None:
        return None

    def scan(self, prefix: bytes, after: bytes = b""):
        return iter(())


def _parse(app_state: Mapping[str, Any]) -> Consortium:
    try:
        return msgspec.convert(app_state, Consortium)
    except msgspec.ValidationError as error:
        raise ConsortiumError(f"consortium: {error}") from None


def _explicit_key(text: str, resolve_key: KeyResolver | None) -> str:
    if not text.startswith("key:"):
        return text
    if resolve_key is None:
        raise ConsortiumError(f"{text!r} names a key file; say where key files lie (--keys DIR)")
    return resolve_key(text.removeprefix("key:"))


def _write_parameters(ctx: Context, overrides: Mapping[str, int]) -> None:
    try:
        parameters = msgspec.convert({**_by_name(Parameters()), **overrides}, _NAMED_PARAMETERS)
    except msgspec.ValidationError as error:
        raise ConsortiumError(f"[parameters]: {error}") from None
    set_parameters(ctx, Parameters(*(getattr(parameters, name) for name in Parameters.__struct_fields__)))


def _by_name(parameters: Parameters) -> dict[str, int]:
    return {name: getattr(parameters, name) for name in Parameters.__struct_fields__}


_NAMED_PARAMETERS = msgspec.defstruct(
    "NamedParameters",
    [(field.name, field.type) for field in msgspec.structs.fields(Parameters)],
    forbid_unknown_fields=True,
)


def _member(entry: MemberEntry) -> Member:
    checks: Sequence[tuple[str, str | None, Callable[[str], bool]]] = (
        ("LEI", entry.lei, lei_number.is_valid),
        ("USCC", entry.uscc, uscc_number.is_valid),
        ("BIC", entry.bic, bic_number.is_valid),
    )
    for name, value, is_valid in checks:
        if value is not None and not is_valid(value):
            raise ConsortiumError(f"member {entry.id!r}: {value!r} is no valid {name} (length or check digits)")
    vault_key = None if entry.vault_key is None else _vault_key(entry)
    return Member(
        legal_name=entry.legal_name,
        lei=entry.lei,
        uscc=entry.uscc,
        bic=entry.bic,
        roles=tuple(sorted(entry.roles)),
        vault_key=vault_key,
        is_suspended=False,
    )


def _vault_key(entry: MemberEntry) -> bytes:
    text = entry.vault_key or ""
    try:
        key = bytes.fromhex(text.removeprefix("x25519:"))
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ConsortiumError(f'member {entry.id!r}: vault_key is "x25519:<64 hex digits>" or "key:NAME"')
    return key


def _policy(entry: AccountEntry) -> Policy:
    keys = [PolicyKey(parse_key(key.key), key.weight, key.role) for key in entry.keys]
    rules = [
        PolicyRule(
            tuple(rule.kinds),
            rule.asset,
            rule.up_to_minor,
            tuple(RoleThreshold(need.role, need.weight) for need in rule.needs),
        )
        for rule in entry.rules
    ]
    return Policy(tuple(sorted(keys, key=lambda key: (key.key.scheme, key.key.data))), tuple(rules))


def _open(ctx: Context, entry: AccountEntry) -> bytes:
    return open_account(ctx, entry.member, _policy(entry), _salt(entry))


def _hand_administration(ctx: Context, entry: MemberEntry, names: Mapping[str, bytes]) -> None:
    if entry.administration is None:
        return
    address = _resolve_names(entry.administration, names)
    if not isinstance(address, bytes):
        raise ConsortiumError(f'member {entry.id!r}: administration is "@name" of an account, not {address!r}')
    if administration_of(ctx.state, entry.id) != address:
        set_administration(ctx, entry.id, address)


def _write_network(ctx: Context, consortium: Consortium) -> None:
    for entry in consortium.validators:
        record = ValidatorRecord(entry.member, entry.name, entry.power)
        check_founding_validator(ctx, _raw_key(entry), record)
        put_validator(ctx, _raw_key(entry), record)
    for entry in consortium.nodes:
        record = NodeRecord(entry.member, entry.name)
        check_node(ctx, _raw_key(entry), record)
        put_node(ctx, _raw_key(entry), record)


def _raw_key(entry: ValidatorEntry | NodeEntry) -> bytes:
    key = parse_key(entry.public_key)
    if key.scheme != ED25519:
        raise ConsortiumError(f"{entry.name!r}: CometBFT's keys are Ed25519 here, ed25519:<hex>")
    return key.data


def _salt(entry: AccountEntry) -> bytes:
    return _ACCOUNT_SALT.hash(entry.name.encode())[:SALT_BYTES]


def _address(entry: AccountEntry) -> bytes:
    return address_of(entry.member, _policy(entry), _salt(entry))


def _resolve_names(value: Any, names: Mapping[str, bytes]) -> Any:
    """Replace each string `"@name"` by the 32-byte address of that account, and `fq1…` text by its address."""
    if isinstance(value, Mapping):
        return {key: _resolve_names(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolve_names(inner, names) for inner in value]
    if isinstance(value, str) and value.startswith("@"):
        if value[1:] not in names:
            raise ConsortiumError(f"{value!r} names no entry of [[accounts]]")
        return names[value[1:]]
    if isinstance(value, str) and value.startswith("fq1"):
        return addresses.from_text(value)
    return value
