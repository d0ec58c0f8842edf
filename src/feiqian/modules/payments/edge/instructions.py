"""What a payment file says, independent of the version it was written in: one struct for each thing kept."""

from typing import Literal

from msgspec import Struct


class Party(Struct, frozen=True, omit_defaults=True):
    """A debtor, creditor or ultimate party; `identifications` are (kind, value), e.g. ("LEI", "…"), ("BIC", "…")."""

    name: str | None = None
    country: str | None = None
    address: tuple[tuple[str, str], ...] = ()
    identifications: tuple[tuple[str, str], ...] = ()


class AccountNumber(Struct, frozen=True, omit_defaults=True):
    """An IBAN, or another number as its bank gives it; electronic form."""

    kind: Literal["iban", "local"]
    number: str
    currency: str | None = None


class AgentNumber(Struct, frozen=True, omit_defaults=True):
    """A bank by BIC, or by its number in a clearing system such as `CNAPS`."""

    bic: str | None = None
    clearing_system: str | None = None
    clearing_member: str | None = None
    name: str | None = None


class ReferredDocument(Struct, frozen=True, omit_defaults=True):
    """An invoice, credit note, … that the payment is for."""

    kind: str | None = None
    number: str | None = None
    date: str | None = None


class StructuredRemittance(Struct, frozen=True, omit_defaults=True):
    """One `Strd`: documents, creditor reference (ISO 11649 where `kind` is SCOR and it starts with RF), amounts."""

    documents: tuple[ReferredDocument, ...] = ()
    amounts: tuple[tuple[str, str, str], ...] = ()
    reference_kind: str | None = None
    reference_issuer: str | None = None
    reference: str | None = None
    additional: tuple[str, ...] = ()


class Remittance(Struct, frozen=True, omit_defaults=True):
    """What the payment is for."""

    unstructured: tuple[str, ...] = ()
    structured: tuple[StructuredRemittance, ...] = ()


class Instruction(Struct, frozen=True, omit_defaults=True):
    """One payment as instructed. `amount_text` is the decimal text of the file; `ordinal` sets NOTPROVIDED ones apart.

    `obstacle` is (ISO reason, sentence) where the instruction asks for what is not done here; it is refused alone.
    """

    message_id: str
    batch_id: str
    end_to_end_id: str
    ordinal: int
    currency: str
    amount_text: str
    requested_date: str
    charge_bearer: str
    debtor: Party
    debtor_account: AccountNumber
    debtor_agent: AgentNumber
    creditor: Party
    creditor_account: AccountNumber | None
    creditor_agent: AgentNumber
    instruction_id: str | None = None
    uetr: str | None = None
    purpose: str | None = None
    category_purpose: str | None = None
    service_levels: tuple[str, ...] = ()
    ultimate_debtor: Party | None = None
    ultimate_creditor: Party | None = None
    remittance: Remittance = Remittance()
    obstacle: tuple[str, str] | None = None


class Batch(Struct, frozen=True):
    """One `PmtInf`: what it states of itself."""

    id: str
    count: int | None
    control_sum: str | None
    instructions: tuple[Instruction, ...]


class PaymentFile(Struct, frozen=True):
    """A pain.001 that is readable; `message` names its version."""

    message: str
    message_id: str
    created_at: str
    initiating_party: str
    count: int
    control_sum: str | None
    batches: tuple[Batch, ...]

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        """All payments in the order of the file."""
        return tuple(instruction for batch in self.batches for instruction in batch.instructions)
