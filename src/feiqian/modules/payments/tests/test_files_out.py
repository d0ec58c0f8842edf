"""Writing reports, statements and notifications: their content by hand, their validity by a second implementation."""

import io
from decimal import Decimal
from functools import cache

import pytest
import xmlschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]  # a C module without stubs

from feiqian.core.errors import Fault
from feiqian.modules.payments.edge import pain002, schemas
from feiqian.modules.payments.edge.bookings import Booking, Settled, StatedAccount
from feiqian.modules.payments.edge.camt053 import Statement, write_statements
from feiqian.modules.payments.edge.camt054 import Notification, write_notifications
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
from feiqian.modules.payments.edge.pain002 import Outcome, Refusal
from feiqian.modules.payments.edge.reasons import REASONS, reason_of

NOW_MS = 1_767_268_800_000
UETR = "eb6305c9-1f7f-49de-aed0-16487c27b42d"
CREATED = "2026-01-01T12:00:00Z"


@cache
def second_opinion(message: str) -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(str(schemas.schema_path(message)))


def checked(message: str, xml: bytes) -> etree._Element:
    """Return the document after the xmlschema package, not libxml2, has found it valid."""
    second_opinion(message).validate(io.BytesIO(xml))
    return etree.fromstring(xml)


def texts(document: etree._Element, path: str) -> list[str]:
    """Return the texts under a path of local names."""
    steps = "/".join(f"*[local-name()='{step}']" for step in path.split("/"))
    return [element.text for element in document.xpath(f".//{steps}")]


def an_instruction(end_to_end_id: str = "E-1", **fields) -> Instruction:
    values = {
        "message_id": "M-1",
        "batch_id": "B-1",
        "instruction_id": "I-1",
        "end_to_end_id": end_to_end_id,
        "ordinal": 0,
        "currency": "EUR",
        "amount_text": "125.50",
        "requested_date": "2026-01-01",
        "charge_bearer": "SLEV",
        "debtor": Party("Ada Works", "DE", (("StrtNm", "Kai 7"), ("AdrLine", "Tor 2"))),
        "debtor_account": AccountNumber("iban", "DE58999999010000000001"),
        "debtor_agent": AgentNumber("HRBKDEF0XXX"),
        "creditor": Party("Bo & Söhne", identifications=(("LEI", "TEST00LOTUSBANK00043"), ("CUST", "7"))),
        "creditor_account": AccountNumber("local", "9991000000170001"),
        "creditor_agent": AgentNumber(None, "CNAPS", "999100000017", "麒麟示范银行"),
        "ultimate_creditor": Party("Bo Group"),
        "remittance": Remittance(
            ("for sails",),
            (
                StructuredRemittance(
                    documents=(ReferredDocument("CINV", "4711", "2025-12-24"), ReferredDocument("OWN", None, None)),
                    amounts=(("RmtdAmt", "EUR", "125.50"),),
                    reference_kind="SCOR",
                    reference_issuer="ISO",
                    reference="RF18539007547034",
                    additional=("thank you",),
                ),
            ),
        ),
    } | fields
    return Instruction(**values)


