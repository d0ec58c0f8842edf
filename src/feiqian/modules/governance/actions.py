"""What each action needs and does. `check` refuses before anything is written; `carry_out` follows it at once."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from feiqian.core.addresses import to_text
from feiqian.core.encoding import Record
from feiqian.core.hashing import validator_address
from feiqian.ledger.accounts import (
    administration_of,
    check_administration,
    open_account,
    require_account,
    set_administration,
    set_frozen,
)
from feiqian.ledger.authority import check_policy
from feiqian.ledger.context import Context
from feiqian.ledger.errors import LedgerError, MemberExists
from feiqian.ledger.members import MEMBERS, add_member, require_member, set_member
from feiqian.ledger.parameters import check_parameters, get_parameters, set_parameters
from feiqian.ledger.records import BY_GOVERNANCE, Member, NodeRecord, Parameters, ValidatorRecord
from feiqian.ledger.upgrades import UPGRADE_KEY, UPGRADES, Upgrade, scheduled_upgrade
from feiqian.ledger.validators import (
    VALIDATORS,
    check_node,
    check_node_removal,
    check_removal,
    check_validator,
    nodes_of,
    put_node,
    put_validator,
    remove_node,
    remove_validator,
    validators_of,
)
from feiqian.modules.governance.errors import (
    AdministrationUnfit,
    AlreadyLeft,
    AlreadySuspended,
    FrozenAlready,
    GovernorsAdministration,
    MemberRunsValidator,
    NotFrozenByVote,
    NotSuspended,
    NoUpgradeScheduled,
    ParameterOutOfRange,
    ParametersOutOfOrder,
    ParameterUnknown,
    RolesOutOfOrder,
    TooFewGovernors,
    UpgradeAlreadyScheduled,
    UpgradeTooSoon,
    UpgradeVersionWrong,
    ValidatorMisbehavedBefore,
)
from feiqian.modules.governance.events import (
    MemberLeft,
    RulesSet,
    UpgradeCancelled,
    UpgradeScheduled,
    ValidatorLeftInPlace,
)
from feiqian.modules.governance.messages import (
    AdmitMember,
    CancelUpgrade,
    ChangeMember,
    FreezeAccount,
    Identity,
    RegisterNode,
    ReinstateMember,
    ReleaseAccount,
    RemoveMember,
    RemoveNode,
    RemoveValidator,
    ScheduleUpgrade,
    SetParameters,
    SetValidator,
    SuspendMember,
)
from feiqian.modules.governance.state import (
    DEPARTURES,
    GOVERNOR,
    LEDGER_BOUNDS,
    RULES,
    RULES_BOUNDS,
    RULES_KEY,
    UPGRADE_NOTICE_BLOCKS,
    Departure,
    Rules,
    is_governor,
    misbehaved,
)
from feiqian.state.tables import Overlay

WORK_PER_MEMBER = 100
"""Reading one member's record takes about 5 µs, as a posting does (`ledger.metering`)."""


def check(ctx: Context, action: Record) -> None:
    """Refuse an action that could not be carried out now.

    Raises:
        InvalidTransaction: the rule that it would break.
    """
    _ACTIONS[type(action)].check(ctx, action)


def carry_out(ctx: Context, action: Record) -> None:
    """Do what the action says; `check` has just passed."""
    _ACTIONS[type(action)].carry_out(ctx, action)


def governors_in_office(ctx: Context) -> tuple[str, ...]:
    """Return the ids of the members that govern now, in order, and count the work of reading all members."""
    found: list[str] = []
    for key, member in MEMBERS.scan(ctx.state):
        ctx.work += WORK_PER_MEMBER
        if is_governor(member):
            found.append(key.decode())
    return tuple(found)


def set_rules(ctx: Context, rules: Rules) -> None:
    """Let proposals be decided by these rules from here on; they were checked."""
    RULES.put(ctx.state, RULES_KEY, rules)
    ctx.emit(RulesSet(rules.approvals_needed, rules.voting_days))


def current_rules(state: Overlay) -> Rules:
    """Return the rules of a ledger that has governors."""
    rules = RULES.get(state, RULES_KEY)
    assert rules is not None, "a ledger with governors has rules since its genesis"
    return rules


