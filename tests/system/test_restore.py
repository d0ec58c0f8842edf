"""From a snapshot, or from segment files, to a directory whose ledger goes on: by commands, as an operator would."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from feiqian.consensus.genesis_file import load_genesis
from feiqian.consensus.proof_file import verify
from feiqian.consensus.proving import prove_record
from feiqian.execution.registry import discover
from feiqian.ledger.balances import BALANCES, balance_key
from feiqian.node.configuration import Layout
from feiqian.state.store import Store
from feiqian.testing.ledgers import ASSET, SampleLedger, make_ledger
from feiqian.testing.processes import Channel, NodeProcess


def feiqian(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "feiqian.cli.main", *map(str, arguments)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def value_of(*arguments: object) -> dict[str, Any]:
    done = feiqian(*arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@contextmanager
def running(directory: Path) -> Iterator[Channel]:
    with NodeProcess(directory).await_ready() as node, node.connect() as channel:
        channel.subscribe(channel.status().height + 1)
        yield channel
        assert node.terminate() == 0, node.log_text()[-2000:]


def pay(channel: Channel, *orders: bytes) -> None:
    """Have orders committed and proved."""
    for order in orders:
        (verdict,) = channel.submit([order])
        assert verdict.number == 0, verdict
        while verdict.tx_id not in channel.next_stored().results:
            continue
        channel.next_stored()


@dataclass
class Old:
    """A ledger that stands still, a snapshot of it, and segment files up to five payments later."""

    layout: Layout
    snapshot: Path
    segments: Path
    taken: dict[str, Any]
    last_order: bytes
    end: dict[str, Any]
    sample: SampleLedger

    def going_on(self) -> list[object]:
        """Return the options that name what belongs to the ledger."""
        return ["--genesis", self.layout.genesis, "--validator-key", self.layout.validator_key]


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Old:
    folder = tmp_path_factory.mktemp("restore")
    sample = make_ledger(folder / "ledger")
    directory, snapshot, segments = sample.directory, folder / "state.snapshot", folder / "segments"
    with running(directory) as channel:
        orders = [sample.issue("treasury", 1_000), sample.transfer("treasury", "south", 250)]
        pay(channel, *orders)
        taken = value_of("snapshot", directory, "--out", snapshot)
        value_of("archive", directory, "--out", segments)
        pay(channel, *[sample.transfer("treasury", "south", 1) for _ in range(5)])
        value_of("archive", directory, "--out", segments)
    end = value_of("snapshot", directory, "--out", folder / "end.snapshot")
    layout = Layout(directory)
    return Old(layout, snapshot, segments, taken, orders[-1], end, sample)


def balance(directory: Path, account: str) -> int:
    store = Store.open(Layout(directory).ledger, read_only=True)
    record = store.get(
        BALANCES.prefix + balance_key(SampleLedger.reopen(directory, discover()).addresses[account], ASSET)
    )
    store.close()
    return 0 if record is None else BALANCES.codec.decode(record).posted_minor


def test_a_ledger_goes_on_from_a_snapshot_where_it_was_taken(old: Old, tmp_path: Path) -> None:
    assert (old.taken["height"], old.taken["chain_id"]) == (4, "sample-1")
    assert old.taken["trusted"].startswith("5:")
    two = tmp_path / "two"
    made = value_of("init", two, "--snapshot", old.snapshot, *old.going_on(), "--trusted", old.taken["trusted"])
    height, _, digest = old.taken["trusted"].partition(":")
    assert made == {
        "directory": str(two),
        "chain_id": "sample-1",
        "first_block": 5,
        "height": 5,
        "app_hash": old.taken["app_hash"],
        "trusted": f"block {height} of sample-1 (header hash {digest})",
    }
    assert Layout(two).genesis.read_bytes() == old.layout.genesis.read_bytes()
    audited = value_of("audit", two)
    base = f"the snapshot of sample-1 after block 4 (app hash {old.taken['app_hash']})"
    assert (audited["is_clean"], audited["base"], audited["first_height"], audited["last_height"]) == (True, base, 5, 5)
    sample = SampleLedger.reopen(two, discover())
    with running(two) as channel:
        # Used up before the snapshot was taken, so never again.
        (verdict,) = channel.submit([old.last_order])
        assert (verdict.codespace, verdict.number) == ("ledger", 40)
        pay(channel, sample.transfer("south", "lantern", 50))
    assert (balance(two, "south"), balance(two, "lantern"), balance(two, "treasury")) == (200, 50, 750)
    audited = value_of("audit", two)
    assert (audited["is_clean"], audited["base"], audited["last_height"], audited["transactions"]) == (True, base, 7, 1)
    (tmp_path / "two" / "data" / "base.snapshot").rename(tmp_path / "moved")
    done = feiqian("audit", two)
    assert (done.returncode, "blocks before 5 are held neither in the store nor in data/segments" in done.stderr) == (
        2,
        True,
    )
    assert value_of("audit", two, "--snapshot", tmp_path / "moved")["is_clean"] is True
    # What is proved of it is proved to whoever holds the genesis, and a snapshot of it makes a third.
    genesis = load_genesis(Layout(two).genesis)
    store = Store.open(Layout(two).ledger, read_only=True)
    key = balance_key(sample.addresses["lantern"], ASSET)
    proved = verify(prove_record(store, genesis, BALANCES, key), genesis, discover().tables)
    store.close()
    assert (proved.height, proved.trusted) == (6, f"the genesis of sample-1 (SHA-256 {genesis.digest().hex()})")
    value_of("snapshot", two, "--out", tmp_path / "s")
    made = value_of("init", tmp_path / "three", "--snapshot", tmp_path / "s", *old.going_on())
    assert (made["first_block"], made["height"]) == (7, 7)
    assert balance(tmp_path / "three", "lantern") == 50


def test_with_segment_files_nothing_is_lost(old: Old, tmp_path: Path) -> None:
    options = ["--segments", old.segments, *old.going_on(), "--trusted", old.end["trusted"]]
    for name, snapshot, first in (("both", ["--snapshot", old.snapshot], 5), ("all", [], 1)):
        made = value_of("init", tmp_path / name, *snapshot, *options)
        end = int(old.end["trusted"].partition(":")[0])
        assert (made["first_block"], made["height"], made["app_hash"]) == (first, end, old.end["app_hash"])
        assert made["trusted"].startswith(f"block {end} of sample-1")
        assert value_of("audit", tmp_path / name)["first_height"] == first
        assert balance(tmp_path / name, "south") == 255
    sample = SampleLedger.reopen(tmp_path / "both", discover())
    with running(tmp_path / "both") as channel:
        pay(channel, sample.transfer("treasury", "south", 1))
    # With its segment files in their place, the audit begins at the genesis.
    shutil.copytree(old.segments, Layout(tmp_path / "both").segments)
    audited = value_of("audit", tmp_path / "both")
    assert (audited["is_clean"], audited["first_height"], audited["transactions"]) == (True, 1, 8)
    again = value_of("archive", tmp_path / "both", "--out", tmp_path / "again")
    assert (again["first_height"], again["next_height"]) == (1, audited["last_height"] + 1)


def test_an_audit_begins_with_a_snapshot_that_is_given(old: Old, tmp_path: Path) -> None:
    audited = value_of("audit", old.layout.directory, "--snapshot", old.snapshot, "--trusted", old.taken["trusted"])
    assert (audited["is_clean"], audited["first_height"], audited["transactions"]) == (True, 5, 5)
    assert audited["base"] == f"the snapshot of sample-1 after block 4 (app hash {old.taken['app_hash']})"
    wrong = f"5:{bytes(32).hex()}"
    for options, status, said in [
        (["--snapshot", old.snapshot, "--trusted", wrong], 1, "is not the trusted"),
        (["--snapshot", old.snapshot, "--trusted", old.end["trusted"]], 2, "name block 4 or 5"),
        (["--trusted", old.taken["trusted"]], 2, "--snapshot FILE"),
        (["--snapshot", tmp_path / "none"], 2, "no such file"),
        (["--snapshot", old.segments], 1, "cannot be read: Is a directory"),
    ]:
        done = feiqian("audit", old.layout.directory, *options)
        assert (done.returncode, said in done.stderr) == (status, True), done.stderr


def test_what_is_damaged_or_another_s_is_refused_and_nothing_is_left(old: Old, tmp_path: Path) -> None:
    good = old.snapshot.read_bytes()
    for name, data in (
        ("cut", good[:-1]),
        ("changed", good[:900] + bytes([good[900] ^ 1]) + good[901:]),
        ("empty", b""),
    ):
        (tmp_path / name).write_bytes(data)
    other = make_ledger(tmp_path / "other")
    unsigned = json.loads(old.layout.genesis.read_text())
    (tmp_path / "unstarted.json").write_bytes(Layout(other.directory).genesis.read_bytes())
    unsigned["app_state"]["members"][0]["legal_name"] = "Another"
    (tmp_path / "forged.json").write_text(json.dumps(unsigned))
    snapshot, key = ["--snapshot", old.snapshot], ["--validator-key", old.layout.validator_key]
    genesis, segments = ["--genesis", old.layout.genesis], ["--segments", old.segments]
    empty = tmp_path / "no files"
    empty.mkdir()
    cases: list[tuple[list[object], int, str]] = [
        (["--snapshot", tmp_path / "cut", *old.going_on()], 1, "cut short [state 2]"),
        (["--snapshot", tmp_path / "changed", *old.going_on()], 1, "does not have the manifest's hash [state 2]"),
        (["--snapshot", tmp_path / "empty", *old.going_on()], 1, "does not start as one [state 2]"),
        (["--snapshot", tmp_path / "none", *old.going_on()], 2, "no such file"),
        (["--snapshot", old.segments, *old.going_on()], 1, "cannot be read: Is a directory"),
        (
            [*snapshot, *genesis, "--validator-key", Layout(other.directory).validator_key],
            2,
            "is not the key that signs",
        ),
        ([*snapshot, *genesis, "--validator-key", tmp_path / "none"], 2, "no such file"),
        ([*snapshot, *genesis, "--validator-key", old.layout.genesis], 3, "validator key file"),
        ([*snapshot, *key, "--genesis", tmp_path / "unstarted.json"], 2, "genesis_time is not written yet"),
        ([*segments, *key, "--genesis", tmp_path / "forged.json"], 1, "state before it is not what its header says"),
        ([*snapshot, *old.going_on(), "--trusted", f"5:{bytes(32).hex()}"], 1, "is not the trusted"),
        ([*snapshot, *old.going_on(), "--trusted", old.end["trusted"]], 1, "what is given holds 5 to 5"),
        ([*snapshot, *old.going_on(), "--trusted", "3:" + "00" * 32], 1, "give what leads to it"),
        ([*snapshot, *old.going_on(), "--trusted", "five"], 2, "write HEIGHT:HASH"),
        (["--segments", empty, *old.going_on()], 1, "holds no block 1, with which"),
        ([*snapshot, *genesis], 2, "--validator-key FILE"),
        ([], 2, "say what to make it of"),
        ([*snapshot, "--from", "samples/first-ledger.toml"], 2, "say what to make it of"),
    ]
    for options, status, said in cases:
        done = feiqian("init", tmp_path / "two", *options)
        assert (done.returncode, said in done.stderr) == (status, True), (options, done.stderr)
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "two").exists(), options
    done = feiqian("init", old.layout.directory, *snapshot, *old.going_on())
    assert (done.returncode, "choose an empty directory" in done.stderr) == (2, True)


def test_a_segment_file_that_was_changed_is_refused_by_name(old: Old, tmp_path: Path) -> None:
    shutil.copytree(old.segments, tmp_path / "segments")
    (file,) = (tmp_path / "segments").iterdir()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    done = feiqian("init", tmp_path / "two", "--segments", tmp_path / "segments", *old.going_on())
    assert (done.returncode, "does not continue the hash chain [state 3]" in done.stderr) == (1, True), done.stderr
    assert not (tmp_path / "two").exists()


def test_a_directory_that_was_there_and_empty_stays_when_it_fails(old: Old, tmp_path: Path) -> None:
    for name in ("two", "no files"):
        (tmp_path / name).mkdir()
    done = feiqian("init", tmp_path / "two", "--segments", tmp_path / "no files", *old.going_on())
    assert (done.returncode, list((tmp_path / "two").iterdir())) == (1, [])
