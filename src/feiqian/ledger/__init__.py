"""The only ways to move value: members, accounts and authority, postings, holds, approvals, metering.

What execution's registry takes from here: TABLES, EVENTS, ERRORS, TRIGGERS and INVARIANTS.
"""

from collections.abc import Callable, Mapping
from typing import Any

from feiqian.core.errors import InvalidTransaction
from feiqian.ledger import approvals, documents, errors, events, holds
from feiqian.ledger.accounts import ADMINISTRATIONS
from feiqian.ledger.approvals import PENDING, ExpirePending
from feiqian.ledger.assets import ASSETS
from feiqian.ledger.authority import ACCOUNTS
from feiqian.ledger.balances import BALANCES
from feiqian.ledger.context import Context, Event, Trigger
from feiqian.ledger.holds import HOLD_COUNTS, HOLDS, ExpireHold
from feiqian.ledger.invariants import INVARIANTS
from feiqian.ledger.members import MEMBERS
from feiqian.ledger.metering import USAGE
from feiqian.ledger.parameters import PARAMETERS
from feiqian.ledger.postings import OUTFLOWS
from feiqian.ledger.triggers import SCHEDULED, SEQUENCES
from feiqian.ledger.upgrades import UPGRADES
from feiqian.ledger.validators import NODES, VALIDATORS
from feiqian.state.tables import Table

__all__ = ["ERRORS", "EVENTS", "INVARIANTS", "TABLES", "TRIGGERS"]

TABLES: tuple[Table[Any], ...] = (
    MEMBERS,
    ACCOUNTS,
    ADMINISTRATIONS,
    ASSETS,
    BALANCES,
    OUTFLOWS,
    HOLDS,
    HOLD_COUNTS,
    PENDING,
    SCHEDULED,
    SEQUENCES,
    PARAMETERS,
    USAGE,
    UPGRADES,
    VALIDATORS,
    NODES,
)

EVENTS: tuple[type[Event], ...] = (*events.EVENTS, documents.DocumentCommitted)

ERRORS: tuple[type[InvalidTransaction], ...] = (*errors.ERRORS, *documents.ERRORS)

TRIGGERS: Mapping[type[Trigger], Callable[[Context, Any], None]] = {
    ExpireHold: holds.expire,
    ExpirePending: approvals.expire,
}
