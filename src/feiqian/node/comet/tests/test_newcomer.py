"""The directory of a node that joins: what it holds, and what is refused before anything is written."""

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from feiqian.consensus.comet.gossip import NodeKey
from feiqian.consensus.genesis_file import InvalidGenesis
from feiqian.consensus.light import KnownBlock
from feiqian.consensus.solo import SoloSigner
from feiqian.core.settings import SettingsError
from feiqian.execution.registry import Registry
from feiqian.node.comet.configuration import read_comet_settings
from feiqian.node.comet.newcomer import Newcomer, make_newcomer
from feiqian.node.comet.statesync import is_joining
from feiqian.node.comet.testnet import endpoints_here, endpoints_on, make_testnet
from feiqian.node.configuration import Layout, read_node_settings
from feiqian.node.initialise import LedgerExists
from feiqian.testing.ledgers import consortium_text

PEERS = ["0123456789abcdef0123456789abcdef01234567@a.example:26656"]
GATEWAYS = ["https://a.example/", "http://b.example:8270"]
TRUSTED = KnownBlock(70, bytes(range(32)))


@pytest.fixture
def genesis(tmp_path: Path, registry: Registry) -> Path:
    consortium = tmp_path / "consortium.toml"
    consortium.write_text(consortium_text(), "utf-8")
    made = make_testnet(tmp_path / "net", consortium, registry, endpoints_here(1), 1_700_000_000_000)
    return Layout(made.validators[0].directory).genesis


def make(directory: Path, genesis: Path, **other: Any) -> Newcomer:
    given: dict[str, Any] = {"peers": PEERS, "gateways": GATEWAYS, "trusted": TRUSTED} | other
    (endpoints,) = endpoints_on(["east.example"])
    return make_newcomer(directory, genesis, endpoints, **given)


def test_it_holds_its_own_keys_the_others_genesis_and_where_to_begin(tmp_path: Path, genesis: Path) -> None:
    layout = Layout(tmp_path / 'east "bank"')
    made = make(layout.directory, genesis)
    assert layout.genesis.read_bytes() == genesis.read_bytes()
    assert SoloSigner.load(layout.validator_key).public_key == made.keys.validator.public_key
    assert NodeKey.load(layout.node_key).public_key == made.keys.node.public_key
    assert made.address == f"{made.keys.node.node_id}@east.example:26656"
    assert json.loads(layout.sign_state.read_bytes())["height"] == "0"
    assert {stat.S_IMODE(path.stat().st_mode) for path in (layout.validator_key, layout.node_key)} == {0o600}
    assert read_node_settings(layout, {}).engine == "comet"
    settings = read_comet_settings(layout, {})
    assert settings.moniker == 'east "bank"'
    assert settings.persistent_peers == PEERS[0]
    assert settings.state_sync_servers == "https://a.example/comet,http://b.example:8270/comet"
    assert (settings.trust_height, settings.trust_hash) == (70, bytes(range(32)).hex())
    assert is_joining(layout, state_sync=settings.state_sync)
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"peers": ["a.example:26656"]}, "write ID@HOST:PORT"),
        ({"gateways": ["https://a.example"]}, "two addresses"),
        ({"trusted": KnownBlock(0, bytes(32))}, "trust_height"),
    ],
)
def test_what_cannot_join_is_refused_and_nothing_is_written(
    tmp_path: Path, genesis: Path, other: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        make(tmp_path / "east-bank", genesis, **other)
    assert not (tmp_path / "east-bank").exists()


def test_a_directory_in_use_and_a_wrong_genesis_are_refused(tmp_path: Path, genesis: Path) -> None:
    with pytest.raises(LedgerExists, match="is not empty"):
        make(genesis.parent, genesis)
    broken = tmp_path / "broken.json"
    broken.write_bytes(b"{}")
    with pytest.raises(InvalidGenesis):
        make(tmp_path / "east-bank", broken)
    assert not (tmp_path / "east-bank").exists()
