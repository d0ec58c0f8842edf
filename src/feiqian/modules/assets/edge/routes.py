"""The HTTP routes of assets: holders, issues and controls to issuer, controller and regulators; holds to parties."""

from typing import Annotated

from litestar import get
from litestar.params import Parameter

from feiqian.api.access import Access, Reader
from feiqian.api.gateway import Gateway
from feiqian.api.problems import NotFound
from feiqian.api.routes.accounts import account_for
from feiqian.api.routes.parameters import V1, AddressText, Asker, Cursor, Here, Limit
from feiqian.api.shapes import DEFAULT_PAGE, Page, read_cursor, write_cursor
from feiqian.api.threads import on_thread
from feiqian.core import addresses
from feiqian.ledger.records import Asset
from feiqian.modules.assets.edge import reading
from feiqian.modules.assets.edge.shapes import ControlBody, HoldBody, HolderBody, IssueBody

Code = Annotated[str, Parameter(max_length=48, description="An asset's code")]


@get(f"{V1}/assets/{{code:str}}/holders", opt={"access": Access.PARTY})
async def list_holders(
    code: Code, gateway: Here, reader: Asker, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE
) -> Page[HolderBody]:
    """List who holds an asset, in the order of their addresses; to its issuer and controller."""
    asset = _asset_for(gateway, code, reader)
    after = read_cursor(cursor, str)
    start = addresses.from_text(after[0]) if after else b""
    indexed = await gateway.indexed_height()
    items = await on_thread(reading.holders, gateway.index.engine, code, asset.issuance_account, start, limit)
    return Page(items, write_cursor(items[-1].account) if len(items) == limit else None, indexed)


@get(f"{V1}/assets/{{code:str}}/issues", opt={"access": Access.PARTY})
async def list_issues(
    code: Code, gateway: Here, reader: Asker, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE
) -> Page[IssueBody]:
    """List what was issued and redeemed, newest first; to the asset's issuer and controller."""
    _asset_for(gateway, code, reader)
    before = read_cursor(cursor, int)
    indexed = await gateway.indexed_height()
    rows = await on_thread(reading.issues, gateway.index.engine, code, before[0] if before else None, limit)
    return Page([body for _, body in rows], write_cursor(rows[-1][0]) if len(rows) == limit else None, indexed)


@get(f"{V1}/assets/{{code:str}}/controls", opt={"access": Access.PARTY})
async def list_controls(
    code: Code, gateway: Here, reader: Asker, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE
) -> Page[ControlBody]:
    """List freezes, releases and forced acts with their reasons, newest first; to issuer and controller."""
    _asset_for(gateway, code, reader)
    before = read_cursor(cursor, int)
    indexed = await gateway.indexed_height()
    rows = await on_thread(reading.controls, gateway.index.engine, code, before[0] if before else None, limit)
    return Page([body for _, body in rows], write_cursor(rows[-1][0]) if len(rows) == limit else None, indexed)


@get(f"{V1}/accounts/{{address:str}}/holds", opt={"access": Access.PARTY})
async def list_holds(
    address: AddressText, gateway: Here, reader: Asker, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE
) -> Page[HoldBody]:
    """List the holds on an account and for it, newest first."""
    raw = addresses.from_text(address)
    account_for(gateway, raw, reader)
    before = read_cursor(cursor, int)
    indexed = await gateway.indexed_height()
    rows = await on_thread(reading.holds, gateway.index.engine, raw, before[0] if before else None, limit)
    return Page([body for _, body in rows], write_cursor(rows[-1][0]) if len(rows) == limit else None, indexed)


ROUTES = (list_holders, list_issues, list_controls, list_holds)


def _asset_for(gateway: Gateway, code: str, reader: Reader) -> Asset:
    """Return an asset if this reader reads for its issuer, its issuance account or its controller.

    Raises:
        NotFound: there is none, or the reader is neither.
    """
    asset = gateway.ledger.asset(code)
    if asset is not None:
        accounts = [asset.issuance_account, *([] if asset.controller is None else [asset.controller])]
        if reader.may_read(gateway.ledger.parties(accounts, [asset.issuer])):
            return asset
    raise NotFound("asset: there is none of this code, or you are neither its issuer nor its controller")
