"""Governance as `consortium.toml` sets it up: `[governance]`."""

from collections.abc import Mapping
from typing import Any

import msgspec

from feiqian.ledger.accounts import administration_of
from feiqian.ledger.context import Context
from feiqian.modules.governance.actions import check_rules, set_rules
from feiqian.modules.governance.errors import GenesisIncomplete
from feiqian.modules.governance.state import Rules, governors

DEFAULT_VOTING_DAYS = 14


class GovernanceEntry(msgspec.Struct, forbid_unknown_fields=True):
    """`[governance]`: without `approvals_needed`, more than half of the governors."""

    approvals_needed: int | None = None
    voting_days: int = DEFAULT_VOTING_DAYS


def genesis(ctx: Context, section: Mapping[str, Any]) -> None:
    """Set the first rules. A ledger without governors gets none and can never be changed.

    Raises:
        GenesisIncomplete: an unknown or misshapen field, or a governor without an account.
        ParameterOutOfRange, TooFewGovernors: rules by which nothing could be decided.
    """
    try:
        entry = msgspec.convert(section, GovernanceEntry)
    except msgspec.ValidationError as error:
        raise GenesisIncomplete(f"[governance]: {error}") from None
    in_office = governors(ctx.state)
    if not in_office:
        if section:
            raise GenesisIncomplete("[governance] is given, but no member has the role 'governor'")
        return
    needed = len(in_office) // 2 + 1 if entry.approvals_needed is None else entry.approvals_needed
    rules = Rules(needed, entry.voting_days)
    check_rules(rules, len(in_office))
    for member in in_office:
        if administration_of(ctx.state, member) is None:
            raise GenesisIncomplete(f"governor {member!r} has no account to vote by; list one in [[accounts]]")
    set_rules(ctx, rules)
