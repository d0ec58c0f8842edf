"""What statements and notifications share: an account, its entries, and how each is written in camt."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from msgspec import Struct

from feiqian.core.amounts import to_decimal_text
from feiqian.modules.payments.edge.instructions import (
    AccountNumber,
    AgentNumber,
    Instruction,
    Party,
    Remittance,
    StructuredRemittance,
)

SENT = ("PMNT", "ICDT", "DMCT")
RECEIVED = ("PMNT", "RCDT", "DMCT")
OTHER = ("PMNT", "NTAV", "NTAV")
"""ISO external bank transaction codes: issued and received domestic credit transfers; not available."""

_AMOUNT_FIELDS = {"DuePyblAmt": "due_pybl_amt", "RmtdAmt": "rmtd_amt", "CdtNoteAmt": "cdt_note_amt"}
_REPEATED_ADDRESS_PARTS = ("AdrLine",)
# PostalAddress24 has no room for parts that only pain.001.001.11 knows.
_ADDRESS_FIELDS = {
    "Dept": "dept",
    "SubDept": "sub_dept",
    "StrtNm": "strt_nm",
    "BldgNb": "bldg_nb",
    "BldgNm": "bldg_nm",
    "Flr": "flr",
    "PstBx": "pst_bx",
    "Room": "room",
    "PstCd": "pst_cd",
    "TwnNm": "twn_nm",
    "TwnLctnNm": "twn_lctn_nm",
    "DstrctNm": "dstrct_nm",
    "CtrySubDvsn": "ctry_sub_dvsn",
}


class StatedAccount(Struct, frozen=True):
    """The account that is reported on: its number at the servicing bank, or its ledger address where it has none."""

    number: AccountNumber
    currency: str
    scale: int
    owner: str | None
    servicer: AgentNumber


class Settled(Struct, frozen=True):
    """The payment behind an entry: what the ledger says, and the instruction where the reader could open it."""

    uetr: str
    debtor_agent: AgentNumber
    creditor_agent: AgentNumber
    purpose: str | None
    instruction: Instruction | None


class Booking(Struct, frozen=True):
    """One entry: a credit is > 0. `reference` is unique on the account; `tx_id` leads to its proof."""

    reference: str
    amount_minor: int
    booked_at_ms: int
    tx_id: bytes | None
    payment: Settled | None


def time_text(time_ms: int) -> str:
    """Return block time as ISO 8601 in UTC."""
    return datetime.fromtimestamp(time_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def date_text(time_ms: int) -> str:
    """Return the UTC day of a block time."""
    return time_text(time_ms)[:10]


def amount(amount_minor: int, account: StatedAccount) -> dict[str, Any]:
    """Return an amount without its sign."""
    return {"value": Decimal(to_decimal_text(abs(amount_minor), account.scale)), "ccy": account.currency}


def direction(amount_minor: int) -> str:
    """Return CRDT or DBIT; zero is a credit, as ISO 20022 has it for balances."""
    return "DBIT" if amount_minor < 0 else "CRDT"


def account_fields(account: StatedAccount) -> dict[str, Any]:
    """Return the `Acct` of a statement or notification."""
    return {
        "id": number_fields(account.number),
        "ccy": account.currency,
        "ownr": None if account.owner is None else {"nm": account.owner[:140]},
        "svcr": agent_fields(account.servicer),
    }


def entry_fields(booking: Booking, account: StatedAccount) -> dict[str, Any]:
    """Return the `Ntry` of one booking."""
    codes = OTHER if booking.payment is None else (RECEIVED if booking.amount_minor > 0 else SENT)
    return {
        "ntry_ref": booking.reference,
        "amt": amount(booking.amount_minor, account),
        "cdt_dbt_ind": direction(booking.amount_minor),
        "sts": {"cd": "BOOK"},
        "bookg_dt": {"dt_tm": time_text(booking.booked_at_ms)},
        "val_dt": {"dt": date_text(booking.booked_at_ms)},
        "acct_svcr_ref": booking.reference,
        "bk_tx_cd": {"domn": {"cd": codes[0], "fmly": {"cd": codes[1], "sub_fmly_cd": codes[2]}}},
        "ntry_dtls": [{"tx_dtls": [_details(booking, account)]}],
    }


def totals_fields(bookings: tuple[Booking, ...], account: StatedAccount) -> dict[str, Any]:
    """Return the `TxsSummry` of the bookings."""
    credited = [booking.amount_minor for booking in bookings if booking.amount_minor > 0]
    debited = [-booking.amount_minor for booking in bookings if booking.amount_minor < 0]

    def counted(amounts: list[int]) -> dict[str, Any]:
        return {"nb_of_ntries": str(len(amounts)), "sum": Decimal(to_decimal_text(sum(amounts), account.scale))}

    return {"ttl_cdt_ntries": counted(credited), "ttl_dbt_ntries": counted(debited)}


def pagination_fields(page: int, *, is_last: bool) -> dict[str, Any]:
    """Return a `Pagination1`. Its page number has at most five digits."""
    return {"pg_nb": str(page), "last_pg_ind": is_last}


def number_fields(number: AccountNumber) -> dict[str, Any]:
    """Return an account's `Id`."""
    if number.kind == "iban":
        return {"iban": number.number}
    return {"othr": {"id": number.number}}


