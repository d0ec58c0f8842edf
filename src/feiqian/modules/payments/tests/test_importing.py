"""What an import makes of the ledger's answers, each given by hand."""

import io
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
import xmlschema
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]  # a C module without stubs

from feiqian.client import Outcome
from feiqian.core.transactions import decode_signed, transaction_id
from feiqian.execution.registry import discover
from feiqian.modules.payments.edge import importer, schemas
from feiqian.modules.payments.edge.account_messages import AccountMessages
from feiqian.modules.payments.edge.importer import ImportResult, Terms, import_file
from feiqian.modules.payments.messages import CreditTransfer
from feiqian.modules.payments.tests.test_files_in import a_file
from feiqian.modules.payments.tests.test_resolution import LOTUS, LU, NOON_MS, Book, agent
from feiqian.wallet.keys import Ed25519Key

KEY = Ed25519Key(bytes([7]) * 32)
REGISTRY = discover()
HARBOUR = agent("EUR.harbour-bank", cnaps="999100000017")


class Scripted:
    """A ledger whose answers are written down: one for payments, one for proposals."""

    def __init__(self, payment: dict[str, Any], proposal: dict[str, Any] | None = None) -> None:
        self._answers = {"payments.CreditTransfer": payment, "accounts.Propose": proposal}
        self.submitted: list[str] = []
        self.rehearsed: list[str] = []
        self.kept = 0

    def submit_all(self, transactions: Sequence[bytes], *, wait: str | None = "committed") -> list[Outcome]:
        return [self._answer(signed, self.submitted) for signed in transactions]

    def dry_run(self, transactions: Sequence[bytes]) -> list[Outcome]:
        for data in transactions:
            assert {each.signature for each in decode_signed(data).signatures} == {bytes(64)}
            assert [each.key for each in decode_signed(data).signatures] == [KEY.public]
        return [self._answer(data, self.rehearsed) for data in transactions]

    def vault_put(self, commitment: bytes, envelope: bytes) -> None:
        self.kept += 1

    def _answer(self, data: bytes, seen: list[str]) -> Outcome:
        body = decode_signed(data).body
        (message,) = REGISTRY.transaction_codec.decode(body).messages
        tag = "payments.CreditTransfer" if isinstance(message, CreditTransfer) else "accounts.Propose"
        seen.append(tag)
        return msgspec.convert({"tx_id": transaction_id(body).hex(), **(self._answers[tag] or {})}, Outcome)


def run(ledger: Scripted, *, is_dry_run: bool = False) -> ImportResult:
    book = Book(HARBOUR, LOTUS)
    book.enter(HARBOUR, "local", "9991000000170001", "Ada Works")
    book.enter(LOTUS, "iban", LU, "Bo & Söhne")
    book.required_readers = lambda: {"lotus-bank": bytes(KEY.public.data)}  # type: ignore[method-assign]
    terms = Terms("c", (KEY,), book, ledger, AccountMessages(REGISTRY).propose, lambda: NOON_MS)
    return import_file(a_file(), terms, is_dry_run=is_dry_run)


def error(codespace: str, number: int) -> dict[str, Any]:
    return {"codespace": codespace, "number": number, "message": f"rule {number}"}


@pytest.mark.parametrize(
    ("codespace", "number", "reason"),
    [
        ("ledger", 38, "TM01"),  # expired while it waited
        ("ledger", 7, "AC06"),  # the account was frozen meanwhile
        ("ledger", 3, "AG01"),  # the member was suspended meanwhile
        ("ledger", 41, "AM14"),  # its sponsor has used its day
        ("node", 3, "NARR"),  # no block has room for it
    ],
)
def test_what_was_accepted_and_dropped_is_rejected_with_a_reason(codespace: str, number: int, reason: str):
    ledger = Scripted({"status": "dropped", "error": error(codespace, number)})
    result = run(ledger)
    (outcome,) = result.outcomes
    assert (outcome.status, outcome.reason, outcome.words) == ("RJCT", reason, f"rule {number}")
    assert (outcome.codespace, outcome.number) == (codespace, number)
    assert ledger.submitted == ["payments.CreditTransfer"]
    xml = importer.report(result, "R-1", "2026-01-01T12:00:00Z")
    xmlschema.XMLSchema(str(schemas.schema_path("pain.002.001.12"))).validate(io.BytesIO(xml))
    document = etree.fromstring(xml)
    assert [element.text for element in document.iter("{*}TxSts")] == ["RJCT"]
    assert [element.text for element in document.iter("{*}Cd")] == [reason]


def test_what_its_keys_may_sign_alone_no_more_is_put_up_for_approval():
    ledger = Scripted({"status": "dropped", "error": error("ledger", 10)}, {"status": "committed"})
    (outcome,) = run(ledger).outcomes
    assert (outcome.status, outcome.reason) == ("PDNG", "DS0A")
    assert ledger.submitted == ["payments.CreditTransfer", "accounts.Propose"]


@pytest.mark.parametrize(
    ("payment", "proposal", "expected"),
    [
        ({"status": "committed"}, None, ("ACTC", None)),
        ({"status": "committed", "error": error("payments", 11)}, None, None),
        ({"status": "refused", "error": error("ledger", 10)}, {"status": "committed"}, ("PDNG", "DS0A")),
        (
            {"status": "refused", "error": error("ledger", 10)},
            {"status": "refused", "error": error("ledger", 10)},
            ("RJCT", "DS0H"),
        ),
    ],
)
def test_a_dry_run_asks_the_same_signs_nothing_and_keeps_nothing(payment: Any, proposal: Any, expected: Any):
    dry_ledger, ledger = Scripted(payment, proposal), Scripted(payment, proposal)
    (dry,), (real,) = run(dry_ledger, is_dry_run=True).outcomes, run(ledger).outcomes
    assert (dry.status, dry.reason) == (expected or (real.status, real.reason))
    assert (real.status.replace("ACSC", "ACTC"), real.reason) == (dry.status, dry.reason)
    assert dry_ledger.rehearsed == ledger.submitted
    assert dry_ledger.submitted == ledger.rehearsed == []
    assert (dry_ledger.kept, ledger.kept) == (0, 1)
    assert dry.tx_id is None
    assert real.tx_id is not None
