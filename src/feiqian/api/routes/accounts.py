"""Accounts with their balances and entries, each to its own keys, its member's administration and regulators."""

from typing import Annotated

from litestar import get
from litestar.params import QueryParameter

from feiqian.api.access import Access, Reader
from feiqian.api.gateway import Gateway
from feiqian.api.problems import NotFound
from feiqian.api.routes.chain import NOT_YOURS
from feiqian.api.routes.parameters import V1, AddressText, Asker, AssetCode, Cursor, Here, Limit
from feiqian.api.shapes import (
    DEFAULT_PAGE,
    AccountBody,
    AccountSummary,
    BalanceBody,
    BalancesBody,
    EntryBody,
    Page,
    read_cursor,
    write_cursor,
)
from feiqian.api.threads import on_thread
from feiqian.core import addresses
from feiqian.core.plain import to_plain
from feiqian.index.tables import split_position
from feiqian.ledger.records import Account

Time = Annotated[int | None, QueryParameter(ge=0, le=2**53, description="Block time, ms since 1970")]


@get(f"{V1}/accounts", opt={"access": Access.MEMBER})
async def list_accounts(
    gateway: Here, reader: Asker, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE
) -> Page[AccountSummary]:
    """List the reader's account; to an administration account all of its member's, to a regulator all."""
    after = read_cursor(cursor, str)
    start = addresses.from_text(after[0]) if after else b""
    indexed = await gateway.indexed_height()
    rows = await on_thread(gateway.index.accounts_of, reader.scope, start, limit)
    items = [AccountSummary(addresses.to_text(address), member) for address, member in rows]
    return Page(items, write_cursor(items[-1].address) if len(items) == limit else None, indexed)


@get(f"{V1}/accounts/{{address:str}}", opt={"access": Access.PARTY})
async def show_account(address: AddressText, gateway: Here, reader: Asker) -> AccountBody:
    """Show an account and its policy."""
    account = account_for(gateway, addresses.from_text(address), reader)
    return AccountBody(
        address=address.lower(),
        member=account.member,
        is_frozen=account.is_frozen,
        frozen_by=account.frozen_by,
        policy=to_plain(account.policy),
    )


@get(f"{V1}/accounts/{{address:str}}/balances", opt={"access": Access.PARTY})
async def list_balances(
    address: AddressText, gateway: Here, reader: Asker, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE
) -> BalancesBody:
    """Show an account's balances as state has them now."""
    raw = addresses.from_text(address)
    account_for(gateway, raw, reader)
    after = read_cursor(cursor, str)
    height = gateway.ledger.store.height
    items = []
    for code, balance in gateway.ledger.balances(raw, after[0] if after else "", limit):
        asset = gateway.ledger.asset(code)
        posted, held = balance.posted_minor, balance.held_minor
        items.append(
            BalanceBody(
                asset=code,
                scale=0 if asset is None else asset.scale,
                posted_minor=posted,
                held_minor=held,
                available_minor=posted - held,
                limit_minor=balance.limit_minor,
                is_frozen=balance.is_frozen,
                is_listed=balance.is_listed,
            )
        )
    cursor_after = write_cursor(items[-1].asset) if len(items) == limit else None
    return BalancesBody(address.lower(), height, items, cursor_after)


@get(f"{V1}/accounts/{{address:str}}/entries", opt={"access": Access.PARTY})
async def list_entries(
    address: AddressText,
    gateway: Here,
    reader: Asker,
    asset: AssetCode = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
    from_ms: Time = None,
    until_ms: Time = None,
) -> Page[EntryBody]:
    """List an account's entries, newest first, each with the balance after it."""
    raw = addresses.from_text(address)
    account_for(gateway, raw, reader)
    before = read_cursor(cursor, int, int)
    indexed = await gateway.indexed_height()
    rows = await on_thread(gateway.index.entries, raw, asset, before, limit, from_ms, until_ms)
    items = [
        EntryBody(
            asset=row.asset,
            sequence=row.sequence,
            amount_minor=row.amount_minor,
            posted_minor=row.posted_minor,
            height=split_position(row.position)[0],
            time_ms=row.time_ms,
            tx_id=None if row.id is None else row.id.hex(),
            kind="genesis" if row.id is None else ("trigger" if row.is_trigger else "transaction"),
        )
        for row in rows
    ]
    more = write_cursor(rows[-1].position, rows[-1].leg_index) if len(rows) == limit else None
    return Page(items, more, indexed)


def account_for(gateway: Gateway, address: bytes, reader: Reader) -> Account:
    """Return an account that this reader may read.

    Raises:
        NotFound: there is none, or it is another's.
    """
    account = gateway.ledger.account(address)
    if account is None or not reader.may_read(gateway.ledger.parties([address])):
        raise NotFound(f"account: {NOT_YOURS}")
    return account


ROUTES = (list_accounts, show_account, list_balances, list_entries)