def agent_fields(agent: AgentNumber) -> dict[str, Any] | None:
    """Return a bank as `BranchAndFinancialInstitutionIdentification6`; None where nothing is known of it."""
    clearing = None
    if agent.clearing_member is not None:
        system = None if agent.clearing_system is None else {"cd": agent.clearing_system[:5]}
        clearing = {"clr_sys_id": system, "mmb_id": agent.clearing_member}
    fields = {"bicfi": agent.bic, "clr_sys_mmb_id": clearing, "nm": agent.name}
    return {"fin_instn_id": fields} if any(fields.values()) else None


def _details(booking: Booking, account: StatedAccount) -> dict[str, Any]:
    payment = booking.payment
    refs: dict[str, Any] = {"acct_svcr_ref": booking.reference}
    details: dict[str, Any] = {
        "refs": refs,
        "amt": amount(booking.amount_minor, account),
        "cdt_dbt_ind": direction(booking.amount_minor),
        "addtl_tx_inf": None if booking.tx_id is None else f"transaction {booking.tx_id.hex()}",
    }
    if payment is None:
        return details
    refs["uetr"] = payment.uetr
    details["rltd_agts"] = {
        "dbtr_agt": agent_fields(payment.debtor_agent),
        "cdtr_agt": agent_fields(payment.creditor_agent),
    }
    details["purp"] = None if payment.purpose is None else {"cd": payment.purpose}
    if payment.instruction is not None:
        instruction = payment.instruction
        refs["end_to_end_id"] = instruction.end_to_end_id
        if booking.amount_minor < 0:
            # MsgId, PmtInfId and InstrId are between the debtor and its bank.
            refs["msg_id"] = instruction.message_id
            refs["pmt_inf_id"] = instruction.batch_id
            refs["instr_id"] = instruction.instruction_id
        details["rltd_pties"] = _parties(instruction)
        details["rmt_inf"] = _remittance(instruction.remittance)
    return details


def _parties(instruction: Instruction) -> dict[str, Any]:
    creditor_account = instruction.creditor_account
    return {
        "dbtr": _party(instruction.debtor),
        "dbtr_acct": {"id": number_fields(instruction.debtor_account)},
        "ultmt_dbtr": _party(instruction.ultimate_debtor),
        "cdtr": _party(instruction.creditor),
        "cdtr_acct": None if creditor_account is None else {"id": number_fields(creditor_account)},
        "ultmt_cdtr": _party(instruction.ultimate_creditor),
    }


def _party(party: Party | None) -> dict[str, Any] | None:
    if party is None:
        return None
    address: dict[str, Any] = {_ADDRESS_FIELDS[part]: text for part, text in party.address if part in _ADDRESS_FIELDS}
    lines = [text for part, text in party.address if part in _REPEATED_ADDRESS_PARTS]
    if lines:
        address["adr_line"] = lines
    organisation: dict[str, Any] = {
        field: value for kind, field in (("BIC", "any_bic"), ("LEI", "lei")) for value in _values(party, kind)[:1]
    }
    return {
        "pty": {
            "nm": party.name,
            "pstl_adr": address or None,
            "id": {"org_id": organisation} if organisation else None,
            "ctry_of_res": party.country,
        }
    }


def _values(party: Party, kind: str) -> list[str]:
    return [value for found, value in party.identifications if found == kind]


def _remittance(remittance: Remittance) -> dict[str, Any] | None:
    if not remittance.unstructured and not remittance.structured:
        return None
    return {
        "ustrd": list(remittance.unstructured),
        "strd": [_structured(structured) for structured in remittance.structured],
    }


def _structured(structured: StructuredRemittance) -> dict[str, Any]:
    amounts = {
        _AMOUNT_FIELDS[kind]: {"value": Decimal(text), "ccy": currency} for kind, currency, text in structured.amounts
    }
    return {
        "rfrd_doc_inf": [
            {
                "tp": None if document.kind is None else {"cd_or_prtry": _code("DocumentType6Code", document.kind)},
                "nb": document.number,
                "rltd_dt": document.date,
            }
            for document in structured.documents
        ],
        "rfrd_doc_amt": amounts or None,
        "cdtr_ref_inf": _creditor_reference(structured),
        "addtl_rmt_inf": list(structured.additional),
    }


def _creditor_reference(structured: StructuredRemittance) -> dict[str, Any] | None:
    if structured.reference is None and structured.reference_kind is None:
        return None
    kind = None
    if structured.reference_kind is not None:
        kind = {
            "cd_or_prtry": _code("DocumentType3Code", structured.reference_kind),
            "issr": structured.reference_issuer,
        }
    return {"tp": kind, "ref": structured.reference}


_CODES = {
    "DocumentType3Code": ("RADM", "RPIN", "FXDR", "DISP", "PUOR", "SCOR"),
    "DocumentType6Code": (
        *("MSIN", "CNFA", "DNFA", "CINV", "CREN", "DEBN", "HIRI", "SBIN", "CMCN", "SOAC", "DISP", "BOLD", "VCHR"),
        *("AROI", "TSUT", "PUOR"),
    ),
}


def _code(code_list: str, value: str) -> dict[str, str]:
    return {"cd": value} if value in _CODES[code_list] else {"prtry": value}
