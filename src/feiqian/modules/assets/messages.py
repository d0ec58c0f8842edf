"""What may be asked of assets: to define, issue, redeem, transfer, hold, freeze, allow and force.

A message's `claims` are the accounts whose policies it must meet, each with what moves, so that rules by kind and
amount decide who signs.
"""

from typing import Annotated

from msgspec import Meta

from feiqian.core.addresses import Address
from feiqian.core.encoding import (
    AssetId,
    Hash32,
    PositiveMinor,
    Record,
    Scale,
    ShortText,
    TimeMs,
)
from feiqian.ledger.context import Claim, Message

MAX_BATCH_LEGS = 1000

Currency = Annotated[str, Meta(min_length=3, max_length=3, pattern=r"\A[A-Z]{3}\Z")]
Reference = Annotated[bytes, Meta(max_length=64)]
"""The sender's own mark on a movement, such as an end-to-end id or a salted digest of one."""
ReasonCode = Annotated[str, Meta(min_length=1, max_length=32, pattern=r"\A[A-Z_]+\Z")]
"""One of `state.REASONS`."""


class Define(Message, tag="assets.Define"):
    """Create an asset. Sent by the administration account of its issuer, which names the account that issues it.

    `issuance_account` is one of the issuer's; `supply_cap_minor` bounds what is ever outstanding;
    `transfer_limit_minor` bounds one transfer and `daily_limit_minor` what one account pays out in a UTC day;
    `controller` may freeze accounts and force transfers.
    """

    account: Address
    code: AssetId
    name: ShortText
    currency: Currency | None
    scale: Scale
    issuance_account: Address
    supply_cap_minor: PositiveMinor
    is_freezable: bool
    is_allow_listed: bool
    transfer_limit_minor: PositiveMinor | None
    daily_limit_minor: PositiveMinor | None
    controller: Address | None

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account, self.code),)


class Issue(Message, tag="assets.Issue"):
    """Bring new units into being on `payee`. Sent by the asset's issuance account."""

    issuance_account: Address
    payee: Address
    asset: AssetId
    amount_minor: PositiveMinor
    reference: Reference

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.issuance_account, self.asset, self.amount_minor),)


class Redeem(Message, tag="assets.Redeem"):
    """Hand units back to the issuer, where they end. Sent by the holder."""

    account: Address
    asset: AssetId
    amount_minor: PositiveMinor
    reference: Reference

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account, self.asset, self.amount_minor),)


class Transfer(Message, tag="assets.Transfer"):
    """Move units from the sender's account to another holder's."""

    payer: Address
    payee: Address
    asset: AssetId
    amount_minor: PositiveMinor
    reference: Reference

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.payer, self.asset, self.amount_minor),)

    def touches(self) -> tuple[tuple[bytes, str], ...]:
        return (self.payer, self.asset), (self.payee, self.asset)


class BatchLeg(Record):
    """One payee's part of a batch transfer."""

    payee: Address
    amount_minor: PositiveMinor
    reference: Reference


class BatchTransfer(Message, tag="assets.BatchTransfer"):
    """Pay up to 1,000 payees in one asset from one account: all of them or none.

    One payer, so that one policy weighs the whole sum: a salary run cannot slip past a checker's threshold in parts.
    """

    payer: Address
    asset: AssetId
    legs: Annotated[tuple[BatchLeg, ...], Meta(min_length=1, max_length=MAX_BATCH_LEGS)]

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.payer, self.asset, self.total_minor()),)

    def touches(self) -> tuple[tuple[bytes, str], ...]:
        return ((self.payer, self.asset), *[(leg.payee, self.asset) for leg in self.legs])

    def total_minor(self) -> int:
        """Return what the payer pays in all; may exceed int64, which the ledger then refuses."""
        return sum([leg.amount_minor for leg in self.legs])


class PlaceHold(Message, tag="assets.PlaceHold"):
    """Reserve units of `account` for `beneficiary` until block time `expires_at_ms`. Sent by the account."""

    account: Address
    beneficiary: Address
    asset: AssetId
    amount_minor: PositiveMinor
    expires_at_ms: TimeMs
    reference: Reference

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account, self.asset, self.amount_minor),)


class PostHold(Message, tag="assets.PostHold"):
    """Take a hold's units, all or some; `is_final` releases what is left over. Sent by the beneficiary."""

    hold: Hash32
    beneficiary: Address
    asset: AssetId
    amount_minor: PositiveMinor
    is_final: bool

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.beneficiary, self.asset, self.amount_minor),)


class VoidHold(Message, tag="assets.VoidHold"):
    """Give a hold up, so that its units are available to their owner again. Sent by the beneficiary."""

    hold: Hash32
    beneficiary: Address

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.beneficiary),)


class Freeze(Message, tag="assets.Freeze"):
    """Stop an account from paying and being paid in one asset. Sent by the asset's controller."""

    controller: Address
    account: Address
    asset: AssetId
    reason: ReasonCode

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.controller, self.asset),)


class Release(Message, tag="assets.Release"):
    """End a freeze. Sent by the asset's controller."""

    controller: Address
    account: Address
    asset: AssetId
    reason: ReasonCode

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.controller, self.asset),)


class AllowHolder(Message, tag="assets.AllowHolder"):
    """Let an account hold an allow-listed asset. Sent by the asset's issuance account."""

    issuance_account: Address
    account: Address
    asset: AssetId

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.issuance_account, self.asset),)


class DisallowHolder(Message, tag="assets.DisallowHolder"):
    """Take an account off an asset's allow-list. Sent by the asset's issuance account."""

    issuance_account: Address
    account: Address
    asset: AssetId

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.issuance_account, self.asset),)


class ForcedTransfer(Message, tag="assets.ForcedTransfer"):
    """Move units without their holder's consent, frozen or not. Sent by the asset's controller."""

    controller: Address
    payer: Address
    payee: Address
    asset: AssetId
    amount_minor: PositiveMinor
    reason: ReasonCode
    reference: Reference

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.controller, self.asset, self.amount_minor),)


class ForcedVoidHold(Message, tag="assets.ForcedVoidHold"):
    """Void a hold that this module placed, without its beneficiary's consent. Sent by the asset's controller."""

    controller: Address
    hold: Hash32
    asset: AssetId
    reason: ReasonCode

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.controller, self.asset),)
