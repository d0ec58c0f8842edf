"""Accounts with their statement, to their own member and to regulators."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple

from litestar import Request, Response, get
from litestar.params import Parameter

from feiqian.api.problems import BadParameter
from feiqian.api.routes import accounts
from feiqian.api.routes.parameters import AddressText, Asker, AssetCode, Cursor, Here
from feiqian.api.shapes import BalanceBody
from feiqian.console.frame import show

ACCOUNTS_A_PAGE = 50
BALANCES_SHOWN = 3
MAX_BALANCES = 500
ENTRIES_A_PAGE = 50

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
DayText = Annotated[str | None, Parameter(max_length=10, description="A day of UTC, yyyy-mm-dd")]
FromDay = Annotated[str | None, Parameter(query="from", max_length=10, description="First day (UTC), yyyy-mm-dd")]
UntilDay = Annotated[str | None, Parameter(query="until", max_length=10, description="Last day (UTC), yyyy-mm-dd")]


class AccountRow(NamedTuple):
    """An account in the list, with the first of its balances."""

    address: str
    member: str
    legal_name: str
    balances: list[BalanceBody]


@get("/accounts", opt=accounts.list_accounts.opt, include_in_schema=False)
async def show_accounts(
    gateway: Here, reader: Asker, request: Request[Any, Any, Any], cursor: Cursor = None
) -> Response[str]:
    """Page: the reader's accounts with their first balances."""
    page = await accounts.list_accounts.fn(gateway, reader, cursor, ACCOUNTS_A_PAGE)
    rows = []
    for item in page.items:
        body = await accounts.list_balances.fn(item.address, gateway, reader, None, BALANCES_SHOWN)
        member = gateway.ledger.member(item.member)
        name = item.member if member is None else member.legal_name
        rows.append(AccountRow(item.address, item.member, name, body.items))
    return show(request, "accounts.html", rows=rows, page=page, is_first=cursor is None)


@get("/accounts/{address:str}", opt=accounts.show_account.opt, include_in_schema=False)
async def show_account(
    address: AddressText,
    gateway: Here,
    reader: Asker,
    request: Request[Any, Any, Any],
    asset: AssetCode = None,
    from_day: FromDay = None,
    until_day: UntilDay = None,
    cursor: Cursor = None,
) -> Response[str]:
    """Page: an account, its balances and its statement."""
    account = await accounts.show_account.fn(address, gateway, reader)
    balances = await accounts.list_balances.fn(address, gateway, reader, None, MAX_BALANCES)
    from_ms, end_ms = day_start_ms(from_day), day_start_ms(until_day)
    until_ms = None if end_ms is None else end_ms + int(timedelta(days=1).total_seconds()) * 1000
    entries = await accounts.list_entries.fn(
        address, gateway, reader, asset or None, cursor, ENTRIES_A_PAGE, from_ms, until_ms
    )
    member = gateway.ledger.member(account.member)
    return show(
        request,
        "account.html",
        account=account,
        legal_name=account.member if member is None else member.legal_name,
        balances=balances,
        entries=entries,
        scales={balance.asset: balance.scale for balance in balances.items},
        chosen={"asset": asset or "", "from": from_day or "", "until": until_day or ""},
        is_first=cursor is None,
    )


def day_start_ms(text: str | None) -> int | None:
    """Return the first millisecond of a day of UTC; None where the field was left empty.

    Raises:
        BadParameter: not a date.
    """
    if not text:
        return None
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) if _DAY.fullmatch(text) else None
    except ValueError:
        day = None
    if day is None or day.year < 1970:
        raise BadParameter(f"{text[:10]!r} is no day from 1970 on; write it as 2026-01-31")
    return int(day.timestamp()) * 1000


PAGES = (show_accounts, show_account)