def a_file(message: str = "pain.001.001.09", *instructions: Instruction) -> PaymentFile:
    listed = instructions or (an_instruction(),)
    batch = Batch("B-1", len(listed), "125.50", listed)
    return PaymentFile(message, "M-1", "2026-01-01T10:00:00.123+01:00", "Ada Works", len(listed), "125.50", (batch,))


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ("pain.001.001.03", "pain.002.001.03"),
        ("pain.001.001.09", "pain.002.001.12"),
        ("pain.001.001.11", "pain.002.001.12"),
    ],
)
def test_a_report_says_what_became_of_each_payment(asked, answered):
    paid, rejected, waiting = (an_instruction(name) for name in ("E-1", "E-2", "E-3"))
    outcomes = [
        Outcome(paid, "ACSC", uetr=UETR),
        Outcome(rejected, "RJCT", "AC04", "the creditor's account number is closed", uetr=UETR),
        Outcome(waiting, "PDNG", "DS0A", "waits for approval by a colleague", uetr=UETR),
    ]
    file = a_file(asked, paid, rejected, waiting)
    document = checked(answered, pain002.write_report(file, outcomes, "R-1", CREATED))
    assert texts(document, "GrpHdr/MsgId") == ["R-1"]
    assert texts(document, "OrgnlGrpInfAndSts/OrgnlMsgId") == ["M-1"]
    assert texts(document, "OrgnlGrpInfAndSts/OrgnlMsgNmId") == [asked]
    assert texts(document, "OrgnlGrpInfAndSts/GrpSts") == ["PART"]
    assert texts(document, "NbOfTxsPerSts/DtldSts") == ["ACSC", "PDNG", "RJCT"]
    assert texts(document, "NbOfTxsPerSts/DtldNbOfTxs") == ["1", "1", "1"]
    assert texts(document, "OrgnlPmtInfAndSts/OrgnlPmtInfId") == ["B-1"]
    assert texts(document, "TxInfAndSts/OrgnlEndToEndId") == ["E-1", "E-2", "E-3"]
    assert texts(document, "TxInfAndSts/OrgnlInstrId") == ["I-1"] * 3
    assert texts(document, "TxInfAndSts/TxSts") == ["ACSC", "RJCT", "PDNG"]
    assert texts(document, "StsRsnInf/Rsn/Cd") == ["AC04", "DS0A"]
    assert texts(document, "StsRsnInf/AddtlInf") == [
        "the creditor's account number is closed",
        "waits for approval by a colleague",
    ]
    assert texts(document, "TxInfAndSts/OrgnlUETR") == ([] if answered.endswith("03") else [UETR] * 3)


@pytest.mark.parametrize("asked", ["pain.001.001.03", "pain.001.001.11"])
def test_a_refused_file_is_answered_at_group_level(asked):
    refusal = Refusal("AM10", "GrpHdr: CtrlSum says 1.00, the amounts sum to 2.00", "payments.files", 11)
    xml = pain002.write_refusal(a_file(asked), refusal, "R-1", CREATED)
    document = checked(pain002.version_for(asked), xml)
    assert texts(document, "OrgnlGrpInfAndSts/GrpSts") == ["RJCT"]
    assert texts(document, "OrgnlGrpInfAndSts/StsRsnInf/Rsn/Cd") == ["AM10"]
    assert texts(document, "TxInfAndSts") == []


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [(["ACSC"], "ACSC"), (["RJCT", "RJCT"], "RJCT"), (["ACSC", "RJCT"], "PART"), (["PDNG"], "PDNG"), ([], "RCVD")],
)
def test_a_groups_status_follows_its_payments(statuses, expected):
    assert pain002.group_status(statuses) == expected


def test_long_words_are_cut_to_lines_that_the_message_takes():
    outcome = Outcome(an_instruction(), "RJCT", "NARR", "x" * 1000, uetr=UETR)
    document = checked("pain.002.001.12", pain002.write_report(a_file(), [outcome], "R-1", CREATED))
    assert [len(line) for line in texts(document, "AddtlInf")] == [105] * 4


ACCOUNT = StatedAccount(
    AccountNumber("iban", "DE58999999010000000001"),
    "EUR",
    2,
    "Ada Works",
    AgentNumber("HRBKDEF0XXX", None, None, "Harbour"),
)


def a_booking(amount_minor: int = -125_50, instruction: Instruction | None = None, **fields) -> Booking:
    payment = Settled(UETR, AgentNumber("HRBKDEF0XXX"), AgentNumber(None, "CNAPS", "999100000017"), "SUPP", instruction)
    values = {"reference": "7.0.0", "booked_at_ms": NOW_MS, "tx_id": bytes(range(32)), "payment": payment} | fields
    return Booking(amount_minor=amount_minor, **values)


