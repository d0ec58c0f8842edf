"""What governance keeps: proposals and ballots for good, who left, its rules, what may be set."""

from collections.abc import Iterator, Mapping
from typing import Annotated

from msgspec import Meta

from feiqian.core.addresses import Address
from feiqian.core.encoding import Hash32, Height, MemberId, Record, ShortText, TimeMs, Uint16, Uint63
from feiqian.ledger.members import MEMBERS
from feiqian.ledger.records import Member, NodeName
from feiqian.ledger.validators import Misbehaviour
from feiqian.modules.governance.messages import Action
from feiqian.state.tables import Overlay, Table

NAME = "governance"
GOVERNOR = "governor"
MAX_ACTION_BYTES = 15 * 1024
"""Leaves room for the rest of a proposal's record, so that no vote is ever refused for a record's size."""

UPGRADE_NOTICE_BLOCKS = 10
"""An upgrade lies at least so far ahead, so that its operators see it coming."""

OPEN = "open"
APPROVED = "approved"
REJECTED = "rejected"
WITHDRAWN = "withdrawn"
EXPIRED = "expired"

REMOVED = "removed"
LEFT_IN_PLACE = "left in place"
GONE = "gone before"


class Decision(Record):
    """How and when a proposal left the state `open`: approved, rejected, withdrawn or expired."""

    status: Annotated[str, Meta(min_length=1, max_length=16)]
    time_ms: TimeMs
    height: Height


class Proposal(Record):
    """One action put to the vote. `decision` is None while it is open, `proposer` where the ledger itself proposed."""

    proposer: MemberId | None
    action: Action
    rationale: ShortText
    opened_at_ms: TimeMs
    opened_at_height: Height
    expires_at_ms: TimeMs
    expiry_key: bytes
    decision: Decision | None

    @property
    def status(self) -> str:
        """Return `open` or how it was decided."""
        return OPEN if self.decision is None else self.decision.status


class Ballot(Record):
    """One member's vote on one proposal."""

    account: Address
    is_approval: bool
    cast_at_ms: TimeMs
    cast_at_height: Height


class Rules(Record):
    """How many governors must approve, and for how many days they may."""

    approvals_needed: Uint16
    voting_days: Uint16


class Departure(Record):
    """A member that left, and when."""

    left_at_ms: TimeMs
    left_at_height: Height


class MisbehaviourRecord(Record):
    """What consensus proved of a validator, and what became of it: removed, left in place or gone before.

    Key, member and name are None where it was no validator any more and had not been caught before.
    """

    public_key: Hash32 | None
    member: MemberId | None
    name: NodeName | None
    time_ms: TimeMs
    power: Uint63
    outcome: Annotated[str, Meta(min_length=1, max_length=16)]
    recorded_at_ms: TimeMs
    recorded_at_height: Height


PROPOSALS: Table[Proposal] = Table("governance.proposals", Proposal)
"""Key: proposal id."""

BALLOTS: Table[Ballot] = Table("governance.ballots", Ballot)
"""Key: proposal id, then the member's id."""

RULES: Table[Rules] = Table("governance.rules", Rules)
"""Key: `current`. Absent on a ledger without governors, which nobody can change."""

DEPARTURES: Table[Departure] = Table("governance.departures", Departure)
"""Key: member id."""

MISBEHAVIOURS: Table[MisbehaviourRecord] = Table("governance.misbehaviours", MisbehaviourRecord)
"""Key: the validator's address, the height (8 bytes, big endian) at which it misbehaved, the kind."""

TABLES: tuple[Table, ...] = (PROPOSALS, BALLOTS, RULES, DEPARTURES, MISBEHAVIOURS)
RULES_KEY = b"current"

LEDGER_BOUNDS: Mapping[str, tuple[int, int]] = {
    "max_approval_days": (1, 366),
    "max_block_bytes": (512 * 1024, 16 * 2**20),
    "max_block_work": (2_000_000, 200_000_000),
    "max_triggers_per_block": (10, 10_000),
    "max_window_deletes": (1, 10_000),
    "proof_window": (600, 10_000_000),
    "replay_window_ms": (60_000, 600_000),
    "sponsor_block_bytes": (256 * 1024, 16 * 2**20),
    "sponsor_block_work": (1_000_000, 200_000_000),
    "sponsor_day_bytes": (16 * 2**20, 2**53),
    "sponsor_day_work": (100_000_000, 2**53),
}
"""Least and most of each ledger parameter that may be set by vote: tighter than what its record accepts.

Within them blocks stay quick enough to agree on, clients' clocks may lag a minute, and every member can still send
the votes that set a parameter back. `app_version` is set by upgrades alone.
"""

RULES_BOUNDS: Mapping[str, tuple[int, int]] = {"approvals_needed": (1, 1_000), "voting_days": (1, 366)}


def is_governor(member: Member) -> bool:
    """Say whether the member governs now: it has the role and is not suspended."""
    return GOVERNOR in member.roles and not member.is_suspended


def governors(state: Overlay) -> tuple[str, ...]:
    """Return the ids of the members that govern now, in order."""
    return tuple([key.decode() for key, member in MEMBERS.scan(state) if is_governor(member)])


def misbehaviour_key(misbehaviour: Misbehaviour) -> bytes:
    """Return the key of the record of a misbehaviour: the same one is recorded once."""
    return misbehaviour.validator + misbehaviour.height.to_bytes(8, "big") + misbehaviour.kind.encode()


def misbehaved(state: Overlay, address: bytes) -> MisbehaviourRecord | None:
    """Return the first record of misbehaviour by the validator of an address, None where there is none."""
    return next((record for _, record in MISBEHAVIOURS.scan(state, address)), None)


def ballots_of(state: Overlay, proposal: bytes) -> Iterator[tuple[str, Ballot]]:
    """Yield (member id, ballot) of a proposal in member order."""
    for key, ballot in BALLOTS.scan(state, proposal):
        yield key[len(proposal) :].decode(), ballot
