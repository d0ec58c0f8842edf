"""The overview: how the ledger stands now, to everyone."""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from litestar import Request, Response, get

from feiqian.api.access import ANONYMOUS, Access
from feiqian.api.gateway import Gateway
from feiqian.api.routes import chain
from feiqian.api.routes.parameters import Here
from feiqian.api.shapes import MAX_PAGE
from feiqian.api.threads import on_thread
from feiqian.console.frame import show
from feiqian.index.reading import BlockRow

WINDOW_MS = 60_000
BARS = 30
BAR_MS = WINDOW_MS // BARS
MAX_BLOCKS = 600
"""Blocks that a minute's figure is made of; faster ledgers' figures stand for the time that these took."""

LAST_BLOCKS = 8


class Pace(NamedTuple):
    """Transactions per second over the last minute of the clock, and how many fell into each part of it."""

    per_second: float
    bars: tuple[int, ...]


@get("/", opt={"access": Access.PUBLIC}, include_in_schema=False)
async def show_overview(gateway: Here, request: Request[Any, Any, Any]) -> Response[str]:
    """Page: height, pace, last blocks, supply of each asset, members."""
    await gateway.indexed_height()
    now_ms = time.time_ns() // 1_000_000
    blocks = await on_thread(gateway.index.blocks, None, MAX_BLOCKS)
    assets = await _first_page(chain.list_assets.fn, gateway)
    members = await _first_page(chain.list_members.fn, gateway)
    return show(
        request,
        "overview.html",
        status_now=await chain.show_status.fn(gateway, ANONYMOUS),
        pace=pace_of(blocks, now_ms),
        blocks=blocks[:LAST_BLOCKS],
        assets=assets,
        members=members,
    )


def pace_of(blocks: Sequence[BlockRow], now_ms: int) -> Pace:
    """Return the pace of the last minute from the newest blocks, newest first."""
    bars = [0] * BARS
    for block in blocks:
        age_ms = max(0, now_ms - block.time_ms)
        if age_ms < WINDOW_MS:
            bars[BARS - 1 - age_ms // BAR_MS] += block.transaction_count
    window_ms = WINDOW_MS
    if len(blocks) == MAX_BLOCKS:
        window_ms = max(BAR_MS, min(WINDOW_MS, now_ms - blocks[-1].time_ms))
    return Pace(sum(bars) * 1000 / window_ms, tuple(bars))


async def _first_page(list_page: Any, gateway: Gateway) -> list[Any]:
    page = await list_page(gateway, None, MAX_PAGE)
    return page.items


PAGES = (show_overview,)
