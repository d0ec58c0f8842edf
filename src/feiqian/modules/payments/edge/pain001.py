"""Reads customer credit transfer initiations: pain.001.001.03, .09 and .11."""

from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]  # a C module without stubs
from stdnum import iban, iso11649
from stdnum.exceptions import ValidationError

from feiqian.modules.payments.edge import errors, schemas
from feiqian.modules.payments.edge.instructions import (
    AccountNumber,
    AgentNumber,
    Batch,
    Instruction,
    Party,
    PaymentFile,
    ReferredDocument,
    Remittance,
    StructuredRemittance,
)

MESSAGES = ("pain.001.001.03", "pain.001.001.09", "pain.001.001.11")
MAX_PAYMENTS = 20_000
NOT_PROVIDED = "NOTPROVIDED"

_ADDRESS_PARTS = (
    *("Dept", "SubDept", "StrtNm", "BldgNb", "BldgNm", "Flr", "PstBx", "Room", "PstCd", "TwnNm", "TwnLctnNm"),
    *("DstrctNm", "CtrySubDvsn", "AdrLine"),
)
_AMOUNT_KINDS = ("DuePyblAmt", "RmtdAmt", "CdtNoteAmt")


def read(data: bytes) -> PaymentFile:
    """Return what a payment file says; `check` says whether it contradicts itself.

    Raises:
        FileRefused: the file is not readable.
    """
    message, document = schemas.read(data, MESSAGES)
    root = _one(document, "CstmrCdtTrfInitn")
    header = _one(root, "GrpHdr")
    return PaymentFile(
        message=message,
        message_id=_text(header, "MsgId"),
        created_at=_text(header, "CreDtTm"),
        initiating_party=_initiating_party(_one(header, "InitgPty")),
        count=int(_text(header, "NbOfTxs")),
        control_sum=_optional(header, "CtrlSum"),
        batches=tuple(_batch(_text(header, "MsgId"), element) for element in _all(root, "PmtInf")),
    )


def check(file: PaymentFile) -> None:
    """Refuse a file that contradicts itself.

    Raises:
        TooManyPayments, CountMismatch, ControlSumMismatch, TwoCurrencies, BatchRepeated: see each.
    """
    instructions = file.instructions
    if len(instructions) > MAX_PAYMENTS:
        raise errors.TooManyPayments(f"{len(instructions)} payments; a file holds at most {MAX_PAYMENTS}")
    _check_totals("GrpHdr", file.count, file.control_sum, instructions)
    repeated = [batch_id for batch_id, times in Counter(batch.id for batch in file.batches).items() if times > 1]
    if repeated:
        raise errors.BatchRepeated(f"PmtInfId {repeated[0]!r} stands more than once in the file")
    for batch in file.batches:
        _check_totals(f"PmtInf {batch.id!r}", batch.count, batch.control_sum, batch.instructions)
        currencies = sorted({instruction.currency for instruction in batch.instructions})
        if len(currencies) > 1:
            raise errors.TwoCurrencies(f"PmtInf {batch.id!r} holds {', '.join(currencies)}; one currency a batch")


def _check_totals(where: str, count: int | None, control_sum: str | None, payments: tuple[Instruction, ...]) -> None:
    if count is not None and count != len(payments):
        raise errors.CountMismatch(f"{where}: NbOfTxs says {count}, there are {len(payments)}")
    total = sum((Decimal(payment.amount_text) for payment in payments), Decimal(0))
    if control_sum is not None and Decimal(control_sum) != total:
        raise errors.ControlSumMismatch(f"{where}: CtrlSum says {control_sum}, the amounts sum to {total}")


def _batch(message_id: str, element: etree._Element) -> Batch:
    batch_id = _text(element, "PmtInfId")
    seen: Counter[str] = Counter()
    instructions = []
    for transaction in _all(element, "CdtTrfTxInf"):
        end_to_end_id = _text(_one(transaction, "PmtId"), "EndToEndId")
        ordinal = seen[end_to_end_id] if end_to_end_id == NOT_PROVIDED else 0
        seen[end_to_end_id] += 1
        instructions.append(_instruction(message_id, batch_id, element, transaction, ordinal))
    count = _optional(element, "NbOfTxs")
    return Batch(
        id=batch_id,
        count=None if count is None else int(count),
        control_sum=_optional(element, "CtrlSum"),
        instructions=tuple(instructions),
    )


