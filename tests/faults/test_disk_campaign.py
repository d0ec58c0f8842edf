"""The disk of ledgers with narrow windows stops growing; `make disk` is the long form."""

import subprocess
import sys
from pathlib import Path

import pytest

from feiqian.testing.comet_binary import require_cometbft


def play(kind: str, blocks: int) -> None:
    command = [sys.executable, str(Path(__file__).with_name("disk_campaign.py")), kind]
    command += ["--blocks", str(blocks), "--window", "100"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    assert ended.stdout.splitlines()[-1].endswith("audit clean")


@pytest.mark.campaign
def test_solo() -> None:
    play("solo", 2_000)


@pytest.mark.campaign
def test_network() -> None:
    require_cometbft()
    play("comet", 1_000)
