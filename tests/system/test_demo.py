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
from feiqian.wallet.files import open_signing_key


def demo(directory: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "feiqian.cli.demo", "--once", "--port", "0", "--directory", str(directory)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "200"})


@pytest.mark.slow
def test_the_day_is_played_and_proved_twice_over(tmp_path: Path) -> None:
    for _ in range(2):
        done = demo(tmp_path / "demo")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "FAIL" not in done.stdout
        # What must be there by name: files paid and refused, four eyes, statements, supply, proofs, audit.
        for seen in (
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
        ):
            assert seen in done.stdout, done.stdout
        reports = sorted(path.name for path in (tmp_path / "demo" / "reports").iterdir())
        assert "01-salaries.pain002.xml" in reports
        assert "aurora-EUR.harbour-bank.camt053.xml" in reports
        told = dict(re.findall(r"^  (account|key|passphrase) +(.*)$", done.stdout, re.MULTILINE))
        passphrase = subprocess.run(
            ["bash", "-c", f"{told['passphrase']}; echo -n $FEIQIAN_PASSPHRASE"], capture_output=True, check=True
        )
        key = open_signing_key(Path(told["key"]), passphrase.stdout)
        names = account_names(load_genesis(tmp_path / "demo" / "ledger" / "genesis.json").app_state)
        assert told["account"] == to_text(names["aurora"])
        assert len(key.sign(b"")) == 64
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in running


def test_a_directory_of_someone_elses_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "book.txt").write_text("precious")
    done = demo(tmp_path / "mine")
    assert done.returncode == 1
    assert "was not made by the demo" in done.stderr
    assert (tmp_path / "mine" / "book.txt").read_text() == "precious"
