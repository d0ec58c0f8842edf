"""The sample day on a real node and gateway over HTTP: files in, reports, statements, vault, and what each may see."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import xmlschema
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]  # a C module without stubs
from msgspec.structs import replace
from nacl.public import PrivateKey

from feiqian.client import Client, Refused
from feiqian.client.calls import PREFIX, Call
from feiqian.core.addresses import from_text, to_text
from feiqian.core.encoding import Record
from feiqian.core.plain import from_plain
from feiqian.execution.genesis import account_names
from feiqian.execution.registry import discover
from feiqian.ledger.accounts import address_of
from feiqian.ledger.authority import single_key_policy
from feiqian.ledger.documents import DocumentReference
from feiqian.ledger.records import Policy
from feiqian.modules.payments.edge import importer, onboarding, pain002, schemas, statements
from feiqian.modules.payments.edge.account_messages import AccountMessages
from feiqian.modules.payments.edge.camt053 import write_statements
from feiqian.modules.payments.edge.commands import enter_customers
from feiqian.modules.payments.edge.importer import Terms, import_file
from feiqian.modules.payments.edge.particulars import decode_particulars
from feiqian.modules.payments.edge.remote import RemoteDirectory, file_rejected
from feiqian.modules.payments.edge.shapes import AgentBody, StatementBody
from feiqian.node.initialise import initialise
from feiqian.testing.gateways import GatewayProcess
from feiqian.testing.processes import NodeProcess
from feiqian.vault.documents import open_, seal
from feiqian.vault.store import open_vault
from feiqian.wallet import files
from feiqian.wallet.keys import Ed25519Key
from feiqian.wallet.signing import build_transaction, sign_transaction

SAMPLES = Path(__file__).parents[5] / "samples"
BANKS = {
    "EUR.harbour-bank": "harbour",
    "EUR.lotus-bank": "lotus",
    "CNY.harbour-bank": "harbour",
    "CNY.qilin-bank": "qilin",
}


def secret(name: str) -> bytes:
    return hashlib.sha256(f"day key {name}".encode()).digest()


def public_text(name: str) -> str:
    if name.endswith("-vault"):
        return "x25519:" + bytes(PrivateKey(secret(name)).public_key).hex()
    return "ed25519:" + Ed25519Key(secret(name)).public.data.hex()


class Day:
    """A running ledger of the sample consortium, its books open."""

    def __init__(self, directory: Path, inputs: Path, gateway: GatewayProcess, names: dict[str, bytes]) -> None:
        self.directory = directory
        self.inputs = inputs
        self.gateway = gateway
        self.names = names
        self.registry = discover()
        self.clients: dict[str, Client] = {}
        self.expected = {
            entry["file"]: entry for entry in json.loads((inputs / "expected.json").read_text("utf-8"))["files"]
        }

    def client(self, account: str, key: str | None = None) -> Client:
        if account not in self.clients:
            self.clients[account] = Client(self.gateway.url)
            self.clients[account].sign_in(self.names[account], Ed25519Key(secret(key or account)))
        return self.clients[account]

    def member(self, account: str) -> str:
        return self.client(account).account(self.names[account])["member"]

    def submit(self, sender: str, tag: str, /, **fields: Any) -> None:
        message: Record = self.registry.message_types[tag](**fields)
        self.send(sender, message, sender)

    def send(self, account: str, message: Record, key: str) -> None:
        client = self.client(account, key)
        body = build_transaction("penglai-1", self.member(account), [message], time.time_ns() // 1_000_000 + 60_000)
        outcome = client.submit_all([sign_transaction(body, [Ed25519Key(secret(key))])])[0]
        outcome.raise_if_refused()

    def open_books(self) -> None:
        for asset, bank in BANKS.items():
            client = self.client(bank)
            policy = from_plain(Policy, client.account(self.names[bank])["policy"])
            opening = AccountMessages(self.registry).open_account
            desk = onboarding.Desk(asset, self.names[bank], self.member(bank), policy, opening)
            customers = onboarding.read_customers((self.inputs / "customers" / f"{asset}.csv").read_bytes(), self.names)
            messages = [onboarding.messages_of(customer, desk) for customer in customers]
            assert enter_customers(client, desk.member, messages, (Ed25519Key(secret(bank)),)) == []
        for line in (self.inputs / "opening-balances.csv").read_text("utf-8").splitlines()[1:]:
            asset, issuance, account, amount = line.split(",")
            self.submit(
                issuance,
                "assets.Issue",
                issuance_account=self.names[issuance],
                payee=self.names[account],
                asset=asset,
                amount_minor=int(amount.replace(".", "")),
                reference=b"",
            )
        self.submit(
            "harbour",
            "assets.Freeze",
            controller=self.names["harbour"],
            account=self.names["evergreen"],
            asset="EUR.harbour-bank",
            reason="COURT_ORDER",
        )

    def terms(self, file: str) -> Terms:
        entry = self.expected[file]
        client = self.client(entry["account"], entry["keys"][0])
        return Terms(
            chain_id="penglai-1",
            keys=tuple(Ed25519Key(secret(name)) for name in entry["keys"]),
            directory=RemoteDirectory(client),
            ledger=client,
            propose=AccountMessages(self.registry).propose,
        )

    def read(self, file: str) -> bytes:
        return (self.inputs / "payments" / file).read_bytes()

    def kept_documents(self) -> int:
        """Return how many documents lie in the gateway's vault."""
        return len(open_vault(self.directory / "data" / "vault.db").kept_after(b"", 1_000_000))

    def totals(self) -> dict[str, int]:
        """Return the sum of all accounts' balances in each asset, read as the regulator."""
        regulator = self.client("regulator")
        sums: Counter[str] = Counter()
        for account in regulator.pages("/accounts"):
            for balance in regulator.pages(f"/accounts/{account['address']}/balances"):
                sums[balance["asset"]] += balance["posted_minor"]
        return dict(sums)

    def posted(self, account: str, asset: str, key: str | None = None) -> int:
        balances = self.client(account, key).balances(self.names[account])
        return next((entry["posted_minor"] for entry in balances if entry["asset"] == asset), 0)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    root = tmp_path_factory.mktemp("day")
    today = time.strftime("%Y-%m-%d", time.gmtime())
    make = [sys.executable, str(SAMPLES / "make_samples.py"), "--date", today, "--to", str(root / "in")]
    subprocess.run(make, check=True)
    directory = root / "ledger"
    genesis = initialise(directory, SAMPLES / "consortium.toml", discover(), public_text)
    with NodeProcess(directory).await_ready(), GatewayProcess(directory) as gateway:
        gateway.await_ready()
        day = Day(directory, root / "in", gateway, account_names(genesis.app_state))
        day.open_books()
        yield day
        for client in day.clients.values():
            client.close()


