"""`feiqian start`: two real children, and whatever is killed, nothing stays behind."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest

from feiqian.node.configuration import Layout
from feiqian.testing.ledgers import SampleLedger
from feiqian.testing.processes import ANSWER_S, Channel
from feiqian.testing.supervised import Supervised, children_of


@pytest.fixture
def running(ledger: SampleLedger) -> Iterator[Supervised]:
    (ledger.directory / "feiqian.toml").write_text("[gateway]\nport = 0\n", "utf-8")
    it = Supervised(ledger.directory)
    try:
        it.await_ready()
        yield it
    finally:
        it.clear_away()


def test_both_serve_and_sigterm_stops_both_cleanly(running: Supervised, ledger: SampleLedger) -> None:
    with urllib.request.urlopen(f"{running.address}/health", timeout=ANSWER_S) as answer:
        assert answer.status == 200
    with Channel(Layout(ledger.directory).socket) as channel:
        assert channel.status().is_ready
    assert set(running.children) == {"feiqian.node", "feiqian.api"}
    running.process.send_signal(signal.SIGTERM)
    assert running.await_end() == 0


@pytest.mark.parametrize("just_begun", ["feiqian.node", "feiqian.api"])
def test_who_is_stopped_while_a_child_only_begins_has_stopped_well(ledger: SampleLedger, just_begun: str) -> None:
    (ledger.directory / "feiqian.toml").write_text("[gateway]\nport = 0\n", "utf-8")
    beginning = Supervised(ledger.directory)
    try:
        while just_begun not in children_of(beginning.process.pid).values():
            assert beginning.process.poll() is None
        beginning.process.send_signal(signal.SIGTERM)
        assert beginning.await_end() == 0, beginning.log.read_text("utf-8")
    finally:
        beginning.clear_away()


@pytest.mark.parametrize("victim", ["feiqian.node", "feiqian.api"])
def test_when_a_child_is_killed_the_other_is_stopped_and_the_status_says_so(running: Supervised, victim: str) -> None:
    os.kill(running.children[victim], signal.SIGKILL)
    assert running.await_end() == 3


def test_no_orphan_stays_when_the_supervisor_is_killed(running: Supervised) -> None:
    running.process.kill()
    assert running.await_end() == -signal.SIGKILL


def test_a_fault_of_the_node_is_passed_on(running: Supervised) -> None:
    worker = next(iter(children_of(running.children["feiqian.node"])))
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
