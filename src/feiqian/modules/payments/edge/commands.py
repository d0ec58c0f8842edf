"""`feiqian payments`: import files, enter customers, write statements, follow and approve payments."""

import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from feiqian.cli.arguments import Day, Hex, Iban, OutFile
from feiqian.cli.connection import KeyPaths, Url, connect
from feiqian.cli.keys import read_passphrase
from feiqian.cli.output import EXIT_REFUSED, Output
from feiqian.client import Client, Refused, Unreachable
from feiqian.client.calls import segment
from feiqian.core.addresses import from_text
from feiqian.core.amounts import to_decimal_text
from feiqian.core.plain import from_plain
from feiqian.execution.genesis import account_names
from feiqian.execution.registry import discover
from feiqian.ledger.events import PendingFailed
from feiqian.ledger.records import Policy
from feiqian.modules.payments.edge import onboarding, pain002, statements
from feiqian.modules.payments.edge.account_messages import AccountMessages
from feiqian.modules.payments.edge.bookings import time_text
from feiqian.modules.payments.edge.camt053 import Statement, write_statements
from feiqian.modules.payments.edge.camt054 import write_notifications
from feiqian.modules.payments.edge.importer import CHECKED, EXPIRY_MS, ImportResult, Terms, import_file, report
from feiqian.modules.payments.edge.instructions import AccountNumber
from feiqian.modules.payments.edge.remote import RemoteDirectory, file_rejected
from feiqian.modules.payments.edge.shapes import AgentBody, StatementBody
from feiqian.wallet.files import open_signing_key, open_vault_key
from feiqian.wallet.keys import SigningKey
from feiqian.wallet.signing import build_transaction, sign_transaction

CUSTOMERS_A_TRANSACTION = 20

Account = Annotated[str, Parameter(name="--account")]

app = App(name="payments", help="Customer credit transfers: files in and out, directory, statements.")


@app.command(name="import")
def import_payments(
    file: Path,
    *,
    account: Account,
    key: KeyPaths = None,
    report_to: OutFile = None,
    dry_run: bool = False,
    url: Url = None,
    json: bool = False,
) -> None:
    """Carry out a payment file (pain.001.001.03, .09 or .11) and write the pain.002 that answers it.

    Each payment is a transaction of its own. The same file again pays only what is not paid yet. Exit status 1 if the
    file or any payment of it was rejected.

    Args:
        file: the pain.001 file.
        account: the account to sign in for, fq1….
        key: a key file to sign payments with; the first also signs in.
        report_to: where the pain.002 goes; beside FILE unless told otherwise.
        dry_run: say what the import would be answered with as things stand; submit nothing, write no report.
        url: the gateway's address.
        json: print one JSON value.
    """
    data = file.read_bytes()
    keys = _open_keys(key)
    out = Output(is_json=json)
    with _signed_in(url, account, keys) as client:
        terms = _terms(client, keys)
        with out.progress("payments") as progress:
            done = 0

            def told(count: int) -> None:
                nonlocal done
                done += count
                progress(done, max(done, data.count(b"<CdtTrfTxInf")))

            result = import_file(data, terms, is_dry_run=dry_run, told=told)
        written = None if dry_run else _write_report(result, report_to or file.with_suffix(".pain002.xml"))
        _print_result(out, result, written)
        if not dry_run:
            _file_rejected(client, account, result)
    if result.refusal is not None or any(outcome.status == pain002.REJECTED for outcome in result.outcomes):
        sys.exit(EXIT_REFUSED)


