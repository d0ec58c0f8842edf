"""What an operator may set about CometBFT, and that CometBFT takes the file that is made of it."""

import json
import socket
import subprocess
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from feiqian.consensus.genesis_file import Genesis, load_genesis
from feiqian.core.settings import SettingsError
from feiqian.node.comet.configuration import (
    CometSettings,
    clear_signer_socket,
    config_toml,
    prepare_home,
    read_comet_settings,
)
from feiqian.node.comet.testnet import endpoints_here, make_testnet
from feiqian.node.configuration import Layout
from feiqian.testing.comet_binary import require_cometbft
from feiqian.testing.ledgers import consortium_text
from feiqian.testing.ports import free_ports

WAIT_S = 60
ID = "0123456789abcdef0123456789abcdef01234567"
HASH = "ab" * 32


def settings_in(directory: Path, text: str, environment: Mapping[str, str] | None = None) -> CometSettings:
    (directory / "feiqian.toml").write_text(text, "utf-8")
    return read_comet_settings(Layout(directory), environment or {})


@pytest.fixture
def validator(tmp_path: Path, registry: Any) -> Layout:
    """Give the directory of a network's only validator."""
    (tmp_path / "consortium.toml").write_text(consortium_text(), "utf-8")
    network = make_testnet(
        tmp_path / "net", tmp_path / "consortium.toml", registry, endpoints_here(1, free_ports(4)), 1_700_000_000_000
    )
    return Layout(network.validators[0].directory)


def test_the_environment_overrules_the_file(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, "[comet]\nrpc_port = 1\nidle_ms = 5\n", {"FEIQIAN_COMET_RPC_PORT": "2"})
    assert (settings.rpc_port, settings.idle_ms) == (2, 5)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("rpc_port = 0", "$.rpc_port"),
        ('rpc_host = "0.0.0.0"', "'rpc_host'"),
        ("reap_interval_ms = 500", "$.reap_interval_ms"),
        ('p2p_listen = "0.0.0.0:26656"', "$.p2p_listen"),
        ('moniker = "a\\nproxy_app = \\"kvstore\\""', "$.moniker"),
        ('persistent_peers = "bank.example:26656"', "write ID@HOST:PORT"),
        (f'persistent_peers = "{ID}@a.example:26656,{ID}"', "write ID@HOST:PORT"),
        ("idle_ms = 3000", "not below timeout_propose_ms 3000"),
        ('remote_signer = "tcp://127.0.0.1:26659"', "makes a fresh key at each start"),
        ('remote_signer = "unix://signer.sock"', "write unix:///PATH"),
        (
            'remote_signer = "noise://QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N@hsm.example:26659"',
            "an IP, no name",
        ),
        (f'remote_signer = "unix:///{"a" * 107}"', "too long for a socket"),
        ("state_sync = true", "two addresses"),
        ('state_sync = true\nstate_sync_servers = "http://a,http://b"\ntrust_height = 5', "trust_hash"),
        (
            f'state_sync = true\nstate_sync_servers = "http://a,"\ntrust_height = 5\ntrust_hash = "{HASH}"',
            "two addresses",
        ),
        ('log_level = "none"', "$.log_level"),
    ],
)
def test_what_cannot_be_done_is_refused_with_what_can(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        settings_in(tmp_path, f"[comet]\n{line}\n")
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    "line",
    [
        'remote_signer = "unix:///run/signer.sock"',
        'remote_signer = "noise://QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N@[::1]:26659"',
        f'persistent_peers = "{ID}@bank.example:26656, {ID}@[2001:db8::1]:26656"',
        f'state_sync = true\nstate_sync_servers = "http://a, http://b"\ntrust_height = 5\ntrust_hash = "{HASH}"',
    ],
)
def test_what_can_be_done_is_accepted(tmp_path: Path, line: str) -> None:
    settings_in(tmp_path, f"[comet]\n{line}\n")


def test_every_key_is_one_that_cometbft_knows(tmp_path: Path, validator: Layout) -> None:
    """CometBFT passes over a key that it does not know: a slip of the pen would leave its default."""
    home = tmp_path / "theirs"
    subprocess.run([require_cometbft(), "init", "--home", home], check=True, capture_output=True, timeout=WAIT_S)
    theirs = tomllib.loads((home / "config" / "config.toml").read_text("utf-8"))
    ours = tomllib.loads(config_toml(CometSettings(), validator, load_genesis(validator.genesis)))
    for name, value in ours.items():
        if isinstance(value, dict):
            assert {key: type(each) for key, each in value.items()} == {key: type(theirs[name][key]) for key in value}
        else:
            assert type(value) is type(theirs[name])


