"""What happened in governance. Every decision is one of these and a record on the ledger.

What an action does to members, accounts and parameters stands in the ledger's own events, which follow.
"""

from feiqian.core.encoding import Hash32, Height, MemberId, ShortText, TimeMs, Uint16, Uint32
from feiqian.ledger.context import Event
from feiqian.modules.governance.messages import Action


class Proposed(Event, tag="governance.Proposed"):
    """A member put an action to the vote."""

    proposal: Hash32
    proposer: MemberId
    action: Action
    rationale: ShortText
    expires_at_ms: TimeMs

    def members(self) -> tuple[str, ...]:
        return (self.proposer,)


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
    proposer: MemberId
    action: Action
    approvals: Uint16
    approvals_needed: Uint16

    def members(self) -> tuple[str, ...]:
        return (self.proposer,)


class ProposalRejected(Event, tag="governance.ProposalRejected"):
    """So many governors rejected that the approvals needed can no longer come together."""

    proposal: Hash32
    proposer: MemberId
    rejections: Uint16

    def members(self) -> tuple[str, ...]:
        return (self.proposer,)


class ProposalWithdrawn(Event, tag="governance.ProposalWithdrawn"):
    """Its proposer took it back."""

    proposal: Hash32
    proposer: MemberId

    def members(self) -> tuple[str, ...]:
        return (self.proposer,)


class ProposalExpired(Event, tag="governance.ProposalExpired"):
    """Its voting days passed without a decision."""

    proposal: Hash32
    proposer: MemberId

    def members(self) -> tuple[str, ...]:
        return (self.proposer,)


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
)
