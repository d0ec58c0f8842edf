"""Writes the demo day's input files: customer lists, opening balances, payment files, and what is to come of them.

The same date gives the same bytes. The payment files' execution date has to be the day they are sent on, so the demo
makes them anew: `python samples/make_samples.py --date 2026-01-15 --to DIR`. All names and numbers are fictional.
"""

import argparse
import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]  # a C module without stubs
from stdnum import iban, iso11649

DEFAULT_DATE = date(2026, 1, 15)
SALARIES = 240
SUPPLIES = 60
RESENT = 60
RENMINBI = 40

GIVEN = (
    *("Ada", "Bela", "Caro", "Dario", "Elin", "Femi", "Gita", "Hugo", "Iris", "Jonas"),
    *("Kaja", "Lior", "Mira", "Nils", "Odile", "Petra", "Quinn", "Rosa", "Sten", "Tove"),
)
FAMILY = (
    *("Abend", "Birk", "Castell", "Dorn", "Eibe", "Falk", "Ginster", "Hafen"),
    *("Insel", "Jasmin", "Kliff", "Lagune", "Moos", "Nebel", "Ozean", "Pappel"),
)
FAMILY_ZH = "赵钱孙李周吴郑王冯陈"
GIVEN_ZH = "安波晨冬恩帆光海佳凯"


class Payee(NamedTuple):
    """Who is paid: name, account number and bank as the files name them."""

    name: str
    number: str
    bank: str


class Payment(NamedTuple):
    """One CdtTrfTxInf. `expected` is the status and reason that the report is to give."""

    end_to_end_id: str
    payee: Payee
    amount: str
    currency: str = "EUR"
    remittance: str | None = None
    reference: str | None = None
    purpose: str | None = None
    expected: tuple[str, str | None] = ("ACSC", None)


class Batch(NamedTuple):
    """One PmtInf."""

    id: str
    day: date
    payments: list[Payment]


class Sender(NamedTuple):
    """Who sends a file: its account in consortium.toml, the keys that sign, its number and bank."""

    name: str
    account: str
    keys: tuple[str, ...]
    number: str
    bank: str


# name: (currency, BIC, CNAPS code)
BANKS = {
    "harbour": ("EUR", "HRBKDEF0XXX", None),
    "lotus": ("EUR", "LTBKLUL0XXX", None),
    "harbour-cny": ("CNY", None, "999200000024"),
    "qilin": ("CNY", "QLNBCNB0XXX", "999100000017"),
    "nowhere": ("EUR", "NOWHDEF0XXX", None),
}
DEPOSIT_ASSETS = {
    "harbour": "EUR.harbour-bank",
    "lotus": "EUR.lotus-bank",
    "harbour-cny": "CNY.harbour-bank",
    "qilin": "CNY.qilin-bank",
}


def german_iban(account: int) -> str:
    """Return an IBAN of the fictional bank code 99999901."""
    return _with_check_digits("DE", f"99999901{account:010d}")


def luxembourg_iban(account: int) -> str:
    """Return an IBAN of the fictional bank code 999."""
    return _with_check_digits("LU", f"999{account:013d}")


def _with_check_digits(country: str, rest: str) -> str:
    return country + iban.calc_check_digits(f"{country}00{rest}") + rest


AURORA = Sender("Aurora Motors", "aurora", ("aurora-maker",), german_iban(1), "harbour")
BRIGHTWATER = Sender("Brightwater Foods", "brightwater", ("brightwater",), luxembourg_iban(1), "lotus")
CEDAR = Sender("雪松示范贸易公司", "cedar", ("cedar",), "9991000000170001", "qilin")
DELTA = Sender("Delta Logistics", "delta", ("delta",), german_iban(2), "harbour")
EVERGREEN = Payee("Evergreen Textiles", german_iban(3), "harbour")

OPENING = [
    ("EUR.central", "penglai", "harbour", "5000000.00"),
    ("EUR.central", "penglai", "lotus", "50000.00"),
    ("CNY.central", "penglai", "qilin", "3000000.00"),
    ("CNY.central", "penglai", "harbour", "1000000.00"),
    ("EUR.harbour-bank", "harbour", "aurora", "2000000.00"),
    ("EUR.harbour-bank", "harbour", "delta", "300000.00"),
    ("EUR.harbour-bank", "harbour", "evergreen", "10000.00"),
    ("EUR.lotus-bank", "lotus", "brightwater", "900000.00"),
    ("CNY.qilin-bank", "qilin", "cedar", "1500000.00"),
]


