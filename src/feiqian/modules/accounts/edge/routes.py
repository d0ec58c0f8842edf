"""The HTTP routes of accounts: approvals that wait, to the parties."""

from typing import Annotated

from litestar import get
from litestar.params import QueryParameter

from feiqian.api.access import Access
from feiqian.api.routes.accounts import account_for
from feiqian.api.routes.parameters import V1, AddressText, Asker, Cursor, Here, Limit
from feiqian.api.shapes import DEFAULT_PAGE, Page, read_cursor, write_cursor
from feiqian.api.threads import on_thread
from feiqian.core import addresses
from feiqian.modules.accounts.edge import reading
from feiqian.modules.accounts.edge.shapes import PendingBody

Ended = Annotated[bool, QueryParameter(description="Also those that were executed, failed, withdrawn or expired")]


@get(f"{V1}/accounts/{{address:str}}/pending", opt={"access": Access.PARTY})
async def list_pending(
    address: AddressText,
    gateway: Here,
    reader: Asker,
    ended: Ended = False,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Page[PendingBody]:
    """List what waits for approval on behalf of an account, newest first."""
    raw = addresses.from_text(address)
    account_for(gateway, raw, reader)
    before = read_cursor(cursor, int)
    indexed = await gateway.indexed_height()
    decode = gateway.ledger.registry.message_codec.decode_trusted
    position = before[0] if before else None
    engine = gateway.index.engine
    rows = await on_thread(reading.pending, engine, decode, raw, position, limit, only_waiting=not ended)
    return Page([body for _, body in rows], write_cursor(rows[-1][0]) if len(rows) == limit else None, indexed)


ROUTES = (list_pending,)
