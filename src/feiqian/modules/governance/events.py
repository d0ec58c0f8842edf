"""What happened in governance. Every decision is one of these and a record on the ledger.

What an action does to members, accounts and parameters stands in the ledger's own events, which follow.
"""

from feiqian.core.encoding import Hash32, Height, MemberId, ShortText, TimeMs, Uint16, Uint32, Uint63
from feiqian.ledger.context import Event
from feiqian.ledger.records import NodeName, Power
from feiqian.ledger.validators import MisbehaviourKind, ValidatorAddress
from feiqian.modules.governance.messages import Action


class Proposed(Event, tag="governance.Proposed"):
    """A member put an action to the vote, or the ledger itself did (proposer None)."""

    proposal: Hash32
    proposer: MemberId | None
    action: Action
    rationale: ShortText
    expires_at_ms: TimeMs

    def members(self) -> tuple[str, ...]:
        return _if_any(self.proposer)


class Voted(Event, tag="governance.Voted"):
    """A member voted; the counts are those of governors in office, this vote among them."""

    proposal: Hash32
    member: MemberId
    is_approval: bool
    approvals: Uint16
    rejections: Uint16

    def members(self) -> tuple[str, ...]:
        return (self.member,)


class ProposalApproved(Event, tag="governance.ProposalApproved"):
    """Enough governors approved; what the action does follows."""

    proposal: Hash32
    proposer: MemberId | None
    action: Action
    approvals: Uint16
    approvals_needed: Uint16

    def members(self) -> tuple[str, ...]:
        return _if_any(self.proposer)


class ProposalRejected(Event, tag="governance.ProposalRejected"):
    """So many governors rejected that the approvals needed can no longer come together."""

    proposal: Hash32
    proposer: MemberId | None
    rejections: Uint16

    def members(self) -> tuple[str, ...]:
        return _if_any(self.proposer)


class ProposalWithdrawn(Event, tag="governance.ProposalWithdrawn"):
    """Its proposer took it back."""

    proposal: Hash32
    proposer: MemberId | None

    def members(self) -> tuple[str, ...]:
        return _if_any(self.proposer)


class ProposalExpired(Event, tag="governance.ProposalExpired"):
    """Its voting days passed without a decision."""

    proposal: Hash32
    proposer: MemberId | None

    def members(self) -> tuple[str, ...]:
        return _if_any(self.proposer)


class MemberLeft(Event, tag="governance.MemberLeft"):
    """A member left, for good."""

    member: MemberId

    def members(self) -> tuple[str, ...]:
        return (self.member,)


class RulesSet(Event, tag="governance.RulesSet"):
    """So many governors must approve, within so many days, from here on."""

    approvals_needed: Uint16
    voting_days: Uint16


class UpgradeScheduled(Event, tag="governance.UpgradeScheduled"):
    """From `height` on the ledger runs the rules of `app_version`."""

    height: Height
    app_version: Uint32


class UpgradeCancelled(Event, tag="governance.UpgradeCancelled"):
    """The scheduled upgrade will not happen."""

    height: Height
    app_version: Uint32


class ValidatorMisbehaved(Event, tag="governance.ValidatorMisbehaved"):
    """Consensus proved that a validator broke its rules at `height`; what became of it as in its record."""

    validator: ValidatorAddress
    public_key: Hash32 | None
    member: MemberId | None
    name: NodeName | None
    kind: MisbehaviourKind
    height: Height
    power: Uint63
    outcome: ShortText

    def members(self) -> tuple[str, ...]:
        return _if_any(self.member)


class ValidatorLeftInPlace(Event, tag="governance.ValidatorLeftInPlace"):
    """A validator that should go still votes, since the rule named forbids to remove it: the governors must act.

    `proposal` is the one that the ledger opened to remove it, None where it opened none.
    """

    public_key: Hash32
    member: MemberId
    name: NodeName
    power: Power
    rule: ShortText
    proposal: Hash32 | None

    def members(self) -> tuple[str, ...]:
        return (self.member,)


def _if_any(member: str | None) -> tuple[str, ...]:
    return () if member is None else (member,)


EVENTS: tuple[type[Event], ...] = (
    Proposed,
    Voted,
    ProposalApproved,
    ProposalRejected,
    ProposalWithdrawn,
    ProposalExpired,
    MemberLeft,
    RulesSet,
    UpgradeScheduled,
    UpgradeCancelled,
    ValidatorMisbehaved,
    ValidatorLeftInPlace,
)
