"""What may be asked of governance: to propose one action, to vote on it, to withdraw it.

An action is carried out in the transaction of the vote that decides it, or that vote is refused with the rule that
the action would break.
"""

from typing import Annotated

from msgspec import Meta

from feiqian.core.addresses import Address
from feiqian.core.encoding import Hash32, Height, MemberId, Record, ShortText, Text, Uint32, Uint63
from feiqian.core.transactions import Salt
from feiqian.ledger.context import Claim, Message
from feiqian.ledger.records import Bic, Lei, NodeName, Policy, Power, Role, Uscc

MAX_CHANGES = 32

ParameterName = Annotated[str, Meta(min_length=1, max_length=48)]


class Identity(Record):
    """Who a member is and what it may do; `vault_key` is the X25519 key that documents for it are wrapped to."""

    legal_name: Annotated[Text, Meta(min_length=1)]
    lei: Lei | None
    uscc: Uscc | None
    bic: Bic | None
    roles: Annotated[tuple[Role, ...], Meta(max_length=16)]
    vault_key: Hash32 | None


class AdmitMember(Record, tag="governance.AdmitMember"):
    """Register a member and open its first account, which becomes its administration account."""

    member: MemberId
    identity: Identity
    policy: Policy
    salt: Salt


class RemoveMember(Record, tag="governance.RemoveMember"):
    """Let a member leave, for good: its roles end, its accounts stand still, its id is not given again."""

    member: MemberId


class SuspendMember(Record, tag="governance.SuspendMember"):
    """Stop a member and all its accounts for the time being."""

    member: MemberId


class ReinstateMember(Record, tag="governance.ReinstateMember"):
    """End a suspension."""

    member: MemberId


class ChangeMember(Record, tag="governance.ChangeMember"):
    """Give a member a new identity as a whole and, where not None, the one of its accounts that is to speak for it."""

    member: MemberId
    identity: Identity
    administration: Address | None


class FreezeAccount(Record, tag="governance.FreezeAccount"):
    """Stop an account in all assets, whoever's it is: it neither acts nor sends nor receives."""

    account: Address
    reason: ShortText


class ReleaseAccount(Record, tag="governance.ReleaseAccount"):
    """End a freeze that governance made."""

    account: Address
    reason: ShortText


class ParameterChange(Record):
    """One parameter's new value."""

    name: ParameterName
    value: Uint63


class SetParameters(Record, tag="governance.SetParameters"):
    """Set some parameters, of the ledger or of governance, together; sorted by name, each once."""

    changes: Annotated[tuple[ParameterChange, ...], Meta(min_length=1, max_length=MAX_CHANGES)]


class ScheduleUpgrade(Record, tag="governance.ScheduleUpgrade"):
    """Run the rules of `app_version` from `height` on; an older release stops before executing that height."""

    height: Height
    app_version: Uint32


class CancelUpgrade(Record, tag="governance.CancelUpgrade"):
    """Give up the upgrade that is scheduled."""


class SetValidator(Record, tag="governance.SetValidator"):
    """Let a node's vote count with this power: add it as a validator, or weigh anew or rename the one with this key."""

    public_key: Hash32
    member: MemberId
    name: NodeName
    power: Power


class RemoveValidator(Record, tag="governance.RemoveValidator"):
    """Let a validator's vote count no longer."""

    public_key: Hash32


class RegisterNode(Record, tag="governance.RegisterNode"):
    """Let the network's nodes accept this one as a peer; `public_key` is its node key, not a validator's."""

    public_key: Hash32
    member: MemberId
    name: NodeName


class RemoveNode(Record, tag="governance.RemoveNode"):
    """Accept a node as a peer no longer."""

    public_key: Hash32


Action = (
    AdmitMember
    | RemoveMember
    | SuspendMember
    | ReinstateMember
    | ChangeMember
    | FreezeAccount
    | ReleaseAccount
    | SetParameters
    | ScheduleUpgrade
    | CancelUpgrade
    | SetValidator
    | RemoveValidator
    | RegisterNode
    | RemoveNode
)


class Propose(Message, tag="governance.Propose"):
    """Put an action to the vote; the proposer's member approves it by proposing. Sent by its administration account."""

    account: Address
    action: Action
    rationale: ShortText

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account),)


class Vote(Message, tag="governance.Vote"):
    """Approve or reject an open proposal, once. Sent by a governor's administration account."""

    account: Address
    proposal: Hash32
    is_approval: bool

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account),)


class Withdraw(Message, tag="governance.Withdraw"):
    """Take an open proposal back. Sent by the administration account of the member that made it."""

    account: Address
    proposal: Hash32

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account),)
