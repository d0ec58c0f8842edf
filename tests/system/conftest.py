"""A whole ledger, node and gateway under one `feiqian start`, for tests that come in as a member would."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from feiqian.client import Client
from feiqian.testing.ledgers import SampleLedger, make_ledger


class RunningLedger:
    """`feiqian start` on a sample ledger, on a free port."""

    def __init__(self, directory: Path) -> None:
        self.sample: SampleLedger = make_ledger(directory)
        self.directory = directory
        self._log = directory.with_name(directory.name + ".start.log").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "feiqian.cli.main", "start", str(directory)],
            env=os.environ | {"FEIQIAN_GATEWAY_PORT": "0"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode()
        assert "http://" in line, directory.with_name(directory.name + ".start.log").read_text()
        self.address = line.split()[-1]

    def client(self) -> Client:
        """Return a client that is not signed in."""
        return Client(self.address)

    def close(self) -> None:
        """Stop it as an operator would, and see that it ends well."""
        self.process.terminate()
        status = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()
        assert status == 0


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLedger]:
    ledger = RunningLedger(tmp_path_factory.mktemp("system") / "ledger")
    yield ledger
    ledger.close()