def check_rules(rules: Rules, governor_count: int) -> None:
    """Refuse rules by which nothing could be decided.

    Raises:
        ParameterOutOfRange, TooFewGovernors: see each.
    """
    for name, bounds in RULES_BOUNDS.items():
        _check_bounds(name, getattr(rules, name), bounds)
    if rules.approvals_needed > governor_count:
        raise TooFewGovernors(f"{rules.approvals_needed} approvals needed of {governor_count} active governors")


def _check_admit(ctx: Context, action: AdmitMember) -> None:
    if MEMBERS.get(ctx.state, action.member.encode()) is not None:
        raise MemberExists(f"member {action.member!r} was admitted before; ids are not given twice")
    _check_roles(action.identity)
    check_policy(action.policy)


def _admit(ctx: Context, action: AdmitMember) -> None:
    add_member(ctx, action.member, _record(action.identity, is_suspended=False))
    open_account(ctx, action.member, action.policy, action.salt)


def _check_remove(ctx: Context, action: RemoveMember) -> None:
    member = _require_present(ctx, action.member)
    if validators_of(ctx.state, action.member):
        raise MemberRunsValidator(f"member {action.member!r} runs a validator; remove that first")
    _check_without(ctx, action.member, member)


def _remove(ctx: Context, action: RemoveMember) -> None:
    member = require_member(ctx.state, action.member)
    for public_key in nodes_of(ctx.state, action.member):
        remove_node(ctx, public_key)
    set_member(ctx, action.member, msgspec.structs.replace(member, roles=(), is_suspended=True))
    DEPARTURES.put(ctx.state, action.member.encode(), Departure(ctx.block.time_ms, ctx.block.height))
    ctx.emit(MemberLeft(action.member))


def _check_suspend(ctx: Context, action: SuspendMember) -> None:
    member = _require_present(ctx, action.member)
    if member.is_suspended:
        raise AlreadySuspended(f"member {action.member!r} is suspended already")
    _check_without(ctx, action.member, member)


def _suspend(ctx: Context, action: SuspendMember) -> None:
    member = require_member(ctx.state, action.member)
    set_member(ctx, action.member, msgspec.structs.replace(member, is_suspended=True))
    for public_key in validators_of(ctx.state, action.member):
        _remove_if_allowed(ctx, public_key)


def _check_reinstate(ctx: Context, action: ReinstateMember) -> None:
    member = _require_present(ctx, action.member)
    if not member.is_suspended:
        raise NotSuspended(f"member {action.member!r} is not suspended")
    if GOVERNOR in member.roles:
        _check_may_vote(ctx, action.member, administration_of(ctx.state, action.member))


def _reinstate(ctx: Context, action: ReinstateMember) -> None:
    member = require_member(ctx.state, action.member)
    set_member(ctx, action.member, msgspec.structs.replace(member, is_suspended=False))


def _check_change(ctx: Context, action: ChangeMember) -> None:
    former = _require_present(ctx, action.member)
    _check_roles(action.identity)
    administration = administration_of(ctx.state, action.member)
    if action.administration is not None and action.administration != administration:
        check_administration(ctx.state, action.member, action.administration)
        administration = action.administration
    if GOVERNOR in action.identity.roles:
        _check_may_vote(ctx, action.member, administration)
    else:
        _check_without(ctx, action.member, former)


def _change(ctx: Context, action: ChangeMember) -> None:
    former = require_member(ctx.state, action.member)
    set_member(ctx, action.member, _record(action.identity, is_suspended=former.is_suspended))
    if action.administration is not None and action.administration != administration_of(ctx.state, action.member):
        set_administration(ctx, action.member, action.administration)


def _check_freeze(ctx: Context, action: FreezeAccount) -> None:
    account = require_account(ctx.state, action.account)
    if account.frozen_by == BY_GOVERNANCE:
        raise FrozenAlready(f"account {to_text(action.account)} was frozen by vote before")
    is_administration = administration_of(ctx.state, account.member) == action.account
    if is_administration and is_governor(require_member(ctx.state, account.member)):
        raise GovernorsAdministration(f"governor {account.member!r} votes by this account; suspend the member instead")


def _freeze(ctx: Context, action: FreezeAccount) -> None:
    set_frozen(ctx, action.account, True, BY_GOVERNANCE, action.reason)


