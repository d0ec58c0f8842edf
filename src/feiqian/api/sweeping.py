"""Keeps the vault swept, a batch at a time, for as long as the gateway runs."""

import asyncio

import structlog

from feiqian.api.feed import EventFeed
from feiqian.api.ledger_view import LedgerView
from feiqian.api.metrics import GatewayMetrics
from feiqian.api.threads import on_thread
from feiqian.index.reading import IndexAway
from feiqian.vault.sweep import Sweeper, Swept

BATCH_PAUSE_S = 0.1
"""So that sweeping a large vault takes little from those who are served."""
INDEX_PAUSE_S = 5.0
CATCH_UP_S = 2.0

log = structlog.get_logger("feiqian.api")


async def keep_swept(
    sweeper: Sweeper, ledger: LedgerView, feed: EventFeed, metrics: GatewayMetrics, interval_s: int
) -> None:
    """Go through the vault once each `interval_s`, until cancelled; never where that is 0."""
    unnamed = ended = 0
    while interval_s:
        swept = await _step(sweeper, ledger, feed)
        if swept is None:
            await asyncio.sleep(INDEX_PAUSE_S)
            continue
        metrics.vault_swept.labels("unnamed").inc(swept.unnamed)
        metrics.vault_swept.labels("ended").inc(swept.ended)
        unnamed, ended = unnamed + swept.unnamed, ended + swept.ended
        if not swept.is_through:
            await asyncio.sleep(BATCH_PAUSE_S)
            continue
        if unnamed or ended:
            log.info("vault_swept", unnamed=unnamed, ended=ended)
        unnamed = ended = 0
        await asyncio.sleep(interval_s)
    await asyncio.Event().wait()


async def _step(sweeper: Sweeper, ledger: LedgerView, feed: EventFeed) -> Swept | None:
    """Return what a step did, None where the index is not there or behind what is committed now."""
    height = ledger.store.height
    try:
        await feed.wait_for(height, CATCH_UP_S)
        return await on_thread(sweeper.step, height)
    except IndexAway:
        return None
