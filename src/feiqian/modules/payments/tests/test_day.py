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
from feiqian.modules.payments.edge.remote import RemoteDirectory
from feiqian.modules.payments.edge.shapes import AgentBody, StatementBody
from feiqian.node.initialise import initialise
from feiqian.testing.gateways import GatewayProcess
from feiqian.testing.processes import NodeProcess
from feiqian.vault.documents import open_, seal
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


def test_the_whole_day(day: Day):
    """Every file comes out as it was made to; a dry run before each changes nothing; a second sending pays nothing."""
    for file, entry in day.expected.items():
        before = day.posted(entry["account"], _asset(entry), entry["keys"][0])
        # Its own message id, so that no other test has sent the same.
        data = day.read(file).replace(b"</MsgId>", b"W</MsgId>")
        dry = import_file(data, day.terms(file), is_dry_run=True)
        assert day.posted(entry["account"], _asset(entry)) == before
        result = import_file(data, day.terms(file))
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
        again = import_file(data, day.terms(file))
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
