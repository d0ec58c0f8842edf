"""`feiqian account`, `tx`, `block`, `export`: what the ledger holds, as the one who is signed in may see it."""

import re
import sys
from http import HTTPStatus
from itertools import islice
from pathlib import Path

import msgspec
from rich.console import Console

from feiqian.cli.arguments import BlockHeight, Count
from feiqian.cli.connection import Url, connect
from feiqian.cli.output import EXIT_USAGE, Output, fail, fields_text
from feiqian.client.errors import Refused
from feiqian.core.addresses import PREFIX, from_text, to_text
from feiqian.core.amounts import to_decimal_text

LISTS = ("accounts", "assets", "blocks", "members", "transactions")
"""What can be exported by a word; any other list of the API by its path."""

_PATH = re.compile(r"[a-z0-9-]+(/[a-z0-9-]+)*")


def account(
    address: str,
    *,
    entries: Count = 10,
    key: Path | None = None,
    as_account: str | None = None,
    url: Url = None,
    json: bool = False,
) -> None:
    """Print an account: who holds it, its balances and last entries.

    Args:
        address: the account, fq1….
        entries: how many of its last entries to print.
        key: a key file of the account's policy, to sign in with.
        as_account: the account to sign in for, where it is another one than ADDRESS.
        url: the gateway's address.
        json: print one JSON value.
    """
    raw = from_text(address)
    with connect(url, as_account or address, key) as client:
        value = client.account(raw)
        balances = client.balances(raw)
        last = list(islice(client.entries(raw), entries))
    out = Output(is_json=json)
    if json:
        out.value(value | {"balances": balances, "entries": last})
        return
    scales = {balance["asset"]: balance["scale"] for balance in balances}
    out.value({name: value[name] for name in ("address", "member", "is_frozen")})
    out.rows(
        ("asset", "posted", "held", "available", "limit"),
        [
            {"asset": balance["asset"]}
            | {
                name: to_decimal_text(balance[f"{name}_minor"], balance["scale"])
                for name in ("posted", "held", "available", "limit")
            }
            for balance in balances
        ],
    )
    out.rows(
        ("height", "asset", "amount", "balance", "kind", "tx_id"),
        [
            entry
            | {
                "amount": to_decimal_text(entry["amount_minor"], scales[entry["asset"]]),
                "balance": to_decimal_text(entry["posted_minor"], scales[entry["asset"]]),
            }
            for entry in last
        ],
    )


def pending(
    address: str,
    *,
    ended: bool = False,
    key: Path | None = None,
    as_account: str | None = None,
    url: Url = None,
    json: bool = False,
) -> None:
    """Print what waits for approval on behalf of an account, newest first.

    Args:
        address: the account, fq1….
        ended: also what was executed, failed, withdrawn or expired.
        key: a key file of the account's policy, to sign in with.
        as_account: the account to sign in for, where it is another one than ADDRESS.
        url: the gateway's address.
        json: print one JSON value.
    """
    from_text(address)
    with connect(url, as_account or address, key) as client:
        items = list(client.pages(f"/accounts/{address}/pending", ended=ended))
    rows = [item | {"asks_for": ", ".join(message["type"] for message in item["messages"])} for item in items]
    Output(is_json=json).rows(("id", "status", "asks_for", "height", "expires_at_ms"), items if json else rows)


def tx(
    tx_id: str, *, key: Path | None = None, as_account: str | None = None, url: Url = None, json: bool = False
) -> None:
    """Print a transaction: what was asked, what came of it, what happened.

    Args:
        tx_id: its id, 64 hex digits.
        key: a key file to sign in with.
        as_account: the account to sign in for.
        url: the gateway's address.
        json: print one JSON value.
    """
    with connect(url, as_account, key) as client:
        Output(is_json=json).value(client.transaction(tx_id))


def block(height: BlockHeight, *, url: Url = None, json: bool = False) -> None:
    """Print a block: its place in the chain, header and commit.

    Args:
        height: which one.
        url: the gateway's address.
        json: print one JSON value.
    """
    with connect(url) as client:
        value = client.block(height)

    def people(console: Console) -> None:
        brief = {name: field for name, field in value.items() if name not in ("header", "commit")}
        console.print(fields_text(brief), markup=False)

    Output(is_json=json).value(value, people)


def export(what: str, *, key: Path | None = None, as_account: str | None = None, url: Url = None) -> None:
    """Print a whole list as JSON lines: accounts, assets, blocks, members, transactions or an account's entries.

    Args:
        what: accounts, assets, blocks, members, transactions, an address for its entries, or the path of any list of
            the API, as accounts/ADDRESS/pending.
        key: a key file to sign in with.
        as_account: the account to sign in for.
        url: the gateway's address.
    """
    no_list = (
        f"there is no list {what!r}; there are {', '.join(LISTS)}, an address for its entries, and paths of the API"
    )
    if _PATH.fullmatch(what) is None:
        fail(no_list, EXIT_USAGE)
    path = f"/accounts/{to_text(from_text(what))}/entries" if what.startswith(f"{PREFIX}1") else f"/{what}"
    try:
        with connect(url, as_account, key) as client:
            for item in client.pages(path):
                sys.stdout.write(msgspec.json.encode(item).decode() + "\n")
    except Refused as refused:
        if refused.status == HTTPStatus.NOT_FOUND and "/" not in what and path == f"/{what}":
            fail(no_list, EXIT_USAGE)
        raise
