"""The parts of one gateway, made by the composition root and handed to the routes."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import sqlalchemy as sa

from feiqian.api.drops import Drops
from feiqian.api.feed import EventFeed
from feiqian.api.ledger_view import LedgerView
from feiqian.api.metrics import GatewayMetrics
from feiqian.api.node_link import NodeLink
from feiqian.api.problems import NodeAway
from feiqian.api.sessions import Sessions
from feiqian.api.settings import GatewaySettings
from feiqian.api.store_watch import StoreWatch
from feiqian.api.submission import Submitter
from feiqian.consensus.comet.rpc import CometRpc
from feiqian.index.reading import IndexReader
from feiqian.vault.store import VaultStore

CATCH_UP_S = 2.0
STORE_S = 10.0
COMET_CALLS = 4


@dataclass(frozen=True)
class Gateway:
    """All that routes may use; `app.state.gateway`."""

    settings: GatewaySettings
    ledger: LedgerView
    index: IndexReader
    link: NodeLink
    store_watch: StoreWatch
    submitter: Submitter
    drops: Drops
    sessions: Sessions
    feed: EventFeed
    metrics: GatewayMetrics
    vault: VaultStore
    notes: Mapping[str, sa.Engine]
    """The databases that modules' edges declare, by name."""
    comet: CometRpc | None = None
    """CometBFT's RPC, where the ledger is a network's."""
    comet_calls: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(COMET_CALLS))
    """So few at once: the node itself needs CometBFT's answers too."""
    dry_runs: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One dry run at a time: each may take seconds of a processor."""

    async def reach_committed(self) -> None:
        """Return when the store has all that this gateway has told anyone to be committed; so reads show it.

        Raises:
            NodeAway: it does not catch up.
        """
        # Without its node the store does not go on.
        timeout_s = STORE_S if self.link.is_connected else 0
        if not await self.store_watch.reach(self.submitter.height, timeout_s):
            raise NodeAway("the ledger is not up to what was committed last; try again", retry_after_s=1)

    async def indexed_height(self) -> int | None:
        """Return the index's height, given a moment to reach what is committed now.

        So who has just seen a transaction committed finds it in the lists too, unless the index is far behind.
        """
        return await self.feed.wait_for(self.ledger.store.height, CATCH_UP_S)

    def lookup(self, ids: list[bytes]) -> Mapping[bytes, tuple[int, bytes]]:
        """Return (height, encoded Result) of those ids that are on the ledger; takes long for many."""
        return look_up(self.ledger, self.index, ids)


def look_up(ledger: LedgerView, index: IndexReader, ids: list[bytes]) -> dict[bytes, tuple[int, bytes]]:
    """Find results by the index, and in the store itself for the few that it does not have yet."""
    found = ledger.results_at(index.places_of(ids))
    missing = [tx_id for tx_id in ids if tx_id not in found]
    for tx_id in missing[:MAX_STORE_LOOKUPS]:
        result = ledger.store.result(tx_id)
        if result is not None:
            found[tx_id] = (result[0], result[2])
    return found


MAX_STORE_LOOKUPS = 200
"""Each costs the store the decoding of a whole block."""


async def cancel_and_wait(task: asyncio.Task[None]) -> None:
    """End a background task."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
