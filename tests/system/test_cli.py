"""The command line as people and scripts use it: what it prints, how it fails, with which status."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from feiqian.core.addresses import to_text
from feiqian.testing.ledgers import ASSET, key_of
from feiqian.wallet import files

PASSPHRASE = "for this test only"


def feiqian(*arguments: str, directory: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "feiqian.cli.main", *arguments],
        cwd=directory,
        env=os.environ | {"FEIQIAN_PASSPHRASE": PASSPHRASE} | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def write_key(path: Path, account: str) -> None:
    """Write the key file of a sample account, whose key is known beforehand."""
    secret = bytes(key_of(account)._key)
    files.store(path, "ed25519", secret, PASSPHRASE.encode(), is_quick=True)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    for account in ("issuance", "south"):
        write_key(folder / f"{account}.json", account)
    return folder


def test_every_command_explains_itself() -> None:
    listed = feiqian("--help")
    assert listed.returncode == 0
    for command in ("init", "start", "status", "key", "submit", "account", "tx", "block", "proof", "verify", "audit",
                    "snapshot", "archive", "export", "payments"):  # fmt: skip
        assert command in listed.stdout
        helped = feiqian(command, "--help")
        assert helped.returncode == 0, command
        assert "Usage" in helped.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["fly"], 2, "Unknown command"),
        (["verify"], 2, "requires an argument"),
        (["key", "show", "absent.json"], 2, "absent.json: No such file"),
        (["verify", "absent", "--genesis", "absent"], 2, "absent"),
        (["init", "here", "--from", "absent.toml"], 2, "absent.toml"),
        (["status", "--url", "http://127.0.0.1:9"], 3, "no gateway answers at http://127.0.0.1:9"),
        (["account", "fq1nonsense"], 1, "address"),
        (["audit", "."], 2, "genesis"),
        (["start", "."], 2, "feiqian init"),
    ],
)
def test_mistakes_are_named_with_the_right_status(tmp_path: Path, arguments: list[str], status: int, said: str) -> None:
    done = feiqian(*arguments, directory=tmp_path)
    assert (done.returncode, said in done.stderr + done.stdout) == (status, True), done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_keys_are_made_shown_and_never_overwritten(tmp_path: Path) -> None:
    made = feiqian("key", "new", "keys/maker.json", "--scheme", "sm2", "--json", directory=tmp_path)
    assert made.returncode == 0, made.stderr
    shown = feiqian("key", "show", "keys/maker.json", "--json", directory=tmp_path)
    assert json.loads(made.stdout) == json.loads(shown.stdout)
    assert json.loads(shown.stdout)["public_key"].startswith("sm2:")
    again = feiqian("key", "new", "keys/maker.json", directory=tmp_path)
    assert again.returncode == 2
    assert "never overwritten" in again.stderr


def test_submit_signs_sends_and_reports(running, tmp_path: Path, keys: Path) -> None:
    addresses = running.sample.addresses
    message = {
        "type": "assets.Issue",
        "issuance_account": to_text(addresses["issuance"]),
        "payee": "@south",
        "asset": ASSET,
        "amount_minor": 250,
        "reference": "",
    }
    (tmp_path / "issue.json").write_text(json.dumps({"sponsor": "north-bank", "messages": [message]}))
    names = str(running.directory / "genesis.json")
    common = ["submit", "issue.json", "--names", names, "--url", running.address, "--json"]
    issuing = ["--key", str(keys / "issuance.json")]
    dry = feiqian(*common, *issuing, "--dry-run", directory=tmp_path)
    assert len(json.loads(dry.stdout)["tx_id"]) == 64
    done = feiqian(*common, *issuing, "--wait", "provable", directory=tmp_path)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["status"] == "provable"
    wrong_key = feiqian(*common, "--key", str(keys / "south.json"), directory=tmp_path)
    assert wrong_key.returncode == 1
    assert "[ledger" in wrong_key.stderr
    signing_in = ["--key", str(keys / "south.json"), "--url", running.address, "--json"]
    south = to_text(addresses["south"])
    account = feiqian("account", south, *signing_in, directory=tmp_path)
    assert json.loads(account.stdout)["entries"][0]["amount_minor"] == 250
    tx = feiqian("tx", outcome["tx_id"], *signing_in, "--as-account", south, directory=tmp_path)
    assert json.loads(tx.stdout)["height"] == outcome["height"]
    block = feiqian("block", str(outcome["height"]), "--url", running.address, "--json")
    assert json.loads(block.stdout)["transaction_count"] == 1
    exported = feiqian("export", "members", "--url", running.address)
    assert len(exported.stdout.splitlines()) == 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"type": "assets.Steal"}, "assets.Steal"),
        ({"amount_minor": 0}, ">= 1"),
        ({"amount_minor": "250"}, "int"),
        ({"colour": 1}, "no field 'colour'"),
        ({"payee": "@nobody"}, "names no account"),
        ({"payee": "fq1x"}, "address"),
    ],
)
def test_submit_names_what_is_wrong_with_a_file(running, tmp_path: Path, change: dict, said: str) -> None:
    message = {"type": "assets.Issue", "issuance_account": "@issuance", "payee": "@south", "asset": ASSET,
               "amount_minor": 250, "reference": ""}  # fmt: skip
    (tmp_path / "issue.json").write_text(json.dumps({"sponsor": "north-bank", "messages": [message | change]}))
    names = str(running.directory / "genesis.json")
    done = feiqian("submit", "issue.json", "--names", names, "--url", running.address, directory=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr


def test_a_proof_is_written_and_checked_offline(running, tmp_path: Path, keys: Path) -> None:
    south = to_text(running.sample.addresses["south"])
    running.client().submit([running.sample.issue("south", 9)], wait="provable")
    signing_in = ["--key", str(keys / "south.json"), "--url", running.address]
    made = feiqian("proof", "balance", south, ASSET, "--out", "b.json", *signing_in, directory=tmp_path)
    assert made.returncode == 0, made.stderr
    genesis = str(running.directory / "genesis.json")
    verified = feiqian("verify", "b.json", "--genesis", genesis, "--json", directory=tmp_path)
    assert json.loads(verified.stdout)["proved"]["posted_minor"] > 0
    proof = json.loads((tmp_path / "b.json").read_text())
    proof["height"] += 1
    (tmp_path / "forged.json").write_text(json.dumps(proof, separators=(",", ":")))
    forged = feiqian("verify", "forged.json", "--genesis", genesis, directory=tmp_path)
    assert forged.returncode == 1
    assert "refused: " in forged.stderr
    again = feiqian("proof", "balance", south, ASSET, "--out", "b.json", *signing_in, directory=tmp_path)
    assert again.returncode == 2


def test_audit_snapshot_and_archive_work_beside_a_running_ledger(running, tmp_path: Path) -> None:
    running.client().submit([running.sample.issue("south", 3)], wait="provable")
    directory = str(running.directory)
    audited = feiqian("audit", directory, "--json")
    assert audited.returncode == 0, audited.stdout + audited.stderr
    assert json.loads(audited.stdout)["is_clean"] is True
    taken = feiqian("snapshot", directory, "--out", "state.snapshot", "--json", directory=tmp_path)
    assert json.loads(taken.stdout)["height"] > 0, taken.stderr
    first = feiqian("archive", directory, "--out", "segments", "--json", directory=tmp_path)
    assert json.loads(first.stdout)["appended"] > 0, first.stderr
    second = feiqian("archive", directory, "--out", "segments", "--json", directory=tmp_path)
    assert json.loads(second.stdout)["next_height"] >= json.loads(first.stdout)["next_height"]
