"""What members ask: agents state standing authority and keep the directory; customers order credit transfers."""

from typing import Annotated

from msgspec import Meta

from feiqian.core.addresses import Address
from feiqian.core.encoding import AssetId, Hash32, PositiveMinor, Record, Uint32
from feiqian.ledger.context import Claim, Message
from feiqian.ledger.documents import DocumentReference

Currency = Annotated[str, Meta(min_length=3, max_length=3, pattern=r"\A[A-Z]{3}\Z")]
"""ISO 4217 alphabetic code."""

ChargeBearer = Annotated[str, Meta(min_length=4, max_length=4, pattern=r"\A(DEBT|CRED|SHAR|SLEV)\Z")]
"""ISO 20022 ChargeBearerType1Code."""

Purpose = Annotated[str, Meta(min_length=1, max_length=4, pattern=r"\A[A-Z0-9]{1,4}\Z")]
"""ISO 20022 ExternalPurpose1Code, e.g. `SALA`."""

Uetr = Annotated[bytes, Meta(min_length=16, max_length=16)]
"""Unique end-to-end transaction reference: the 16 bytes of a version 4 UUID (RFC 9562)."""


ClearingSystem = Annotated[str, Meta(min_length=1, max_length=5, pattern=r"\A[A-Z]{1,5}\Z")]
"""ISO 20022 ExternalClearingSystemIdentification1Code, e.g. `CNAPS`."""

ClearingMember = Annotated[str, Meta(min_length=1, max_length=35, pattern=r"\A[A-Z0-9]{1,35}\Z")]
"""ISO 20022 ClearingSystemMemberIdentification."""


class ClearingNumber(Record):
    """A bank's number in a clearing system: for `CNAPS`, the 12 digits of its 行号."""

    system: ClearingSystem
    member: ClearingMember


class RegisterAgent(Message, tag="payments.RegisterAgent"):
    """A bank states under what authority its customers' payments in one deposit asset move its own accounts.

    Signed for all three accounts. `limit_minor` caps each payment that its customers send; `clearing` is where payment
    files may find it, besides the BIC of its member record.
    """

    deposit_asset: AssetId
    issuance_account: Address
    settlement_asset: AssetId
    settlement_account: Address
    directory_account: Address
    limit_minor: PositiveMinor
    clearing: ClearingNumber | None

    def claims(self) -> tuple[Claim, ...]:
        return (
            Claim(self.issuance_account, self.deposit_asset),
            Claim(self.settlement_account, self.settlement_asset),
            Claim(self.directory_account, self.deposit_asset),
        )


class RemoveAgent(Message, tag="payments.RemoveAgent"):
    """A bank takes its standing authority back: from then on nothing is sent from or to its customers in that asset."""

    deposit_asset: AssetId
    settlement_account: Address

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.settlement_account),)


class RegisterAlias(Message, tag="payments.RegisterAlias"):
    """The bank `directory_account` stands for says which ledger account an IBAN or local account number means.

    `alias` and `holder_name` are digests (`edge.directory.alias_digest`, `edge.directory.name_digest`).
    """

    directory_account: Address
    deposit_asset: AssetId
    alias: Hash32
    account: Address
    holder_name: Hash32

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.directory_account, self.deposit_asset),)


class RemoveAlias(Message, tag="payments.RemoveAlias"):
    """The bank closes an IBAN or local account number; it stays known as closed."""

    directory_account: Address
    deposit_asset: AssetId
    alias: Hash32

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.directory_account, self.deposit_asset),)


class CreditTransfer(Message, tag="payments.CreditTransfer"):
    """A customer pays: part of its deposit at one agent becomes the creditor's deposit at another, or the same.

    An agent is named by its deposit asset. `instruction_id` is `edge.directory.instruction_id` of what the initiating
    party called the payment; `requested_day` counts days since 1970-01-01, absent or today; `particulars` is the
    sealed document with all that is personal or commercial (names, EndToEndId, remittance).
    """

    debtor_account: Address
    debtor_asset: AssetId
    creditor_account: Address
    creditor_asset: AssetId
    currency: Currency
    amount_minor: PositiveMinor
    uetr: Uetr
    instruction_id: Hash32
    charge_bearer: ChargeBearer
    purpose: Purpose | None
    requested_day: Uint32 | None
    particulars: DocumentReference | None

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.debtor_account, self.debtor_asset, self.amount_minor),)
