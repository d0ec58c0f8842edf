"""What happened on the ledger: tag "ledger.<Name>", each naming the accounts and members concerned."""

from typing import Self

from feiqian.core.addresses import Address
from feiqian.core.encoding import (
    AmountMinor,
    AssetId,
    Hash32,
    MemberId,
    PositiveMinor,
    ShortText,
    TimeMs,
    Uint32,
    Uint63,
)
from feiqian.core.signatures import PublicKey
from feiqian.ledger.context import Event, IsOwn
from feiqian.ledger.records import Asset, Freezer, Leg, Member, NodeName, Parameters, Policy


class MemberAdded(Event, tag="ledger.MemberAdded"):
    """A member was admitted."""

    member: MemberId
    record: Member

    def members(self) -> tuple[str, ...]:
        return (self.member,)


class MemberChanged(Event, tag="ledger.MemberChanged"):
    """A member's record was replaced."""

    member: MemberId
    record: Member

    def members(self) -> tuple[str, ...]:
        return (self.member,)


class AccountOpened(Event, tag="ledger.AccountOpened"):
    """An account was opened."""

    account: Address
    member: MemberId
    policy: Policy

    def accounts(self) -> tuple[bytes, ...]:
        return (self.account,)

    def members(self) -> tuple[str, ...]:
        return (self.member,)


class PolicyChanged(Event, tag="ledger.PolicyChanged"):
    """An account's policy was replaced; its address stays."""

    account: Address
    policy: Policy

    def accounts(self) -> tuple[bytes, ...]:
        return (self.account,)


class AdministrationSet(Event, tag="ledger.AdministrationSet"):
    """This account speaks for its member from here on."""

    member: MemberId
    account: Address

    def accounts(self) -> tuple[bytes, ...]:
        return (self.account,)

    def members(self) -> tuple[str, ...]:
        return (self.member,)


class AccountFrozen(Event, tag="ledger.AccountFrozen"):
    """An account was frozen in all assets, by its own member or by a vote."""

    account: Address
    by: Freezer
    reason: ShortText

    def accounts(self) -> tuple[bytes, ...]:
        return (self.account,)


class AccountReleased(Event, tag="ledger.AccountReleased"):
    """A frozen account was released by who had frozen it."""

    account: Address
    by: Freezer
    reason: ShortText

    def accounts(self) -> tuple[bytes, ...]:
        return (self.account,)


class AssetDefined(Event, tag="ledger.AssetDefined"):
    """An asset came into being, with no supply yet."""

    code: AssetId
    asset: Asset

    def accounts(self) -> tuple[bytes, ...]:
        return (self.asset.issuance_account,)

    def members(self) -> tuple[str, ...]:
        return (self.asset.issuer,)


class Posted(Event, tag="ledger.Posted"):
    """One balanced entry; legs as they were given, not netted. A party reads its own legs only."""

    legs: tuple[Leg, ...]

    def accounts(self) -> tuple[bytes, ...]:
        return tuple(dict.fromkeys(leg.account for leg in self.legs))

    def for_reader(self, is_own: IsOwn) -> Self:
        return type(self)(tuple([leg for leg in self.legs if is_own(leg.account)]))


class LimitSet(Event, tag="ledger.LimitSet"):
    """An account's agreed credit limit in an asset changed."""

    account: Address
    asset: AssetId
    limit_minor: AmountMinor

    def accounts(self) -> tuple[bytes, ...]:
        return (self.account,)


class AssetFreezeSet(Event, tag="ledger.AssetFreezeSet"):
    """An account was frozen or released for one asset."""

    account: Address
    asset: AssetId
    is_frozen: bool

    def accounts(self) -> tuple[bytes, ...]:
        return (self.account,)


class ListingSet(Event, tag="ledger.ListingSet"):
    """An account was put on, or taken off, an asset's list of holders."""

    account: Address
    asset: AssetId
    is_listed: bool

    def accounts(self) -> tuple[bytes, ...]:
        return (self.account,)


class HoldPlaced(Event, tag="ledger.HoldPlaced"):
    """Part of an account's available balance was reserved."""

    hold: Hash32
    account: Address
    beneficiary: Address | None
    asset: AssetId
    amount_minor: PositiveMinor
    controller: str
    reference: bytes
    expires_at_ms: TimeMs

    def accounts(self) -> tuple[bytes, ...]:
        return _of_hold(self.account, self.beneficiary)


