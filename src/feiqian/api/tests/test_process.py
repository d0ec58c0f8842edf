"""The gateway as a process: what it leaves behind, what it logs, and how it ends where it cannot begin."""

import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from feiqian.testing.gateways import GatewayProcess
from feiqian.testing.ledgers import SampleLedger
from feiqian.testing.processes import ANSWER_S, NodeProcess

StartGateway = Callable[..., GatewayProcess]


def test_a_killed_gateway_leaves_nothing_in_the_temporary_directory(
    start: StartGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not below tmp_path: a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="fq-") as temporary:
        monkeypatch.setenv("TMPDIR", temporary)
        gateway = start()
        with gateway.client() as client:
            assert client.get("/health").status_code == 200
        gateway.kill()
        assert os.listdir(temporary) == []


@pytest.mark.parametrize(("level", "told"), [("info", True), ("warning", False)])
def test_the_gateway_s_log_has_its_level(start: StartGateway, level: str, told: bool) -> None:
    gateway = start(log_level=level)
    assert gateway.terminate() == 0
    assert ("serving" in [line["event"] for line in gateway.log_lines()]) is told


def end_of(gateway: GatewayProcess) -> tuple[int, str]:
    """Return the status and the words with which a gateway ends by itself."""
    return gateway.process.wait(ANSWER_S), gateway.log_text()


def test_a_gateway_that_cannot_begin_says_why_and_what_to_do(
    fresh_ledger: SampleLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = fresh_ledger.directory
    with NodeProcess(directory).await_ready(), socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for settings, said in [
            ({"port": port}, f"port {port}"),
            ({"host": "no.such.host.invalid"}, "no.such.host.invalid"),
            ({"host": "192.0.2.1"}, "192.0.2.1"),
            ({"log_level": "loud"}, "log_level"),
        ]:
            with GatewayProcess(directory, **settings) as gateway:
                status, words = end_of(gateway)
            assert (status, said in words, "Traceback" in words) == (2, True, False), words
            gateway.log.unlink()
        long = tmp_path / ("t" * 107)
        long.mkdir()
        monkeypatch.setenv("TMPDIR", str(long))
        with GatewayProcess(directory) as gateway:
            status, words = end_of(gateway)
        assert (status, "set TMPDIR" in words) == (2, True), words
        assert list(long.iterdir()) == []
