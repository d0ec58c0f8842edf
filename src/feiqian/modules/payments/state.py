"""What payments keeps on the ledger: agents, their directories, the payments made, and the module's settings."""

from typing import Annotated

from msgspec import Meta

from feiqian.core.addresses import Address
from feiqian.core.encoding import AssetId, Hash32, MemberId, PositiveMinor, Record, TimeMs, Uint32
from feiqian.ledger.documents import Readers
from feiqian.modules.payments.messages import ChargeBearer, ClearingNumber, Currency, Purpose, Uetr
from feiqian.state.tables import Overlay, Table

Status = Annotated[str, Meta(min_length=4, max_length=4, pattern=r"\A[A-Z]{4}\Z")]
"""ISO 20022 ExternalPaymentTransactionStatus1Code."""

SETTLED: Status = "ACSC"
"""AcceptedSettlementCompleted: the settlement posting is committed."""


class Agent(Record):
    """A bank's standing authority for one deposit asset: which of its accounts its customers' payments move."""

    member: MemberId
    currency: Currency
    issuance_account: Address
    settlement_asset: AssetId
    settlement_account: Address
    directory_account: Address
    limit_minor: PositiveMinor
    clearing: ClearingNumber | None


class Alias(Record):
    """What one account number at one agent means; `is_closed` numbers stay, so that a payer learns why."""

    account: Address
    holder_name: Hash32
    is_closed: bool


class Customer(Record):
    """How many open account numbers of one agent mean this account; it pays and is paid while there is one."""

    open_aliases: Uint32


class Payment(Record):
    """One payment as settled: amounts, parties by address, references. Nothing of who or what for in clear."""

    status: Status
    debtor_account: Address
    debtor_asset: AssetId
    creditor_account: Address
    creditor_asset: AssetId
    currency: Currency
    amount_minor: PositiveMinor
    uetr: Uetr
    charge_bearer: ChargeBearer
    purpose: Purpose | None
    commitment: Hash32 | None
    settled_at_ms: TimeMs


class Reference(Record):
    """Which instruction a debtor's UETR belongs to."""

    instruction_id: Hash32


class Settings(Record):
    """`required_readers`: members for whom every payment's particulars are sealed besides both agents (regulators)."""

    required_readers: Readers | None


AGENTS = Table("payments.agents", Agent)
"""Key: deposit asset code."""

ALIASES = Table("payments.aliases", Alias)
"""Key: deposit asset code, slash, alias digest."""

CUSTOMERS = Table("payments.customers", Customer)
"""Key: deposit asset code, slash, account address."""

PAYMENTS = Table("payments.payments", Payment)
"""Key: debtor account, instruction id. The debtor's account leads, so that a stranger cannot use up an instruction."""

UETRS = Table("payments.uetrs", Reference)
"""Key: UETR, debtor account."""

SETTINGS = Table("payments.settings", Settings)
"""One record under `SETTINGS_KEY`."""

SETTINGS_KEY = b"current"

TABLES = (AGENTS, ALIASES, CUSTOMERS, PAYMENTS, UETRS, SETTINGS)


def entry_key(deposit_asset: str, entry: bytes) -> bytes:
    """Return the key of an alias digest or customer account in one agent's directory."""
    return deposit_asset.encode() + b"/" + entry


def required_readers(state: Overlay) -> tuple[str, ...]:
    """Return the members who must be able to read every payment's particulars."""
    settings = SETTINGS.get(state, SETTINGS_KEY)
    return () if settings is None or settings.required_readers is None else settings.required_readers
