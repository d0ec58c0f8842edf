"""The demo's day: opening the books, playing files, statements, supply and proofs, each over HTTP as its member."""

import csv
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
from rich.console import Console

from feiqian.cli.demo_report import Check
from feiqian.client import Client
from feiqian.core.addresses import from_text, to_text
from feiqian.core.amounts import from_decimal_text, to_decimal_text
from feiqian.core.encoding import Record
from feiqian.core.plain import from_plain
from feiqian.execution.genesis import account_names
from feiqian.execution.registry import discover
from feiqian.ledger.records import Policy
from feiqian.modules.payments.edge import onboarding, pain002
from feiqian.modules.payments.edge.account_messages import AccountMessages
from feiqian.modules.payments.edge.bookings import time_text
from feiqian.modules.payments.edge.commands import (
    enter_customers,
    statement_pages,
    write_notification,
    write_pages,
    write_statement,
)
from feiqian.modules.payments.edge.importer import EXPIRY_MS, ImportResult, Terms, import_file, report
from feiqian.modules.payments.edge.remote import RemoteDirectory, file_rejected
from feiqian.wallet.files import open_signing_key
from feiqian.wallet.keys import SigningKey
from feiqian.wallet.signing import build_transaction, sign_transaction

BANKS = {
    "EUR.harbour-bank": "harbour",
    "EUR.lotus-bank": "lotus",
    "CNY.harbour-bank": "harbour",
    "CNY.qilin-bank": "qilin",
}
FROZEN = ("EUR.harbour-bank", "harbour", "evergreen")
CHECKER = ("aurora", "aurora-checker")
LOOK_S = 0.05


class FilePlan(msgspec.Struct, forbid_unknown_fields=True):
    """One file of the day: who sends it, signed by which keys, how often, and what must come of it."""

    file: str
    message: str
    account: str
    number: str
    keys: list[str]
    times: int
    file_reason: str | None
    outcomes: dict[str, int]


class Plan(msgspec.Struct, forbid_unknown_fields=True):
    """`samples/expected.json`."""

    date: str
    files: list[FilePlan]


