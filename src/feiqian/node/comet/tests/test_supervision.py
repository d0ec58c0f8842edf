"""`feiqian start` in a network: node, CometBFT and gateway as one. CometBFT alone comes back; nothing stays behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from feiqian.execution.registry import Registry
from feiqian.node.comet.testnet import endpoints_here, make_testnet
from feiqian.node.configuration import Layout
from feiqian.testing.comet_binary import require_cometbft
from feiqian.testing.ledgers import consortium_text
from feiqian.testing.ports import free_ports
from feiqian.testing.processes import ANSWER_S, Channel
from feiqian.testing.supervised import Supervised, children_of
from feiqian.testing.validators import await_that

COMETBFT = "cometbft"


@pytest.fixture
def layout(tmp_path: Path, registry: Registry) -> Layout:
    """Give the directory of a network's only validator."""
    require_cometbft()
    (tmp_path / "consortium.toml").write_text(consortium_text(), "utf-8")
    network = make_testnet(
        tmp_path / "net", tmp_path / "consortium.toml", registry, endpoints_here(1, free_ports(4)), 1_700_000_000_000
    )
    return Layout(network.validators[0].directory)


@pytest.fixture
def running(layout: Layout) -> Iterator[Supervised]:
    it = Supervised(layout.directory)
    try:
        it.await_ready()
        yield it
    finally:
        it.clear_away()


def cometbft_of(running: Supervised) -> int:
    (pid,) = (pid for pid, name in children_of(running.process.pid).items() if name == COMETBFT)
    return pid


def test_all_three_run_and_sigterm_stops_them_cleanly(running: Supervised) -> None:
    assert set(running.children) == {"feiqian.node", COMETBFT, "feiqian.api"}
    running.process.send_signal(signal.SIGTERM)
    assert running.await_end() == 0


def test_cometbft_killed_comes_back_and_the_ledger_goes_on(running: Supervised, layout: Layout) -> None:
    with Channel(layout.socket) as channel:
        before = channel.status().height
    killed = cometbft_of(running)
    os.kill(killed, signal.SIGKILL)
    with Channel(layout.socket) as channel:
        while channel.status().height < before + 3:
            assert running.process.poll() is None
    assert cometbft_of(running) != killed
    assert b'"cometbft_ended"' in running.log.read_bytes()
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(ANSWER_S) == 0


@pytest.mark.parametrize("victim", ["feiqian.node", "feiqian.api"])
def test_when_node_or_gateway_is_killed_all_stop_and_the_status_says_so(running: Supervised, victim: str) -> None:
    name = {"feiqian.node": b"the node ended", "feiqian.api": b"the gateway ended"}[victim]
    os.kill(running.children[victim], signal.SIGKILL)
    assert running.await_end() == 3
    assert name in running.log.read_bytes()


def test_no_orphan_stays_when_the_supervisor_is_killed(running: Supervised) -> None:
    running.process.kill()
    assert running.await_end() == -signal.SIGKILL


def test_what_cannot_help_ends_all_with_advice(running: Supervised, layout: Layout) -> None:
    """CometBFT's data is put back to an older copy: the ledger is ahead of it, and no start can mend that."""
    with Channel(layout.socket) as channel:
        await_that("a block is committed", lambda: channel.status().height > 0)
    running.process.send_signal(signal.SIGTERM)
    assert running.await_end() == 0
    for path in (layout.comet / "data").glob("*.db"):
        subprocess.run(["rm", "-r", path], check=True)
    again = Supervised(layout.directory)
    try:
        assert again.process.wait(ANSWER_S) == 3
        assert b"this node's ledger is not what the network agreed on" in again.log.read_bytes()
    finally:
        again.clear_away()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("rpc_port =", "rpc_prt ="), b"'rpc_prt'"),
        (("[gateway]", 'binary = "/nowhere"\n[gateway]'), b"make cometbft"),
        (("[gateway]", 'remote_signer = "tcp://127.0.0.1:1"\n[gateway]'), b"fresh key"),
    ],
)
def test_wrong_settings_start_nothing(layout: Layout, change: tuple[str, str], said: bytes) -> None:
    layout.settings.write_text(layout.settings.read_text("utf-8").replace(*change), "utf-8")
    ended = subprocess.run(
        [sys.executable, "-m", "feiqian.node.supervisor", str(layout.directory)],
        capture_output=True,
        check=False,
        timeout=ANSWER_S,
    )
    assert ended.returncode == 2
    assert said in ended.stderr
    assert not layout.data.exists()
