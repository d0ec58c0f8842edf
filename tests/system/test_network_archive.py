"""`feiqian archive`, `snapshot` and `audit` of a network, whose last block is signed a moment after it ran."""

import json
from pathlib import Path

import pytest

from feiqian.cli import upkeep
from feiqian.consensus.genesis_file import save_genesis
from feiqian.consensus.light import archive_row
from feiqian.node.configuration import Layout
from feiqian.state.store import Store
from feiqian.testing.networks import A, NetworkLedger, network_registry


@pytest.fixture
def network(tmp_path: Path) -> NetworkLedger:
    layout = Layout(tmp_path / "network")
    layout.data.mkdir(parents=True)
    made = NetworkLedger(layout.ledger, network_registry())
    save_genesis(layout.genesis, made.genesis)
    for _ in range(3):
        made.block(made.issue(5), flags={3: A})
    made.block(is_archived=False)
    # One process opens a store once.
    made.close()
    return made


def test_only_what_is_signed_for_good_goes_into_segment_files(
    network: NetworkLedger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def archive() -> tuple[int, int]:
        upkeep.archive(tmp_path / "network", out=tmp_path / "segments", json=True)
        said = json.loads(capsys.readouterr().out)
        return said["appended"], said["next_height"]

    # Block 7 is archived by what this node saw sign it; block 8, which names the signers of 7, is not archived yet.
    assert archive() == (2, 7)
    store = Store.open(tmp_path / "network" / "data" / "ledger.lmdb", reserve_bytes=0)
    store.put_archive(archive_row(network.blocks[8]))
    store.close()
    assert archive() == (1, 8)


def test_a_snapshot_is_of_the_last_block_whose_next_is_signed(
    network: NetworkLedger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upkeep.snapshot(tmp_path / "network", out=tmp_path / "s", json=True)
    said = json.loads(capsys.readouterr().out)
    assert (said["height"], said["trusted"]) == (6, f"7:{network.blocks[7].header.hash().hex()}")


def test_an_audit_ends_with_the_last_block_that_is_signed(
    network: NetworkLedger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upkeep.audit(tmp_path / "network", json=True)
    said = json.loads(capsys.readouterr().out)
    assert (said["is_clean"], said["last_height"]) == (True, 7)
