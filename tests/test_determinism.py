"""Golden blocks: the recorded transactions give the recorded results and roots, whatever Python hashes strings to."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from feiqian.execution.blocks import RESULT
from feiqian.execution.registry import discover, tag_of

VECTORS = Path(__file__).with_name("vectors")
HASH_SEEDS = ("0", "1", "4711")


@pytest.fixture(scope="module")
def recording() -> dict[str, Any]:
    return json.loads((VECTORS / "golden" / "blocks.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("hash_seed", HASH_SEEDS)
def test_golden_blocks_give_the_recorded_results_and_roots(recording: dict[str, Any], hash_seed: str) -> None:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, str(VECTORS / "golden_run.py")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found, expected = json.loads(ended.stdout), recording["expected"]
    assert found["genesis_app_hash"] == expected["genesis_app_hash"]
    for height, (block, recorded) in enumerate(zip(found["blocks"], expected["blocks"], strict=True), start=1):
        assert block == recorded, f"block {height} is not what was recorded"
    assert found["balances"] == expected["balances"]


def test_every_message_is_recorded_done_and_refused(recording: dict[str, Any]) -> None:
    """A new module's stories must be recorded too: `python tests/vectors/make_golden.py`."""
    registry = discover()
    fates: Counter[tuple[str, bool]] = Counter()
    for block, recorded in zip(recording["blocks"], recording["expected"]["blocks"], strict=True):
        results = recorded["results"][len(recorded["results"]) - len(block["transactions"]) :]
        for signed, (_, result) in zip(block["transactions"], results, strict=True):
            messages = registry.transaction_codec.decode(body_of(bytes.fromhex(signed))).messages
            is_done = RESULT.decode(bytes.fromhex(result)).number == 0
            if len(messages) == 1:
                fates[tag_of(type(messages[0])), is_done] += 1
    missing = [(tag, is_done) for tag in registry.message_types for is_done in (True, False) if not fates[tag, is_done]]
    assert not missing


def body_of(signed: bytes) -> bytes:
    from feiqian.core.transactions import decode_signed

    return decode_signed(signed).body
