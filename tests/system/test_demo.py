"""`make demo ONCE=1` as a user runs it: every check holds, a second run starts clean, and nothing is left running."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from feiqian.consensus.genesis_file import load_genesis
from feiqian.core.addresses import to_text
from feiqian.execution.genesis import account_names
from feiqian.node.comet.testnet import PORT_STEP
from feiqian.testing.comet_binary import require_cometbft
from feiqian.testing.ports import free_ports
from feiqian.wallet.files import open_signing_key

SEEN = (
    "01-salaries.xml                   240 ACSC",
    "the whole file refused: AM10; nothing moved",
    "60 RJCT/AM05; nothing was paid a second time",
    "approved by the checker           1 payment",
    "as on the ledger",
    "sum to zero",
    "balance.json verified offline",
    "absence.json verified offline",
    "the whole ledger run again",
    "checks held.",
)
"""What must be there by name: files paid and refused, four eyes, statements, supply, proofs, audit."""


def demo(directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "feiqian.cli.demo", "--once", "--directory", str(directory), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "200"})


def check_played(done: subprocess.CompletedProcess[str], directory: Path, ledger: str) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    words = " ".join(done.stdout.split())
    for seen in SEEN:
        assert " ".join(seen.split()) in words, done.stdout
    reports = sorted(path.name for path in (directory / "reports").iterdir())
    assert "01-salaries.pain002.xml" in reports
    assert "aurora-EUR.harbour-bank.camt053.xml" in reports
    told = dict(re.findall(r"^  (account|key|passphrase) +(.*)$", done.stdout, re.MULTILINE))
    passphrase = subprocess.run(
        ["bash", "-c", f"{told['passphrase']}; echo -n $FEIQIAN_PASSPHRASE"], capture_output=True, check=True
    )
    key = open_signing_key(Path(told["key"]), passphrase.stdout)
    names = account_names(load_genesis(directory / ledger / "genesis.json").app_state)
    assert told["account"] == to_text(names["aurora"])
    assert len(key.sign(b"")) == 64
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(directory) not in running


def report(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    """Return what the day's checks saw, without those of the chain itself."""
    lines = [line for line in done.stdout.splitlines() if line.startswith("  ok ")]
    return [line.split() for line in lines if "the same state" not in line and "the whole ledger" not in line]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    directory = tmp_path_factory.mktemp("alone") / "demo"
    return directory, demo(directory, "--port", "0")


@pytest.mark.slow
def test_the_day_is_played_and_proved_twice_over(alone: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    directory, done = alone
    check_played(done, directory, "ledger")
    check_played(demo(directory, "--port", "0"), directory, "ledger")


@pytest.mark.campaign
def test_a_network_of_four_reports_the_same(
    alone: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    require_cometbft()
    directory = tmp_path / "demo"
    done = demo(directory, "--network", "4", "--port", str(free_ports(4 * PORT_STEP)))
    check_played(done, directory, "network/harbour-bank")
    assert report(done) == report(alone[1])
    assert len(report(done)) > 20
    # Each institution with a validator has a gateway; each audits its own ledger, and all have the same.
    banks = ("penglai-authority", "harbour-bank", "lotus-bank", "qilin-bank")
    assert re.findall(r"^(\S+) serves at ", done.stdout, re.MULTILINE) == list(banks)
    assert re.search(r"ok +the same state +block \d+: app hash [0-9a-f]{16}… on all 4 validators", done.stdout)
    audited = re.findall(r"the whole ledger run again by (\S+) +\d+ blocks, (\d+ transactions, .*)", done.stdout)
    assert tuple(member for member, _ in audited) == banks
    alone_audit = re.search(r"the whole ledger run again +\d+ blocks, (.*)", alone[1].stdout)
    assert alone_audit is not None
    assert {said for _, said in audited} == {alone_audit[1]}


@pytest.mark.slow
def test_a_demo_that_is_stopped_in_the_middle_leaves_nothing_running(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "feiqian.cli.demo", "--port", "0", "--directory", str(tmp_path / "demo")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    with process.stdout:
        assert b" serves at http://" in process.stdout.readline()
        process.terminate()
        assert process.wait() != 0
    assert str(tmp_path) not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout


def test_a_network_of_more_than_run_validators_is_refused_in_a_sentence(tmp_path: Path) -> None:
    done = demo(tmp_path / "demo", "--network", "5")
    assert (done.returncode, done.stdout) == (1, "")
    assert "5 validators; members with a role of operator, bank, governor: 4" in done.stderr


def test_a_directory_of_someone_elses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "book.txt").write_text("precious")
    done = demo(tmp_path / "mine")
    assert done.returncode == 1
    assert "was not made by the demo" in done.stderr
    assert (tmp_path / "mine" / "book.txt").read_text() == "precious"