class Day:
    """Everyone's desk for one day; use as a context manager."""

    def __init__(self, directory: Path, gateways: Mapping[str, str], passphrase: bytes, console: Console) -> None:
        """`gateways` are addresses by the member that runs each."""
        self._directory = directory
        self._addresses = gateways
        self._passphrase = passphrase
        self._samples = directory / "files"
        self._console = console
        self._registry = discover()
        self._gateways = {member: Client(address) for member, address in gateways.items()}
        self._public = next(iter(self._gateways.values()))
        app_state = msgspec.json.decode(self._public.genesis())["app_state"]
        self._names = account_names(app_state)
        self._members = {entry["name"]: entry["member"] for entry in app_state["accounts"]}
        self._opening = list(csv.DictReader((self._samples / "opening-balances.csv").read_text("utf-8").splitlines()))
        self._chain_id = self._public.status()["chain_id"]
        self._clients: dict[str, Client] = {}
        self._pending: list[str] = []
        self._settled: list[bytes] = []
        (directory / "reports").mkdir()
        (directory / "proofs").mkdir()

    def __enter__(self) -> "Day":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for client in (*self._gateways.values(), *self._clients.values()):
            client.close()

    def gateway_of(self, account: str) -> str:
        """Return the address of the gateway that an account uses: its member's own, else that of its bank.

        Its bank is who issues its opening balance; whoever has neither uses the first one.
        """
        banks = [row["issuance_account"] for row in self._opening if row["account"] == account]
        members = [self._members[name] for name in (account, *banks)]
        own = [self._addresses[member] for member in members if member in self._addresses]
        return next(iter([*own, *self._addresses.values()]))

    def open_books(self) -> None:
        """Enter the banks' customers, give everyone their opening balance, freeze the account that a file runs into."""
        for asset, bank in BANKS.items():
            client = self._client(bank)
            policy = from_plain(Policy, client.account(self._names[bank])["policy"])
            member = self._member(bank)
            desk = onboarding.Desk(
                asset, self._names[bank], member, policy, AccountMessages(self._registry).open_account
            )
            customers = onboarding.read_customers(
                (self._samples / "customers" / f"{asset}.csv").read_bytes(), self._names
            )
            messages = [onboarding.messages_of(customer, desk) for customer in customers]
            errors = enter_customers(client, member, messages, (self._key(bank),))
            self._console.print(f"{asset}: {len(customers) - len(errors)} of {len(customers)} customers entered")
        for row in self._opening:
            message = self._message(
                "assets.Issue",
                issuance_account=self._names[row["issuance_account"]],
                payee=self._names[row["account"]],
                asset=row["asset"],
                amount_minor=from_decimal_text(row["amount"], 2),
                reference=b"",
            )
            self._submit(row["issuance_account"], [message])
        asset, controller, account = FROZEN
        freeze = self._message(
            "assets.Freeze",
            controller=self._names[controller],
            account=self._names[account],
            asset=asset,
            reason="COURT_ORDER",
        )
        self._submit(controller, [freeze])

    def play(self, file: FilePlan, play: int) -> ImportResult:
        """Import one file as its sender and write the pain.002 that answers it."""
        client = self._client(file.account, file.keys[0])
        terms = Terms(
            chain_id=self._chain_id,
            keys=tuple(self._key(name) for name in file.keys),
            directory=RemoteDirectory(client),
            ledger=client,
            propose=AccountMessages(self._registry).propose,
        )
        result = import_file((self._samples / "payments" / file.file).read_bytes(), terms)
        answer = report(result, uuid.uuid4().hex, time_text(time.time_ns() // 1_000_000))
        suffix = "" if play == 0 else f"-again-{play}"
        path = self._directory / "reports" / f"{Path(file.file).stem}{suffix}.pain002.xml"
        path.write_bytes(answer)
        file_rejected(client, to_text(self._names[file.account]), result)
        self._await_gateways()
        for outcome in result.outcomes:
            if outcome.status == pain002.SETTLED and outcome.tx_id is not None:
                self._settled.append(outcome.tx_id)
        return result

    def money(self, file: FilePlan) -> list[tuple[str, int]]:
        """Return what the sender has, to compare before and after."""
        balances = self._client(file.account, file.keys[0]).balances(self._names[file.account])
        return [(balance["asset"], balance["posted_minor"]) for balance in balances]

    def approve_pending(self) -> Check:
        """Approve, as the checker, what waits for one."""
        account, key = CHECKER
        client = self._client(account, key)
        pending = client.get(f"/accounts/{to_text(self._names[account])}/pending")["items"]
        messages = [
            AccountMessages(self._registry).approve(self._names[account], bytes.fromhex(entry["id"]))
            for entry in pending
        ]
        for message in messages:
            self._submit(account, [message], key)
        left = client.get(f"/accounts/{to_text(self._names[account])}/pending")["items"]
        return Check("Four eyes", "approved by the checker", bool(messages) and not left, f"{len(messages)} payment")

    def write_statements(self, plan: Plan) -> list[Check]:
        """Write each sender's statement and notification, and compare the closing balance with the ledger's."""
        checks = []
        for account, (number, key) in {file.account: (file.number, file.keys[0]) for file in plan.files}.items():
            client = self._client(account, key)
            for balance in client.balances(self._names[account]):
                asset = balance["asset"]
                vault_key = self._directory / "keys" / f"{account}-vault.json"
                iban = number if number[:2].isalpha() else None
                pages = list(statement_pages(client, to_text(self._names[account]), asset, None, iban, vault_key))
                folder = self._directory / "reports"
                made = write_pages(iter(pages), folder / f"{account}-{asset}.camt053.xml", write_statement)
                write_pages(iter(pages), folder / f"{account}-{asset}.camt054.xml", write_notification)
                closing = to_decimal_text(made.last.closing_minor, balance["scale"])
                held = made.last.closing_minor == balance["posted_minor"]
                said = f"{made.entries} entries, closing {closing} {made.first.account.currency}, as on the ledger"
                checks.append(Check("Statements", f"{account} {asset}", held, said))
        return checks

    def check_supply(self) -> list[Check]:
        """As the regulator, add up every account's balance in each asset: what is held must equal what was issued."""
        client = self._client("regulator")
        totals: dict[str, int] = {}
        accounts = list(client.pages("/accounts"))
        for account in accounts:
            for balance in client.balances(from_text(account["address"])):
                totals[balance["asset"]] = totals.get(balance["asset"], 0) + balance["posted_minor"]
        checks = []
        for asset in client.pages("/assets"):
            code, supply = asset["code"], asset["supply_minor"]
            text = to_decimal_text(supply, asset["asset"]["scale"])
            held = totals.get(code, 0) == 0
            checks.append(Check("Supply", code, held, f"{text} outstanding; all {len(accounts)} accounts sum to zero"))
        return checks

    def check_blocks(self) -> Check:
        """Compare the last block that every gateway can prove: they must have the same, after the same history."""
        height = min(gateway.status()["provable_height"] for gateway in self._gateways.values())
        found = {member: gateway.block(height) for member, gateway in self._gateways.items()}
        hashes = {block["app_hash"] for block in found.values()}
        seen = f"block {height}: app hash {min(hashes)[:16]}… on all {len(found)} validators"
        return Check("Network", "the same state", len(hashes) == 1, seen)

    def write_proofs(self) -> list[tuple[str, Path]]:
        """Write proof files: a balance, a payment's result, and that an account holds nothing of an asset."""
        folder = self._directory / "proofs"
        client = self._client("aurora", "aurora-maker")
        address = self._names["aurora"]
        files = [
            ("a balance", "balance.json", client.prove_balance(address, "EUR.harbour-bank")),
            ("a payment's result", "payment.json", client.prove_transaction(self._settled[0].hex())),
            ("an absence", "absence.json", client.prove_balance(address, "CNY.qilin-bank")),
        ]
        for _, name, data in files:
            (folder / name).write_bytes(data)
        return [(what, folder / name) for what, name, _ in files]

    def _client(self, account: str, key: str | None = None) -> Client:
        if account not in self._clients:
            client = Client(self.gateway_of(account))
            client.sign_in(self._names[account], self._key(key or account))
            self._clients[account] = client
        return self._clients[account]

    def _key(self, name: str) -> SigningKey:
        return open_signing_key(self._directory / "keys" / f"{name}.json", self._passphrase)

    def _member(self, account: str) -> str:
        return self._client(account).account(self._names[account])["member"]

    def _message(self, tag: str, **fields: Any) -> Record:
        return self._registry.message_types[tag](**fields)  # pyright: ignore[reportCallIssue]

    def _submit(self, account: str, messages: Sequence[Record], key: str | None = None) -> None:
        client = self._client(account, key)
        sponsor = client.account(self._names[account])["member"]
        expires_at_ms = max(time.time_ns() // 1_000_000, self._public.status()["time_ms"]) + EXPIRY_MS
        transaction = build_transaction(self._chain_id, sponsor, messages, expires_at_ms)
        outcome = client.submit_all([sign_transaction(transaction, [self._key(key or account)])], wait="provable")[0]
        outcome.raise_if_refused()
        self._await_gateways()

    def _await_gateways(self) -> None:
        """Return when every gateway has what any of them has: none may answer the next member from before."""
        height = max(gateway.status()["height"] for gateway in self._gateways.values())
        for gateway in self._gateways.values():
            while (gateway.status()["indexed_height"] or 0) < height:
                time.sleep(LOOK_S)
