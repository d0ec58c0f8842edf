"""Networks of validators on one machine, each under its own `feiqian start`, for tests that watch from outside."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from feiqian.client import Client
from feiqian.execution.registry import discover
from feiqian.node.comet.testnet import PORT_STEP, Endpoints, Made, endpoints_here, make_testnet
from feiqian.testing.ledgers import SampleLedger, consortium_text
from feiqian.testing.ports import free_ports

STOP_S = 60


class RunningValidator:
    """`feiqian start` on one validator's directory; `address` waits until it serves."""

    def __init__(self, made: Made) -> None:
        self.directory = made.directory
        self.log = made.directory.with_name(made.directory.name + ".log")
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "feiqian.cli.main", "start", str(made.directory)],
                env=os.environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.figures = {
            "feiqian": f"http://127.0.0.1:{made.endpoints.gateway_port}/metrics",
            "cometbft": f"http://127.0.0.1:{made.endpoints.metrics_port}/metrics",
        }

    def address(self) -> str:
        """Return where its gateway serves, once it does."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        assert "http://" in line, self.log.read_text()
        return line.split()[-1]

    def end(self) -> int:
        """Stop it as an operator would; return its exit status."""
        self._process.terminate()
        status = self._process.wait(STOP_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        return status


class RunningNetwork:
    """The sample ledger on so many validators."""

    def __init__(self, directory: Path, count: int) -> None:
        registry = discover()
        consortium = directory.with_name(directory.name + "-consortium.toml")
        consortium.write_text(consortium_text(), "utf-8")
        made = make_testnet(directory, consortium, registry, _endpoints(count), time.time_ns() // 1_000_000).validators
        self.sample = SampleLedger.reopen(made[0].directory, registry)
        self.validators = [RunningValidator(each) for each in made]
        try:
            self.addresses = [validator.address() for validator in self.validators]
        except BaseException:
            for validator in self.validators:
                validator.end()
            raise

    def client(self) -> Client:
        """Return a client of the first one's gateway that is not signed in."""
        return Client(self.addresses[0])

    def close(self) -> None:
        """Stop all, and see that they end well."""
        assert [validator.end() for validator in self.validators] == [0] * len(self.validators)


def samples_of(text: str) -> dict[str, set[str]]:
    """Return each figure of a text in Prometheus's format with its labels, those of histograms' buckets left out."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    labels: dict[str, set[str]] = {name: set() for name in kinds}
    for sample, inside in re.findall(r"^(\w+)\{(.*)\} ", text, re.MULTILINE):
        name = sample if sample in kinds else sample.rpartition("_")[0]
        labels[name] |= set(re.findall(r"(\w+)=\"", inside)) - {"le"}
    return labels


def _endpoints(count: int) -> list[Endpoints]:
    return endpoints_here(count, free_ports(PORT_STEP * count))
