"""The bodies of payments' HTTP routes. Ids and hashes are hex, accounts `fq1…`, times ms since 1970."""

from typing import Annotated

from msgspec import Meta, Struct

MAX_LOOK_UP = 1_000
MAX_REJECTED = 1_000
MAX_BOOKINGS = 10_000
"""Entries on a page of a statement."""

Hex32 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="32 bytes in hex")]
Hex64 = Annotated[str, Meta(pattern="^[0-9a-f]{128}$", description="64 bytes in hex")]


class AgentBody(Struct):
    """A bank that takes part in payments with one deposit asset. `vault_key` is its X25519 key in hex."""

    deposit_asset: str
    member: str
    legal_name: str
    currency: str
    scale: int
    bic: str | None
    clearing_system: str | None
    clearing_member: str | None
    limit_minor: int
    vault_key: str | None


class AliasQuestion(Struct, forbid_unknown_fields=True):
    """One account number at one agent, as its digest."""

    deposit_asset: Annotated[str, Meta(max_length=48)]
    alias: Hex32


class LookUpBody(Struct, forbid_unknown_fields=True):
    """Account numbers to look up."""

    aliases: Annotated[list[AliasQuestion], Meta(max_length=MAX_LOOK_UP)]


class AliasBody(Struct):
    """What an account number means. `member` is the account's, `vault_key` that member's."""

    account: str
    holder_name: str
    is_closed: bool
    member: str
    vault_key: str | None


class PaidBody(Struct, forbid_unknown_fields=True):
    """Debtor account ‖ instruction id, 64 bytes each in hex, of instructions to ask after."""

    keys: Annotated[list[Hex64], Meta(max_length=MAX_LOOK_UP)]


class ReaderBody(Struct):
    """Who reads every payment's particulars, with the key to seal for."""

    member: str
    vault_key: str


class PaymentBody(Struct):
    """A settled payment as the ledger has it; what is private lies in the vault under `commitment`."""

    status: str
    uetr: str
    instruction_id: str
    tx_id: str | None
    height: int
    time_ms: int
    debtor_agent: str
    debtor_account: str
    debtor_asset: str
    creditor_agent: str
    creditor_account: str
    creditor_asset: str
    currency: str
    amount_minor: int
    charge_bearer: str
    purpose: str | None
    commitment: str | None


class RejectedPayment(Struct, forbid_unknown_fields=True):
    """A payment that a file was told is rejected, as its sender files it; `uetr` is null for a whole file."""

    uetr: Annotated[str, Meta(min_length=36, max_length=36)] | None
    debtor_account: Annotated[str, Meta(max_length=90)] | None
    payments: Annotated[int, Meta(ge=1, le=1_000_000)]
    amount: Annotated[str, Meta(pattern=r"^[0-9]{0,18}(\.[0-9]{0,17})?$")]
    currency: Annotated[str, Meta(pattern="^[A-Z]{0,3}$")]
    reason: Annotated[str, Meta(pattern="^[A-Z0-9]{4}$", description="ExternalStatusReason1Code")]
    codespace: Annotated[str, Meta(max_length=40)]
    number: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    tx_id: Hex32 | None


class RejectedBody(Struct, forbid_unknown_fields=True):
    """What the file with this MsgId, sent for an account, was told is rejected."""

    account: Annotated[str, Meta(max_length=90)]
    file: Annotated[str, Meta(min_length=1, max_length=35)]
    rejected: Annotated[list[RejectedPayment], Meta(min_length=1, max_length=MAX_REJECTED)]


class RejectionBody(Struct):
    """A payment, or a whole file (`uetr` null) of so many `payments`, that was rejected; `reason` is ISO's code.

    `codespace` and `number` name the broken rule where one of the ledger was, `tx_id` the transaction where one was
    made: it stands on the ledger, or was refused or dropped before.
    """

    rejected_at_ms: int
    file: str
    uetr: str | None
    payments: int
    amount: str | None
    currency: str | None
    reason: str
    codespace: str | None
    number: int | None
    tx_id: str | None


class BookingBody(Struct):
    """One entry on an account with the payment behind it, if one is. A credit is > 0."""

    reference: str
    amount_minor: int
    time_ms: int
    tx_id: str | None
    payment: PaymentBody | None


class StatementBody(Struct):
    """A page of an account's statement in one asset over [from_ms, until_ms), entries oldest first.

    `until_ms` is never later than up to where the ledger is settled: no entry before it can come any more. Balances are
    those before and after the page's entries, and `sequence` is the first one's. `next_cursor` asks for the next page,
    with the same span; null on the last.
    """

    account: str
    asset: str
    currency: str | None
    scale: int
    owner: str
    servicer: AgentBody | None
    from_ms: int
    until_ms: int
    sequence: int
    opening_minor: int
    closing_minor: int
    bookings: list[BookingBody]
    next_cursor: str | None
    indexed_height: int | None