class HoldPosted(Event, tag="ledger.HoldPosted"):
    """A hold was posted; the entry itself is the `Posted` before. `released_minor` went back to available."""

    hold: Hash32
    account: Address
    beneficiary: Address | None
    asset: AssetId
    amount_minor: PositiveMinor
    released_minor: AmountMinor
    remaining_minor: AmountMinor

    def accounts(self) -> tuple[bytes, ...]:
        return _of_hold(self.account, self.beneficiary)


class HoldVoided(Event, tag="ledger.HoldVoided"):
    """What remained of a hold went back to available."""

    hold: Hash32
    account: Address
    beneficiary: Address | None
    asset: AssetId
    amount_minor: PositiveMinor

    def accounts(self) -> tuple[bytes, ...]:
        return _of_hold(self.account, self.beneficiary)


class HoldExpired(Event, tag="ledger.HoldExpired"):
    """A hold's time ran out; what remained went back to available."""

    hold: Hash32
    account: Address
    beneficiary: Address | None
    asset: AssetId
    amount_minor: PositiveMinor
    controller: str
    reference: bytes

    def accounts(self) -> tuple[bytes, ...]:
        return _of_hold(self.account, self.beneficiary)


class Proposed(Event, tag="ledger.Proposed"):
    """Messages wait for approval. `parties` are the accounts that they act for."""

    pending: Hash32
    account: Address
    messages: tuple[bytes, ...]
    parties: tuple[Address, ...]
    keys: tuple[PublicKey, ...]
    expires_at_ms: TimeMs

    def accounts(self) -> tuple[bytes, ...]:
        return self.parties


class Approved(Event, tag="ledger.Approved"):
    """Keys of `account` approved pending messages."""

    pending: Hash32
    account: Address
    keys: tuple[PublicKey, ...]
    parties: tuple[Address, ...]

    def accounts(self) -> tuple[bytes, ...]:
        return self.parties


class PendingExecuted(Event, tag="ledger.PendingExecuted"):
    """Every policy was met and the messages ran; their events come before this one."""

    pending: Hash32
    parties: tuple[Address, ...]

    def accounts(self) -> tuple[bytes, ...]:
        return self.parties


class PendingFailed(Event, tag="ledger.PendingFailed"):
    """Every policy was met, but the messages broke a rule: nothing of them stands, and they are not tried again."""

    pending: Hash32
    parties: tuple[Address, ...]
    codespace: str
    number: Uint32
    message: str

    def accounts(self) -> tuple[bytes, ...]:
        return self.parties


class PendingWithdrawn(Event, tag="ledger.PendingWithdrawn"):
    """The proposing account took its proposal back."""

    pending: Hash32
    account: Address
    parties: tuple[Address, ...]

    def accounts(self) -> tuple[bytes, ...]:
        return self.parties


class PendingExpired(Event, tag="ledger.PendingExpired"):
    """The time for approval ran out."""

    pending: Hash32
    parties: tuple[Address, ...]

    def accounts(self) -> tuple[bytes, ...]:
        return self.parties


class ValidatorSet(Event, tag="ledger.ValidatorSet"):
    """A validator was added (power before 0), weighed anew or removed (power 0); it acts two heights later."""

    public_key: Hash32
    member: MemberId
    name: NodeName
    power_before: Uint63
    power: Uint63

    def members(self) -> tuple[str, ...]:
        return (self.member,)


class NodeRegistered(Event, tag="ledger.NodeRegistered"):
    """The network's nodes let this one in as a peer from here on."""

    public_key: Hash32
    member: MemberId
    name: NodeName

    def members(self) -> tuple[str, ...]:
        return (self.member,)


class NodeRemoved(Event, tag="ledger.NodeRemoved"):
    """This node is let in as a peer no longer."""

    public_key: Hash32
    member: MemberId
    name: NodeName

    def members(self) -> tuple[str, ...]:
        return (self.member,)


class ParametersSet(Event, tag="ledger.ParametersSet"):
    """The consensus parameters that hold from the next block on."""

    parameters: Parameters


def _of_hold(account: bytes, beneficiary: bytes | None) -> tuple[bytes, ...]:
    return (account,) if beneficiary is None else (account, beneficiary)


EVENTS: tuple[type[Event], ...] = (
    MemberAdded,
    MemberChanged,
    AccountOpened,
    AdministrationSet,
    PolicyChanged,
    AccountFrozen,
    AccountReleased,
    AssetDefined,
    Posted,
    LimitSet,
    AssetFreezeSet,
    ListingSet,
    HoldPlaced,
    HoldPosted,
    HoldVoided,
    HoldExpired,
    Proposed,
    Approved,
    PendingExecuted,
    PendingFailed,
    PendingWithdrawn,
    PendingExpired,
    ParametersSet,
    ValidatorSet,
    NodeRegistered,
    NodeRemoved,
)
