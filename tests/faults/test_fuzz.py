"""The shortened form of both fuzzers; `make fuzz` is the long one. The seed is in the output of a failure."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 20


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fuzz_transaction.py", "fuzz_xml.py"])
def test_nothing_but_refusals_comes_out_for_a_while(name: str) -> None:
    seed = random.SystemRandom().randrange(1, 2**32)
    print(f"shortened form: {name} for {SECONDS} s, -seed={seed}; `make fuzz` runs it for five minutes")
    command = [sys.executable, str(Path(__file__).with_name(name)), f"-max_total_time={SECONDS}", f"-seed={seed}"]
    ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    assert ended.returncode == 0, f"-seed={seed}\n{ended.stdout}\n{ended.stderr[-8_000:]}"
    assert "stat::number_of_executed_units" in ended.stderr
