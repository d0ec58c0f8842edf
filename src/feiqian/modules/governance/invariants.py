"""What holds of governance after every block: it can always decide, and what was decided stands."""

from collections.abc import Iterator

from feiqian.ledger.accounts import ACCOUNTS, ADMINISTRATIONS, administration_of
from feiqian.ledger.invariants import changes
from feiqian.ledger.members import MEMBERS
from feiqian.ledger.triggers import SCHEDULED
from feiqian.modules import Invariant
from feiqian.modules.governance.state import (
    BALLOTS,
    DEPARTURES,
    PROPOSALS,
    RULES,
    RULES_KEY,
    governors,
    is_governor,
)
from feiqian.state.tables import Overlay

PROPOSAL_ID_BYTES = 32


def governors_suffice(before: Overlay, after: Overlay, touched: frozenset[bytes] | None) -> Iterator[str]:
    """As many governors are in office as approvals are needed, at least one, each with an account that may vote."""
    if touched is not None and not any(
        key.startswith((MEMBERS.prefix, RULES.prefix, ADMINISTRATIONS.prefix, ACCOUNTS.prefix)) for key in touched
    ):
        return
    rules = RULES.get(after, RULES_KEY)
    in_office = governors(after)
    if rules is None:
        if in_office:
            yield f"{len(in_office)} governors, but no rules to decide by"
        return
    if not 1 <= rules.approvals_needed <= len(in_office) or rules.voting_days < 1:
        yield f"{rules.approvals_needed} approvals needed of {len(in_office)} governors in {rules.voting_days} days"
    for member in in_office:
        address = administration_of(after, member)
        account = None if address is None else ACCOUNTS.get(after, address)
        if account is None or account.is_frozen:
            yield f"governor {member!r} has no administration account that may vote"


def departed_stay_out(before: Overlay, after: Overlay, touched: frozenset[bytes] | None) -> Iterator[str]:
    """Who left is a suspended member without roles; nobody who left is forgotten, and no member is deleted."""
    for key, member, _ in changes(MEMBERS, before, after, touched):
        if member is None:
            yield f"member {key.decode()!r} was deleted"
        elif DEPARTURES.get(after, key) is not None and (member.roles or not member.is_suspended):
            yield f"member {key.decode()!r} left and yet has a role or may act"
    for key, departure, _ in changes(DEPARTURES, before, after, touched):
        member = MEMBERS.get(after, key)
        if departure is None or member is None or is_governor(member):
            yield f"departure of {key.decode()!r} was undone"


def decisions_stand(before: Overlay, after: Overlay, touched: frozenset[bytes] | None) -> Iterator[str]:
    """A proposal keeps its action and, once decided, its decision; only an open one has its expiry trigger."""
    for key, proposal, former in changes(PROPOSALS, before, after, touched):
        if proposal is None:
            yield f"proposal {key.hex()} was deleted"
            continue
        has_changed = former is not None and former.action != proposal.action
        if has_changed or (former is not None and former.decision not in (None, proposal.decision)):
            yield f"proposal {key.hex()}: its action or decision was changed"
        if (proposal.decision is None) != (SCHEDULED.get(after, proposal.expiry_key) is not None):
            yield f"proposal {key.hex()} is {proposal.status}, which its expiry trigger belies"


def ballots_are_final(before: Overlay, after: Overlay, touched: frozenset[bytes] | None) -> Iterator[str]:
    """A ballot belongs to a proposal and never changes."""
    for key, ballot, former in changes(BALLOTS, before, after, touched):
        if ballot is None or former not in (None, ballot) or PROPOSALS.get(after, key[:PROPOSAL_ID_BYTES]) is None:
            yield f"ballot {key.hex()} was changed, deleted or belongs to no proposal"


INVARIANTS: tuple[Invariant, ...] = (governors_suffice, departed_stay_out, decisions_stand, ballots_are_final)
