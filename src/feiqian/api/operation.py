"""What an operator looks at first: the disk, and how a network's node stands among the others."""

import asyncio
import time
from pathlib import Path

from feiqian.api.gateway import Gateway
from feiqian.api.shapes import NetworkBody, OperationBody, ValidatorBody
from feiqian.api.threads import on_thread
from feiqian.consensus.comet.gossip import node_id
from feiqian.consensus.comet.rpc import CometRpc, Peer, RpcError, Status
from feiqian.ledger.validators import NODES, VALIDATORS

ANSWER_S = 2.0
"""So long CometBFT is waited for; what it says is left out otherwise."""

BLOCK_BYTES = 512
"""What `st_blocks` counts, whatever the file system's own blocks are (stat(2))."""


async def operation_of(gateway: Gateway) -> OperationBody:
    """Return how the directory and the network stand."""
    store = gateway.ledger.store
    data, head = store.path.parent, store.head
    segments, snapshots, index, comet = await on_thread(_taken, data)
    return OperationBody(
        block_age_ms=max(0, time.time_ns() // 1_000_000 - head.time_ms),
        blocks_held=head.height + 1 - head.first_block,
        segment_bytes=segments,
        snapshot_bytes=snapshots,
        index_bytes=index,
        comet_bytes=comet,
        network=None if gateway.comet is None else await _network_of(gateway, gateway.comet),
    )


async def _network_of(gateway: Gateway, comet: CometRpc) -> NetworkBody:
    state = gateway.ledger.state()
    status, peers = await _asked(gateway, comet)
    missing = None
    if status is not None and peers is not None:
        here = {status.node_id, *(peer.node_id for peer in peers)}
        missing = sorted(record.name for key, record in NODES.scan(state) if node_id(key) not in here)
    return NetworkBody(
        comet_height=None if status is None else status.last_height,
        comet_first_height=None if status is None else status.first_height,
        is_catching_up=None if status is None else status.is_catching_up,
        peers=None if peers is None else len(peers),
        missing_nodes=missing,
        validators=[ValidatorBody(each.name, each.member, each.power) for _, each in VALIDATORS.scan(state)],
    )


async def _asked(gateway: Gateway, comet: CometRpc) -> tuple[Status | None, tuple[Peer, ...] | None]:
    """Return what CometBFT says of itself and its peers, None where it does not answer in time."""
    try:
        async with asyncio.timeout(ANSWER_S), gateway.comet_calls:
            return await comet.status(), await comet.peers()
    except (RpcError, TimeoutError):
        return None, None


def _taken(data: Path) -> tuple[int, int, int, int]:
    """Return the bytes on disk of segment files, snapshots, the gateway's databases and CometBFT's data."""
    index = sum(_disk_bytes(path) for path in data.glob("*.db*"))
    comet = _disk_bytes(data.parent / "comet" / "data")
    return _disk_bytes(data / "segments"), _disk_bytes(data / "snapshots"), index, comet


def _disk_bytes(path: Path) -> int:
    taken = 0
    for file in [path] if path.is_file() else path.rglob("*"):
        try:
            taken += file.stat().st_blocks * BLOCK_BYTES
        except FileNotFoundError:
            # Given up meanwhile.
            continue
    return taken
