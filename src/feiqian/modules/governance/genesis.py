"""Governance as `consortium.toml` sets it up: `[governance]`."""

from collections.abc import Mapping
from typing import Any

import msgspec

from feiqian.ledger.accounts import ACCOUNTS
from feiqian.ledger.context import Context
from feiqian.ledger.members import MEMBERS
from feiqian.modules.governance.actions import check_rules, set_rules, set_voting_account
from feiqian.modules.governance.errors import GenesisIncomplete
from feiqian.modules.governance.state import Rules, governors

DEFAULT_VOTING_DAYS = 14


class GovernanceEntry(msgspec.Struct, forbid_unknown_fields=True):
    """`[governance]`: without `approvals_needed`, more than half of the governors.

    `voting_accounts` are 32-byte addresses, one a member; a governor with a single account need not name it.
    """

    approvals_needed: int | None = None
    voting_days: int = DEFAULT_VOTING_DAYS
    voting_accounts: list[bytes] = []


def genesis(ctx: Context, section: Mapping[str, Any]) -> None:
    """Set the first rules and voting accounts. A ledger without governors gets none and can never be changed.

    Raises:
        GenesisIncomplete: an unknown or misshapen field, or a voting account that is missing or unclear.
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
    voting_accounts = _voting_accounts(ctx, entry, in_office)
    for member, account in voting_accounts.items():
        set_voting_account(ctx, member, account)
    set_rules(ctx, rules)


def _voting_accounts(ctx: Context, entry: GovernanceEntry, in_office: tuple[str, ...]) -> dict[str, bytes]:
    """Return member id → voting account: what the file names, then what it need not name, in member order."""
    owned: dict[str, list[bytes]] = {key.decode(): [] for key, _ in MEMBERS.scan(ctx.state)}
    for address, account in ACCOUNTS.scan(ctx.state):
        owned[account.member].append(address)
    named: dict[str, bytes] = {}
    for address in entry.voting_accounts:
        account = ACCOUNTS.get(ctx.state, address)
        if account is None or account.member in named:
            raise GenesisIncomplete('voting_accounts names one open account for each member, such as "@bank-a"')
        named[account.member] = address
    chosen: dict[str, bytes] = {}
    for member, addresses in owned.items():
        if member in named:
            chosen[member] = named[member]
        elif member in in_office and len(addresses) == 1:
            chosen[member] = addresses[0]
        elif member in in_office:
            raise GenesisIncomplete(
                f"governor {member!r} has {len(addresses)} accounts; name the one it votes by in voting_accounts"
            )
    return chosen
