"""What members ask about their accounts: opening, policies, freezes, credit limits, pending approvals."""

from typing import Annotated

from msgspec import Meta

from feiqian.core.addresses import Address
from feiqian.core.encoding import AmountMinor, AssetId, Hash32, ShortText, Uint16
from feiqian.core.transactions import Salt
from feiqian.ledger.authority import Contribution
from feiqian.ledger.context import Claim, Message
from feiqian.ledger.records import MAX_PROPOSAL_MESSAGES, Policy


class Open(Message, tag="accounts.Open"):
    """Open a further account of the member. Policy, member and salt make its address. Sent by its administration."""

    account: Address
    policy: Policy
    salt: Salt

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account),)


class ChangePolicy(Message, tag="accounts.ChangePolicy"):
    """Replace the acting account's policy, as the present one allows; the address stays."""

    account: Address
    policy: Policy

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account),)


class SetAdministration(Message, tag="accounts.SetAdministration"):
    """Let another of the member's accounts speak for it from here on. Sent by the present administration account."""

    account: Address
    administration: Address

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account),)


class SetFrozen(Message, tag="accounts.SetFrozen"):
    """Freeze or release `target`, another account of the member, in all assets. Sent by its administration account."""

    account: Address
    target: Address
    is_frozen: bool
    reason: ShortText

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account),)


class SetLimit(Message, tag="accounts.SetLimit"):
    """Agree how far below zero `target` may go in an asset; sent by the asset's issuance account."""

    account: Address
    target: Address
    asset: AssetId
    limit_minor: AmountMinor

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account, self.asset, self.limit_minor),)


class Propose(Contribution, tag="accounts.Propose"):
    """Put encoded messages up for approval for so many days; one of them acts for the proposing account."""

    account: Address
    messages: Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=MAX_PROPOSAL_MESSAGES)]
    days: Uint16

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account),)


class Approve(Contribution, tag="accounts.Approve"):
    """Add this transaction's keys to a pending approval, on behalf of an account that it acts for."""

    account: Address
    pending: Hash32

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account),)


class Withdraw(Contribution, tag="accounts.Withdraw"):
    """Take a pending approval back, on behalf of the account that proposed it."""

    account: Address
    pending: Hash32

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account),)
