"""The network's benchmarks, each for a few seconds: every figure there, nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feiqian.testing.comet_binary import require_cometbft

pytestmark = pytest.mark.campaign

BENCH = Path(__file__).parents[2] / "bench"
NETWORK = ("--validators", "1", "--accounts", "200", "--seconds", "3", "--warm-up", "1", "--verify-s", "0.5")
DECAY = ("--accounts", "200", "--minutes", "4", "--minute-s", "2", "--verify-s", "0.5")


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Give a directory with a short path, for the sockets in it."""
    require_cometbft()
    with tempfile.TemporaryDirectory(prefix="fq-") as directory:
        yield Path(directory)


def start(scratch: Path, name: str, *options: str) -> subprocess.Popen[str]:
    """Start a benchmark whose temporary files go below `scratch`."""
    return subprocess.Popen(
        [sys.executable, str(BENCH / name), *options],
        env=os.environ | {"TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def figures_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return what the last line says."""
    printed, said = process.communicate(timeout=300)
    assert process.returncode == 0, said[-3000:]
    return json.loads(printed.splitlines()[-1])


def left_behind(scratch: Path) -> list[str]:
    """Return what still lies in the directory, and the commands of processes that still work there."""
    commands: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(scratch) in command:
            commands.append(command.replace(b"\0", b" ").decode())
    return commands + [path.name for path in scratch.iterdir()]


def test_the_networks_rates_are_measured_side_by_side(scratch: Path) -> None:
    figures = figures_of(start(scratch, "network.py", *NETWORK))["1"]
    assert figures["tx_per_s"] > 0
    assert figures["kvstore_tx_per_s"] > 0
    assert figures["ratio"] == pytest.approx(figures["tx_per_s"] / figures["kvstore_tx_per_s"], abs=0.001)
    assert 0 < figures["p50_ms"] <= figures["p99_ms"]
    assert {"node", "committer", "verifiers", "cometbft", "gateway", "index", "client"} <= set(figures["cpu_s"])
    assert {"decode", "execute", "tree", "commit"} <= set(figures["stage_us_per_tx"])
    assert left_behind(scratch) == []


def test_the_rate_of_each_minute_is_held_against_verification(scratch: Path) -> None:
    figures = figures_of(start(scratch, "decay.py", "--engines", "solo", "2", *DECAY))
    assert set(figures) == {"solo", "2"}
    for decay in figures.values():
        ratios = [rate / verify for rate, verify in zip(decay["tx_per_s"], decay["verify_per_s"], strict=True)]
        assert decay["ratios"] == pytest.approx(ratios, rel=0.01, abs=0.0001)
        last = (ratios[2] + ratios[3]) / (ratios[1] + ratios[2])
        assert decay["last_over_second_and_third"] == pytest.approx(last, rel=0.01)
    assert left_behind(scratch) == []


def test_a_benchmark_that_is_stopped_leaves_nothing_behind(scratch: Path) -> None:
    process = start(scratch, "decay.py", "--engines", "2", *DECAY, "--minute-s", "30")
    assert process.stderr is not None
    line = ""
    while "opened and funded" not in line:
        line = process.stderr.readline()
        assert line, "it ended before it was stopped"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM
    assert left_behind(scratch) == []