def _check_release(ctx: Context, action: ReleaseAccount) -> None:
    frozen_by = require_account(ctx.state, action.account).frozen_by
    if frozen_by != BY_GOVERNANCE:
        raise NotFrozenByVote(f"account {to_text(action.account)} is frozen by {frozen_by or 'nobody'}, not by vote")


def _release(ctx: Context, action: ReleaseAccount) -> None:
    set_frozen(ctx, action.account, False, BY_GOVERNANCE, action.reason)


def _check_set(ctx: Context, action: SetParameters) -> None:
    names = [change.name for change in action.changes]
    if any(left >= right for left, right in pairwise(names)):
        raise ParametersOutOfOrder("changes are sorted by parameter name, each name once")
    bounds = {**LEDGER_BOUNDS, **RULES_BOUNDS}
    for change in action.changes:
        if change.name not in bounds:
            raise ParameterUnknown(f"parameter {change.name!r}; known are {', '.join(sorted(bounds))}")
        _check_bounds(change.name, change.value, bounds[change.name])
    check_parameters(_parameters_after(ctx.state, action))
    check_rules(_rules_after(ctx.state, action), len(governors_in_office(ctx)))


def _set(ctx: Context, action: SetParameters) -> None:
    parameters, rules = _parameters_after(ctx.state, action), _rules_after(ctx.state, action)
    if parameters != get_parameters(ctx.state):
        set_parameters(ctx, parameters)
    if rules != current_rules(ctx.state):
        set_rules(ctx, rules)


def _check_schedule(ctx: Context, action: ScheduleUpgrade) -> None:
    upgrade = _pending_upgrade(ctx)
    if upgrade is not None:
        raise UpgradeAlreadyScheduled(
            f"version {upgrade.app_version} is scheduled for height {upgrade.height}; cancel it first"
        )
    earliest = ctx.block.height + UPGRADE_NOTICE_BLOCKS
    if action.height < earliest:
        raise UpgradeTooSoon(f"upgrade at height {action.height}; {earliest} at the earliest")
    next_version = get_parameters(ctx.state).app_version + 1
    if action.app_version != next_version:
        raise UpgradeVersionWrong(f"upgrade to version {action.app_version}; the next one is {next_version}")


def _schedule(ctx: Context, action: ScheduleUpgrade) -> None:
    UPGRADES.put(ctx.state, UPGRADE_KEY, Upgrade(action.height, action.app_version))
    ctx.emit(UpgradeScheduled(action.height, action.app_version))


def _check_cancel(ctx: Context, action: CancelUpgrade) -> None:
    if _pending_upgrade(ctx) is None:
        raise NoUpgradeScheduled("no upgrade is scheduled")


def _cancel(ctx: Context, action: CancelUpgrade) -> None:
    upgrade = _pending_upgrade(ctx)
    assert upgrade is not None, "`check` has found it"
    UPGRADES.delete(ctx.state, UPGRADE_KEY)
    ctx.emit(UpgradeCancelled(upgrade.height, upgrade.app_version))


def _pending_upgrade(ctx: Context) -> Upgrade | None:
    """Return the upgrade that is still ahead; one that has run is history, whoever clears its record."""
    upgrade = scheduled_upgrade(ctx.state)
    return upgrade if upgrade is not None and upgrade.height > ctx.block.height else None


def _check_set_validator(ctx: Context, action: SetValidator) -> None:
    check_validator(ctx, action.public_key, _validator(action))
    former = VALIDATORS.get(ctx.state, action.public_key)
    is_less = former is not None and action.power < former.power
    if misbehaved(ctx.state, validator_address(action.public_key)) is not None and not is_less:
        raise ValidatorMisbehavedBefore(
            f"consensus proved misbehaviour of this key; run {action.name!r} with a new one"
        )


def _set_validator(ctx: Context, action: SetValidator) -> None:
    put_validator(ctx, action.public_key, _validator(action))


def _check_remove_validator(ctx: Context, action: RemoveValidator) -> None:
    check_removal(ctx, action.public_key)


def _remove_validator(ctx: Context, action: RemoveValidator) -> None:
    remove_validator(ctx, action.public_key)


def _check_register(ctx: Context, action: RegisterNode) -> None:
    check_node(ctx, action.public_key, NodeRecord(action.member, action.name))


def _register(ctx: Context, action: RegisterNode) -> None:
    put_node(ctx, action.public_key, NodeRecord(action.member, action.name))


