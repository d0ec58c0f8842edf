"""Who runs a network: validators, whose votes decide its blocks, and nodes, which its nodes let in as peers.

A solo ledger has neither. What one block changes of the validators is one step: CometBFT carries it out as a whole, two
heights later. So a step is measured against the set at the start of the block that runs, read from committed state.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

from msgspec import Meta

from feiqian.core.encoding import Height, Record, TimeMs, Uint63, encode
from feiqian.core.errors import CoreError
from feiqian.core.hashing import VALIDATOR_ADDRESS_BYTES, validator_address
from feiqian.core.signatures import ED25519, PublicKey, check_key
from feiqian.ledger.context import Context
from feiqian.ledger.errors import (
    KeyTaken,
    LastValidator,
    MalformedValidator,
    NameTaken,
    NodeUnknown,
    NothingChanges,
    NoValidators,
    TooMuchPowerLeaves,
    TotalPowerExceeded,
    ValidatorUnknown,
)
from feiqian.ledger.events import NodeRegistered, NodeRemoved, ValidatorSet
from feiqian.ledger.members import require_active, require_member
from feiqian.ledger.records import NodeRecord, ValidatorRecord
from feiqian.state.tables import Changes, Overlay, Table

MAX_TOTAL_POWER = (2**63 - 1) // 8
"""CometBFT's MaxTotalVotingPower, types/validator_set.go: it panics beyond."""

WORK_PER_VALIDATOR = 100
"""Reading one record takes about 5 µs, as a posting does (`ledger.metering`)."""

DUPLICATE_VOTE = "duplicate-vote"
LIGHT_CLIENT_ATTACK = "light-client-attack"

VALIDATORS: Table[ValidatorRecord] = Table("ledger.validators", ValidatorRecord)
"""Key: the validator's Ed25519 key, 32 bytes."""

NODES: Table[NodeRecord] = Table("ledger.nodes", NodeRecord)
"""Key: the node's Ed25519 key, 32 bytes; CometBFT's node id is the hex of the first 20 bytes of its SHA-256."""

MisbehaviourKind = Annotated[str, Meta(pattern=r"\A(duplicate-vote|light-client-attack)\Z")]
ValidatorAddress = Annotated[bytes, Meta(min_length=VALIDATOR_ADDRESS_BYTES, max_length=VALIDATOR_ADDRESS_BYTES)]


class Misbehaviour(Record):
    """What consensus proved of a validator: at `height` it signed what none may sign. `power` was its own then."""

    kind: MisbehaviourKind
    validator: ValidatorAddress
    height: Height
    time_ms: TimeMs
    power: Uint63


class RunningValidator(NamedTuple):
    """A validator in the set, with its key."""

    public_key: bytes
    record: ValidatorRecord


def validator_set(state: Overlay) -> tuple[tuple[bytes, int], ...]:
    """Return (Ed25519 key, power) of each validator in key order; none on a solo ledger."""
    return tuple([(key, record.power) for key, record in VALIDATORS.scan(state)])


def validator_updates(before: Overlay, changes: Changes) -> tuple[tuple[bytes, int], ...]:
    """Return (key, power) of each validator whose power a block changed, in key order; power 0: removed.

    `before` is the state that the block ran on: CometBFT refuses to remove who is no validator.
    """
    updates: list[tuple[bytes, int]] = []
    for full_key in sorted([key for key in changes if key.startswith(VALIDATORS.prefix)]):
        data = changes[full_key]
        power = 0 if data is None else VALIDATORS.codec.decode_trusted(data).power
        former = VALIDATORS.get(before, full_key[len(VALIDATORS.prefix) :])
        if power != (0 if former is None else former.power):
            updates.append((full_key[len(VALIDATORS.prefix) :], power))
    return tuple(updates)


def validator_by_address(state: Overlay, address: bytes) -> RunningValidator | None:
    """Return the validator that CometBFT calls by this address, None where it is none now."""
    for key, record in VALIDATORS.scan(state):
        if validator_address(key) == address:
            return RunningValidator(key, record)
    return None


def validators_of(state: Overlay, member: str) -> tuple[bytes, ...]:
    """Return the keys of the validators that a member runs, in order."""
    return tuple([key for key, record in VALIDATORS.scan(state) if record.member == member])


def check_founding_validator(ctx: Context, public_key: bytes, record: ValidatorRecord) -> None:
    """Refuse a validator that may not be one from the first block on.

    Raises:
        MalformedKey, MalformedValidator, MemberUnknown, KeyTaken, NameTaken, TotalPowerExceeded: see each.
    """
    _check_form(public_key, record)
    require_member(ctx.state, record.member)
    if VALIDATORS.has(ctx.state, public_key):
        raise KeyTaken(f"validator {record.name!r}: another one has this key")
    _check_name(ctx, VALIDATORS, public_key, record)
    _check_total(sum([power for _, power in validator_set(ctx.state)]) + record.power)


