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
    """Open a further account of the acting account's member. Policy, member and salt make its address."""

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


class SetFrozen(Message, tag="accounts.SetFrozen"):
    """Freeze or release `target` in all assets, for an account of the same member or of a governor."""

    account: Address
    target: Address
    is_frozen: bool
    reason: ShortText

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account),)


class SetLimit(Message, tag="accounts.SetLimit"):
    """Agree how far below zero `target` may go in an asset; by an account of the asset's issuer."""

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