def a_statement(*bookings: Booking, opening_minor: int = 200_00, closing_minor: int | None = None) -> Statement:
    moved = sum(booking.amount_minor for booking in bookings)
    closing = opening_minor + moved if closing_minor is None else closing_minor
    return Statement("S-1", 3, ACCOUNT, NOW_MS - 43_200_000, NOW_MS + 43_200_000, opening_minor, closing, bookings)


def test_a_statement_shows_balances_and_every_reference():
    """Opening 200.00, −125.50 to Bo, +30.00 received: closing 104.50."""
    statement = a_statement(a_booking(instruction=an_instruction()), a_booking(30_00, reference="8.1.5"))
    document = checked("camt.053.001.08", write_statements([statement], "MSG", NOW_MS))
    assert texts(document, "Bal/Tp/CdOrPrtry/Cd") == ["OPBD", "CLBD"]
    assert texts(document, "Bal/Amt") == ["200.00", "104.50"]
    assert texts(document, "Bal/CdtDbtInd") == ["CRDT", "CRDT"]
    assert texts(document, "Bal/Dt/Dt") == ["2026-01-01", "2026-01-01"]
    assert texts(document, "Stmt/ElctrncSeqNb") == ["3"]
    assert texts(document, "Stmt/Acct/Id/IBAN") == ["DE58999999010000000001"]
    assert texts(document, "Ntry/Amt") == ["125.50", "30.00"]
    assert texts(document, "Ntry/CdtDbtInd") == ["DBIT", "CRDT"]
    assert texts(document, "Ntry/NtryRef") == ["7.0.0", "8.1.5"]
    assert texts(document, "BkTxCd/Domn/Fmly/Cd") == ["ICDT", "RCDT"]
    assert texts(document, "TtlCdtNtries/Sum") == ["30.00"]
    assert texts(document, "TtlDbtNtries/Sum") == ["125.50"]
    assert texts(document, "Refs/EndToEndId") == ["E-1"]
    assert texts(document, "Refs/MsgId") == ["M-1"]
    assert texts(document, "Refs/PmtInfId") == ["B-1"]
    assert texts(document, "Refs/InstrId") == ["I-1"]
    assert texts(document, "Refs/UETR") == [UETR, UETR]
    assert texts(document, "Dbtr/Pty/Nm") == ["Ada Works"]
    assert texts(document, "Cdtr/Pty/Nm") == ["Bo & Söhne"]
    assert texts(document, "Cdtr/Pty/Id/OrgId/LEI") == ["TEST00LOTUSBANK00043"]
    assert texts(document, "UltmtCdtr/Pty/Nm") == ["Bo Group"]
    assert texts(document, "CdtrAcct/Id/Othr/Id") == ["9991000000170001"]
    assert texts(document, "RmtInf/Ustrd") == ["for sails"]
    assert texts(document, "Strd/CdtrRefInf/Ref") == ["RF18539007547034"]
    assert texts(document, "Strd/RfrdDocInf/Nb") == ["4711"]
    assert texts(document, "Strd/RfrdDocInf/Tp/CdOrPrtry/Prtry") == ["OWN"]
    assert texts(document, "Strd/RfrdDocAmt/RmtdAmt") == ["125.50"]
    assert texts(document, "Purp/Cd") == ["SUPP", "SUPP"]
    assert texts(document, "CdtrAgt/FinInstnId/ClrSysMmbId/MmbId") == ["999100000017"] * 2
    assert bytes(range(32)).hex() in texts(document, "AddtlTxInf")[0]


def test_a_creditor_is_not_shown_what_is_between_debtor_and_bank():
    statement = a_statement(a_booking(125_50, an_instruction()))
    document = checked("camt.053.001.08", write_statements([statement], "MSG", NOW_MS))
    assert texts(document, "Refs/EndToEndId") == ["E-1"]
    assert texts(document, "Refs/MsgId") == texts(document, "Refs/InstrId") == texts(document, "Refs/PmtInfId") == []


