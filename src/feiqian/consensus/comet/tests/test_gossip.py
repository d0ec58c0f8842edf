"""Gossip bundles: what is signed is read back, and nothing else; node keys are those that CometBFT writes."""

import base64
import hashlib
import json
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import VerifyKey

from feiqian.consensus.comet.gossip import (
    MAX_GOSSIP_BYTES,
    GossipSignatureInvalid,
    GossipTooLarge,
    NodeKey,
    UnknownNode,
    make_gossip,
    node_id,
    read_gossip,
)
from feiqian.core.errors import Fault, InvalidTransaction, NonCanonical, Undecodable

KEY = NodeKey(b"\x07" * 32)
TRANSACTIONS = (b"one", b"two" * 1000)


@pytest.fixture(scope="module")
def bundle() -> bytes:
    return make_gossip(KEY, 5, TRANSACTIONS)


def changed(data: bytes, at: int, value: object) -> bytes:
    """Return a bundle with one of its four fields replaced."""
    fields = msgspec.msgpack.decode(data)
    fields[at] = value
    return msgspec.msgpack.encode(fields)


def test_a_bundle_is_read_as_it_was_made(bundle: bytes) -> None:
    read = read_gossip(bundle)
    assert (read.node_key, read.counter, read.transactions) == (KEY.public_key, 5, TRANSACTIONS)


def test_a_bundle_is_what_the_documents_say(bundle: bytes) -> None:
    # An array of four; the signature is over a tagged hash (BIP 340) of the array of the first three.
    node_key, counter, transactions, signature = msgspec.msgpack.decode(bundle)
    tag = hashlib.sha256(b"feiqian/gossip/v1").digest()
    rest = msgspec.msgpack.encode([node_key, counter, transactions])
    VerifyKey(node_key).verify(hashlib.sha256(tag + tag + rest).digest(), signature)


def test_told_again_it_is_other_bytes(bundle: bytes) -> None:
    assert make_gossip(KEY, 6, TRANSACTIONS) != bundle
    assert make_gossip(KEY, 5, TRANSACTIONS) == bundle


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, NodeKey(b"\x08" * 32).public_key),
        (0, bytes(32)),
        (1, 6),
        (2, [b"one"]),
        (2, [b"one", b"two" * 1000, b"three"]),
        (2, [b"two" * 1000, b"one"]),
        (3, bytes(64)),
        (3, NodeKey(b"\x08" * 32).sign(b"another message")),
    ],
)
def test_one_field_changed_is_refused(at: int, value: object, bundle: bytes) -> None:
    with pytest.raises(GossipSignatureInvalid, match=r"gossip bundle \d"):
        read_gossip(changed(bundle, at, value))


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (0, b"short"),
        (1, -1),
        (1, 2**63),
        (1, "5"),
        (2, []),
        (2, [b""]),
        (2, [b"x" * (128 * 1024 + 1)]),
        (2, [b"x"] * 10_001),
        (2, ["text"]),
        (3, b"short"),
        (3, None),
    ],
)
def test_a_field_out_of_range_is_refused(at: int, value: object, bundle: bytes) -> None:
    with pytest.raises(Undecodable, match="gossip bundle: "):
        read_gossip(changed(bundle, at, value))


def test_ten_thousand_transactions_are_accepted() -> None:
    assert len(read_gossip(make_gossip(KEY, 0, [b"x"] * 10_000)).transactions) == 10_000


def test_another_encoding_is_refused(bundle: bytes) -> None:
    # The array of four under a two-byte head (array 16) instead of one.
    assert bundle[:1] == b"\x94"
    with pytest.raises(NonCanonical):
        read_gossip(b"\xdc\x00\x04" + bundle[1:])


def test_size_is_the_first_thing_looked_at() -> None:
    half = b"x" * (128 * 1024)
    with pytest.raises(GossipTooLarge, match="at most 262144"):
        read_gossip(make_gossip(KEY, 0, [half, half]))
    room = MAX_GOSSIP_BYTES - len(make_gossip(KEY, 0, [half, b"x" * 70_000])) + 70_000
    fits = make_gossip(KEY, 0, [half, b"x" * room])
    assert len(fits) == MAX_GOSSIP_BYTES
    assert read_gossip(fits).counter == 0
    with pytest.raises(GossipTooLarge):
        read_gossip(make_gossip(KEY, 0, [half, b"x" * (room + 1)]))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_by_a_rule(data: bytes) -> None:
    with pytest.raises(InvalidTransaction):
        read_gossip(data)


@given(st.data())
def test_a_bundle_with_one_byte_changed_is_refused(data: st.DataObject) -> None:
    good = make_gossip(KEY, 5, (b"one", b"two"))
    at = data.draw(st.integers(0, len(good) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda value: value != good[at]))
    with pytest.raises(InvalidTransaction):
        read_gossip(good[:at] + bytes([other]) + good[at + 1 :])


def test_numbers_are_for_good() -> None:
    rules = [(rule.codespace, rule.number) for rule in (GossipTooLarge, GossipSignatureInvalid, UnknownNode)]
    assert rules == [("network", 1), ("network", 2), ("network", 3)]


def test_node_keys_that_cometbft_wrote(vectors: dict, tmp_path: Path) -> None:
    path = tmp_path / "node_key.json"
    for vector in vectors["node_keys"]:
        path.write_text(vector["file"])
        key = NodeKey.load(path)
        assert key.node_id == node_id(key.public_key) == vector["id"]
        assert key.sign(base64.b64decode(vector["message"])) == base64.b64decode(vector["signature"])


def test_a_new_node_key_is_written_as_cometbft_does(vectors: dict, tmp_path: Path) -> None:
    path = tmp_path / "node_key.json"
    key = NodeKey.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert NodeKey.load(path).public_key == key.public_key
    written, theirs = json.loads(path.read_text()), json.loads(vectors["node_keys"][0]["file"])
    assert written == {"priv_key": {**theirs["priv_key"], "value": written["priv_key"]["value"]}}
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        NodeKey.create(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["node_key.json"]


def private(**changes: Any) -> bytes:
    return json.dumps({"priv_key": {"type": "tendermint/PrivKeyEd25519", "value": "", **changes}}).encode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "truncated"),
        (b"\xff{}", "node key file"),
        (b"{}", "priv_key"),
        (private(type="tendermint/PrivKeySecp256k1"), "only tendermint/PrivKeyEd25519"),
        (private(value="%"), "priv_key"),
        (private(value=base64.b64encode(bytes(32)).decode()), "32 bytes; expected 64"),
        (private(value=base64.b64encode(bytes(64)).decode()), "do not belong together"),
        (private(extra="1"), "extra"),
    ],
)
def test_a_damaged_node_key_is_a_fault(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "node_key.json"
    path.write_bytes(data)
    with pytest.raises(Fault, match=words) as raised:
        NodeKey.load(path)
    assert "node key file node_key.json" in str(raised.value)
