"""Twenty kills at random moments; `make crash` does two hundred."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 20


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_or_done_twice_over_twenty_kills() -> None:
    seed = random.SystemRandom().randrange(2**32)
    command = [sys.executable, str(Path(__file__).with_name("crash.py")), "--kills", str(KILLS), "--seed", str(seed)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"seed {seed}\n{ended.stdout}\n{ended.stderr}"
    assert ended.stdout.splitlines()[-1].startswith(f"{KILLS} kills: ")
