"""The console's pages of assets: definitions and supply to everyone; holders and issues to issuer and controller."""

from pathlib import Path
from typing import Any

from litestar import Request, Response, get

from feiqian.api.problems import NotFound
from feiqian.api.routes import chain
from feiqian.api.routes.parameters import Asker, Cursor, Here
from feiqian.console.frame import show
from feiqian.console.navigation import ModulePages, NavigationEntry
from feiqian.core import addresses
from feiqian.modules.assets.edge import routes

PAGE = 200
SHOWN = 100


@get("/assets", opt=chain.list_assets.opt, include_in_schema=False)
async def show_assets(gateway: Here, request: Request[Any, Any, Any], cursor: Cursor = None) -> Response[str]:
    """Page: every asset with its supply."""
    page = await chain.list_assets.fn(gateway, cursor, PAGE)
    return show(request, "assets/list.html", page=page, is_first=cursor is None)


@get("/assets/{code:str}", opt=chain.show_asset.opt, include_in_schema=False)
async def show_asset(code: str, gateway: Here, reader: Asker, request: Request[Any, Any, Any]) -> Response[str]:
    """Page: an asset; to those who may know also who holds it and what was issued."""
    body = await chain.show_asset.fn(code, gateway)
    asset = gateway.ledger.asset(code)
    assert asset is not None, "it has just been shown"
    holders = issues = None
    if reader.member is not None:
        try:
            holders = await routes.list_holders.fn(code, gateway, reader, None, SHOWN)
            issues = await routes.list_issues.fn(code, gateway, reader, None, SHOWN)
        except NotFound:
            holders = issues = None
    return show(
        request,
        "assets/one.html",
        body=body,
        issuance_account=addresses.to_text(asset.issuance_account),
        controller=None if asset.controller is None else addresses.to_text(asset.controller),
        holders=holders,
        issues=issues,
    )


PAGES = ModulePages(
    handlers=(show_assets, show_asset),
    templates=Path(__file__).parent / "templates",
    navigation=(NavigationEntry("/assets", {"zh": "资产", "en": "Assets"}, 60),),
)