def counted(outcomes: tuple[pain002.Outcome, ...]) -> dict[str, int]:
    return dict(Counter("/".join(filter(None, (outcome.status, outcome.reason))) for outcome in outcomes))


def checked_report(result: importer.ImportResult) -> etree._Element:
    xml = importer.report(result, "R-1", "2026-01-01T12:00:00Z")
    message = pain002.version_for(result.file.message)
    xmlschema.XMLSchema(str(schemas.schema_path(message))).validate(io.BytesIO(xml))
    return etree.fromstring(xml)


def decisions(result: importer.ImportResult) -> list[tuple[object, ...]]:
    """Return what was decided of each payment. A dry run says `ACTC` of what would be settled."""
    return [
        (
            outcome.instruction.end_to_end_id,
            "ACSC" if outcome.status == "ACTC" else outcome.status,
            outcome.reason,
            outcome.codespace,
            outcome.number,
            outcome.uetr,
        )
        for outcome in result.outcomes
    ]


def test_the_whole_day(day: Day):
    """Every file comes out as it was made to; a second sending pays nothing.

    A dry run before each says the same of every payment and changes nothing: not the ledger, not the vault.
    """
    for file, entry in day.expected.items():
        before = day.posted(entry["account"], _asset(entry), entry["keys"][0])
        # Its own message id, so that no other test has sent the same.
        data = day.read(file).replace(b"</MsgId>", b"W</MsgId>")
        kept = day.kept_documents()
        dry = import_file(data, day.terms(file), is_dry_run=True)
        assert day.posted(entry["account"], _asset(entry)) == before
        assert day.kept_documents() == kept
        assert all(outcome.tx_id is None and outcome.status != "ACSC" for outcome in dry.outcomes)
        result = import_file(data, day.terms(file))
        assert decisions(dry) == decisions(result)
        if entry["file_reason"] is not None:
            assert result.refusal is not None
            assert result.refusal.reason == entry["file_reason"]
            assert dry.refusal == result.refusal
            assert day.posted(entry["account"], _asset(entry)) == before
            checked_report(result)
            continue
        assert counted(result.outcomes) == entry["outcomes"], file
        paid_minor = sum(
            round(float(outcome.instruction.amount_text) * 100)
            for outcome in result.outcomes
            if outcome.status == "ACSC"
        )
        after = day.posted(entry["account"], _asset(entry))
        assert before - after == paid_minor
        checked_report(result)
        dry_again = import_file(data, day.terms(file), is_dry_run=True)
        again = import_file(data, day.terms(file))
        assert decisions(dry_again) == decisions(again)
        assert day.posted(entry["account"], _asset(entry)) == after
        assert all(outcome.status != "ACSC" for outcome in again.outcomes)
        settled = [place for place, outcome in enumerate(result.outcomes) if outcome.status == "ACSC"]
        assert {again.outcomes[place].reason for place in settled} == {"AM05"}
        checked_report(again)
    assert set(day.totals().values()) == {0}


