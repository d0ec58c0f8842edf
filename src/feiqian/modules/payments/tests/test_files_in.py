"""Reading payment files: what three versions say, and every attack and contradiction by its number."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feiqian.modules.payments.edge import errors, pain001, schemas
from feiqian.modules.payments.edge.instructions import (
    AccountNumber,
    AgentNumber,
    Party,
    ReferredDocument,
    Remittance,
    StructuredRemittance,
)

NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:"

PAYMENT = """<CdtTrfTxInf><PmtId><InstrId>I-1</InstrId><EndToEndId>E-1</EndToEndId>{uetr}</PmtId>
<PmtTpInf><SvcLvl><Cd>SEPA</Cd></SvcLvl><CtgyPurp><Cd>SUPP</Cd></CtgyPurp></PmtTpInf>
<Amt><InstdAmt Ccy="EUR">125.50</InstdAmt></Amt><ChrgBr>SLEV</ChrgBr>
<UltmtDbtr><Nm>Ada Holding</Nm></UltmtDbtr>
<CdtrAgt><FinInstnId><{bic}>LTBKLUL0XXX</{bic}></FinInstnId></CdtrAgt>
<Cdtr><Nm>Bo &amp; Söhne</Nm><PstlAdr><StrtNm>Quai 1</StrtNm><Ctry>LU</Ctry><AdrLine>Porte B</AdrLine></PstlAdr></Cdtr>
<CdtrAcct><Id><IBAN>LU759990000000000001</IBAN></Id></CdtrAcct><UltmtCdtr><Nm>Bo Group</Nm></UltmtCdtr>
<Purp><Cd>GDDS</Cd></Purp><RmtInf><Ustrd>first line</Ustrd><Ustrd>第二行</Ustrd><Strd>
<RfrdDocInf><Tp><CdOrPrtry><Cd>CINV</Cd></CdOrPrtry></Tp><Nb>4711</Nb>{dated}</RfrdDocInf>
<RfrdDocAmt><DuePyblAmt Ccy="EUR">130.00</DuePyblAmt><RmtdAmt Ccy="EUR">125.50</RmtdAmt></RfrdDocAmt>
<CdtrRefInf><Tp><CdOrPrtry><Cd>SCOR</Cd></CdOrPrtry><Issr>ISO</Issr></Tp><Ref>RF18539007547034</Ref></CdtrRefInf>
<AddtlRmtInf>thank you</AddtlRmtInf></Strd></RmtInf></CdtTrfTxInf>"""

FILE = """<?xml version="1.0" encoding="UTF-8"?>
<Document xmlns="{namespace}"><CstmrCdtTrfInitn><GrpHdr><MsgId>M-1</MsgId><CreDtTm>2026-01-01T10:00:00Z</CreDtTm>
<NbOfTxs>{count}</NbOfTxs><CtrlSum>{total}</CtrlSum><InitgPty><Nm>Ada Works</Nm><Id><OrgId>{organisation}</OrgId></Id>
</InitgPty></GrpHdr>{batches}</CstmrCdtTrfInitn></Document>"""

BATCH = """<PmtInf><PmtInfId>{id}</PmtInfId><PmtMtd>TRF</PmtMtd><NbOfTxs>{count}</NbOfTxs><CtrlSum>{total}</CtrlSum>
<ReqdExctnDt>{day}</ReqdExctnDt><Dbtr><Nm>Ada Works</Nm></Dbtr>
<DbtrAcct><Id><Othr><Id>9991000000170001</Id></Othr></Id><Ccy>EUR</Ccy></DbtrAcct>
<DbtrAgt><FinInstnId><ClrSysMmbId><ClrSysId><Cd>CNAPS</Cd></ClrSysId><MmbId>999100000017</MmbId></ClrSysMmbId>
</FinInstnId></DbtrAgt>{payments}</PmtInf>"""

UETR = "eb6305c9-1f7f-49de-aed0-16487c27b42d"


def a_file(version="09", *, payments=None, count=None, total="125.50", batches=None, namespace=None) -> bytes:
    is_old = version == "03"
    payment = PAYMENT.format(
        bic="BIC" if is_old else "BICFI",
        uetr="" if is_old else f"<UETR>{UETR}</UETR>",
        dated="<RltdDt><Dt>2025-12-24</Dt></RltdDt>" if version == "13" else "<RltdDt>2025-12-24</RltdDt>",
    )
    listed = [payment] if payments is None else payments
    day = "2026-01-01" if is_old else "<Dt>2026-01-01</Dt>"
    shown = len(listed) if count is None else count
    batch = BATCH.format(id="B-1", count=len(listed), total=total, day=day, payments="".join(listed))
    lei = "<Othr><Id>ADA-7</Id><SchmeNm><Cd>CUST</Cd></SchmeNm></Othr>"
    return FILE.format(
        namespace=namespace or f"{NAMESPACE}pain.001.001.{version}",
        count=shown,
        total=total,
        organisation=lei,
        batches=batch if batches is None else batches,
    ).encode()


def a_payment(end_to_end_id="E-1", amount="1.00", currency="EUR") -> str:
    return (
        f"<CdtTrfTxInf><PmtId><EndToEndId>{end_to_end_id}</EndToEndId></PmtId>"
        f'<Amt><InstdAmt Ccy="{currency}">{amount}</InstdAmt></Amt><Cdtr><Nm>Bo</Nm></Cdtr>'
        "<CdtrAcct><Id><IBAN>LU759990000000000001</IBAN></Id></CdtrAcct></CdtTrfTxInf>"
    )


@pytest.mark.parametrize("version", ["03", "09", "11"])
def test_everything_that_is_kept_is_read(version):
    file = pain001.read(a_file(version))
    pain001.check(file)
    assert (file.message, file.message_id, file.count) == (f"pain.001.001.{version}", "M-1", 1)
    assert (file.control_sum, file.created_at) == ("125.50", "2026-01-01T10:00:00Z")
    assert file.initiating_party == "CUST:ADA-7"
    (instruction,) = file.instructions
    assert (instruction.message_id, instruction.batch_id) == ("M-1", "B-1")
    assert (instruction.instruction_id, instruction.end_to_end_id) == ("I-1", "E-1")
    assert instruction.uetr == (None if version == "03" else UETR)
    assert (instruction.amount_text, instruction.currency) == ("125.50", "EUR")
    assert (instruction.charge_bearer, instruction.purpose) == ("SLEV", "GDDS")
    assert (instruction.category_purpose, instruction.service_levels) == ("SUPP", ("SEPA",))
    assert instruction.requested_date == "2026-01-01"
    assert instruction.debtor == Party("Ada Works")
    assert instruction.debtor_account == AccountNumber("local", "9991000000170001", "EUR")
    assert instruction.debtor_agent == AgentNumber(None, "CNAPS", "999100000017")
    assert instruction.creditor == Party("Bo & Söhne", "LU", (("StrtNm", "Quai 1"), ("AdrLine", "Porte B")))
    assert instruction.creditor_account == AccountNumber("iban", "LU759990000000000001")
    assert instruction.creditor_agent == AgentNumber("LTBKLUL0XXX")
    assert instruction.ultimate_debtor == Party("Ada Holding")
    assert instruction.ultimate_creditor == Party("Bo Group")
    assert instruction.obstacle is None
    assert instruction.remittance == Remittance(
        ("first line", "第二行"),
        (
            StructuredRemittance(
                documents=(ReferredDocument("CINV", "4711", "2025-12-24"),),
                amounts=(("DuePyblAmt", "EUR", "130.00"), ("RmtdAmt", "EUR", "125.50")),
                reference_kind="SCOR",
                reference_issuer="ISO",
                reference="RF18539007547034",
                additional=("thank you",),
            ),
        ),
    )


def test_a_byte_order_mark_is_read():
    assert pain001.read(b"\xef\xbb\xbf" + a_file()).message_id == "M-1"


def test_not_provided_references_are_told_apart():
    payments = [a_payment("NOTPROVIDED"), a_payment("E-1"), a_payment("NOTPROVIDED"), a_payment("E-1")]
    file = pain001.read(a_file(payments=payments, total="4.00"))
    assert [instruction.ordinal for instruction in file.instructions] == [0, 0, 1, 0]


BILLION_LAUGHS = (
    b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol1 "&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;">'
    b'<!ENTITY lol2 "&lol1;&lol1;&lol1;&lol1;&lol1;&lol1;&lol1;&lol1;">]><Document>&lol2;</Document>'
)
EXTERNAL_ENTITY = b'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]><Document>&x;</Document>'
EXTERNAL_DTD = b'<?xml version="1.0"?><!DOCTYPE Document SYSTEM "http://127.0.0.1:9/evil.dtd"><Document/>'
PARAMETER_ENTITY = b'<!DOCTYPE d [<!ENTITY % p SYSTEM "http://127.0.0.1:9/p">%p;]><d/>'


@pytest.mark.parametrize(
    "attack", [BILLION_LAUGHS, EXTERNAL_ENTITY, EXTERNAL_DTD, PARAMETER_ENTITY, b"<!DOCTYPE d><d/>"]
)
def test_document_types_are_refused_before_anything_of_them_is_read(attack):
    with pytest.raises(errors.DoctypeForbidden):
        pain001.read(attack)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", errors.FileNotXml),
        (b"no xml", errors.FileNotXml),
        (a_file()[:-20], errors.FileNotXml),
        (a_file() + b"<more/>", errors.FileNotXml),
        (b"<a>&undefined;</a>", errors.FileNotXml),
        (b"<a>&#0;</a>", errors.FileNotXml),
        (b"<a>\x00</a>", errors.FileNotXml),
        (b'<a b="1" b="2"/>', errors.FileNotXml),
        # Well-formed to expat, not to libxml2: found by the fuzz test below.
        (a_file(namespace="$rn:iso:std:iso:20022:tech:xsd:pain.001.001.09"), errors.FileNotXml),
        (b"<p:a/>", errors.FileNotXml),
        (b'<a xmlns:p=""/>', errors.FileNotXml),
        (a_file().replace("第".encode(), b"\xe7\xac"), errors.FileNotUtf8),
        (b"<a>\xff</a>", errors.FileNotUtf8),
        (a_file().decode().encode("utf-16"), errors.FileNotUtf8),
        ("<a>\ud800</a>".encode("utf-8", "surrogatepass"), errors.FileNotUtf8),
        (b'<?xml version="1.0" encoding="ISO-8859-1"?><a/>', errors.FileNotUtf8),
        (b"<a>" * 33 + b"</a>" * 33, errors.FileTooDeep),
        (b"<a>" * 2_000_000, errors.FileTooDeep),
        (b"<a " + b" ".join(b'a%d=""' % place for place in range(17)) + b"/>", errors.TooManyElements),
        (b"<a>" + b"<b/>" * 1_000_000 + b"</a>", errors.TooManyElements),
        (bytes(16 * 1024 * 1024 + 1), errors.FileTooLarge),
        (b"<Document/>", errors.MessageUnknown),
        (a_file(namespace=f"{NAMESPACE}pain.001.001.12"), errors.MessageUnknown),
        (a_file(namespace=f"{NAMESPACE}pain.008.001.02"), errors.MessageUnknown),
        (a_file(namespace="http://example.org/pain.001.001.09"), errors.MessageUnknown),
        (a_file(namespace="pain.001.001.09"), errors.MessageUnknown),
        (a_file().replace(b"Document", b"Envelope"), errors.MessageUnknown),
        (a_file("03", namespace=f"{NAMESPACE}pain.001.001.09"), errors.SchemaViolated),
        (a_file("09", namespace=f"{NAMESPACE}pain.001.001.03"), errors.SchemaViolated),
        (a_file().replace(b"125.50</InstdAmt>", b"-125.50</InstdAmt>"), errors.SchemaViolated),
        (a_file().replace(b"125.50</InstdAmt>", b"1e2</InstdAmt>"), errors.SchemaViolated),
        (a_file().replace(b"125.50</InstdAmt>", b"NaN</InstdAmt>"), errors.SchemaViolated),
        (a_file().replace(b"<MsgId>M-1</MsgId>", b""), errors.SchemaViolated),
        (a_file().replace(b"M-1", b"M" * 36), errors.SchemaViolated),
        (a_file().replace(UETR.encode(), b"eb6305c9-1f7f-19de-aed0-16487c27b42d"), errors.SchemaViolated),
        (a_file().replace(b"SLEV", b"FREE"), errors.SchemaViolated),
        (a_file(payments=[], total="0"), errors.SchemaViolated),
    ],
)
def test_what_is_no_readable_message_is_refused(data, error):
    with pytest.raises(errors.FileRefused) as caught:
        pain001.read(data)
    assert type(caught.value) is error, caught.value
    assert caught.value.reason is None


def test_a_schema_error_names_line_and_element_and_no_data():
    with pytest.raises(errors.SchemaViolated) as caught:
        pain001.read(a_file().replace(b"LU759990000000000001", b"SECRET NUMBER"))
    assert "IBAN" in caught.value.message
    assert "SECRET" not in caught.value.message


def check(data: bytes) -> None:
    pain001.check(pain001.read(data))


@pytest.mark.parametrize("total", ["125.51", "125.49", "0", "1255.0"])
def test_a_control_sum_that_is_off_is_refused(total):
    with pytest.raises(errors.ControlSumMismatch):
        check(a_file(total=total))


def test_a_control_sum_may_be_written_with_other_zeros():
    check(a_file(total="125.5"))
    check(a_file(total="125.50000"))


def test_sums_are_exact_beyond_double_precision():
    """9,007,199,254,740,993 is 2^53 + 1: in binary floating point the two amounts sum to one less."""
    payments = [a_payment("E-1", "9007199254740992"), a_payment("E-2", "1")]
    check(a_file(payments=payments, total="9007199254740993"))
    with pytest.raises(errors.ControlSumMismatch):
        check(a_file(payments=payments, total="9007199254740992"))


def test_a_count_that_is_off_is_refused():
    with pytest.raises(errors.CountMismatch):
        check(a_file(count=2))
    with pytest.raises(errors.CountMismatch):
        check(a_file().replace(b"</PmtMtd><NbOfTxs>1<", b"</PmtMtd><NbOfTxs>3<").replace(b"\r", b""))


def test_two_currencies_in_one_batch_are_refused():
    payments = [a_payment("E-1"), a_payment("E-2", currency="USD")]
    with pytest.raises(errors.TwoCurrencies):
        check(a_file(payments=payments, total="2.00"))


def test_a_batch_id_that_stands_twice_is_refused():
    batch = BATCH.format(id="B-1", count=1, total="1.00", day="<Dt>2026-01-01</Dt>", payments=a_payment())
    with pytest.raises(errors.BatchRepeated):
        check(a_file(batches=batch * 2, count=2, total="2.00"))


def test_too_many_payments_are_refused(monkeypatch):
    monkeypatch.setattr(pain001, "MAX_PAYMENTS", 1)
    with pytest.raises(errors.TooManyPayments):
        check(a_file(payments=[a_payment("E-1"), a_payment("E-2")], total="2.00"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((b"<PmtMtd>TRF<", b"<PmtMtd>CHK<"), "AG03"),
        ((b"LU759990000000000001", b"LU759990000000000002"), "AC03"),
        ((b"RF18539007547034", b"RF18539007547035"), "RR07"),
        ((b"<CdtrAcct><Id><IBAN>LU759990000000000001</IBAN></Id></CdtrAcct>", b""), "AC03"),
        (
            (
                b'<InstdAmt Ccy="EUR">125.50</InstdAmt>',
                b'<EqvtAmt><Amt Ccy="EUR">125.50</Amt><CcyOfTrf>USD</CcyOfTrf></EqvtAmt>',
            ),
            "AG03",
        ),
        (
            (b"<CdtrAgt>", b"<IntrmyAgt1><FinInstnId><BICFI>LTBKLUL0XXX</BICFI></FinInstnId></IntrmyAgt1><CdtrAgt>"),
            "AG03",
        ),
    ],
)
def test_what_is_not_done_here_is_marked_and_the_file_still_read(change, reason):
    file = pain001.read(a_file().replace(*change))
    pain001.check(file)
    (instruction,) = file.instructions
    assert instruction.obstacle is not None
    assert instruction.obstacle[0] == reason


def test_all_numbers_are_distinct_and_what_a_report_can_answer_has_a_reason():
    numbers = [error.number for error in errors.ERRORS]
    assert len(set(numbers)) == len(numbers)
    assert all(error.reason is None for error in errors.ERRORS if error.number < 9)
    assert all(error.reason is not None for error in errors.ERRORS if error.number >= 9)


def test_reading_asks_no_network_for_schemas():
    for message in ("pain.001.001.03", "pain.001.001.09", "pain.001.001.11", "pain.002.001.12", "camt.053.001.08"):
        assert schemas.schema(message) is schemas.schema(message)
        assert Path(schemas.schema_path(message)).is_file()


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_read_or_refused(data):
    try:
        pain001.read(data)
    except errors.FileRefused:
        return


@given(st.data())
@settings(deadline=None, max_examples=150)
def test_a_changed_file_is_read_or_refused(data):
    whole = bytearray(a_file())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        pain001.check(pain001.read(bytes(whole)))
    except errors.FileRefused:
        return


def test_an_account_named_by_a_proxy_alone_is_refused_and_named():
    sample = Path(__file__).parents[5] / "samples" / "payments" / "06-needs-a-checker.xml"
    xml = re.sub(
        rb"<DbtrAcct>\s*<Id>.*?</Id>", b"<DbtrAcct><Prxy><Id>0123</Id></Prxy>", sample.read_bytes(), flags=re.DOTALL
    )
    with pytest.raises(errors.SchemaViolated, match="DbtrAcct has no Id"):
        pain001.read(xml)