def staff(place: int) -> Payee:
    """Return the employee or small supplier number `place`: odd ones bank with lotus, even ones with harbour."""
    name = f"{GIVEN[place % len(GIVEN)]} {FAMILY[place // len(GIVEN) % len(FAMILY)]}"
    if place % 2:
        return Payee(name, luxembourg_iban(1000 + place), "lotus")
    return Payee(name, german_iban(1000 + place), "harbour")


def chinese_payee(place: int) -> Payee:
    """Return a payee with a local account number, at harbour-bank's or qilin-bank's renminbi desk."""
    name = FAMILY_ZH[place % 10] + GIVEN_ZH[place // 10 % 10] + GIVEN_ZH[place % 7]
    bank = "harbour-cny" if place % 2 else "qilin"
    prefix = "9992000000240" if place % 2 else "9991000000171"
    return Payee(name, f"{prefix}{place:03d}", bank)


def cents(*parts: object, least: int, most: int) -> str:
    """Return an amount between two whole numbers that depends on `parts` alone."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    minor = least * 100 + int.from_bytes(digest[:6], "big") % ((most - least) * 100)
    whole, fraction = divmod(minor, 100)
    return f"{whole}.{fraction:02d}"


def customers() -> dict[str, list[tuple[str, str, str, str]]]:
    """Return each deposit asset's customer list: kind, number, holder, account."""
    lists: dict[str, list[tuple[str, str, str, str]]] = {asset: [] for asset in DEPOSIT_ASSETS.values()}
    for sender in (AURORA, BRIGHTWATER, CEDAR, DELTA):
        kind = "local" if sender.bank == "qilin" else "iban"
        lists[DEPOSIT_ASSETS[sender.bank]].append((kind, sender.number, sender.name, f"@{sender.account}"))
    lists["EUR.harbour-bank"].append(("iban", EVERGREEN.number, EVERGREEN.name, "@evergreen"))
    for place in range(SALARIES):
        payee = staff(place)
        lists[DEPOSIT_ASSETS[payee.bank]].append(("iban", payee.number, payee.name, "new"))
    for place in range(RENMINBI):
        payee = chinese_payee(place)
        lists[DEPOSIT_ASSETS[payee.bank]].append(("local", payee.number, payee.name, "new"))
    return lists


def salaries(day: date) -> list[Batch]:
    """A month's salaries: two batches, every payment good."""
    payments = [
        Payment(
            f"SAL-{day:%Y%m}-{place:04d}",
            staff(place),
            cents("salary", place, least=1800, most=4200),
            remittance=f"Salary {day:%B %Y}",
            purpose="SALA",
        )
        for place in range(SALARIES)
    ]
    half = SALARIES // 2
    return [Batch("STAFF-A", day, payments[:half]), Batch("STAFF-B", day, payments[half:])]


def supplies_with_errors(day: date) -> list[Batch]:
    """Suppliers' invoices with creditor references; among the good ones each kind of mistake once."""
    good = [
        Payment(
            f"INV-{place:04d}",
            staff(place),
            cents("supply", place, least=40, most=900),
            reference=iso11649_reference(f"{day:%Y}{place:05d}"),
            purpose="SUPP",
        )
        for place in range(SUPPLIES)
    ]

    def wrong(name: str, reason: str, payee: Payee, amount: str = "125.50", **more) -> Payment:
        return Payment(f"BAD-{name}", payee, amount, expected=("RJCT", reason), **more)

    someone = staff(4)
    typo = someone._replace(number=someone.number[:-1] + str((int(someone.number[-1]) + 1) % 10))
    bad = [
        wrong("UNKNOWN-IBAN", "AC03", someone._replace(number=german_iban(999_999))),
        wrong("CHECK-DIGITS", "AC03", typo),
        wrong("OTHER-NAME", "BE01", someone._replace(name="Somebody Else")),
        wrong("FROZEN", "AC06", EVERGREEN),
        wrong("UNKNOWN-BANK", "AGNT", someone._replace(bank="nowhere")),
        wrong("THREE-DECIMALS", "AM12", someone, "125.505"),
        wrong("ZERO", "AM01", someone, "0.00"),
        wrong("REFERENCE", "RR07", someone, reference="RF00A1"),
    ]
    mixed: list[Payment] = []
    for place, payment in enumerate(good):
        mixed.append(payment)
        if place % 7 == 3 and bad:
            mixed.append(bad.pop(0))
    late = wrong("TOMORROW", "DT01", someone)
    dollars = wrong("DOLLARS", "AM03", someone, currency="USD")
    return [
        Batch("SUPPLIERS", day, [*mixed, *bad]),
        Batch("TOO-EARLY", day + timedelta(days=7), [late]),
        Batch("OTHER-CURRENCY", day, [dollars]),
    ]


def iso11649_reference(base: str) -> str:
    """Return a creditor reference with its check digits (ISO 11649)."""
    for check in range(2, 99):
        candidate = f"RF{check:02d}{base}"
        if iso11649.is_valid(candidate):
            return candidate
    raise AssertionError(f"no check digits for {base}")


def short_of_money(day: date) -> list[Batch]:
    """Brightwater has 900,000.00; its bank has few reserves and allows 1,000,000.00 a payment."""
    good = [
        Payment(f"BW-{place:03d}", staff(place), cents("bw", place, least=100, most=700), remittance="Vegetables")
        for place in range(12)
    ]
    bad = [
        Payment("BW-NO-RESERVES", staff(2), "800000.00", expected=("RJCT", "ED05")),
        Payment("BW-NO-FUNDS", staff(4), "950000.00", expected=("RJCT", "AM04")),
        Payment("BW-OVER-LIMIT", staff(6), "1000000.01", expected=("RJCT", "AM14")),
    ]
    return [Batch("GREENS", day, [*good, *bad])]


def resent(day: date) -> list[Batch]:
    """Delta's file in the old version, which goes out twice."""
    payments = [
        Payment(f"DL-{place:03d}", staff(place + 20), cents("delta", place, least=20, most=1500), remittance="Haulage")
        for place in range(RESENT)
    ]
    return [Batch("HAULAGE", day, payments)]


def four_eyes(day: date) -> list[Batch]:
    """Two payments the maker may make alone, one that a checker has to approve."""
    return [
        Batch(
            "MACHINES",
            day,
            [
                Payment("PRESS-1", staff(8), "9500.00", remittance="Press, first rate"),
                Payment("PRESS-2", staff(9), "10000.00", remittance="Press, second rate"),
                Payment("ROBOT", staff(10), "48000.00", remittance="Welding robot", expected=("PDNG", "DS0A")),
            ],
        )
    ]


def renminbi(day: date) -> list[Batch]:
    """Cedar pays in renminbi, banks named by CNAPS code, accounts by local number."""
    payments = [
        Payment(
            f"XS-{place:03d}",
            chinese_payee(place),
            cents("cny", place, least=500, most=9000),
            currency="CNY",
            remittance=f"货款 第{place + 1}批",
            purpose="GDDS",
        )
        for place in range(RENMINBI)
    ]
    return [Batch("HUOKUAN", day, payments)]


class File(NamedTuple):
    """One payment file and how it is used. `control_sum_error` is added to the true sum."""

    name: str
    message: str
    sender: Sender
    batches: list[Batch]
    control_sum_error: str = "0"
    times: int = 1


def files(day: date) -> list[File]:
    """Return the day's files in the order they are sent."""
    return [
        File("01-salaries.xml", "pain.001.001.09", AURORA, salaries(day)),
        File("02-suppliers-with-errors.xml", "pain.001.001.09", AURORA, supplies_with_errors(day)),
        File("03-control-sum-off-by-a-cent.xml", "pain.001.001.09", AURORA, four_eyes(day)[:1], "0.01"),
        File("04-short-of-money.xml", "pain.001.001.11", BRIGHTWATER, short_of_money(day)),
        File("05-sent-twice.xml", "pain.001.001.03", DELTA, resent(day), times=2),
        File("06-needs-a-checker.xml", "pain.001.001.11", AURORA, four_eyes(day)),
        File("07-renminbi.xml", "pain.001.001.11", CEDAR, renminbi(day)),
    ]


def write_all(to: Path, day: date) -> None:
    """Write everything below `to`: customers/, payments/, opening-balances.csv and expected.json."""
    (to / "customers").mkdir(parents=True, exist_ok=True)
    (to / "payments").mkdir(parents=True, exist_ok=True)
    for asset, lines in customers().items():
        _write_csv(to / "customers" / f"{asset}.csv", ("kind", "number", "holder", "account"), lines)
    _write_csv(to / "opening-balances.csv", ("asset", "issuance_account", "account", "amount"), OPENING)
    expected = []
    for file in files(day):
        (to / "payments" / file.name).write_bytes(render(file, day))
        expected.append(_expectation(file))
    text = json.dumps({"date": day.isoformat(), "files": expected}, indent=1, ensure_ascii=False)
    (to / "expected.json").write_text(text + "\n", "utf-8")


def _expectation(file: File) -> dict:
    is_refused = file.control_sum_error != "0"
    outcomes = [payment.expected for batch in file.batches for payment in batch.payments]
    counts = Counter("/".join(filter(None, outcome)) for outcome in outcomes)
    return {
        "file": file.name,
        "message": file.message,
        "account": file.sender.account,
        "number": file.sender.number,
        "keys": list(file.sender.keys),
        "times": file.times,
        "file_reason": "AM10" if is_refused else None,
        "outcomes": {} if is_refused else dict(sorted(counts.items())),
    }


def _write_csv(path: Path, header: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    path.write_text(text.getvalue(), "utf-8", newline="")


def render(file: File, day: date) -> bytes:
    """Return the XML of a payment file."""
    namespace = f"urn:iso:std:iso:20022:tech:xsd:{file.message}"
    document = etree.Element(f"{{{namespace}}}Document", nsmap={None: namespace})
    root = _child(document, "CstmrCdtTrfInitn")
    payments = [payment for batch in file.batches for payment in batch.payments]
    header = _child(root, "GrpHdr")
    _child(header, "MsgId", f"{file.sender.account.upper()}-{day:%Y%m%d}-{file.name[:2]}")
    _child(header, "CreDtTm", f"{day.isoformat()}T06:00:00Z")
    _child(header, "NbOfTxs", str(len(payments)))
    total = sum((Decimal(payment.amount) for payment in payments), Decimal(file.control_sum_error))
    _child(header, "CtrlSum", str(total))
    _child(_child(header, "InitgPty"), "Nm", file.sender.name)
    for batch in file.batches:
        _render_batch(root, file, batch)
    etree.indent(document, " ")
    return etree.tostring(document, xml_declaration=True, encoding="UTF-8") + b"\n"


def _render_batch(root: etree._Element, file: File, batch: Batch) -> None:
    is_old = file.message == "pain.001.001.03"
    element = _child(root, "PmtInf")
    _child(element, "PmtInfId", batch.id)
    _child(element, "PmtMtd", "TRF")
    _child(element, "NbOfTxs", str(len(batch.payments)))
    _child(element, "CtrlSum", str(sum((Decimal(payment.amount) for payment in batch.payments), Decimal(0))))
    if is_old:
        _child(element, "ReqdExctnDt", batch.day.isoformat())
    else:
        _child(_child(element, "ReqdExctnDt"), "Dt", batch.day.isoformat())
    _child(_child(element, "Dbtr"), "Nm", file.sender.name)
    _render_account(_child(element, "DbtrAcct"), file.sender.number)
    _render_bank(_child(element, "DbtrAgt"), file.sender.bank, is_old)
    _child(element, "ChrgBr", "SLEV" if file.sender.bank != "qilin" else "SHAR")
    for payment in batch.payments:
        _render_payment(element, payment, is_old)


def _render_payment(batch: etree._Element, payment: Payment, is_old: bool) -> None:
    element = _child(batch, "CdtTrfTxInf")
    _child(_child(element, "PmtId"), "EndToEndId", payment.end_to_end_id)
    _child(_child(element, "Amt"), "InstdAmt", payment.amount).set("Ccy", payment.currency)
    _render_bank(_child(element, "CdtrAgt"), payment.payee.bank, is_old)
    _child(_child(element, "Cdtr"), "Nm", payment.payee.name)
    _render_account(_child(element, "CdtrAcct"), payment.payee.number)
    if payment.purpose is not None:
        _child(_child(element, "Purp"), "Cd", payment.purpose)
    if payment.remittance is not None:
        _child(_child(element, "RmtInf"), "Ustrd", payment.remittance)
    if payment.reference is not None:
        reference = _child(_child(_child(element, "RmtInf"), "Strd"), "CdtrRefInf")
        _child(_child(_child(reference, "Tp"), "CdOrPrtry"), "Cd", "SCOR")
        _child(reference, "Ref", payment.reference)


def _render_account(element: etree._Element, number: str) -> None:
    identification = _child(element, "Id")
    if number[:2].isalpha():
        _child(identification, "IBAN", number)
    else:
        _child(_child(identification, "Othr"), "Id", number)


def _render_bank(element: etree._Element, bank: str, is_old: bool) -> None:
    _, bic, cnaps = BANKS[bank]
    institution = _child(element, "FinInstnId")
    if cnaps is not None:
        clearing = _child(institution, "ClrSysMmbId")
        _child(_child(clearing, "ClrSysId"), "Cd", "CNAPS")
        _child(clearing, "MmbId", cnaps)
    else:
        _child(institution, "BIC" if is_old else "BICFI", bic)


def _child(parent: etree._Element, name: str, text: str | None = None) -> etree._Element:
    element = etree.SubElement(parent, f"{{{etree.QName(parent).namespace}}}{name}")
    element.text = text
    return element


def main() -> None:
    """Write the samples where the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--date", type=date.fromisoformat, default=DEFAULT_DATE)
    parser.add_argument("--to", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    write_all(arguments.to, arguments.date)


if __name__ == "__main__":
    main()