@app.command
def customers(
    file: Path, *, asset: str, account: Account, key: KeyPaths = None, url: Url = None, json: bool = False
) -> None:
    """Enter a bank's customers in its directory, opening accounts for those who have none.

    FILE is CSV in UTF-8 with the columns kind,number,holder,account; kind is iban or local, account is fq1…, @NAME of
    an account of the consortium file, or new.

    Args:
        file: the list.
        asset: the bank's deposit asset, such as EUR.harbour-bank.
        account: the bank's directory account, fq1….
        key: a key file of that account; the first also signs in.
        url: the gateway's address.
        json: print one JSON value.
    """
    keys = _open_keys(key)
    out = Output(is_json=json)
    with _signed_in(url, account, keys) as client:
        names = account_names(msgspec.json.decode(client.genesis())["app_state"])
        read = onboarding.read_customers(file.read_bytes(), names)
        desk = _desk(client, asset, account)
        messages = [onboarding.messages_of(customer, desk) for customer in read]
        errors = enter_customers(client, desk.member, messages, keys)
    out.value({"customers": len(read), "entered": len(read) - len(errors), "refused": errors})
    if errors:
        sys.exit(EXIT_REFUSED)


@app.command
def statement(
    address: str,
    *,
    asset: str,
    day: Day = None,
    iban: Iban = None,
    notify: bool = False,
    to: OutFile = None,
    key: KeyPaths = None,
    as_account: str | None = None,
    vault_key: Path | None = None,
    url: Url = None,
    json: bool = False,
) -> None:
    """Write the statement of an account (camt.053), or its entries as a notification (camt.054).

    One of more than 10,000 entries is written in pages, a message each: FILE.1.xml, FILE.2.xml and so on.

    Args:
        address: the account, fq1….
        asset: which of its assets.
        day: a UTC day, 2026-01-31; from the ledger's beginning until now unless given.
        iban: the account's IBAN, as the statement is to name it.
        notify: write a camt.054 instead of a camt.053.
        to: the file to write; statement-….xml unless told otherwise.
        key: a key file to sign in with.
        as_account: the account to sign in for, where it is another one than ADDRESS.
        vault_key: the x25519 key file that opens payments' particulars; only the administration account is given them.
        url: the gateway's address.
        json: print one JSON value.
    """
    keys = _open_keys(key)
    write = write_notification if notify else write_statement
    with _signed_in(url, as_account or address, keys) as client:
        pages = statement_pages(client, address, asset, day, iban, vault_key)
        written = write_pages(pages, to, write)
    first, last = written.first, written.last
    scale = first.account.scale
    Output(is_json=json).value(
        {
            "file": ", ".join(path.name for path in written.files),
            "entries": written.entries,
            "opening": to_decimal_text(first.opening_minor, scale),
            "closing": to_decimal_text(last.closing_minor, scale),
            "currency": first.account.currency,
        }
    )


@app.command
def status(uetr: str, *, account: Account, key: KeyPaths = None, url: Url = None, json: bool = False) -> None:
    """Print what the ledger says of the payment with a UETR.

    Args:
        uetr: the payment's UETR.
        account: the account to sign in for, fq1….
        key: a key file of its policy.
        url: the gateway's address.
        json: print one JSON value.
    """
    with _signed_in(url, account, _open_keys(key)) as client:
        found = client.get(f"/payments/by-uetr/{segment(uetr)}")
    out = Output(is_json=json)
    for payment in found:
        out.value(payment)


@app.command
def approve(pending: Hex, *, account: Account, key: KeyPaths = None, url: Url = None, json: bool = False) -> None:
    """Approve a payment that waits for a colleague.

    Args:
        pending: the pending approval's id in hex.
        account: the debtor's account, fq1….
        key: a key file of the checker.
        url: the gateway's address.
        json: print one JSON value.
    """
    keys = _open_keys(key)
    with _signed_in(url, account, keys) as client:
        raw = from_text(account)
        sponsor = client.account(raw)["member"]
        message = AccountMessages(discover()).approve(raw, bytes.fromhex(pending))
        outcome = client.submit_all([_sign(client, sponsor, [message], keys)])[0]
        outcome.raise_if_refused()
        _raise_if_failed(client.transaction(outcome.tx_id)["events"])
    Output(is_json=json).value(msgspec.to_builtins(outcome))