def check_validator(ctx: Context, public_key: bytes, record: ValidatorRecord) -> None:
    """Refuse a validator that may not be added, or get this name and power, in this block.

    Raises:
        NoValidators, MalformedKey, MalformedValidator, MemberUnknown, MemberSuspended: see each.
        KeyTaken, NameTaken, NothingChanges, TotalPowerExceeded, TooMuchPowerLeaves: see each.
    """
    _require_network(ctx)
    _check_form(public_key, record)
    require_active(ctx.state, record.member)
    former = VALIDATORS.get(ctx.state, public_key)
    if former == record:
        raise NothingChanges(f"validator {record.name!r} has power {record.power} already")
    if former is not None and former.member != record.member:
        raise KeyTaken(f"the key is that of a validator of {former.member!r}; each member runs its own")
    _check_name(ctx, VALIDATORS, public_key, record)
    _check_step(ctx, {public_key: record.power})


def check_removal(ctx: Context, public_key: bytes) -> None:
    """Refuse to remove a validator in this block.

    Raises:
        NoValidators, ValidatorUnknown, LastValidator, TooMuchPowerLeaves: see each.
    """
    _require_network(ctx)
    if not VALIDATORS.has(ctx.state, public_key):
        raise ValidatorUnknown(f"no validator has key {public_key.hex()}")
    _check_step(ctx, {public_key: 0})


def _require_network(ctx: Context) -> None:
    if not validator_set(ctx.state):
        raise NoValidators(
            "one node alone runs this ledger: it has no validators to change; make a network of it first"
        )


def _check_step(ctx: Context, powers: Mapping[bytes, int]) -> None:
    """Refuse a set of validators that is empty, more than CometBFT counts, or too far from that of the block's start.

    `powers` are those that validators would get beside what the block has changed already; 0: none.
    """
    former = dict(validator_set(ctx.state.start()))
    after = {**dict(validator_set(ctx.state)), **powers}
    ctx.work += WORK_PER_VALIDATOR * (len(former) + len(after))
    total = sum(after.values())
    if not total:
        raise LastValidator("without it nobody would decide blocks; add another validator first")
    _check_total(total)
    former_total = sum(former.values())
    kept = sum([min(power, after.get(key, 0)) for key, power in former.items()])
    if kept * 3 < former_total * 2:
        raise TooMuchPowerLeaves(
            f"validators that stay would keep {kept} of {former_total} in this block; at least two thirds: take several"
        )


def put_validator(ctx: Context, public_key: bytes, record: ValidatorRecord) -> None:
    """Write a validator that was checked."""
    former = VALIDATORS.get(ctx.state, public_key)
    VALIDATORS.put(ctx.state, public_key, record)
    power_before = 0 if former is None else former.power
    ctx.emit(ValidatorSet(public_key, record.member, record.name, power_before, record.power))


def remove_validator(ctx: Context, public_key: bytes) -> None:
    """Remove a validator; that it may go was checked."""
    former = VALIDATORS.get(ctx.state, public_key)
    assert former is not None, "`check_removal` has found it"
    VALIDATORS.delete(ctx.state, public_key)
    ctx.emit(ValidatorSet(public_key, former.member, former.name, former.power, 0))


def check_node(ctx: Context, public_key: bytes, record: NodeRecord) -> None:
    """Refuse a node that may not be registered.

    Raises:
        NoValidators, MalformedKey, MalformedValidator, MemberUnknown, MemberSuspended, KeyTaken, NameTaken: see each.
    """
    _require_network(ctx)
    _check_form(public_key, record)
    require_active(ctx.state, record.member)
    if NODES.has(ctx.state, public_key):
        raise KeyTaken("a node with this key is registered already")
    _check_name(ctx, NODES, public_key, record)


def put_node(ctx: Context, public_key: bytes, record: NodeRecord) -> None:
    """Register a node that was checked."""
    NODES.put(ctx.state, public_key, record)
    ctx.emit(NodeRegistered(public_key, record.member, record.name))


def check_node_removal(ctx: Context, public_key: bytes) -> None:
    """Refuse to remove a node that is not registered.

    Raises:
        NodeUnknown: no node with this key is registered.
    """
    if not NODES.has(ctx.state, public_key):
        raise NodeUnknown(f"no node has key {public_key.hex()}")


def remove_node(ctx: Context, public_key: bytes) -> None:
    """Remove a node that is registered."""
    former = NODES.get(ctx.state, public_key)
    assert former is not None, "`check_node_removal` has found it"
    NODES.delete(ctx.state, public_key)
    ctx.emit(NodeRemoved(public_key, former.member, former.name))


def nodes_of(state: Overlay, member: str) -> tuple[bytes, ...]:
    """Return the keys of a member's registered nodes, in order."""
    return tuple([key for key, record in NODES.scan(state) if record.member == member])


def _check_form(public_key: bytes, record: ValidatorRecord | NodeRecord) -> None:
    check_key(PublicKey(ED25519, public_key))
    codec = VALIDATORS.codec if isinstance(record, ValidatorRecord) else NODES.codec
    try:
        codec.decode(encode(record))
    except CoreError as error:
        raise MalformedValidator(f"{record.name[:40]!r}: {error.message}") from None


def _check_name(ctx: Context, table: Table[Any], public_key: bytes, record: ValidatorRecord | NodeRecord) -> None:
    """Refuse a name that people would take for another's."""
    for key, other in table.scan(ctx.state):
        ctx.work += WORK_PER_VALIDATOR
        if other.name == record.name and key != public_key:
            raise NameTaken(f"another one is called {record.name!r}")


def _check_total(total: int) -> None:
    if total > MAX_TOTAL_POWER:
        raise TotalPowerExceeded(f"powers add up to {total}; at most {MAX_TOTAL_POWER} are counted")