def _asset(entry: dict[str, Any]) -> str:
    return {"aurora": "EUR.harbour-bank", "brightwater": "EUR.lotus-bank", "delta": "EUR.harbour-bank"}.get(
        entry["account"], "CNY.qilin-bank"
    )


def test_an_altered_file_under_the_same_references_is_refused(day: Day):
    file = "05-sent-twice.xml"
    import_file(day.read(file), day.terms(file))
    before = day.posted("delta", "EUR.harbour-bank")
    altered = re.sub(rb'(<InstdAmt Ccy="EUR">)\d+\.\d\d', rb"\g<1>1.00", day.read(file))
    altered = re.sub(rb"<CtrlSum>[^<]*</CtrlSum>", b"<CtrlSum>60.00</CtrlSum>", altered)
    result = import_file(altered, day.terms(file))
    assert counted(result.outcomes) == {"RJCT/DU04": 60}
    assert day.posted("delta", "EUR.harbour-bank") == before


def test_a_payment_above_the_makers_limit_waits_for_the_checker(day: Day):
    file = "06-needs-a-checker.xml"
    day.client("aurora", "aurora-maker")
    changed = day.read(file).replace(b"-06</MsgId>", b"-06b</MsgId>")
    before = day.posted("aurora", "EUR.harbour-bank")
    result = import_file(changed, day.terms(file))
    assert [outcome.status for outcome in result.outcomes] == ["ACSC", "ACSC", "PDNG"]
    assert before - day.posted("aurora", "EUR.harbour-bank") == 19_500_00
    waiting = result.outcomes[2]
    assert waiting.tx_id is not None
    events = day.client("aurora").transaction(waiting.tx_id.hex())["events"]
    pending = next(event["pending"] for event in events if event["type"] == "ledger.Proposed")
    checker = "aurora-checker"
    approval = AccountMessages(day.registry).approve(day.names["aurora"], bytes.fromhex(pending))
    day.send("aurora", approval, checker)
    assert before - day.posted("aurora", "EUR.harbour-bank") == 67_500_00
    (payment,) = day.client("aurora").get(f"/payments/by-uetr/{waiting.uetr}")
    assert (payment["status"], payment["amount_minor"]) == ("ACSC", 48_000_00)


@pytest.fixture(scope="module")
def cedar_paid(day: Day) -> dict[str, Any]:
    """Cedar has paid; this is the first of its payments as the ledger has it."""
    import_file(day.read("07-renminbi.xml"), day.terms("07-renminbi.xml"))
    page = day.client("cedar").get("/payments", account=to_text(day.names["cedar"]), limit=100)
    return page["items"][-1]


