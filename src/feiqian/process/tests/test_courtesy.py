"""A process that gives way rests as long as the kernel says it was made to wait, and takes the idle policy."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from feiqian.process import courtesy
from feiqian.process.courtesy import Courtesy

IN_A_PROCESS_OF_ITS_OWN = """
import os, time
from feiqian.process.courtesy import Courtesy
give_way = Courtesy()
begun_s, cpu_s = time.monotonic(), time.process_time()
while time.process_time() - cpu_s < 0.01:
    give_way()
print(os.sched_getscheduler(0) == os.SCHED_IDLE, time.monotonic() - begun_s)
"""
SPIN = "while True: pass"


@pytest.fixture
def figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What stands for the kernel's file: ns on a processor, ns waiting for one, turns (sched-stats.rst)."""
    path = tmp_path / "schedstat"
    path.write_text("700 1000000000 9\n", "ascii")
    monkeypatch.setattr(courtesy, "_SCHEDULER_FIGURES", path)
    monkeypatch.setattr(os, "sched_setscheduler", lambda *arguments: None)
    return path


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    taken: list[float] = []
    monkeypatch.setattr(time, "sleep", taken.append)
    return taken


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now_s = [5.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now_s[0])
    return now_s


def test_it_rests_as_long_as_it_waited(figures: Path, rests: list[float], clock: list[float]) -> None:
    give_way = Courtesy()
    for waited_ns in (1_005_000_000, 1_005_000_000, 3_000_000_000):
        clock[0] += 0.0011
        figures.write_text(f"900 {waited_ns} 10\n", "ascii")
        give_way()
        give_way()
    # Nothing waited is the shortest rest, two seconds waited the longest.
    assert rests == pytest.approx([0.005, 0.00005, 0.1])


def test_within_a_step_it_does_not_even_look(figures: Path, rests: list[float], clock: list[float]) -> None:
    give_way = Courtesy()
    figures.write_text("not a figure", "ascii")
    clock[0] += 0.0009
    give_way()
    assert rests == []


def test_without_the_kernels_figures_every_rest_is_short(figures: Path, rests: list[float], clock: list[float]) -> None:
    figures.unlink()
    give_way = Courtesy()
    clock[0] += 0.0011
    give_way()
    assert rests == [0.00005]


def test_beside_one_that_wants_its_processor_it_takes_little_of_it() -> None:
    processor = min(os.sched_getaffinity(0))
    spinning = subprocess.Popen([sys.executable, "-c", SPIN], preexec_fn=lambda: os.sched_setaffinity(0, {processor}))
    try:
        courteous = subprocess.run(
            [sys.executable, "-c", IN_A_PROCESS_OF_ITS_OWN],
            preexec_fn=lambda: os.sched_setaffinity(0, {processor}),
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        spinning.kill()
        spinning.wait()
    is_idle_class, elapsed_s = courteous.stdout.split()
    assert is_idle_class == "True"
    assert float(elapsed_s) > 10 * 0.01
