"""What happened in payments."""

from feiqian.core.addresses import Address
from feiqian.core.encoding import AssetId, Hash32, MemberId, PositiveMinor
from feiqian.ledger.context import Event
from feiqian.modules.payments.messages import ChargeBearer, ClearingNumber, Currency, Purpose, Uetr
from feiqian.modules.payments.state import Status


class AgentRegistered(Event, tag="payments.AgentRegistered"):
    """A bank stated its standing authority for one deposit asset."""

    member: MemberId
    deposit_asset: AssetId
    currency: Currency
    issuance_account: Address
    settlement_asset: AssetId
    settlement_account: Address
    directory_account: Address
    limit_minor: PositiveMinor
    clearing: ClearingNumber | None

    def accounts(self) -> tuple[bytes, ...]:
        return (self.issuance_account, self.settlement_account, self.directory_account)

    def members(self) -> tuple[str, ...]:
        return (self.member,)


class AgentRemoved(Event, tag="payments.AgentRemoved"):
    """A bank took its standing authority back."""

    member: MemberId
    deposit_asset: AssetId

    def members(self) -> tuple[str, ...]:
        return (self.member,)


class AliasRegistered(Event, tag="payments.AliasRegistered"):
    """An account number of this agent now means `account`."""

    agent: MemberId
    deposit_asset: AssetId
    alias: Hash32
    account: Address
    holder_name: Hash32

    def accounts(self) -> tuple[bytes, ...]:
        return (self.account,)

    def members(self) -> tuple[str, ...]:
        return (self.agent,)


class AliasRemoved(Event, tag="payments.AliasRemoved"):
    """An account number of this agent was closed."""

    agent: MemberId
    deposit_asset: AssetId
    alias: Hash32
    account: Address

    def accounts(self) -> tuple[bytes, ...]:
        return (self.account,)

    def members(self) -> tuple[str, ...]:
        return (self.agent,)


class CreditTransferSettled(Event, tag="payments.CreditTransferSettled"):
    """A payment is settled and the creditor credited, in one posting (the `ledger.Posted` before it)."""

    status: Status
    debtor_agent: MemberId
    debtor_account: Address
    debtor_asset: AssetId
    creditor_agent: MemberId
    creditor_account: Address
    creditor_asset: AssetId
    currency: Currency
    amount_minor: PositiveMinor
    uetr: Uetr
    instruction_id: Hash32
    charge_bearer: ChargeBearer
    purpose: Purpose | None
    commitment: Hash32 | None

    def accounts(self) -> tuple[bytes, ...]:
        return (self.debtor_account, self.creditor_account)

    def members(self) -> tuple[str, ...]:
        return (self.debtor_agent, self.creditor_agent)


EVENTS = (AgentRegistered, AgentRemoved, AliasRegistered, AliasRemoved, CreditTransferSettled)