def _raise_if_failed(events: list[dict[str, Any]]) -> None:
    """Raise what the approved payment itself was refused for: the approval stands, the payment does not."""
    for event in events:
        if event["type"] == PendingFailed.__struct_config__.tag:
            raise Refused(event["codespace"], event["number"], event["message"])


def enter_customers(
    client: Client, member: str, messages: list[list[Any]], keys: tuple[SigningKey, ...]
) -> list[dict[str, Any]]:
    """Submit customers' messages, several customers a transaction; return the errors, one for each customer refused.

    Where one of several is refused, all of its transaction is, so those are sent again one by one.
    """
    groups = [
        messages[start : start + CUSTOMERS_A_TRANSACTION] for start in range(0, len(messages), CUSTOMERS_A_TRANSACTION)
    ]
    outcomes = client.submit_all([_sign(client, member, list(chain.from_iterable(group)), keys) for group in groups])
    again = [single for group, outcome in zip(groups, outcomes, strict=True) if not outcome.is_done for single in group]
    if not again:
        return []
    singles = client.submit_all([_sign(client, member, single, keys) for single in again])
    return [outcome.error for outcome in singles if outcome.error is not None]


def statement_pages(
    client: Client, address: str, asset: str, day: str | None, iban: str | None, vault_key: Path | None
) -> Iterator[Statement]:
    """Yield the pages of what the gateway says, at least one, with the particulars that the vault key opens."""
    from_ms, until_ms = (None, None) if day is None else statements.day_of(day)
    agents = msgspec.convert(client.get("/payments/agents"), list[AgentBody])
    reader = None
    if vault_key is not None:
        member = client.account(from_text(address))["member"]
        reader = statements.VaultReader(member, bytes(open_vault_key(vault_key, read_passphrase())))

    def fetch(commitment: bytes) -> bytes | None:
        try:
            return client.vault_get(commitment)
        except Refused:
            return None

    number = None if iban is None else AccountNumber("iban", iban)
    page: Statement | None = None
    cursor: str | None = None
    while page is None or not page.is_last:
        path = f"/payments/statement/{segment(address)}"
        value = client.get(path, asset=asset, from_ms=from_ms, until_ms=until_ms, cursor=cursor)
        body = msgspec.convert(value, StatementBody)
        from_ms, until_ms, cursor = body.from_ms, body.until_ms, body.next_cursor
        page = statements.statement_of(body, agents, fetch, reader, number, page)
        yield page


class WrittenPages(NamedTuple):
    """The files of a statement with its first and last page, and how many entries it has."""

    files: list[Path]
    first: Statement
    last: Statement
    entries: int


def write_pages(pages: Iterator[Statement], to: Path | None, write: Callable[[Statement], bytes]) -> WrittenPages:
    """Write a statement's pages to `to`, or to numbered files beside it where there are several.

    Nothing has its final name before all of it is written: what lies there is complete.
    """
    first = last = next(pages)
    path = to or Path(f"statement-{first.id}.xml")
    written: list[tuple[Path, Path]] = []
    entries = 0
    for last in chain([first], pages):
        is_only = last.page == 1 and last.is_last
        final = path if is_only else path.with_name(f"{path.stem}.{last.page}{path.suffix}")
        beside = final.with_name(final.name + ".new")
        beside.write_bytes(write(last))
        written.append((beside, final))
        entries += len(last.bookings)
    for beside, final in written:
        os.replace(beside, final)
    return WrittenPages([final for _, final in written], first, last, entries)


