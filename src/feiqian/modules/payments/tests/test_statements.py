"""Statements longer than a page, from a real ledger over HTTP: complete, and each page fits the ledger's balances."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]  # a C module without stubs

from feiqian.client import Client, Refused
from feiqian.core.addresses import to_text
from feiqian.modules.assets.messages import BatchLeg, BatchTransfer
from feiqian.modules.payments.edge import statements
from feiqian.modules.payments.edge.camt053 import write_statements
from feiqian.modules.payments.edge.commands import statement_pages, write_notification
from feiqian.modules.payments.edge.shapes import MAX_BOOKINGS
from feiqian.testing.gateways import GatewayProcess, watched_consortium
from feiqian.testing.ledgers import ASSET, SampleLedger, key_of, make_ledger
from feiqian.testing.processes import NodeProcess
from feiqian.wallet import files

BATCHES, LEGS = 11, 1_000
ENTRIES = BATCHES * LEGS
PATH = "/payments/statement/{}"


class Busy:
    """A ledger on which lantern was paid 11,000 times, 1 to 7 a time, a thousand in each of 11 postings."""

    def __init__(self, ledger: SampleLedger, gateway: GatewayProcess) -> None:
        self.ledger = ledger
        self.gateway = gateway
        self.address = to_text(ledger.addresses["lantern"])
        self.amounts = [1 + number % 7 for number in range(ENTRIES)]
        payer, payee = (ledger.addresses[name] for name in ("treasury", "lantern"))
        legs = [BatchLeg(payee, amount_minor, b"") for amount_minor in self.amounts]
        orders = [ledger.issue("treasury", 10**6)]
        for start in range(0, ENTRIES, LEGS):
            batch = BatchTransfer(payer, ASSET, tuple(legs[start : start + LEGS]))
            orders.append(ledger.sign("treasury", [batch]))
        height = 0
        for order in orders:
            (outcome,) = gateway.submit(order)
            assert (outcome["status"], outcome.get("error")) == ("committed", None)
            height = outcome["height"]
        gateway.await_indexed(height)
        self.client = Client(gateway.url)
        self.client.sign_in(ledger.addresses["lantern"], key_of("lantern"))

    def page(self, **parameters: Any) -> dict[str, Any]:
        return self.client.get(PATH.format(self.address), asset=ASSET, **parameters)

    def pages(self, **parameters: Any) -> list[dict[str, Any]]:
        found = [self.page(**parameters)]
        while found[-1]["next_cursor"] is not None:
            span = {name: found[0][name] for name in ("from_ms", "until_ms")}
            found.append(self.page(**parameters | span, cursor=found[-1]["next_cursor"]))
        return found


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Busy]:
    text = watched_consortium().replace("scale = 2\n", 'scale = 2\ncurrency = "CNY"\n')
    ledger = make_ledger(tmp_path_factory.mktemp("busy") / "ledger", text)
    with NodeProcess(ledger.directory).await_ready(), GatewayProcess(ledger.directory) as gateway:
        busy = Busy(ledger, gateway.await_ready().await_indexed())
        yield busy
        busy.client.close()


def test_the_pages_together_hold_every_entry_once_and_each_fits_the_ledgers_balances(busy: Busy):
    first, second = busy.pages()
    assert [len(page["bookings"]) for page in (first, second)] == [MAX_BOOKINGS, ENTRIES - MAX_BOOKINGS]
    amounts = [booking["amount_minor"] for page in (first, second) for booking in page["bookings"]]
    assert amounts == busy.amounts
    references = [booking["reference"] for page in (first, second) for booking in page["bookings"]]
    assert len(set(references)) == ENTRIES
    # By arithmetic, and by the balance that the ledger's state holds.
    at_cut = sum(busy.amounts[:MAX_BOOKINGS])
    assert (first["opening_minor"], first["closing_minor"], second["opening_minor"]) == (0, at_cut, at_cut)
    (balance,) = busy.client.balances(busy.ledger.addresses["lantern"])
    assert second["closing_minor"] == balance["posted_minor"] == sum(busy.amounts)
    assert (first["sequence"], second["sequence"]) == (1, MAX_BOOKINGS + 1)


@pytest.mark.parametrize("limit", [999, 1_000, 4_001])
def test_a_page_may_end_anywhere_within_a_posting(busy: Busy, limit: int):
    pages = busy.pages(limit=limit)
    assert [booking["amount_minor"] for page in pages for booking in page["bookings"]] == busy.amounts
    for number, page in enumerate(pages):
        assert page["opening_minor"] == sum(busy.amounts[: number * limit])
        assert page["closing_minor"] == sum(busy.amounts[: (number + 1) * limit])
        assert page["sequence"] == number * limit + 1
    assert len({(page["from_ms"], page["until_ms"]) for page in pages}) == 1


def test_pages_begin_within_a_span_and_end_with_it(busy: Busy):
    (whole,) = busy.pages(limit=MAX_BOOKINGS)[:1]
    from_ms = whole["bookings"][2 * LEGS]["time_ms"]
    until_ms = whole["bookings"][7 * LEGS]["time_ms"]
    pages = busy.pages(limit=1_500, from_ms=from_ms, until_ms=until_ms)
    amounts = [booking["amount_minor"] for page in pages for booking in page["bookings"]]
    assert amounts == busy.amounts[2 * LEGS : 7 * LEGS]
    assert pages[0]["opening_minor"] == sum(busy.amounts[: 2 * LEGS])
    assert pages[-1]["closing_minor"] == sum(busy.amounts[: 7 * LEGS])
    assert all(before["closing_minor"] == after["opening_minor"] for before, after in pairwise(pages))


def test_a_statement_never_spans_what_may_still_be_booked(busy: Busy):
    """Until tomorrow means until now: an entry that comes later is in no statement that was given already."""
    tomorrow_ms = time.time_ns() // 1_000_000 + 86_400_000
    page = busy.page(until_ms=tomorrow_ms, limit=1)
    status = busy.client.status()
    assert status["time_ms"] < page["until_ms"] <= max(status["time_ms"] + 1, time.time_ns() // 1_000_000)
    assert busy.page(until_ms=5)["until_ms"] == 5
    later = busy.page(from_ms=tomorrow_ms)
    assert (later["opening_minor"], later["closing_minor"], later["bookings"]) == (sum(busy.amounts),) * 2 + ([],)


@pytest.mark.parametrize(
    "parameters", [{"limit": 0}, {"limit": MAX_BOOKINGS + 1}, {"cursor": "x"}, {"cursor": "WzFd"}, {"cursor": "W10"}]
)
def test_odd_pages_are_refused(busy: Busy, parameters: dict[str, Any]):
    with pytest.raises(Refused) as caught:
        busy.page(**parameters)
    assert (caught.value.status, caught.value.codespace, caught.value.number) == (400, "api", 4)


def test_the_command_writes_a_message_a_page_as_cbpr_has_it(busy: Busy, tmp_path: Path):
    """Page 1 opens with OPBD, later ones with OPBD/INTM; the last closes with CLBD, earlier ones with CLBD/INTM."""
    files.store(tmp_path / "key.json", "ed25519", bytes(key_of("lantern")._key), b"x", is_quick=True)
    command = [sys.executable, "-m", "feiqian.cli.main", "payments", "statement", busy.address, "--asset", ASSET]
    done = subprocess.run(
        [*command, "--key", "key.json", "--to", "lantern.xml", "--json"],
        cwd=tmp_path,
        env=os.environ | {"FEIQIAN_PASSPHRASE": "x", "FEIQIAN_URL": busy.gateway.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    total = f"{Decimal(sum(busy.amounts)) / 100:.2f}"
    said = {"entries": ENTRIES, "opening": "0.00", "closing": total, "currency": "CNY"}
    assert json.loads(done.stdout) == {"file": "lantern.1.xml, lantern.2.xml", **said}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key.json", "lantern.1.xml", "lantern.2.xml"]
    cut = f"{Decimal(sum(busy.amounts[:MAX_BOOKINGS])) / 100:.2f}"
    pages = [etree.parse(str(tmp_path / f"lantern.{number}.xml")).getroot() for number in (1, 2)]
    assert [pagination(page) for page in pages] == [("1", "false"), ("2", "true")]
    assert [balances(page) for page in pages] == [
        [("OPBD", None, "0.00"), ("CLBD", "INTM", cut)],
        [("OPBD", "INTM", cut), ("CLBD", None, total)],
    ]
    entries = [page.findall(".//{*}Ntry") for page in pages]
    assert [len(found) for found in entries] == [MAX_BOOKINGS, ENTRIES - MAX_BOOKINGS]
    booked = [Decimal(entry.findtext("{*}Amt")) for found in entries for entry in found]
    assert booked == [Decimal(amount) / 100 for amount in busy.amounts]
    for tag in ("Stmt/{*}Id", "ElctrncSeqNb", "FrToDt/{*}FrDtTm", "FrToDt/{*}ToDtTm", "Acct/{*}Id/{*}Othr/{*}Id"):
        assert len({page.findtext(f".//{{*}}{tag}") for page in pages}) == 1, tag
    assert len({page.findtext(".//{*}MsgId") for page in pages}) == 2
    assert [page.findtext(".//{*}TtlCdtNtries/{*}NbOfNtries") for page in pages] == ["10000", "1000"]


def pagination(page: etree._Element) -> tuple[str, str]:
    found = {
        (part.findtext("{*}PgNb"), part.findtext("{*}LastPgInd"))
        for tag in ("MsgPgntn", "StmtPgntn")
        for part in page.iter(f"{{*}}{tag}")
    }
    (one,) = found
    return one


def balances(page: etree._Element) -> list[tuple[str, str | None, str]]:
    return [
        (
            balance.findtext("{*}Tp/{*}CdOrPrtry/{*}Cd"),
            balance.findtext("{*}Tp/{*}SubTp/{*}Cd"),
            balance.findtext("{*}Amt"),
        )
        for balance in page.iter("{*}Bal")
    ]


def test_one_page_is_one_file_that_says_so_and_a_notification_has_pages_too(busy: Busy):
    (page,) = statement_pages(busy.client, to_text(busy.ledger.addresses["lantern"]), ASSET, "2020-01-01", None, None)
    document = etree.fromstring(write_statements([page], "M", 0))
    assert pagination(document) == ("1", "true")
    assert balances(document) == [("OPBD", None, "0.00"), ("CLBD", None, "0.00")]
    notice = statements.notification_of(page)
    assert (notice.page, notice.is_last) == (1, True)
    written = etree.fromstring(write_notification(page))
    assert [written.findtext(f".//{{*}}NtfctnPgntn/{{*}}{tag}") for tag in ("PgNb", "LastPgInd")] == ["1", "true"]
