"""What state must hold, byte for byte, if the model is right: every record of the ledger's own tables."""

from collections.abc import Callable, Mapping

from feiqian.core.encoding import Record, encode
from feiqian.execution.tables import ResultsRoot
from feiqian.ledger.records import (
    Account,
    Administration,
    Balance,
    DayOutflow,
    Hold,
    HoldCount,
    Member,
    NodeRecord,
    Parameters,
    Pending,
    ScheduledTrigger,
    Sequence,
    Upgrade,
    Usage,
    ValidatorRecord,
)
from feiqian.state.replay import ReplayDigest
from feiqian.testing.simulation.model import MemberFacts, Model, open_holds

Records = dict[bytes, Record]


def trigger_key(trigger: tuple[int, int]) -> bytes:
    """Return the key that (due, sequence) stands under."""
    return trigger[0].to_bytes(8, "big") + trigger[1].to_bytes(8, "big")


def _member(facts: MemberFacts) -> Member:
    legal_name, lei, uscc, bic, vault_key = facts.identity
    return Member(legal_name, lei, uscc, bic, facts.roles, vault_key, facts.is_suspended)


def _members(model: Model) -> Records:
    return {name.encode(): _member(facts) for name, facts in model.members.items()}


def _accounts(model: Model) -> Records:
    return {address: Account(*facts) for address, facts in model.accounts.items()}


def _assets(model: Model) -> Records:
    return {code.encode(): asset for code, asset in model.assets.items()}


def _balances(model: Model) -> Records:
    return {account + code.encode(): Balance(*facts) for (account, code), facts in model.balances.items()}


def _outflows(model: Model) -> Records:
    return {account + code.encode(): DayOutflow(*facts) for (account, code), facts in model.outflows.items()}


def _holds(model: Model) -> Records:
    return {key: Hold(*facts[:7], trigger_key(facts.trigger)) for key, facts in model.holds.items()}


def _hold_counts(model: Model) -> Records:
    return {account + asset.encode(): HoldCount(count) for (account, asset), count in open_holds(model).items()}


def _administrations(model: Model) -> Records:
    return {member.encode(): Administration(account) for member, account in model.administrations.items()}


def _pending(model: Model) -> Records:
    return {key: Pending(*facts[:5], trigger_key(facts.trigger)) for key, facts in model.pending.items()}


def _triggers(model: Model) -> Records:
    return {
        trigger_key(key): ScheduledTrigger(str(type(trigger).__struct_config__.tag), encode(trigger))
        for key, trigger in model.triggers.items()
    }


def _sequence(model: Model) -> Records:
    return {b"next": Sequence(model.counters["trigger"])} if "trigger" in model.counters else {}


def _parameters(model: Model) -> Records:
    return {b"current": Parameters(**model.parameters)}


def _usage(model: Model) -> Records:
    return {sponsor.encode(): Usage(*facts) for sponsor, facts in model.usage.items()}


def _upgrades(model: Model) -> Records:
    return {b"next": Upgrade(model.upgrade["height"], model.upgrade["version"])} if model.upgrade else {}


def _validators(model: Model) -> Records:
    return {key: ValidatorRecord(*facts) for key, facts in model.validators.items()}


def _nodes(model: Model) -> Records:
    return {key: NodeRecord(*facts) for key, facts in model.nodes.items()}


def _results(model: Model) -> Records:
    return {height.to_bytes(8, "big"): ResultsRoot(root) for height, root in model.table("execution.results").items()}


def _replay(model: Model) -> Records:
    return {
        height.to_bytes(8, "big"): ReplayDigest(digest) for height, digest in model.table("execution.replay").items()
    }


LEDGER_RECORDS: Mapping[str, Callable[[Model], Records]] = {
    "ledger.members": _members,
    "ledger.accounts": _accounts,
    "ledger.administrations": _administrations,
    "ledger.assets": _assets,
    "ledger.balances": _balances,
    "ledger.outflows": _outflows,
    "ledger.holds": _holds,
    "ledger.hold_counts": _hold_counts,
    "ledger.pending": _pending,
    "ledger.triggers": _triggers,
    "ledger.trigger_sequence": _sequence,
    "ledger.parameters": _parameters,
    "ledger.usage": _usage,
    "ledger.upgrades": _upgrades,
    "ledger.validators": _validators,
    "ledger.nodes": _nodes,
    "execution.results": _results,
    "execution.replay": _replay,
}

__all__ = ["LEDGER_RECORDS", "Records", "trigger_key"]