def _check_remove_node(ctx: Context, action: RemoveNode) -> None:
    check_node_removal(ctx, action.public_key)


def _remove_node(ctx: Context, action: RemoveNode) -> None:
    remove_node(ctx, action.public_key)


class _Steps(NamedTuple):
    check: Callable[[Context, Any], None]
    carry_out: Callable[[Context, Any], None]


_ACTIONS: Mapping[type[Record], _Steps] = {
    AdmitMember: _Steps(_check_admit, _admit),
    RemoveMember: _Steps(_check_remove, _remove),
    SuspendMember: _Steps(_check_suspend, _suspend),
    ReinstateMember: _Steps(_check_reinstate, _reinstate),
    ChangeMember: _Steps(_check_change, _change),
    FreezeAccount: _Steps(_check_freeze, _freeze),
    ReleaseAccount: _Steps(_check_release, _release),
    SetParameters: _Steps(_check_set, _set),
    ScheduleUpgrade: _Steps(_check_schedule, _schedule),
    CancelUpgrade: _Steps(_check_cancel, _cancel),
    SetValidator: _Steps(_check_set_validator, _set_validator),
    RemoveValidator: _Steps(_check_remove_validator, _remove_validator),
    RegisterNode: _Steps(_check_register, _register),
    RemoveNode: _Steps(_check_remove_node, _remove_node),
}


def _record(identity: Identity, *, is_suspended: bool) -> Member:
    return Member(
        legal_name=identity.legal_name,
        lei=identity.lei,
        uscc=identity.uscc,
        bic=identity.bic,
        roles=identity.roles,
        vault_key=identity.vault_key,
        is_suspended=is_suspended,
    )


def _validator(action: SetValidator) -> ValidatorRecord:
    return ValidatorRecord(action.member, action.name, action.power)


def _remove_if_allowed(ctx: Context, public_key: bytes) -> None:
    """Remove a suspended member's validator, or say aloud that it still votes."""
    try:
        check_removal(ctx, public_key)
    except LedgerError as rule:
        record = VALIDATORS.get(ctx.state, public_key)
        assert record is not None, "it is one of the member's"
        ctx.emit(ValidatorLeftInPlace(public_key, record.member, record.name, record.power, rule.message[:140], None))
    else:
        remove_validator(ctx, public_key)


def _require_present(ctx: Context, member_id: str) -> Member:
    member = require_member(ctx.state, member_id)
    if DEPARTURES.get(ctx.state, member_id.encode()) is not None:
        raise AlreadyLeft(f"member {member_id!r} has left, for good")
    return member


def _check_may_vote(ctx: Context, member_id: str, administration: bytes | None) -> None:
    """Refuse to bring a governor into office that could not vote."""
    if administration is None or require_account(ctx.state, administration).is_frozen:
        what = "none" if administration is None else "a frozen one"
        raise AdministrationUnfit(f"governor {member_id!r} votes by its administration account, and has {what}")


def _check_without(ctx: Context, member_id: str, member: Member) -> None:
    """Refuse to take a governor out of office where the others would be too few to decide."""
    if not is_governor(member):
        return
    left = len(governors_in_office(ctx)) - 1
    needed = current_rules(ctx.state).approvals_needed
    if left < needed:
        raise TooFewGovernors(
            f"without {member_id!r} {left} governors remain, and {needed} approvals are needed; "
            "admit another governor or lower approvals_needed first"
        )


def _check_roles(identity: Identity) -> None:
    if any(left >= right for left, right in pairwise(identity.roles)):
        raise RolesOutOfOrder(f"roles {', '.join(identity.roles)}: sort them, each once")


def _check_bounds(name: str, value: int, bounds: tuple[int, int]) -> None:
    least, most = bounds
    if not least <= value <= most:
        raise ParameterOutOfRange(f"{name} {value}; {least} to {most} are accepted")


def _parameters_after(state: Overlay, action: SetParameters) -> Parameters:
    changes = {change.name: change.value for change in action.changes if change.name in LEDGER_BOUNDS}
    return msgspec.structs.replace(get_parameters(state), **changes)


def _rules_after(state: Overlay, action: SetParameters) -> Rules:
    changes = {change.name: change.value for change in action.changes if change.name in RULES_BOUNDS}
    return msgspec.structs.replace(current_rules(state), **changes)
