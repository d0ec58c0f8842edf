"""`feiqian start`: two real children, and whatever is killed, nothing stays behind."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from feiqian.node.configuration import Layout
from feiqian.testing.ledgers import SampleLedger
from feiqian.testing.processes import ANSWER_S, Channel


class Running:
    """A supervisor that has said where its ledger serves, and everything that runs below it."""

    def __init__(self, directory: Path) -> None:
        (directory / "feiqian.toml").write_text("[gateway]\nport = 0\n", "utf-8")
        with directory.with_name("start.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "feiqian.node.supervisor", str(directory)], stdout=subprocess.PIPE, stderr=log
            )
        self.address = ""
        self.children: dict[str, int] = {}
        self.family: dict[int, int] = {}

    def await_ready(self) -> None:
        """Return when both children serve."""
        assert self.process.stdout is not None
        line = b""
        while b"http://" not in line:
            line = self.process.stdout.readline()
            assert line, "it ended before it was ready"
        self.address = line.decode().split()[-1]
        self.children = {name: pid for pid, name in _children(self.process.pid).items()}
        self.family = {pid: os.pidfd_open(pid) for pid in _descendants(self.process.pid)}

    def await_end(self) -> int:
        """Return the supervisor's status once every process below it is gone."""
        status = self.process.wait(ANSWER_S)
        for pid, descriptor in self.family.items():
            ended, _, _ = select.select([descriptor], [], [], ANSWER_S)
            assert ended, f"process {pid} lives on"
        return status

    def clear_away(self) -> None:
        for descriptor in self.family.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)
        self.process.kill()
        self.process.wait()


def _children(pid: int) -> dict[int, str]:
    names: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            names[int(child)] = command[2].decode() if len(command) > 2 else ""
    return names


def _descendants(pid: int) -> list[int]:
    below = list(_children(pid))
    return below + [each for child in below for each in _descendants(child)]


@pytest.fixture
def running(ledger: SampleLedger) -> Iterator[Running]:
    it = Running(ledger.directory)
    try:
        it.await_ready()
        yield it
    finally:
        it.clear_away()


def test_both_serve_and_sigterm_stops_both_cleanly(running: Running, ledger: SampleLedger) -> None:
    with urllib.request.urlopen(f"{running.address}/health", timeout=ANSWER_S) as answer:
        assert answer.status == 200
    with Channel(Layout(ledger.directory).socket) as channel:
        assert channel.status().is_ready
    assert set(running.children) == {"feiqian.node", "feiqian.api"}
    running.process.send_signal(signal.SIGTERM)
    assert running.await_end() == 0


@pytest.mark.parametrize("victim", ["feiqian.node", "feiqian.api"])
def test_when_a_child_is_killed_the_other_is_stopped_and_the_status_says_so(running: Running, victim: str) -> None:
    os.kill(running.children[victim], signal.SIGKILL)
    assert running.await_end() == 3


def test_no_orphan_stays_when_the_supervisor_is_killed(running: Running) -> None:
    running.process.kill()
    assert running.await_end() == -signal.SIGKILL


def test_a_fault_of_the_node_is_passed_on(running: Running) -> None:
    worker = next(iter(_children(running.children["feiqian.node"])))
    os.kill(worker, signal.SIGKILL)
    assert running.await_end() == 3


def test_wrong_settings_are_passed_on(ledger: SampleLedger) -> None:
    (ledger.directory / "feiqian.toml").write_text("[node]\nspeed = 9\n", "utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "feiqian.node.supervisor", str(ledger.directory)],
        capture_output=True,
        check=False,
        timeout=ANSWER_S,
    )
    assert ended.returncode == 2
    assert b"'speed'" in ended.stderr
