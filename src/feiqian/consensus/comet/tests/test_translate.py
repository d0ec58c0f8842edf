"""Values cross to CometBFT and back unchanged, and what is sent does there what is meant here."""

import base64
import json
from typing import Any

import pytest

from feiqian.consensus import headers, merkle
from feiqian.consensus.comet import abci_pb2 as pb
from feiqian.consensus.comet import translate
from feiqian.consensus.comet_json import write_time
from feiqian.consensus.genesis_file import ConsensusParams, Genesis, read_genesis, write_genesis
from feiqian.consensus.headers import ZERO_TIME_NS
from feiqian.core.errors import Fault
from feiqian.testing.cometbft import Judge


def b64(text: str) -> bytes:
    return base64.b64decode(text)


@pytest.mark.parametrize(
    ("time_ns", "seconds", "nanos"),
    [
        (0, 0, 0),
        (1_767_225_600_123_456_789, 1_767_225_600, 123_456_789),
        (-1, -1, 999_999_999),
        (ZERO_TIME_NS, -62_135_596_800, 0),
    ],
)
def test_times_both_ways(time_ns: int, seconds: int, nanos: int) -> None:
    timestamp = translate.timestamp(time_ns)
    assert (timestamp.seconds, timestamp.nanos) == (seconds, nanos)
    assert translate.time_ns(timestamp) == time_ns
    assert write_time(time_ns) == timestamp.ToJsonString()


def test_results_hash_as_cometbft_hashes_them(vectors: dict) -> None:
    # CometBFT hashes code, data and gas of each result in protobuf; ours hold nothing else.
    for vector in vectors["results"]:
        digests = [b64(data) for data in vector["data"]]
        encoded = [translate.exec_result(digest).SerializeToString(deterministic=True) for digest in digests]
        assert merkle.root(encoded) == headers.results_hash(digests) == b64(vector["hash"])


def test_validators_both_ways() -> None:
    given = ((b"\x01" * 32, 10), (b"\x02" * 32, 0))
    updates = [translate.validator_update(key, power) for key, power in given]
    assert translate.validators(updates) == given


@pytest.mark.parametrize("key", [{}, {"ed25519": b"short"}])
def test_a_validator_of_another_kind_of_key_is_a_fault(key: dict[str, Any]) -> None:
    with pytest.raises(Fault, match="Ed25519"):
        translate.validators([pb.ValidatorUpdate(pub_key=pb.PublicKey(**key), power=1)])


@pytest.mark.parametrize(
    ("type_", "kind"), [(pb.DUPLICATE_VOTE, "duplicate-vote"), (pb.LIGHT_CLIENT_ATTACK, "light-client-attack")]
)
def test_misbehaviour(type_: pb.MisbehaviorType, kind: str) -> None:
    given = pb.Misbehavior(
        type=type_,
        validator=pb.Validator(address=b"\x03" * 20, power=7),
        height=8,
        time=translate.timestamp(1_767_225_600_000_000_001),
        total_voting_power=40,
    )
    assert translate.misbehaviour(given) == (kind, b"\x03" * 20, 8, 1_767_225_600_000_000_001, 7)


def test_misbehaviour_of_an_unknown_kind_is_a_fault() -> None:
    with pytest.raises(Fault, match="kind 0"):
        translate.misbehaviour(pb.Misbehavior())


PARAMS = ConsensusParams(
    block_max_bytes=4_194_304,
    block_max_gas=5,
    evidence_max_age_blocks=1000,
    evidence_max_age_ns=172_800_000_000_001,
    evidence_max_bytes=1_048_576,
    app_version=3,
    authority="governance",
)


def test_parameters_both_ways() -> None:
    assert translate.params(translate.consensus_params(PARAMS)) == PARAMS
    large = PARAMS._replace(block_max_bytes=-1, app_version=2**64 - 1, vote_extensions_enable_height=9)
    assert translate.params(translate.consensus_params(large)) == large


@pytest.fixture
def genesis(vectors: dict) -> Genesis:
    return read_genesis(vectors["genesis"][0]["file"].encode())._replace(params=PARAMS)


def updated(cometbft: Judge, genesis: Genesis, update: pb.ConsensusParams) -> dict:
    """Return what CometBFT makes of an update of the genesis' parameters."""
    given = {
        "genesis": json.loads(write_genesis(genesis)),
        "update": base64.b64encode(update.SerializeToString()).decode(),
    }
    return json.loads(cometbft("update", given=json.dumps(given).encode()))


@pytest.mark.parametrize(
    ("max_block_bytes", "app_version", "expected"),
    [
        (2_097_152, None, PARAMS._replace(block_max_bytes=2_097_152)),
        (None, 4, PARAMS._replace(app_version=4)),
        (8_388_608, 4, PARAMS._replace(block_max_bytes=8_388_608, app_version=4)),
        # Evidence may not be larger than a block.
        (524_288, None, PARAMS._replace(block_max_bytes=524_288, evidence_max_bytes=524_288)),
        (-1, None, PARAMS._replace(block_max_bytes=-1)),
    ],
)
def test_cometbft_makes_of_an_update_what_is_meant(
    max_block_bytes: int | None, app_version: int | None, expected: ConsensusParams, cometbft: Judge, genesis: Genesis
) -> None:
    update = translate.param_updates(genesis.params, max_block_bytes, app_version)
    assert update is not None
    result = updated(cometbft, genesis, update)
    assert result["objection"] == ""
    assert result["params"] == json.loads(write_genesis(genesis._replace(params=expected)))["consensus_params"]
    assert b64(result["hash"]) == expected.hash()


def test_cometbft_objects_to_evidence_larger_than_a_block(cometbft: Judge, genesis: Genesis) -> None:
    objection = updated(cometbft, genesis, pb.ConsensusParams(block=pb.BlockParams(max_bytes=524_288)))["objection"]
    assert "evidence.MaxBytesEvidence is greater than upper bound" in objection


def test_all_parameters_at_once_are_the_genesis_own(cometbft: Judge, genesis: Genesis) -> None:
    result = updated(
        cometbft,
        genesis._replace(params=PARAMS._replace(authority="", app_version=1)),
        translate.consensus_params(PARAMS),
    )
    assert result["params"] == json.loads(write_genesis(genesis))["consensus_params"]


def test_no_change_is_no_update() -> None:
    assert translate.param_updates(PARAMS, None, None) is None
