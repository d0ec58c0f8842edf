"""Runs the recorded blocks and prints what they did, as JSON: `python tests/vectors/golden_run.py`.

Inputs come from `golden/blocks.json` alone; execution, staging and commit are the node's own, on a store of its own.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from feiqian.core.encoding import encode
from feiqian.execution.admission import encode_bundle, prepare
from feiqian.execution.blocks import Block, execute_block
from feiqian.execution.genesis import genesis_changes
from feiqian.execution.registry import discover
from feiqian.ledger.balances import BALANCES
from feiqian.ledger.context import BlockInfo
from feiqian.state.store import HeightWrites, Store
from feiqian.state.tables import BlockState

RECORDING = Path(__file__).with_name("golden") / "blocks.json"


def run(recording: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Return root of genesis, then results and root of each block, and the balances at the end."""
    registry = discover()
    chain_id = recording["genesis"]["chain"]["id"]
    changes = genesis_changes(registry, recording["genesis"], recording["genesis_time_ms"], 0)
    plain = frozenset(name for name, table in registry.tables.items() if table.is_plain)
    store = Store.create(
        directory / "ledger.lmdb",
        chain_id,
        1,
        changes,
        recording["genesis_time_ms"],
        plain_tables=plain,
        reserve_bytes=0,
    )
    blocks = []
    genesis_root = store.app_hash.hex()
    for recorded in recording["blocks"]:
        signed = tuple(bytes.fromhex(text) for text in recorded["transactions"])
        prepared = [prepare(registry, chain_id, each) for each in signed]
        info = BlockInfo(chain_id, recorded["height"], recorded["time_ms"])
        outcome = execute_block(registry, store, store, info, prepared)
        data = encode(Block(info.height, info.time_ms, (encode_bundle(signed),) if signed else (), ()))
        writes = HeightWrites(
            info.height, info.time_ms, data, outcome.results, outcome.changes, outcome.replay_ids, None
        )
        store.commit(store.stage(writes))
        results = [[id_.hex(), result.hex()] for id_, result in outcome.results]
        blocks.append({"results": results, "work": outcome.work, "app_hash": store.app_hash.hex()})
    balances = {key.hex(): [row.posted_minor, row.held_minor] for key, row in BALANCES.scan(BlockState(store))}
    store.close()
    return {"genesis_app_hash": genesis_root, "blocks": blocks, "balances": balances}


def main() -> None:
    """Run the recording in a directory of its own."""
    recording = json.loads(RECORDING.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as directory:
        json.dump(run(recording, Path(directory)), sys.stdout)


if __name__ == "__main__":
    main()
