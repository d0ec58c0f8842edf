"""The command line as people and scripts use it: what it prints, how it fails, with which status."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from feiqian.cli.main import build_app, main
from feiqian.core.addresses import to_text
from feiqian.testing.consoles import ROOT
from feiqian.testing.ledgers import ASSET, key_of
from feiqian.wallet import files

PASSPHRASE = "for this test only"
FIRST = str(ROOT / "samples" / "first-ledger.toml")
GOES_ON = ("--genesis", "garbage", "--validator-key", "garbage")


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


def commands(app: App, *names: str) -> Iterator[tuple[str, App]]:
    """Yield every command below one, by its words."""
    listed = [name for name in app if not name.startswith("-")]
    if not listed:
        yield " ".join(names), app
    for name in listed:
        yield from commands(app[name], *names, name)


@pytest.mark.parametrize(("words", "command"), commands(build_app()))
def test_every_argument_is_explained(words: str, command: App) -> None:
    arguments = command.assemble_argument_collection(parse_docstring=True)
    assert [argument.name for argument in arguments if not argument.parameter.help] == []


def test_a_command_s_help_says_all_that_its_docstring_does() -> None:
    printed = feiqian("submit", "--help").stdout
    assert "FILE is JSON" in printed
    assert "give it once for each key" in printed
    assert "--no-json" not in printed
    assert "--empty-key" not in printed


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
        (["start", "garbage"], 2, "garbage cannot be read: Not a directory"),
        (["status", "--url", "http://127.0.0.1:9"], 3, "start the ledger there (`feiqian start`)"),
        (["status", "--url", "nonsense"], 2, "write it as http://127.0.0.1:8270"),
        (["status", "--url", "http://[::1"], 2, "write it as http://127.0.0.1:8270"),
        (["init", "here", "--from", "garbage"], 2, "garbage is not UTF-8"),
        (["init", "here", "--from", "."], 2, ".: Is a directory"),
        (["init", "here", "--from", FIRST], 2, "say where key files lie: --keys DIR"),
        (
            ["init", "here", "--from", FIRST, "--keys", "absent"],
            2,
            "there is no absent/mint.json; see `feiqian key new`",
        ),
        (["init", "here", "--snapshot", "absent", *GOES_ON], 2, "There is no such file"),
        (["init", "here", "--segments", ".", "--genesis", "absent", "--validator-key", "garbage"], 2, "no such file"),
        (["address", "absent", "mint"], 2, "It holds no genesis.json"),
        (["audit", "absent"], 2, "It holds no genesis.json"),
        (["audit", "garbage"], 2, "It holds no genesis.json"),
        (["snapshot", "absent", "--out", "s"], 2, "It holds no genesis.json"),
        (["archive", "absent", "--out", "s"], 2, "It holds no genesis.json"),
        (["key", "new", "garbage"], 2, "never overwritten"),
        (["key", "show", "garbage"], 2, "garbage is no key file"),
        (["key", "sign-in", "xx", "--key", "absent"], 1, "copy all of it"),
        (["verify", "garbage", "--genesis", "garbage"], 2, "genesis file: no JSON: not UTF-8"),
        (["verify", "garbage", "--genesis", "garbage", "--trusted", "5"], 2, "write HEIGHT:HASH"),
        (["verify", "garbage", "--genesis", "garbage", "--trusted", "5:00"], 2, "write HEIGHT:HASH"),
        (["account", "fq1x", "--entries", "-1"], 2, "Must be >= 0"),
        (["block", "--", "-1"], 2, "Must be >= 0"),
        (["export", "../members"], 2, "there are accounts, assets, blocks, members, transactions"),
        (["export", "fq1nonsense"], 1, "address"),
        (["submit", "absent"], 2, "absent: No such file"),
        (["submit", "garbage"], 1, "garbage: "),
        (["submit", "nothing.json"], 1, "$.messages"),
        (["submit", "unsigned.json"], 2, "at least one key file: --key FILE"),
        (["submit", "unsigned.json", "--key", "absent"], 2, "absent: No such file"),
        (["submit", "unsigned.json", "--valid-s", "601"], 2, "Must be <= 600"),
        (["proof", "record", "ledger.accounts", "zz", "--out", "p"], 2, "hex digits"),
        (["proof", "tx", "00", "--out", "garbage"], 2, "never overwritten"),
        (["proof", "tx", "00", "--out", "absent/p"], 2, "There is no folder absent"),
        (["payments", "import", "garbage", "--account", "fq1x", "--report-to", "absent/r.xml"], 2, "no folder absent"),
        (["payments", "import", "garbage", "--account", "fq1x", "--report-to", "."], 2, "It is a folder"),
        (["payments", "statement", "fq1x", "--asset", "A", "--day", "yesterday"], 2, "2026-01-31"),
        (["payments", "statement", "fq1x", "--asset", "A", "--day", "2026-02-30"], 2, "2026-01-31"),
        (["payments", "statement", "fq1x", "--asset", "A", "--iban", "DE00"], 2, "check digits"),
        (["payments", "approve", "zz", "--account", "fq1x"], 2, "hex digits"),
    ],
)
def test_mistakes_are_named_with_the_right_status(tmp_path: Path, arguments: list[str], status: int, said: str) -> None:
    (tmp_path / "garbage").write_bytes(b"\xff\xfe\x00 garbage")
    (tmp_path / "nothing.json").write_text('{"sponsor": "shop", "messages": []}')
    message = {"type": "assets.Redeem", "account": to_text(bytes(32)), "asset": "A", "amount_minor": 1, "reference": ""}
    (tmp_path / "unsigned.json").write_text(json.dumps({"sponsor": "shop", "messages": [message]}))
    done = feiqian(*arguments, directory=tmp_path)
    printed = words_of(done.stdout + done.stderr)
    assert (done.returncode, said in printed) == (status, True), printed
    assert "Traceback" not in printed
    assert not (tmp_path / "here").exists()


def words_of(printed: str) -> str:
    """Return what was printed on one line, without the frames that stand around it."""
    return " ".join(re.sub("[╭╮╰╯│─]", " ", printed).split())


def test_a_bug_is_shown_whole_and_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(_chosen: str) -> App:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr("feiqian.cli.main.build_app", build)
    with pytest.raises(SystemExit) as end:
        main(["status"])
    assert end.value.code == 3
    said = capsys.readouterr().err
    assert "RuntimeError: nobody foresaw this" in said
    assert "please report it" in said


def test_an_output_that_cannot_be_written_is_a_fault_and_one_that_nobody_reads_is_none(running) -> None:
    command = f"{sys.executable} -m feiqian.cli.main export blocks --url {running.address}"
    full = subprocess.run(["bash", "-c", f"{command} > /dev/full"], capture_output=True, text=True, check=False)
    assert (full.returncode, full.stderr) == (3, "feiqian: the output: No space left on device\n")
    unread = f"{command} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", unread], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_who_must_sign_in_is_told_how(running, tmp_path: Path, keys: Path) -> None:
    south = to_text(running.sample.addresses["south"])
    at = ["--url", running.address]
    key = str(keys / "south.json")
    for arguments, variables, status, said in [
        ([south], {}, 1, "--key FILE"),
        ([south, "--key", str(keys / "issuance.json")], {}, 1, "the key is in no policy of that account"),
        ([south, "--key", key], {"FEIQIAN_PASSPHRASE": "wrong"}, 2, "does not open: another passphrase"),
        ([to_text(running.sample.addresses["issuance"]), "--key", key, "--as-account", south], {}, 1, "there is none"),
    ]:
        done = feiqian("account", *arguments, *at, directory=tmp_path, **variables)
        assert (done.returncode, said in done.stderr) == (status, True), done.stderr


def test_keys_are_made_shown_and_never_overwritten(tmp_path: Path) -> None:
    made = feiqian("key", "new", "keys/maker.json", "--scheme", "sm2", "--json", directory=tmp_path)
    assert made.returncode == 0, made.stderr
    shown = feiqian("key", "show", "keys/maker.json", "--json", directory=tmp_path)
    assert json.loads(made.stdout) == json.loads(shown.stdout)
    assert json.loads(shown.stdout)["public_key"].startswith("sm2:")
    again = feiqian("key", "new", "keys/maker.json", directory=tmp_path)
    assert again.returncode == 2
    assert "never overwritten" in again.stderr


@pytest.mark.parametrize(("kind", "other"), [("validator", "node"), ("node", "validator")])
def test_a_node_s_key_files_are_made_shown_and_never_overwritten(tmp_path: Path, kind: str, other: str) -> None:
    made = feiqian("key", kind, "keys/own.json", "--new", "--json", directory=tmp_path)
    path = tmp_path / "keys" / "own.json"
    content = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert (
        json.loads(made.stdout)["public_key"] == base64.b64decode(json.loads(content)["priv_key"]["value"])[32:].hex()
    )  # RFC 8032: a key of 64 bytes ends in its public half.
    assert feiqian("key", kind, "keys/own.json", "--json", directory=tmp_path).stdout == made.stdout
    again = feiqian("key", kind, "keys/own.json", "--new", directory=tmp_path)
    assert (again.returncode, path.read_bytes()) == (2, content)
    assert "never overwritten" in again.stderr
    wrong = feiqian("key", other, "keys/own.json", directory=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert f"{other} key file own.json" in wrong.stderr


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
    unknown = feiqian("export", "nothing", "--url", running.address)
    assert (unknown.returncode, "there is no list 'nothing'; there are accounts" in unknown.stderr) == (2, True)


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