def write_statement(page: Statement) -> bytes:
    """Return a page as a camt.053 message of its own."""
    return write_statements([page], uuid.uuid4().hex, time.time_ns() // 1_000_000)


def write_notification(page: Statement) -> bytes:
    """Return a page as a camt.054 message of its own."""
    return write_notifications([statements.notification_of(page)], uuid.uuid4().hex, time.time_ns() // 1_000_000)


def _desk(client: Client, asset: str, account: str) -> onboarding.Desk:
    raw = from_text(account)
    body = client.account(raw)
    policy = _policy(body["policy"])
    return onboarding.Desk(asset, raw, body["member"], policy, AccountMessages(discover()).open_account)


def _policy(plain: dict[str, Any]) -> Policy:

    return from_plain(Policy, plain)


def _terms(client: Client, keys: tuple[SigningKey, ...]) -> Terms:
    return Terms(
        chain_id=client.status()["chain_id"],
        keys=keys,
        directory=RemoteDirectory(client),
        ledger=client,
        propose=AccountMessages(discover()).propose,
    )


def _open_keys(paths: list[Path] | None) -> tuple[SigningKey, ...]:
    passphrase = read_passphrase() if paths else b""
    return tuple(open_signing_key(path, passphrase) for path in paths or [])


def _signed_in(url: str | None, account: str, keys: tuple[SigningKey, ...]) -> Client:
    client = connect(url)
    if keys:
        client.sign_in(from_text(account), keys[0])
    return client


def _sign(client: Client, sponsor: str, messages: list[Any], keys: tuple[SigningKey, ...]) -> bytes:
    status_now = client.status()
    expires_at_ms = max(time.time_ns() // 1_000_000, status_now["time_ms"]) + EXPIRY_MS
    return sign_transaction(build_transaction(status_now["chain_id"], sponsor, messages, expires_at_ms), keys)


def _write_report(result: ImportResult, path: Path) -> Path:
    xml = report(result, uuid.uuid4().hex, time_text(time.time_ns() // 1_000_000))
    beside = path.with_name(path.name + ".new")
    beside.write_bytes(xml)
    os.replace(beside, path)
    return path


def _file_rejected(client: Client, account: str, result: ImportResult) -> None:
    try:
        file_rejected(client, account, result)
    except (Refused, Unreachable) as error:
        # The report is written and says it all; the console's page will lack it.
        sys.stderr.write(f"feiqian: what was rejected is not on the payments page: {error}\n")


def _print_result(out: Output, result: ImportResult, written: Path | None) -> None:
    refusal = result.refusal
    value = {
        "message": result.file.message,
        "message_id": result.file.message_id,
        "payments": len(result.file.instructions),
        "refusal": None if refusal is None else msgspec.to_builtins(refusal),
        "outcomes": [_plain(outcome) for outcome in result.outcomes],
        "report": None if written is None else written.name,
    }
    out.value(value, lambda console: _print_people(console, value))


def _plain(outcome: pain002.Outcome) -> dict[str, Any]:
    return {
        "end_to_end_id": outcome.instruction.end_to_end_id,
        "uetr": outcome.instruction.uetr or outcome.uetr,
        "amount": f"{outcome.instruction.amount_text} {outcome.instruction.currency}",
        "status": outcome.status,
        "reason": outcome.reason,
        "words": outcome.words,
        "tx_id": None if outcome.tx_id is None else outcome.tx_id.hex(),
    }


def _print_people(console: Console, value: dict[str, Any]) -> None:
    if value["refusal"] is not None:
        refusal = value["refusal"]
        console.print(f"{value['message_id']}: the whole file is rejected, {refusal['reason']}: {refusal['words']}")
        return
    counts: dict[str, int] = {}
    for outcome in value["outcomes"]:
        counts[outcome["status"]] = counts.get(outcome["status"], 0) + 1
    said = ", ".join(f"{counts[found]} {found}" for found in sorted(counts))
    console.print(f"{value['message_id']}: {value['payments']} payments: {said}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("end_to_end_id", "amount", "status", "reason", "words"):
        table.add_column(column.replace("_", " "), overflow="fold")
    others = [outcome for outcome in value["outcomes"] if outcome["status"] not in (pain002.SETTLED, CHECKED)]
    for outcome in others:
        table.add_row(*(str(outcome[name] or "-") for name in ("end_to_end_id", "amount", "status", "reason", "words")))
    if others:
        console.print(table)
    if value["report"] is not None:
        console.print(f"report: {value['report']}")