def test_cometbft_runs_with_the_file(validator: Layout) -> None:
    """The built-in kvstore stands for the ledger; what CometBFT says of itself is what was set."""
    settings = read_comet_settings(validator, {})
    genesis = load_genesis(validator.genesis)
    prepare_home(settings, validator, genesis)
    process = subprocess.Popen(
        [require_cometbft(), "start", "--home", validator.comet, "--proxy_app", "kvstore"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        rpc = f"http://127.0.0.1:{settings.rpc_port}"
        status = ask(f"{rpc}/status", process)["result"]
        node = status["node_info"]
        assert node["moniker"] == "north-bank"
        assert node["network"] == genesis.chain_id
        assert node["other"] == {"tx_index": "off", "rpc_address": f"tcp://127.0.0.1:{settings.rpc_port}"}
        assert node["listen_addr"] == settings.external_address
        assert node["id"] == json_id(validator)
        assert status["validator_info"]["voting_power"] == "10"
        params = ask(f"{rpc}/consensus_params", process)["result"]["consensus_params"]
        assert params["block"]["max_bytes"] == str(genesis.params.block_max_bytes)
        # With the pool of the ledger there is none here to list, and no index to search.
        assert "error" in ask(f"{rpc}/tx_search?query=%22tx.height=1%22", process)
        with urllib.request.urlopen(f"http://127.0.0.1:{settings.metrics_port}/metrics", timeout=WAIT_S) as answer:
            assert b"cometbft_consensus_height" in answer.read()
    finally:
        process.kill()
        process.communicate()
    assert json.loads(validator.sign_state.read_bytes())["height"] != "0", "it signs with this record"


def json_id(validator: Layout) -> str:
    """Return what CometBFT makes of the node key."""
    said = subprocess.run(
        [require_cometbft(), "show-node-id", "--home", validator.comet], capture_output=True, check=True, timeout=WAIT_S
    )
    return said.stdout.decode().strip()


def ask(url: str, process: subprocess.Popen[bytes]) -> Any:
    """Return an answer of its RPC, when it has one and has made a block."""
    ends_s = time.monotonic() + WAIT_S
    while time.monotonic() < ends_s and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=WAIT_S) as answer:
                value = json.load(answer)
        except urllib.error.HTTPError as error:
            return json.load(error)
        except OSError:
            time.sleep(0.05)
            continue
        if value["result"].get("sync_info", {}).get("latest_block_height") != "0":
            return value
    raise AssertionError("CometBFT answered nothing")


@pytest.fixture
def genesis(validator: Layout) -> Genesis:
    return load_genesis(validator.genesis)


@pytest.mark.parametrize("name", ["node_key.json", "validator_key.json", "comet/data/priv_validator_state.json"])
def test_what_cometbft_would_make_anew_is_asked_for(validator: Layout, genesis: Genesis, name: str) -> None:
    (validator.directory / name).unlink()
    with pytest.raises(SettingsError, match=name):
        prepare_home(CometSettings(), validator, genesis)
    assert not (validator.comet / "config" / "config.toml").exists()


def test_with_a_remote_signer_no_key_need_be_here(validator: Layout, genesis: Genesis) -> None:
    validator.validator_key.unlink()
    validator.sign_state.unlink()
    prepare_home(CometSettings(remote_signer="unix:///run/signer.sock"), validator, genesis)
    written = tomllib.loads((validator.comet / "config" / "config.toml").read_text("utf-8"))
    assert written["priv_validator_laddr"] == "unix:///run/signer.sock"
    # What CometBFT makes there can never be taken for the validator's key.
    assert written["priv_validator_key_file"] == "data/unused_key.json"
    assert not validator.validator_key.exists()


def test_a_text_that_toml_would_read_otherwise_stays_a_text(validator: Layout, genesis: Genesis) -> None:
    moniker = 'a"b\\c 飞钱'
    assert tomllib.loads(config_toml(CometSettings(moniker=moniker), validator, genesis))["moniker"] == moniker


def test_the_socket_of_a_signer_that_was_left_behind_is_cleared_and_nothing_else(tmp_path: Path) -> None:
    left, file = tmp_path / "signer.sock", tmp_path / "file"
    file.write_bytes(b"kept")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(left))
    for path in (left, file, tmp_path / "none"):
        clear_signer_socket(CometSettings(remote_signer=f"unix://{path}"))
    clear_signer_socket(CometSettings())
    assert (left.exists(), file.read_bytes()) == (False, b"kept")
