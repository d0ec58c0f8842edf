"""Hashes, sign bytes and JSON equal those of CometBFT's own code on random structures."""

import base64
import json

import msgspec
import pytest

from feiqian.consensus import comet_json, headers, merkle
from feiqian.consensus.comet_json import (
    CommitJson,
    HeaderJson,
    MalformedJson,
    ValidatorSetJson,
    parse,
    read_commit,
    read_header,
    read_time,
    read_validators,
    write_commit,
    write_header,
    write_time,
    write_validators,
)
from feiqian.consensus.headers import ABSENT_SIGNATURE, NO_COMMIT, ZERO_TIME_NS, BlockID, Commit, ValidatorSet


def b64(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def test_merkle_roots(vectors: dict) -> None:
    for vector in vectors["merkle"]:
        assert merkle.root([b64(item) for item in vector["items"]]) == b64(vector["root"])


def test_merkle_roots_of_rfc_6962() -> None:
    # The published test vectors of the certificate-transparency tree, sizes 0 to 8.
    leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    roots = {
        0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    for size, root in roots.items():
        assert merkle.root([bytes.fromhex(leaf) for leaf in leaves[:size]]).hex() == root


def test_headers_both_ways(vectors: dict) -> None:
    for vector in vectors["headers"]:
        data = compact(vector["header"])
        header = read_header(parse(data, HeaderJson, "header"))
        assert header.hash() == b64(vector["hash"])
        assert header.encode() == b64(vector["encoded"])
        assert msgspec.json.encode(write_header(header)) == data


def test_commits_both_ways(vectors: dict) -> None:
    for vector in vectors["commits"]:
        data = compact(vector["commit"])
        commit = read_commit(parse(data, CommitJson, "commit"))
        assert commit.hash() == b64(vector["hash"])
        assert commit.encode() == b64(vector["encoded"])
        assert msgspec.json.encode(write_commit(commit)) == data
        for place, expected in enumerate(vector["sign_bytes"]):
            if expected:
                assert commit.sign_bytes(vector["chain_id"], place) == b64(expected)


def test_validator_sets_both_ways(vectors: dict) -> None:
    for vector in vectors["validators"]:
        data = compact(vector["set"])
        validators = read_validators(parse(data, ValidatorSetJson, "validators"))
        assert validators.hash() == b64(vector["hash"])
        assert validators.total_power == int(vector["total"])
        assert ValidatorSet.ordered(tuple(reversed(validators.validators))) == validators
        assert msgspec.json.encode(write_validators(validators)) == data


def test_block_ids_with_part_sets(vectors: dict) -> None:
    sizes = set()
    for vector in vectors["blocks"]:
        header = read_header(parse(compact(vector["header"]), HeaderJson, "header"))
        last = vector["last_commit"]
        last_commit = NO_COMMIT if last["height"] == "0" else read_commit(parse(compact(last), CommitJson, "commit"))
        transactions = [b64(transaction) for transaction in vector["txs"]]
        assert headers.data_hash(transactions) == b64(vector["data_hash"])
        parts = headers.part_set_header(header, transactions, last_commit)
        block_id = vector["block_id"]
        assert header.hash().hex().upper() == block_id["hash"]
        assert (parts.total, parts.hash.hex().upper()) == (block_id["parts"]["total"], block_id["parts"]["hash"])
        sizes.add(parts.total)
    assert {1, 2, 3} <= sizes


def test_results_and_parameters(vectors: dict) -> None:
    for vector in vectors["results"]:
        assert headers.results_hash([b64(data) for data in vector["data"]]) == b64(vector["hash"])
    for vector in vectors["params"]:
        assert headers.consensus_hash(vector["max_bytes"], vector["max_gas"]) == b64(vector["hash"])


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_767_225_600_000_000_001, "2026-01-01T00:00:00.000000001Z"),
        (1_767_225_600_120_000_000, "2026-01-01T00:00:00.12Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (ZERO_TIME_NS, "0001-01-01T00:00:00Z"),
        (951_782_400_000_000_000, "2000-02-29T00:00:00Z"),
    ],
)
def test_times(time_ns: int, text: str) -> None:
    assert write_time(time_ns) == text
    assert read_time(text, "time") == time_ns


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00+00:00",
        "2026-01-01T00:00:00.10Z",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00.0000000001Z",
        "2026-02-30T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01 00:00:00Z",
        "2026-01-01T00:00:60Z",
        "２026-01-01T00:00:00Z",
        "",
    ],
)
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(MalformedJson):
        read_time(text, "time")


@pytest.mark.parametrize("text", ["", "-1", "+1", "01", " 1", "1.0", "1e3", "９", "18446744073709551616"])
def test_other_numbers_are_refused(text: str) -> None:
    with pytest.raises(MalformedJson):
        comet_json.read_integer(text, "number", 0, 2**63 - 1)


@pytest.mark.parametrize("text", ["ab", "A", "GG", "0xAB", "AB "])
def test_other_hex_is_refused(text: str) -> None:
    with pytest.raises(MalformedJson):
        comet_json.read_hex(text, "hash", None)


@pytest.mark.parametrize("text", ["QQ", "QR==", "QQ==\n", "Q_==", "=QQ=", "QQ===="])
def test_other_base64_is_refused(text: str) -> None:
    with pytest.raises(MalformedJson):
        comet_json.read_base64(text, "key")


def test_an_absent_signature_with_content_is_refused(vectors: dict) -> None:
    commit = Commit(1, 0, BlockID(b"\x01" * 32), (ABSENT_SIGNATURE._replace(validator_address=b"\x01" * 20),))
    with pytest.raises(MalformedJson, match="absent signature"):
        read_commit(write_commit(commit))


def test_a_repeated_field_is_refused(vectors: dict) -> None:
    data = compact(vectors["headers"][0]["header"])
    with pytest.raises(MalformedJson, match="compact JSON"):
        parse(data[:-1] + b',"height":"7"}', HeaderJson, "header")
    with pytest.raises(MalformedJson, match="unknown field"):
        parse(data[:-1] + b',"extra":"7"}', HeaderJson, "header")
    with pytest.raises(MalformedJson, match="compact JSON"):
        parse(data + b" ", HeaderJson, "header")


def test_an_address_of_another_key_is_refused(vectors: dict) -> None:
    value = json.loads(compact(vectors["validators"][1]["set"]))
    value["validators"][0]["address"] = "00" * 20
    with pytest.raises(MalformedJson, match="not that of its key"):
        read_validators(parse(compact(value), ValidatorSetJson, "validators"))
