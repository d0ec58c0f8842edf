"""The published definitions that the simulation computes by itself: tagged hashes, ids, addresses, the tree's root.

Nothing here calls the code under test but its encoding, which is MessagePack.
"""

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

import msgspec


def tagged(tag: str, data: bytes) -> bytes:
    """Return SHA-256(SHA-256(tag) ‖ SHA-256(tag) ‖ data), the construction of BIP 340."""
    prefix = hashlib.sha256(tag.encode()).digest()
    return hashlib.sha256(prefix + prefix + data).digest()


def transaction_id(body: bytes) -> bytes:
    """Return the id of a transaction's encoded body."""
    return tagged("feiqian/transaction/v1", body)


def object_id(origin: bytes, number: int) -> bytes:
    """Return the id of the `number`-th object (from 1) that a transaction makes."""
    return tagged("feiqian/object-id/v1", origin + number.to_bytes(4, "big"))


def trigger_id(due_ms: int, sequence: int) -> bytes:
    """Return the id under which a trigger's result stands."""
    return tagged("feiqian/trigger/v1", due_ms.to_bytes(8, "big") + sequence.to_bytes(8, "big"))


def misbehaviour_id(height: int, place: int) -> bytes:
    """Return the id under which the result of what consensus proved stands."""
    return tagged("feiqian/misbehaviour/v1", height.to_bytes(8, "big") + place.to_bytes(4, "big"))


def comet_address(public_key: bytes) -> bytes:
    """Return CometBFT's address of an Ed25519 key."""
    return _sha(public_key)[:20]


def refused_id(height: int, place: int, signed: bytes) -> bytes:
    """Return the id under which a transaction stands that may not be in its block."""
    return tagged("feiqian/refused-transaction/v1", height.to_bytes(8, "big") + place.to_bytes(4, "big") + signed)


def address(member: str, policy: Any, salt: bytes) -> bytes:
    """Return the address of the account that a member opens with this policy and salt."""
    return tagged("feiqian/account-address/v1", msgspec.msgpack.encode((member, policy, salt)))


def genesis_salt(name: str) -> bytes:
    """Return the salt of an account that a consortium file names."""
    return tagged("feiqian/genesis-account-salt/v1", name.encode())[:16]


def replay_digest(ids: Iterable[bytes]) -> bytes:
    """Return the digest of the ids that one block used up."""
    return tagged("feiqian/replay-digest/v1", b"".join(sorted(ids)))


def results_root(results: Mapping[bytes, bytes]) -> bytes:
    """Return the root of a block's results tree: id → encoded result."""
    return _root([(_sha(key), _sha(value)) for key, value in results.items()], 0)


def state_root(records: Mapping[bytes, bytes], plain_tables: Iterable[str]) -> bytes:
    """Return the root of all state: full key → record; plain tables as they are, others by tagged digests."""
    plain = {name.encode() for name in plain_tables}
    leaves = [_leaf(key, record, key.partition(b"/")[0] in plain) for key, record in records.items()]
    return _root(leaves, 0)


@lru_cache(maxsize=20_000)
def _leaf(key: bytes, record: bytes, is_plain: bool) -> tuple[bytes, bytes]:
    leaf_key = key if is_plain else tagged("feiqian/state-key/v1", key)
    leaf_value = record if is_plain else tagged("feiqian/state-value/v1", record)
    return _sha(leaf_key), _sha(leaf_value)


def _root(leaves: list[tuple[bytes, bytes]], depth: int) -> bytes:
    """The definition, one recursion a bit: nothing is the placeholder, one leaf is its hash wherever it stands."""
    if not leaves:
        return b"SPARSE_MERKLE_PLACEHOLDER_HASH__"
    if len(leaves) == 1:
        return _sha(b"JMT::LeafNode" + leaves[0][0] + leaves[0][1])
    sides: tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]] = ([], [])
    for leaf in leaves:
        sides[leaf[0][depth // 8] >> (7 - depth % 8) & 1].append(leaf)
    return _sha(b"JMT::IntrnalNode" + _root(sides[0], depth + 1) + _root(sides[1], depth + 1))


def _sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
