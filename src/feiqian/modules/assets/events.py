"""What happened to assets: why entries were made, by whom an account was frozen and for what reason.

The entries themselves, definitions and listings stand in the ledger's events (`Posted`, `AssetDefined`, `ListingSet`).
"""

from typing import Self

from feiqian.core.addresses import Address
from feiqian.core.encoding import AssetId, Hash32, PositiveMinor, TimeMs
from feiqian.ledger.context import Event, IsOwn
from feiqian.modules.assets.messages import BatchLeg, ReasonCode, Reference


class Issued(Event, tag="assets.Issued"):
    """New units came into being on `payee`."""

    issuance_account: Address
    payee: Address
    asset: AssetId
    amount_minor: PositiveMinor
    reference: Reference

    def accounts(self) -> tuple[bytes, ...]:
        return (self.issuance_account, self.payee)


class Redeemed(Event, tag="assets.Redeemed"):
    """Units of `account` ended."""

    account: Address
    issuance_account: Address
    asset: AssetId
    amount_minor: PositiveMinor
    reference: Reference

    def accounts(self) -> tuple[bytes, ...]:
        return (self.account, self.issuance_account)


class Transferred(Event, tag="assets.Transferred"):
    """Units moved from holder to holder."""

    payer: Address
    payee: Address
    asset: AssetId
    amount_minor: PositiveMinor
    reference: Reference

    def accounts(self) -> tuple[bytes, ...]:
        return (self.payer, self.payee)


class BatchTransferred(Event, tag="assets.BatchTransferred"):
    """Units moved from one holder to many. A payee reads its own legs and their sum, not what others were paid."""

    payer: Address
    asset: AssetId
    total_minor: PositiveMinor
    legs: tuple[BatchLeg, ...]

    def accounts(self) -> tuple[bytes, ...]:
        return tuple(dict.fromkeys((self.payer, *[leg.payee for leg in self.legs])))

    def for_reader(self, is_own: IsOwn) -> Self:
        if is_own(self.payer):
            return self
        legs = tuple([leg for leg in self.legs if is_own(leg.payee)])
        return type(self)(self.payer, self.asset, sum([leg.amount_minor for leg in legs]), legs)


class HoldMade(Event, tag="assets.HoldMade"):
    """Units were reserved for a beneficiary."""

    hold: Hash32
    account: Address
    beneficiary: Address
    asset: AssetId
    amount_minor: PositiveMinor
    expires_at_ms: TimeMs
    reference: Reference

    def accounts(self) -> tuple[bytes, ...]:
        return (self.account, self.beneficiary)


class HoldTaken(Event, tag="assets.HoldTaken"):
    """The beneficiary took reserved units."""

    hold: Hash32
    account: Address
    beneficiary: Address
    asset: AssetId
    amount_minor: PositiveMinor
    is_final: bool

    def accounts(self) -> tuple[bytes, ...]:
        return (self.account, self.beneficiary)


class HoldGivenUp(Event, tag="assets.HoldGivenUp"):
    """The beneficiary gave a hold up."""

    hold: Hash32
    account: Address
    beneficiary: Address
    asset: AssetId
    amount_minor: PositiveMinor

    def accounts(self) -> tuple[bytes, ...]:
        return (self.account, self.beneficiary)


class Frozen(Event, tag="assets.Frozen"):
    """An account was stopped for one asset."""

    controller: Address
    account: Address
    asset: AssetId
    reason: ReasonCode

    def accounts(self) -> tuple[bytes, ...]:
        return (self.controller, self.account)


class Released(Event, tag="assets.Released"):
    """A freeze ended."""

    controller: Address
    account: Address
    asset: AssetId
    reason: ReasonCode

    def accounts(self) -> tuple[bytes, ...]:
        return (self.controller, self.account)


class TransferForced(Event, tag="assets.TransferForced"):
    """The controller moved units without their holder's consent."""

    controller: Address
    payer: Address
    payee: Address
    asset: AssetId
    amount_minor: PositiveMinor
    reason: ReasonCode
    reference: Reference

    def accounts(self) -> tuple[bytes, ...]:
        return (self.controller, self.payer, self.payee)


class HoldVoidForced(Event, tag="assets.HoldVoidForced"):
    """The controller voided a hold without its beneficiary's consent."""

    controller: Address
    hold: Hash32
    account: Address
    beneficiary: Address
    asset: AssetId
    amount_minor: PositiveMinor
    reason: ReasonCode

    def accounts(self) -> tuple[bytes, ...]:
        return (self.controller, self.account, self.beneficiary)


EVENTS: tuple[type[Event], ...] = (
    Issued,
    Redeemed,
    Transferred,
    BatchTransferred,
    HoldMade,
    HoldTaken,
    HoldGivenUp,
    Frozen,
    Released,
    TransferForced,
    HoldVoidForced,
)
