"""What holds of governance after every block: it can always decide, and what was decided stands."""

from collections.abc import Iterator

from feiqian.core.hashing import validator_address
from feiqian.ledger.accounts import ACCOUNTS, ADMINISTRATIONS, administration_of
from feiqian.ledger.invariants import Scope
from feiqian.ledger.members import MEMBERS
from feiqian.ledger.triggers import SCHEDULED
from feiqian.ledger.validators import VALIDATORS
from feiqian.modules import Invariant
from feiqian.modules.governance.state import (
    BALLOTS,
    DEPARTURES,
    MISBEHAVIOURS,
    PROPOSALS,
    REMOVED,
    RULES,
    RULES_KEY,
    governors,
    is_governor,
)

PROPOSAL_ID_BYTES = 32


def governors_suffice(scope: Scope) -> Iterator[str]:
    """As many governors are in office as approvals are needed, at least one, each with an account that may vote."""
    if not scope.reaches(MEMBERS, RULES, ADMINISTRATIONS, ACCOUNTS):
        return
    rules = RULES.get(scope.after, RULES_KEY)
    in_office = governors(scope.after)
    if rules is None:
        if in_office:
            yield f"{len(in_office)} governors, but no rules to decide by"
        return
    if not 1 <= rules.approvals_needed <= len(in_office) or rules.voting_days < 1:
        yield f"{rules.approvals_needed} approvals needed of {len(in_office)} governors in {rules.voting_days} days"
    for member in in_office:
        address = administration_of(scope.after, member)
        account = None if address is None else ACCOUNTS.get(scope.after, address)
        if account is None or account.is_frozen:
            yield f"governor {member!r} has no administration account that may vote"


def departed_stay_out(scope: Scope) -> Iterator[str]:
    """Who left is a suspended member without roles; nobody who left is forgotten, and no member is deleted."""
    for key, member, _ in scope.changes(MEMBERS):
        if member is None:
            yield f"member {key.decode()!r} was deleted"
        elif DEPARTURES.has(scope.after, key) and (member.roles or not member.is_suspended):
            yield f"member {key.decode()!r} left and yet has a role or may act"
    for key, departure, _ in scope.changes(DEPARTURES):
        member = MEMBERS.get(scope.after, key)
        if departure is None or member is None or is_governor(member):
            yield f"departure of {key.decode()!r} was undone"


def decisions_stand(scope: Scope) -> Iterator[str]:
    """A proposal keeps its action and, once decided, its decision; only an open one has its expiry trigger."""
    for key, proposal, former in scope.changes(PROPOSALS):
        if proposal is None:
            yield f"proposal {key.hex()} was deleted"
            continue
        has_changed = former is not None and former.action != proposal.action
        if has_changed or (former is not None and former.decision not in (None, proposal.decision)):
            yield f"proposal {key.hex()}: its action or decision was changed"
        if (proposal.decision is None) != SCHEDULED.has(scope.after, proposal.expiry_key):
            yield f"proposal {key.hex()} is {proposal.status}, which its expiry trigger belies"


def ballots_are_final(scope: Scope) -> Iterator[str]:
    """A ballot belongs to a proposal and never changes."""
    for key, ballot, former in scope.changes(BALLOTS):
        is_of_proposal = PROPOSALS.has(scope.after, key[:PROPOSAL_ID_BYTES])
        if ballot is None or former not in (None, ballot) or not is_of_proposal:
            yield f"ballot {key.hex()} was changed, deleted or belongs to no proposal"


def misbehaviour_stays_on_record(scope: Scope) -> Iterator[str]:
    """What was recorded of a validator never changes; whose validator was removed for it does not run it again."""
    for key, record, former in scope.changes(MISBEHAVIOURS):
        if record is None or former not in (None, record):
            yield f"the record of misbehaviour {key.hex()} was changed or deleted"
        elif record.outcome == REMOVED and record.public_key and VALIDATORS.has(scope.after, record.public_key):
            yield f"validator {record.public_key.hex()} was removed for misbehaviour and is one"
    for key, _, _ in scope.changes(VALIDATORS):
        address = validator_address(key)
        if VALIDATORS.has(scope.after, key):
            for _, record in MISBEHAVIOURS.scan(scope.after, address):
                if record.outcome == REMOVED:
                    yield f"validator {key.hex()} was removed for misbehaviour and is one again"


INVARIANTS: tuple[Invariant, ...] = (
    governors_suffice,
    departed_stay_out,
    decisions_stand,
    ballots_are_final,
    misbehaviour_stays_on_record,
)