def _instruction(
    message_id: str, batch_id: str, batch: etree._Element, transaction: etree._Element, ordinal: int
) -> Instruction:
    payment_id = _one(transaction, "PmtId")
    currency, amount_text = _amount(_one(transaction, "Amt"))
    debtor_account = _account(_one(batch, "DbtrAcct"))
    creditor_account = _find(transaction, "CdtrAcct")
    remittance = _remittance(_find(transaction, "RmtInf"))
    account = None if creditor_account is None else _account(creditor_account)
    type_information = _first(_find(transaction, "PmtTpInf"), _find(batch, "PmtTpInf"))
    return Instruction(
        message_id=message_id,
        batch_id=batch_id,
        instruction_id=_optional(payment_id, "InstrId"),
        end_to_end_id=_text(payment_id, "EndToEndId"),
        uetr=_optional(payment_id, "UETR"),
        ordinal=ordinal,
        currency=currency,
        amount_text=amount_text,
        requested_date=_requested_date(_one(batch, "ReqdExctnDt")),
        charge_bearer=_optional(transaction, "ChrgBr") or _optional(batch, "ChrgBr") or "SHAR",
        purpose=_path(transaction, "Purp", "Cd"),
        category_purpose=None if type_information is None else _path(type_information, "CtgyPurp", "Cd"),
        service_levels=_service_levels(type_information),
        debtor=_party(_one(batch, "Dbtr")),
        debtor_account=debtor_account,
        debtor_agent=_agent(_find(batch, "DbtrAgt")),
        ultimate_debtor=_optional_party(_first(_find(transaction, "UltmtDbtr"), _find(batch, "UltmtDbtr"))),
        creditor=_optional_party(_find(transaction, "Cdtr")) or Party(),
        creditor_account=account,
        creditor_agent=_agent(_find(transaction, "CdtrAgt")),
        ultimate_creditor=_optional_party(_find(transaction, "UltmtCdtr")),
        remittance=remittance,
        obstacle=_obstacle(batch, transaction, debtor_account, account, remittance),
    )


def _obstacle(
    batch: etree._Element,
    transaction: etree._Element,
    debtor_account: AccountNumber,
    creditor_account: AccountNumber | None,
    remittance: Remittance,
) -> tuple[str, str] | None:
    """Return what of this instruction is not done here, as ISO reason and sentence."""
    if _text(batch, "PmtMtd") != "TRF":
        return ("AG03", "only PmtMtd TRF is carried out")
    if _find(_one(transaction, "Amt"), "EqvtAmt") is not None:
        return ("AG03", "an equivalent amount asks for a currency exchange, which is not offered")
    if any(_find(transaction, name) is not None for name in ("IntrmyAgt1", "IntrmyAgt2", "IntrmyAgt3")):
        return ("AG03", "intermediary agents are not used; agents settle with one another directly")
    if not _is_sound(debtor_account):
        return ("AC02", "the debtor's IBAN fails its check digits or its country's form")
    if creditor_account is None:
        return ("AC03", "the creditor's account is missing")
    if not _is_sound(creditor_account):
        return ("AC03", "the creditor's IBAN fails its check digits or its country's form")
    if not all(_is_sound_reference(structured) for structured in remittance.structured):
        return ("RR07", "a creditor reference fails its check digits (ISO 11649)")
    return None


def _is_sound(account: AccountNumber) -> bool:
    return account.kind != "iban" or iban.is_valid(account.number)


def _is_sound_reference(structured: StructuredRemittance) -> bool:
    if structured.reference_kind != "SCOR" or structured.reference is None:
        return True
    try:
        iso11649.validate(structured.reference)
    except ValidationError:
        return not structured.reference.upper().startswith("RF")
    return True


def _amount(element: etree._Element) -> tuple[str, str]:
    instructed = _find(element, "InstdAmt")
    if instructed is None:
        instructed = _one(_one(element, "EqvtAmt"), "Amt")
    return instructed.get("Ccy", ""), (instructed.text or "").strip()


def _requested_date(element: etree._Element) -> str:
    # A plain date in .03; a choice of date and date-time from .09 on.
    return _optional(element, "Dt") or (_optional(element, "DtTm") or (element.text or "").strip())[:10]


def _initiating_party(element: etree._Element) -> str:
    party = _party(element)
    return "/".join([f"{kind}:{value}" for kind, value in party.identifications] or [party.name or ""])


def _party(element: etree._Element) -> Party:
    address = _find(element, "PstlAdr")
    return Party(
        name=_optional(element, "Nm"),
        country=_optional(element, "CtryOfRes") or (None if address is None else _optional(address, "Ctry")),
        address=() if address is None else tuple(_address(address)),
        identifications=tuple(_identifications(_find(element, "Id"))),
    )


def _address(address: etree._Element) -> Iterator[tuple[str, str]]:
    for name in _ADDRESS_PARTS:
        for part in _all(address, name):
            yield name, part.text or ""


