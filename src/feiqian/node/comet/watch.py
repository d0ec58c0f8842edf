"""The watch on a ledger that stands still while the network goes on: a node that disagrees is never told so.

CometBFT gives such a node no further block. It votes for none and lives on, with its consensus dead or without.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from feiqian.consensus.comet.rpc import CometRpc, RpcError
from feiqian.core.errors import Fault

STILL_S = 60.0
"""A ledger that made no block for so long is compared with those of its peers."""

LOOK_S = 5.0


class Watch:
    """Looks at one node's height; belongs to one event loop."""

    def __init__(
        self,
        rpc: CometRpc,
        height: Callable[[], int],
        nodes: Callable[[], int],
        *,
        still_s: float = STILL_S,
        look_s: float = LOOK_S,
    ) -> None:
        """`height` is the last one on disk, `nodes` how many are registered on the ledger."""
        self._rpc = rpc
        self._height = height
        self._nodes = nodes
        self._still_s = still_s
        self._look_s = look_s

    async def run(self) -> None:
        """Watch until cancelled.

        Raises:
            Fault: the network went on without this node.
        """
        seen, since_s, is_said = self._height(), time.monotonic(), False
        while True:
            await asyncio.sleep(self._look_s)
            height = self._height()
            if height != seen:
                seen, since_s, is_said = height, time.monotonic(), False
            elif time.monotonic() - since_s >= self._still_s:
                peers = await self._peers(height)
                if not is_said:
                    structlog.get_logger().warning("height_still", height=height, peers=peers)
                    is_said = True

    async def _peers(self, height: int) -> int | None:
        """Return how many peers there are, None where CometBFT does not say; the supervisor sees to that.

        Raises:
            Fault: too many of them for lies are beyond the next height.
        """
        try:
            peers = (await self._rpc.consensus_state()).peers
        except RpcError:
            return None
        # Who votes on the block after the next has the next one. A third of the nodes may say what they like.
        beyond = sum(peer.state.height > height + 1 for peer in peers)
        if beyond > (self._nodes() - 1) // 3:
            raise Fault(
                f"the ledger stands still at height {height} while {beyond} of {len(peers)} peers are beyond the next "
                "one: CometBFT's consensus here has stopped, or this ledger is not what the network agreed on. Look "
                "for CometBFT's errors above, and run `feiqian audit` on the directory before it is started again; "
                "where it is not clean, join again by state sync with a new one"
            )
        return len(peers)
