"""The console's pages of governance: how things stand, proposals and votes, to every member."""

from pathlib import Path
from typing import Any

from litestar import Request, Response, get

from feiqian.api.routes.parameters import Cursor, Here, IdHex
from feiqian.console.frame import show
from feiqian.console.navigation import ModulePages, NavigationEntry
from feiqian.console.presenting import describe
from feiqian.modules.governance.edge import routes

PAGE = 50


@get("/governance", opt=routes.list_proposals.opt, include_in_schema=False)
async def show_governance(gateway: Here, request: Request[Any, Any, Any], cursor: Cursor = None) -> Response[str]:
    """Page: who governs by which rules, and the proposals."""
    page = await routes.list_proposals.fn(gateway, None, cursor, PAGE)
    standing = await routes.show_governance.fn(gateway)
    network = await routes.show_network.fn(gateway)
    return show(request, "governance/list.html", standing=standing, network=network, page=page, is_first=cursor is None)


@get("/governance/{proposal_id:str}", opt=routes.show_proposal.opt, include_in_schema=False)
async def show_proposal(proposal_id: IdHex, gateway: Here, request: Request[Any, Any, Any]) -> Response[str]:
    """Page: a proposal and who voted how."""
    found = await routes.show_proposal.fn(proposal_id, gateway)
    action = describe(gateway.ledger, found.proposal.action)
    return show(request, "governance/one.html", proposal=found.proposal, ballots=found.ballots, action=action)


PAGES = ModulePages(
    handlers=(show_governance, show_proposal),
    templates=Path(__file__).parent / "templates",
    navigation=(NavigationEntry("/governance", {"zh": "治理", "en": "Governance"}, 80),),
)