def _identifications(element: etree._Element | None) -> Iterator[tuple[str, str]]:
    for choice in [] if element is None else [*_all(element, "OrgId"), *_all(element, "PrvtId")]:
        for name, kind in (("AnyBIC", "BIC"), ("BICOrBEI", "BIC"), ("LEI", "LEI")):
            value = _optional(choice, name)
            if value is not None:
                yield kind, value
        for other in _all(choice, "Othr"):
            yield _path(other, "SchmeNm", "Cd") or _path(other, "SchmeNm", "Prtry") or "OTHR", _text(other, "Id")


def _optional_party(element: etree._Element | None) -> Party | None:
    return None if element is None else _party(element)


def _account(element: etree._Element) -> AccountNumber:
    identification = _one(element, "Id")
    iban_text = _optional(identification, "IBAN")
    if iban_text is not None:
        return AccountNumber("iban", iban_text, _optional(element, "Ccy"))
    return AccountNumber("local", _text(_one(identification, "Othr"), "Id"), _optional(element, "Ccy"))


def _agent(element: etree._Element | None) -> AgentNumber:
    if element is None:
        return AgentNumber()
    institution = _one(element, "FinInstnId")
    clearing = _find(institution, "ClrSysMmbId")
    system = None if clearing is None else _path(clearing, "ClrSysId", "Cd") or _path(clearing, "ClrSysId", "Prtry")
    return AgentNumber(
        bic=_optional(institution, "BICFI") or _optional(institution, "BIC"),
        clearing_system=system,
        clearing_member=None if clearing is None else _text(clearing, "MmbId"),
        name=_optional(institution, "Nm"),
    )


def _service_levels(element: etree._Element | None) -> tuple[str, ...]:
    levels = [] if element is None else _all(element, "SvcLvl")
    return tuple(_optional(level, "Cd") or _optional(level, "Prtry") or "" for level in levels)


def _remittance(element: etree._Element | None) -> Remittance:
    if element is None:
        return Remittance()
    return Remittance(
        unstructured=tuple(line.text or "" for line in _all(element, "Ustrd")),
        structured=tuple(_structured(structured) for structured in _all(element, "Strd")),
    )


def _structured(element: etree._Element) -> StructuredRemittance:
    reference = _find(element, "CdtrRefInf")
    kind = None if reference is None else _find(reference, "Tp")
    return StructuredRemittance(
        documents=tuple(_referred(document) for document in _all(element, "RfrdDocInf")),
        amounts=tuple(_remitted(_find(element, "RfrdDocAmt"))),
        reference_kind=None if kind is None else _path(kind, "CdOrPrtry", "Cd") or _path(kind, "CdOrPrtry", "Prtry"),
        reference_issuer=None if kind is None else _optional(kind, "Issr"),
        reference=None if reference is None else _optional(reference, "Ref"),
        additional=tuple(line.text or "" for line in _all(element, "AddtlRmtInf")),
    )


def _referred(element: etree._Element) -> ReferredDocument:
    kind = _find(element, "Tp")
    return ReferredDocument(
        kind=None if kind is None else _path(kind, "CdOrPrtry", "Cd") or _path(kind, "CdOrPrtry", "Prtry"),
        number=_optional(element, "Nb"),
        date=_optional(element, "RltdDt") or _path(element, "RltdDt", "Dt"),
    )


def _remitted(element: etree._Element | None) -> Iterator[tuple[str, str, str]]:
    for kind in _AMOUNT_KINDS if element is not None else ():
        amount = _find(element, kind)
        if amount is not None:
            yield kind, amount.get("Ccy", ""), (amount.text or "").strip()


def _all(element: etree._Element, name: str) -> list[etree._Element]:
    return element.findall(f"{{{etree.QName(element).namespace}}}{name}")


def _find(element: etree._Element, name: str) -> etree._Element | None:
    return element.find(f"{{{etree.QName(element).namespace}}}{name}")


def _one(element: etree._Element, name: str) -> etree._Element:
    found = _find(element, name)
    if found is None:
        # Later versions let an account be named by a proxy alone, which no directory here knows.
        where = etree.QName(element).localname
        raise errors.SchemaViolated(f"{where} has no {name}; payments here need it")
    return found


def _first(*elements: etree._Element | None) -> etree._Element | None:
    return next((element for element in elements if element is not None), None)


def _optional(element: etree._Element, name: str) -> str | None:
    found = _find(element, name)
    return None if found is None else found.text


def _path(element: etree._Element, *names: str) -> str | None:
    found: etree._Element | None = element
    for name in names[:-1]:
        found = None if found is None else _find(found, name)
    return None if found is None else _optional(found, names[-1])


def _text(element: etree._Element, name: str) -> str:
    return _one(element, name).text or ""
