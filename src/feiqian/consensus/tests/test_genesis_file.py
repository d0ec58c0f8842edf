"""Genesis and key files are CometBFT's, both ways; what no ledger can start from is refused."""

import base64
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from feiqian.consensus.genesis_file import (
    ConsensusParams,
    Genesis,
    GenesisValidator,
    InvalidGenesis,
    load_genesis,
    read_genesis,
    save_genesis,
    write_genesis,
)
from feiqian.consensus.headers import MAX_TOTAL_POWER, ZERO_TIME_NS
from feiqian.consensus.solo import SoloSigner
from feiqian.core.errors import Fault

GENESIS = Genesis(
    1_767_225_600_000_000_000,
    "sample-1",
    1,
    ConsensusParams(4 * 1024 * 1024),
    (GenesisValidator(SoloSigner(b"\x01" * 32).public_key, 10, "node-a"),),
    b"",
    {"members": [{"id": "bank-a", "legal_name": "示例银行"}], "scale": 2},
)


def test_files_that_cometbft_wrote(vectors: dict) -> None:
    for vector in vectors["genesis"]:
        genesis = read_genesis(vector["file"].encode())
        assert genesis.validator_set().hash() == base64.b64decode(vector["validators_hash"])
        assert genesis.params.hash() == base64.b64decode(vector["params_hash"])
        assert genesis.app_state["members"][0]["legal_name"] == "示例银行"
        assert json.loads(write_genesis(genesis)) == json.loads(vector["file"])


def test_written_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "genesis.json"
    save_genesis(path, GENESIS)
    assert load_genesis(path) == GENESIS
    assert os.listdir(tmp_path) == ["genesis.json"]


def test_the_first_start_writes_the_time() -> None:
    unstarted = GENESIS._replace(time_ns=ZERO_TIME_NS)
    assert not unstarted.is_started
    assert b'"genesis_time": "0001-01-01T00:00:00Z"' in write_genesis(unstarted)
    assert unstarted.started_at(1_767_225_600_000) == GENESIS
    assert GENESIS.time_ms == 1_767_225_600_000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"chain_id": "Sample 1"}, "chain_id"),
        ({"chain_id": ""}, "chain_id"),
        ({"chain_id": "a" * 51}, "chain_id"),
        ({"initial_height": 0}, "initial_height"),
        ({"time_ns": -5}, "genesis_time"),
        ({"validators": ()}, "at least one"),
        ({"validators": GENESIS.validators * 2}, "stands twice"),
        ({"validators": (GENESIS.validators[0]._replace(power=0),)}, "power"),
        ({"validators": (GENESIS.validators[0]._replace(power=MAX_TOTAL_POWER + 1),)}, "total power"),
        ({"params": ConsensusParams(0)}, "max_bytes"),
        ({"params": ConsensusParams(104_857_601)}, "max_bytes"),
        ({"params": ConsensusParams(1_000_000, -2)}, "max_gas"),
        ({"params": ConsensusParams(1_000)}, "evidence.max_bytes"),
        ({"params": ConsensusParams(4_000_000, pub_key_types=("secp256k1",))}, "pub_key_types"),
        ({"params": ConsensusParams(4_000_000, vote_extensions_enable_height=1)}, "vote extensions"),
        ({"params": ConsensusParams(4_000_000, evidence_max_age_blocks=0)}, "ages"),
    ],
)
def test_what_no_ledger_starts_from(change: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidGenesis, match=said):
        save_genesis(tmp_path / "genesis.json", GENESIS._replace(**change))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"chain_id"', '"chain"'),
        ('"initial_height": "1"', '"initial_height": 1'),
        ('"initial_height": "1"', '"initial_height": "1",\n  "initial_height": "2"'),
        ('"scale": 2', '"scale": 2.5'),
        ('"scale": 2', '"scale": 2, "scale": 3'),
        ('"scale": 2', '"scale": NaN'),
        ('"scale": 2', '"scale": "\\ud800"'),
        ('"scale": 2', '"scale": ' + "9" * 5_000),
        ('"power": "10"', '"power": "0"'),
        ("tendermint/PubKeyEd25519", "tendermint/PubKeySecp256k1"),
        ('"app_hash": ""', '"app_hash": "00"'),
        ('"address": "', '"address": "00'),
        ('"genesis_time": "2026-01-01T00:00:00Z"', '"genesis_time": "2026-01-01T08:00:00+08:00"'),
        ("{", "["),
    ],
)
def test_malformed_files(old: str, new: str) -> None:
    text = write_genesis(GENESIS).decode()
    assert old in text
    with pytest.raises(InvalidGenesis):
        read_genesis(text.replace(old, new, 1).encode())


def test_a_deeply_nested_file_is_refused() -> None:
    with pytest.raises(InvalidGenesis):
        read_genesis(b"[" * 100_000)


def test_key_files_that_cometbft_wrote(vectors: dict, tmp_path: Path) -> None:
    path = tmp_path / "validator_key.json"
    for vector in vectors["key_files"]:
        path.write_text(vector["file"])
        signer = SoloSigner.load(path)
        assert signer.sign(base64.b64decode(vector["message"])) == base64.b64decode(vector["signature"])


def test_a_new_key_file_is_its_owners_only(tmp_path: Path) -> None:
    path = tmp_path / "validator_key.json"
    signer = SoloSigner.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert SoloSigner.load(path).public_key == signer.public_key
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        SoloSigner.create(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["validator_key.json"]


def change_address(value: dict) -> None:
    value["address"] = "00" * 20


def change_public_key(value: dict) -> None:
    value["pub_key"]["value"] = base64.b64encode(b"\x01" * 32).decode()


def shorten_private_key(value: dict) -> None:
    value["priv_key"]["value"] = base64.b64encode(b"\x01" * 32).decode()


def change_type(value: dict) -> None:
    value["priv_key"]["type"] = "tendermint/PrivKeySecp256k1"


@pytest.mark.parametrize("change", [change_address, change_public_key, shorten_private_key, change_type])
def test_key_files_that_do_not_fit_together(change: Callable[[dict], None], tmp_path: Path) -> None:
    path = tmp_path / "validator_key.json"
    SoloSigner.create(path)
    value = json.loads(path.read_bytes())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(Fault) as caught:
        SoloSigner.load(path)
    assert value["priv_key"]["value"] not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b'{"address":"\xec"}', b"[" * 100_000, b"null"])
def test_key_files_that_are_no_key_files(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "validator_key.json"
    path.write_bytes(data)
    with pytest.raises(Fault, match="validator key file"):
        SoloSigner.load(path)
