"""The HTTP routes of governance: how things stand, proposals and votes, open to every member."""

from typing import Annotated, Literal

from litestar import get
from litestar.params import Parameter

from feiqian.api.access import Access
from feiqian.api.problems import NotFound
from feiqian.api.routes.parameters import V1, Cursor, Here, IdHex, Limit, id_of
from feiqian.api.shapes import DEFAULT_PAGE, Page, read_cursor, write_cursor
from feiqian.api.threads import on_thread
from feiqian.modules.governance.edge import reading
from feiqian.modules.governance.edge.shapes import GovernanceBody, NetworkBody, ProposalBody, ProposalWithBallots

Standing = Annotated[
    Literal["open", "approved", "rejected", "withdrawn", "expired"] | None,
    Parameter(query="status", description="Only proposals of this status"),
]


@get(f"{V1}/governance", opt={"access": Access.MEMBER})
async def show_governance(gateway: Here) -> GovernanceBody:
    """Show who governs by which rules, the ledger's parameters and the upgrade ahead."""
    return await on_thread(reading.standing, gateway.ledger.state())


@get(f"{V1}/governance/network", opt={"access": Access.MEMBER})
async def show_network(gateway: Here) -> NetworkBody:
    """Show the validators, the nodes that are let in as peers, and what consensus proved of validators."""
    return await on_thread(reading.network, gateway.ledger.state())


@get(f"{V1}/governance/proposals", opt={"access": Access.MEMBER})
async def list_proposals(
    gateway: Here, status: Standing = None, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE
) -> Page[ProposalBody]:
    """List proposals, newest first."""
    before = read_cursor(cursor, int)
    indexed = await gateway.indexed_height()
    rows = await on_thread(reading.proposals, gateway.index.engine, status, before[0] if before else None, limit)
    return Page([body for _, body in rows], write_cursor(rows[-1][0]) if len(rows) == limit else None, indexed)


@get(f"{V1}/governance/proposals/{{proposal_id:str}}", opt={"access": Access.MEMBER})
async def show_proposal(proposal_id: IdHex, gateway: Here) -> ProposalWithBallots:
    """Show a proposal and who voted how."""
    await gateway.indexed_height()
    found = await on_thread(reading.proposal, gateway.index.engine, id_of(proposal_id))
    if found is None:
        raise NotFound("proposal: there is none of this id")
    return found


ROUTES = (show_governance, show_network, list_proposals, show_proposal)