def test_an_overdrawn_balance_is_a_debit():
    statement = a_statement(a_booking(), opening_minor=0)
    document = checked("camt.053.001.08", write_statements([statement], "MSG", NOW_MS))
    assert texts(document, "Bal/Amt") == ["0.00", "125.50"]
    assert texts(document, "Bal/CdtDbtInd") == ["CRDT", "DBIT"]


def test_entries_that_do_not_lead_to_the_closing_balance_are_a_fault():
    with pytest.raises(Fault, match="do not give closing"):
        write_statements([a_statement(a_booking(), closing_minor=200_00)], "MSG", NOW_MS)


def test_what_xml_cannot_hold_is_replaced():
    named = StatedAccount(ACCOUNT.number, "EUR", 2, "Ada\x00\x1b\ufffe Works", ACCOUNT.servicer)
    statement = Statement("S-1", 1, named, 0, NOW_MS, 0, 0, ())
    document = checked("camt.053.001.08", write_statements([statement], "MSG", NOW_MS))
    assert texts(document, "Ownr/Nm") == ["Ada\ufffd\ufffd\ufffd Works"]


def test_an_entry_without_payment_and_an_empty_statement_are_valid():
    plain = a_statement(a_booking(5, payment=None, tx_id=None))
    checked("camt.053.001.08", write_statements([plain, a_statement()], "MSG", NOW_MS))


def test_a_notification_has_entries_and_no_balances():
    notification = Notification("N-1", ACCOUNT, (a_booking(instruction=an_instruction()),))
    document = checked("camt.054.001.08", write_notifications([notification], "MSG", NOW_MS))
    assert texts(document, "Ntfctn/Id") == ["N-1"]
    assert texts(document, "Ntry/Amt") == ["125.50"]
    assert texts(document, "Refs/EndToEndId") == ["E-1"]
    assert texts(document, "Bal") == []


def test_what_breaks_the_schema_is_not_handed_out():
    with pytest.raises(Fault, match=r"camt\.053\.001\.08"):
        write_statements([a_statement()], "M" * 36, NOW_MS)


# What XSD lets into Max35Text, Max140Text: any characters of XML 1.0 but the empty string.
xml_text = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="￾￿"), min_size=1, max_size=35
)


@given(xml_text, xml_text, xml_text, st.integers(-(10**15), 10**15).filter(bool), st.sampled_from(["USTRD", "STRD"]))
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_that_came_in_goes_out_again(end_to_end_id, name, remittance, amount_minor, kind):
    structured = StructuredRemittance(reference=remittance)
    instruction = an_instruction(
        end_to_end_id,
        creditor=Party(name),
        remittance=Remittance((remittance,)) if kind == "USTRD" else Remittance((), (structured,)),
    )
    statement = a_statement(a_booking(amount_minor, instruction))
    document = checked("camt.053.001.08", write_statements([statement], "MSG", NOW_MS))
    assert texts(document, "Refs/EndToEndId") == [end_to_end_id]
    assert texts(document, "Cdtr/Pty/Nm") == [name]
    assert texts(document, "RmtInf/Ustrd" if kind == "USTRD" else "CdtrRefInf/Ref") == [remittance]
    assert Decimal(texts(document, "Ntry/Amt")[0]) * 100 == abs(amount_minor)
    outcome = Outcome(instruction, "RJCT", "NARR", name, uetr=UETR)
    report = checked(
        "pain.002.001.12", pain002.write_report(a_file("pain.001.001.11", instruction), [outcome], "R", CREATED)
    )
    assert texts(report, "OrgnlEndToEndId") == [end_to_end_id]
    assert texts(report, "AddtlInf") == [name]


def test_reasons_are_four_characters_and_unknown_rules_are_told_in_words():
    assert all(len(code) == 4 for code in REASONS.values())
    assert reason_of("payments", 1) == "AM05"
    assert reason_of("ledger", 7) == "AC06"
    assert reason_of("nobody", 1) == "NARR"
