"""What a node that joins reads before it is a peer: CometBFT's headers, commits, validators, as CometBFT gives them.

CometBFT's own RPC has no access control and stays on loopback. Only the methods below are passed on, with parameters
that were checked; what they answer is the same for all, and nothing in it is private.
"""

import asyncio
from typing import Annotated, Literal

import msgspec
from litestar import Response, post
from litestar.openapi.spec import Example
from litestar.params import Body
from msgspec import Meta

from feiqian.api.access import Access
from feiqian.api.problems import NodeAway, NotFound, TooBusy
from feiqian.api.routes.parameters import Here
from feiqian.consensus.comet.rpc import RpcError

MAX_CALL_BYTES = 2_000
WAIT_S = 10

Number = Annotated[str, Meta(pattern=r"\A[1-9][0-9]{0,17}\Z")]
"""CometBFT writes whole numbers as text."""


class CometParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Of which height (the last one unless given); of validators also which page, and how many are on one."""

    height: Number | None = None
    page: Number | None = None
    per_page: Number | None = None


class CometCall(msgspec.Struct, forbid_unknown_fields=True):
    """A JSON-RPC 2.0 call, as CometBFT's light client makes it."""

    jsonrpc: Literal["2.0"]
    id: Annotated[int, Meta(ge=0, le=2**53)]
    method: Literal["commit", "consensus_params", "validators"]
    params: CometParams = CometParams()


_EXAMPLE = Example(value={"jsonrpc": "2.0", "id": 1, "method": "commit", "params": {"height": "5"}})


@post(
    "/comet",
    opt={"access": Access.PUBLIC, "reads_state": False},
    status_code=200,
    request_max_body_size=MAX_CALL_BYTES,
)
async def read_comet(gateway: Here, data: Annotated[CometCall, Body(examples=[_EXAMPLE])]) -> Response[bytes]:
    """Pass a call on to CometBFT's RPC: commit, validators and consensus_params, for light clients and joining nodes.

    404: one node alone runs this ledger.
    """
    if gateway.comet is None:
        raise NotFound(
            "one node alone runs this ledger: it has no CometBFT; /api/v1/blocks has its headers and commits"
        )
    try:
        async with asyncio.timeout(WAIT_S), gateway.comet_calls:
            answer = await gateway.comet.relay(data.method, msgspec.to_builtins(data.params), data.id)
    except TimeoutError:
        raise TooBusy(
            "more calls of CometBFT's RPC are under way than it answers; try again", retry_after_s=1
        ) from None
    except RpcError as error:
        raise NodeAway(f"CometBFT does not answer: {type(error).__name__}", retry_after_s=1) from None
    return Response(answer, media_type="application/json")


ROUTES = (read_comet,)