def test_a_statement_says_what_the_ledger_says(day: Day, cedar_paid):
    client = day.client("cedar")
    address = to_text(day.names["cedar"])
    body = _statement(client, address)
    agents = _agents(client)
    reader = statements.VaultReader("cedar-trading", secret("cedar-vault"))
    made = statements.statement_of(body, agents, client.vault_get, reader, None)
    assert made.closing_minor == day.posted("cedar", "CNY.qilin-bank")
    assert made.account.number.number == "9991000000170001"
    xml = write_statements([made], "MSG-1", time.time_ns() // 1_000_000)
    xmlschema.XMLSchema(str(schemas.schema_path("camt.053.001.08"))).validate(io.BytesIO(xml))
    document = etree.fromstring(xml)
    references = {element.text for element in document.iter("{*}EndToEndId")}
    assert references == {f"XS-{place:03d}" for place in range(40)}
    assert {element.text for element in document.iter("{*}Ustrd")} == {f"货款 第{place}批" for place in range(1, 41)}
    as_stranger = statements.statement_of(body, agents, client.vault_get, None, None)
    assert as_stranger.closing_minor == made.closing_minor
    assert all(booking.payment is None or booking.payment.instruction is None for booking in as_stranger.bookings)


def _statement(client: Client, address: str) -> StatementBody:
    value = client.get(f"/payments/statement/{address}", asset="CNY.qilin-bank")
    return msgspec.convert(value, StatementBody)


def _agents(client: Client) -> list[AgentBody]:
    return msgspec.convert(client.get("/payments/agents"), list[AgentBody])


def test_spans_of_a_statement_fit_together(day: Day, cedar_paid):
    client = day.client("cedar")
    path = f"/payments/statement/{to_text(day.names['cedar'])}"

    def span(from_ms: int | None, until_ms: int | None) -> StatementBody:
        value = client.get(path, asset="CNY.qilin-bank", from_ms=from_ms, until_ms=until_ms)
        return msgspec.convert(value, StatementBody)

    whole = span(None, None)
    cut_ms = whole.bookings[20].time_ms
    first, second = span(None, cut_ms), span(cut_ms, whole.until_ms)
    assert first.closing_minor == second.opening_minor
    assert second.closing_minor == whole.closing_minor
    assert [*first.bookings, *second.bookings] == whole.bookings
    assert (first.sequence, second.sequence) == (1, 1 + len(first.bookings))
    nothing = span(whole.until_ms, whole.until_ms)
    assert (nothing.opening_minor, nothing.closing_minor, nothing.bookings) == (
        whole.closing_minor,
        whole.closing_minor,
        [],
    )


def test_the_payments_particulars_are_for_both_agents_and_the_regulator(day: Day, cedar_paid):
    commitment = bytes.fromhex(cedar_paid["commitment"])
    for account, member, key in [
        ("qilin", "qilin-bank", "qilin-vault"),
        ("cedar", "cedar-trading", "cedar-vault"),
        ("regulator", "penglai-regulator", "regulator-vault"),
    ]:
        envelope = day.client(account).vault_get(commitment)
        particulars = decode_particulars(open_(envelope, member, secret(key), commitment))
        assert particulars.instruction.end_to_end_id == "XS-000"
        assert particulars.instruction.creditor.name == "赵安安"
        assert particulars.initiating_party == "雪松示范贸易公司"


def test_nobody_else_sees_payment_or_particulars(day: Day, cedar_paid):
    commitment = bytes.fromhex(cedar_paid["commitment"])
    stranger = day.client("delta")
    with pytest.raises(Refused) as caught:
        stranger.vault_get(commitment)
    assert caught.value.status == 404
    with pytest.raises(Refused) as caught:
        stranger.get(f"/payments/by-uetr/{cedar_paid['uetr']}")
    assert caught.value.status == 404
    with pytest.raises(Refused) as caught:
        stranger.get(f"/payments/statement/{to_text(day.names['cedar'])}", asset="CNY.qilin-bank")
    assert caught.value.status == 404
    anonymous = httpx.get(f"{day.gateway.url}/api/v1/vault/{commitment.hex()}", trust_env=False)
    assert anonymous.status_code == 401


def test_nothing_personal_lies_on_the_ledger_or_in_its_index(day: Day, cedar_paid):
    """Names, references, numbers and remittances of every file and list are in no file of ledger or index."""
    personal = {"赵安安", "9991000000171000", "货款 第1批", "SAL-2026", "Bela Birk", "Vegetables", "INV-0007"}
    for path in (day.directory / "data").rglob("*"):
        if path.is_file() and path.name != "node.sock":
            data = path.read_bytes()
            found = [text for text in personal if text.encode() in data]
            assert found == [], path.name


def test_the_vault_keeps_what_its_commitment_names_and_nothing_else(day: Day, cedar_paid):
    client = day.client("cedar")
    readers = {"cedar-trading": bytes(PrivateKey(secret("cedar-vault")).public_key)}
    sealed = seal(b"a note", readers)
    with pytest.raises(Refused) as caught:
        client.vault_put(bytes(32), sealed.envelope)
    assert (caught.value.status, caught.value.number) == (400, 101)
    with pytest.raises(Refused) as caught:
        client.vault_put(sealed.commitment, b"garbage")
    assert (caught.value.status, caught.value.number) == (400, 101)
    client.vault_put(sealed.commitment, sealed.envelope)
    client.vault_put(sealed.commitment, sealed.envelope)
    with pytest.raises(Refused) as caught:
        # Kept, but no message on the ledger commits to it.
        client.vault_get(sealed.commitment)
    assert caught.value.status == 404
    with pytest.raises(Refused) as caught:
        client.vault_put(bytes(32), bytes(2 * 1024 * 1024))
    assert caught.value.status == 413


def test_particulars_are_kept_until_their_time_and_erased_by_order(day: Day, cedar_paid):
    commitment = bytes.fromhex(cedar_paid["commitment"])
    with pytest.raises(Refused) as caught:
        day.client("cedar").vault_erase(commitment)
    assert (caught.value.status, caught.value.number) == (409, 103)
    with pytest.raises(Refused) as caught:
        day.client("delta").vault_erase(commitment)
    assert caught.value.status == 404
    envelope = day.client("cedar").vault_get(commitment)
    day.client("regulator").vault_erase(commitment)
    for account in ("cedar", "qilin", "regulator"):
        with pytest.raises(Refused) as caught:
            day.client(account).vault_get(commitment)
        assert (caught.value.status, caught.value.number) == (410, 102)
    with pytest.raises(Refused) as caught:
        day.client("cedar").vault_put(commitment, envelope)
    assert caught.value.status == 410
    (payment,) = day.client("cedar").get(f"/payments/by-uetr/{cedar_paid['uetr']}")
    assert payment["commitment"] == commitment.hex()


def test_who_mentions_a_commitment_again_gains_nothing(day: Day, cedar_paid):
    """Delta pays a cent with Cedar's commitment and itself among the readers: the vault still tells it nothing."""
    page = day.client("cedar").get("/payments", account=to_text(day.names["cedar"]), limit=100)
    commitment = bytes.fromhex(page["items"][5]["commitment"])
    file = "05-sent-twice.xml"
    terms = day.terms(file)
    changed = importer.pain001.read(day.read(file).replace(b"-05</MsgId>", b"-05c</MsgId>"))
    order = next(item for item in importer.check_all(changed, terms) if isinstance(item, importer.Order))
    readers = ("delta-logistics", "harbour-bank", "lotus-bank", "penglai-regulator")
    message = replace(order.message, amount_minor=1, particulars=DocumentReference(commitment, readers, 1))
    day.send("delta", message, "delta")
    with pytest.raises(Refused) as caught:
        day.client("delta").vault_get(commitment)
    assert caught.value.status == 404
    with pytest.raises(Refused) as caught:
        # Nor does the retention of its own choosing count.
        day.client("cedar").vault_erase(commitment)
    assert caught.value.number == 103


def test_look_ups_are_bounded_and_for_members(day: Day):
    url = f"{day.gateway.url}/api/v1/payments"
    for path in ("agents", "readers", "by-uetr/" + "0" * 36):
        assert httpx.get(f"{url}/{path}", trust_env=False).status_code == 401
    client = day.client("delta")
    with pytest.raises(Refused) as caught:
        RemoteDirectory(client).look_up([("EUR.harbour-bank", bytes(32))] * 1001)
    assert caught.value.status == 400
    with pytest.raises(Refused) as caught:
        client.get("/payments/by-uetr/" + "g" * 36)
    assert caught.value.status == 400
    assert RemoteDirectory(client).look_up([("EUR.harbour-bank", bytes(32))]) == [None]
    assert RemoteDirectory(client).paid([bytes(64)]) == [False]


CUSTOMERS = ("kiosk", "stall")


@pytest.fixture(scope="module")
def kiosk_paid(day: Day, cedar_paid) -> bytes:
    """Two customers of Qilin Bank hold the keys of accounts of theirs; kiosk has paid stall 4.00: the instruction."""
    instruction_id = hashlib.sha256(b"kiosk pays stall").digest()
    for name in CUSTOMERS:
        policy, salt = single_key_policy(Ed25519Key(secret(name)).public), secret(name)[:16]
        day.names[name] = address_of("qilin-bank", policy, salt)
        day.submit("qilin", "accounts.Open", account=day.names["qilin"], policy=policy, salt=salt)
        day.submit(
            "qilin",
            "payments.RegisterAlias",
            directory_account=day.names["qilin"],
            deposit_asset="CNY.qilin-bank",
            alias=hashlib.sha256(name.encode()).digest(),
            account=day.names[name],
            holder_name=bytes(32),
        )
    day.submit(
        "qilin",
        "assets.Issue",
        issuance_account=day.names["qilin"],
        payee=day.names["kiosk"],
        asset="CNY.qilin-bank",
        amount_minor=10_00,
        reference=b"",
    )
    day.submit(
        "kiosk",
        "payments.CreditTransfer",
        debtor_account=day.names["kiosk"],
        debtor_asset="CNY.qilin-bank",
        creditor_account=day.names["stall"],
        creditor_asset="CNY.qilin-bank",
        currency="CNY",
        amount_minor=4_00,
        uetr=bytes.fromhex("00000000000040008000000000000001"),
        instruction_id=instruction_id,
        charge_bearer="SLEV",
        purpose=None,
        requested_day=None,
        particulars=None,
    )
    return instruction_id


def test_a_bank_s_customer_reads_its_own_payments_and_the_bank_all_of_its_customers(day: Day, cedar_paid, kiosk_paid):
    accounts = {name: to_text(day.names[name]) for name in (*CUSTOMERS, "qilin", "cedar")}
    own = "00000000-0000-4000-8000-000000000001"

    def is_shown(reader: str, path: str, **parameters: Any) -> bool:
        try:
            day.client(reader).get(path, **parameters)
        except Refused as refusal:
            if refusal.status != 404:
                raise
            return False
        return True

    for name in CUSTOMERS:
        listed = day.client(name).get("/accounts")["items"]
        assert [item["address"] for item in listed] == [accounts[name]]
        assert is_shown(name, f"/payments/by-uetr/{own}")
        assert not is_shown(name, f"/payments/by-uetr/{cedar_paid['uetr']}")
        assert [is_shown(name, "/payments", account=address) for address in accounts.values()] == [
            address == accounts[name] for address in accounts.values()
        ]
        assert not is_shown(name, f"/payments/statement/{accounts['cedar']}", asset="CNY.qilin-bank")
        assert not is_shown(name, f"/transactions/{cedar_paid['tx_id']}")
        body = _statement(day.client(name), accounts[name])
        (payment,) = [booking.payment for booking in body.bookings if booking.payment is not None]
        assert (payment.uetr, payment.amount_minor) == (own, 4_00)
    for uetr in (own, cedar_paid["uetr"]):
        assert is_shown("qilin", f"/payments/by-uetr/{uetr}")
    asked = [day.names["kiosk"] + kiosk_paid]
    answers = [RemoteDirectory(day.client(reader)).paid(asked) for reader in ("kiosk", "qilin", "stall", "delta")]
    assert answers == [[True], [True], [False], [False]]


def test_a_document_goes_to_who_speaks_for_its_reader_not_to_the_reader_s_customers(day: Day, cedar_paid, kiosk_paid):
    # Another payment's document than the one that an earlier test has erased.
    page = day.client("cedar").get("/payments", account=to_text(day.names["cedar"]), limit=100)
    other = next(item for item in page["items"] if item["commitment"] not in (None, cedar_paid["commitment"]))
    commitment = bytes.fromhex(other["commitment"])
    assert day.client("qilin").vault_get(commitment)
    for ask in (day.client("kiosk").vault_get, day.client("kiosk").vault_erase):
        with pytest.raises(Refused) as caught:
            ask(commitment)
        assert caught.value.status == 404


def test_the_payee_s_key_has_a_payment_and_its_document_s_mention_proved_and_another_customer_s_has_not(
    day: Day, cedar_paid, kiosk_paid
):
    day.names["payee"] = from_text(cedar_paid["creditor_account"])
    payee = day.client("payee", BANKS[cedar_paid["creditor_asset"]])
    assert day.names["payee"] not in [day.names[bank] for bank in BANKS.values()]
    tags = [event["type"] for event in day.client("cedar").transaction(cedar_paid["tx_id"])["events"]]
    assert "ledger.DocumentCommitted" in tags
    assert payee.prove_transaction(cedar_paid["tx_id"])
    assert day.client("cedar").prove_transaction(cedar_paid["tx_id"])
    with pytest.raises(Refused) as caught:
        day.client("kiosk").prove_transaction(cedar_paid["tx_id"])
    assert caught.value.status == 404


def test_the_commands_do_the_same(day: Day, tmp_path: Path):
    """`feiqian payments import` and `statement`, with key files, their exit status and files."""
    environment = {**os.environ, "FEIQIAN_PASSPHRASE": "x", "FEIQIAN_URL": day.gateway.url}

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "feiqian.cli.main", "payments", *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    key = tmp_path / "anyone.json"
    files.create(key, "ed25519", b"x", is_quick=True)
    address = to_text(day.names["delta"])
    refused = run("import", day.inputs / "payments" / "05-sent-twice.xml", "--account", address, "--key", key)
    assert refused.returncode == 1
    assert "refused" in refused.stderr
    absent = run("import", tmp_path / "none.xml", "--account", address, "--key", key)
    assert absent.returncode == 2


@pytest.fixture(scope="module")
def aurora_rejected(day: Day) -> importer.ImportResult:
    """Aurora's file of suppliers was answered, and its rejections filed as the command does."""
    file = "02-suppliers-with-errors.xml"
    data = day.read(file).replace(b"-02</MsgId>", b"-02r</MsgId>")
    result = import_file(data, day.terms(file))
    file_rejected(day.client("aurora", day.expected[file]["keys"][0]), to_text(day.names["aurora"]), result)
    return result


def test_what_was_rejected_is_listed_for_its_sender_and_nobody_else(day: Day, aurora_rejected, kiosk_paid):
    rejected = [outcome for outcome in aurora_rejected.outcomes if outcome.status == "RJCT"]
    address = to_text(day.names["aurora"])
    page = day.client("aurora").get("/payments/rejected", account=address, limit=500)
    of_file = [item for item in page["items"] if item["file"] == aurora_rejected.file.message_id]
    assert Counter((item["uetr"], item["reason"]) for item in of_file) == Counter(
        (outcome.uetr, outcome.reason) for outcome in rejected
    )
    assert Counter(item["reason"] for item in of_file) == {
        key.removeprefix("RJCT/"): count
        for key, count in day.expected["02-suppliers-with-errors.xml"]["outcomes"].items()
        if key.startswith("RJCT/")
    }
    by_uetr = {outcome.uetr: outcome.instruction for outcome in rejected}
    for item in of_file:
        instruction = by_uetr[item["uetr"]]
        assert (float(item["amount"]), item["currency"]) == (float(instruction.amount_text), instruction.currency)
    seen = {}
    for reader in ("regulator", "delta", "harbour", "kiosk"):
        try:
            seen[reader] = len(day.client(reader).get("/payments/rejected", account=address)["items"]) > 0
        except Refused as refusal:
            seen[reader] = refusal.status
    # Aurora is a member of its own: its bank learns of what was sent, not of what was not.
    assert seen == {"regulator": True, "delta": 404, "harbour": 404, "kiosk": 404}
    assert httpx.get(f"{day.gateway.url}/api/v1/payments/rejected", trust_env=False).status_code == 401


def test_a_whole_file_that_was_refused_is_listed_as_one(day: Day, aurora_rejected):
    file = "03-control-sum-off-by-a-cent.xml"
    result = import_file(day.read(file), day.terms(file))
    file_rejected(day.client("aurora"), to_text(day.names["aurora"]), result)
    items = day.client("aurora").get("/payments/rejected", account=to_text(day.names["aurora"]), limit=500)["items"]
    (found,) = [item for item in items if item["file"] == result.file.message_id]
    assert (found["uetr"], found["payments"], found["amount"], found["reason"]) == (None, 3, None, "AM10")
    assert (found["codespace"], found["number"]) == ("payments.files", 11)


def test_a_bank_files_for_its_customer_and_nobody_writes_onto_another_s_page(day: Day, kiosk_paid):
    uetr = "00000000-0000-4000-8000-0000000000aa"
    kiosk, stall, qilin, delta = (to_text(day.names[name]) for name in ("kiosk", "stall", "qilin", "delta"))

    def post(reader: str, account: str, debtor: str | None, file: str) -> None:
        item = {"uetr": uetr, "debtor_account": debtor, "payments": 1, "amount": "1.00", "currency": "CNY"}
        item |= {"reason": "AM04", "codespace": "payments", "number": 12, "tx_id": None}
        body = msgspec.json.encode({"account": account, "file": file, "rejected": [item]})
        day.client(reader).call(Call("POST", f"{PREFIX}/payments/rejected", {}, body))

    def files_of(reader: str, account: str) -> list[str]:
        return [item["file"] for item in day.client(reader).get("/payments/rejected", account=account)["items"]]

    post("qilin", qilin, kiosk, "BY-THE-BANK")
    assert files_of("kiosk", kiosk) == files_of("qilin", qilin) == ["BY-THE-BANK"]
    # What a customer says of another account is not told to that one.
    post("kiosk", kiosk, stall, "BY-KIOSK")
    assert files_of("stall", stall) == []
    assert files_of("kiosk", kiosk) == ["BY-KIOSK", "BY-THE-BANK"]
    for reader, account, status in (("delta", kiosk, 404), ("kiosk", qilin, 404), ("regulator", delta, 403)):
        with pytest.raises(Refused) as caught:
            post(reader, account, None, "BY-ANOTHER")
        assert caught.value.status == status
    for body in (b"{}", b'{"account":"x","file":"F","rejected":[]}'):
        with pytest.raises(Refused) as caught:
            day.client("kiosk").call(Call("POST", f"{PREFIX}/payments/rejected", {}, body))
        assert caught.value.status == 400


def test_the_payments_page_says_why_in_the_reader_s_language(day: Day, aurora_rejected):
    item = next(outcome for outcome in aurora_rejected.outcomes if outcome.reason == "BE01")
    token = day.client("aurora")._http.headers["Authorization"]
    for language, words in {
        "en": ("Rejected payments", "Creditor&#39;s name is not that of the account&#39;s holder"),
        "zh": ("被拒绝的付款", "收款人名称与户名不符"),
    }.items():
        headers = {"Authorization": token, "Accept": "text/html", "Accept-Language": language}
        # As many pages as it takes: twenty a page, and other tests have filed more.
        path, seen = "/payments", ""
        while path:
            page = httpx.get(day.gateway.url + path, headers=headers, trust_env=False)
            assert page.status_code == 200, page.text
            seen += page.text
            following = re.search(r'rel="next" href="(/payments\?[^"]*rejected=[^"]*)"', page.text)
            path = following[1].replace("&amp;", "&") if following else ""
        assert aurora_rejected.file.message_id in seen
        assert f"/payments/{item.uetr}" in seen
        assert all(text in seen for text in words)
        one = httpx.get(f"{day.gateway.url}/payments/{item.uetr}", headers=headers, trust_env=False)
        assert words[1] in one.text
        # No transaction of it was made; of one that the ledger refused, the page is named.
        assert 'href="/transactions/' not in one.text
        refused = next(outcome for outcome in aurora_rejected.outcomes if outcome.reason == "AC06")
        of_refused = httpx.get(f"{day.gateway.url}/payments/{refused.uetr}", headers=headers, trust_env=False)
        assert refused.tx_id is not None
        assert f'href="/transactions/{refused.tx_id.hex()}"' in of_refused.text
        stranger = headers | {"Authorization": day.client("delta")._http.headers["Authorization"]}
        other = httpx.get(f"{day.gateway.url}/payments/{item.uetr}", headers=stranger, trust_env=False)
        assert words[1] not in other.text


def test_a_gateway_sweeps_what_is_over_and_leaves_what_is_not(day: Day, cedar_paid):
    """Delta's particulars are to be kept until a moment that has passed, Cedar's for ten years."""
    file = "05-sent-twice.xml"
    terms = day.terms(file)
    changed = importer.pain001.read(day.read(file).replace(b"-05</MsgId>", b"-05s</MsgId>"))
    order = next(item for item in importer.check_all(changed, terms) if isinstance(item, importer.Order))
    keys = {
        name: bytes(PrivateKey(secret(key)).public_key)
        for name, key in (
            ("delta-logistics", "delta-vault"),
            ("harbour-bank", "harbour-vault"),
            ("lotus-bank", "lotus-vault"),
            ("penglai-regulator", "regulator-vault"),
        )
    }
    sealed = seal(b"over at once", keys)
    day.client("delta").vault_put(sealed.commitment, sealed.envelope)
    reference = DocumentReference(sealed.commitment, tuple(sorted(keys)), time.time_ns() // 1_000_000 + 2_000)
    day.send("delta", replace(order.message, amount_minor=1, particulars=reference), "delta")
    assert day.client("delta").vault_get(sealed.commitment) == sealed.envelope
    kept = day.client("cedar").get("/payments", account=to_text(day.names["cedar"]), limit=100)["items"][7]
    vault = open_vault(day.directory / "data" / "vault.db")
    documents = len(vault.kept_after(b"", 1_000_000))
    with GatewayProcess(day.directory, vault_sweep_s=1, vault_grace_hours=0) as sweeping:
        sweeping.await_ready().await_indexed()
        deadline = time.monotonic() + 60
        while vault.get(sealed.commitment).envelope is not None:  # type: ignore[union-attr]
            assert time.monotonic() < deadline
            time.sleep(0.05)
        figures = httpx.get(f"{sweeping.url}/metrics", trust_env=False).text
        assert re.search(r'^feiqian_vault_swept_total\{reason="ended"\} [1-9]', figures, re.MULTILINE)
        assert 'feiqian_vault_swept_total{reason="unnamed"} 0.0' in figures
    with pytest.raises(Refused) as caught:
        day.client("delta").vault_get(sealed.commitment)
    assert (caught.value.status, caught.value.number) == (410, 102)
    assert day.client("cedar").vault_get(bytes.fromhex(kept["commitment"]))
    assert len(vault.kept_after(b"", 1_000_000)) < documents
