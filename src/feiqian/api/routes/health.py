"""For machines that watch this one: health, readiness and figures."""

from typing import Any

from litestar import Response, get

from feiqian.api.access import Access
from feiqian.api.problems import NodeAway
from feiqian.api.routes.parameters import Here

MAX_INDEX_LAG = 1000
"""Heights that the index may lie behind before this gateway asks to be given no new work."""


@get("/health", opt={"access": Access.PUBLIC, "reads_state": False})
async def show_health() -> dict[str, str]:
    """Answer while the process lives."""
    return {"status": "alive"}


@get("/ready", opt={"access": Access.PUBLIC, "reads_state": False})
async def show_ready(gateway: Here) -> Response[dict[str, Any]]:
    """Say whether requests will be served: 200 if the node answers and the index keeps up, else 503."""
    height = gateway.ledger.store.height
    try:
        is_node_ready = (await gateway.link.status()).is_ready
    except NodeAway:
        is_node_ready = False
    indexed = gateway.feed.height
    is_index_ready = indexed is not None and height - indexed <= MAX_INDEX_LAG
    body = {"node": is_node_ready, "index": is_index_ready, "height": height, "indexed_height": indexed}
    return Response(body, status_code=200 if is_node_ready and is_index_ready else 503)


@get("/metrics", opt={"access": Access.PUBLIC, "reads_state": False})
async def show_metrics(gateway: Here) -> Response[str]:
    """Return the figures of this gateway and its node in Prometheus's text format."""
    try:
        of_node = await gateway.link.metrics()
    except NodeAway:
        of_node = ""
    return Response(of_node + gateway.metrics.text(), media_type="text/plain; version=0.0.4")


ROUTES = (show_health, show_ready, show_metrics)
