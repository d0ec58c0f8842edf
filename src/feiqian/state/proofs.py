"""ICS-23 proofs over the state tree: their bytes (protobuf, one encoding a proof) and a strict verifier.

The specification is that of the public JMT crate with `max_depth` 256. Stricter than ICS-23 asks: each step's side
must be the next bit of SHA-256(key), and bytes that are not the one encoding of their proof are refused. An empty
tree has no absence proof: compare its root with `EMPTY_ROOT` instead.
"""

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

EMPTY_ROOT = b"SPARSE_MERKLE_PLACEHOLDER_HASH__"
LEAF_PREFIX = b"JMT::LeafNode"
INNER_PREFIX = b"JMT::IntrnalNode"
HASH_BYTES = 32
MAX_DEPTH = 256
MAX_PROOF_BYTES = 4 * 1024 * 1024

# LeafOp of cosmos/ics23/v1/proofs.proto: hash, prehash_key and prehash_value SHA-256 (1), length NO_PREFIX (0, which
# proto3 leaves out), prefix.
_LEAF_OP = b"\x08\x01\x10\x01\x18\x01\x2a\x0d" + LEAF_PREFIX
_SHA256_OP = 1
_VARINT, _LENGTH_DELIMITED = 0, 2


class InvalidProof(Exception):
    """The proof does not prove what was asked; the message names the step that broke."""


class Step(NamedTuple):
    """One inner node above the proved leaf: the other child's hash, and whether the path's child is the right one."""

    sibling: bytes
    is_right: bool


class Existence(NamedTuple):
    """A record and the steps from its leaf up to the root."""

    key: bytes
    value: bytes
    path: tuple[Step, ...]


class Absence(NamedTuple):
    """A key that is not in the tree, and its neighbours by SHA-256(key); one is None at the tree's edge."""

    key: bytes
    left: Existence | None
    right: Existence | None


def leaf_hash(key_hash: bytes, value_hash: bytes) -> bytes:
    """Return the hash of a leaf from the SHA-256 of its key and that of its value."""
    return _sha256(LEAF_PREFIX + key_hash + value_hash)


def inner_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node from its children's, `EMPTY_ROOT` standing for an empty one."""
    return _sha256(INNER_PREFIX + left + right)


def bit_at(key_hash: bytes, depth: int) -> bool:
    """Return the bit that decides the side at `depth`, most significant first; True is right."""
    return bool(key_hash[depth >> 3] & 0x80 >> (depth & 7))


def verify_existence(proof: bytes, root: bytes, key: bytes, value: bytes) -> None:
    """Return if `proof` shows that the tree with `root` (32 bytes) holds `value` under `key`.

    Raises:
        InvalidProof: it does not, or its bytes are not those of an existence proof.
    """
    decoded = decode(proof)
    if not isinstance(decoded, Existence):
        raise InvalidProof("an absence proof was given where existence is to be proved")
    if decoded.key != key:
        raise InvalidProof("key: the proof is for another key")
    if decoded.value != value:
        raise InvalidProof("value: the proof is for another value")
    _check_root(decoded, root, "record")


def verify_absence(proof: bytes, root: bytes, key: bytes) -> None:
    """Return if `proof` shows that the tree with `root` (32 bytes) holds nothing under `key`.

    Raises:
        InvalidProof: it does not, or its bytes are not those of an absence proof, or the tree is empty.
    """
    decoded = decode(proof)
    if not isinstance(decoded, Absence):
        raise InvalidProof("an existence proof was given where absence is to be proved")
    if root == EMPTY_ROOT:
        raise InvalidProof("root: an empty tree has no absence proof; compare the root with EMPTY_ROOT")
    if decoded.key != key:
        raise InvalidProof("key: the proof is for another key")
    left, right = decoded.left, decoded.right
    key_hash = _sha256(key)
    if left is not None:
        _check_root(left, root, "left neighbour")
        if _sha256(left.key) >= key_hash:
            raise InvalidProof("left neighbour: its key's hash is not below that of the absent key")
    if right is not None:
        _check_root(right, root, "right neighbour")
        if _sha256(right.key) <= key_hash:
            raise InvalidProof("right neighbour: its key's hash is not above that of the absent key")
    if left is None:
        assert right is not None
        _check_edge(right.path, len(right.path), "right neighbour", is_rightmost=False)
    elif right is None:
        _check_edge(left.path, len(left.path), "left neighbour", is_rightmost=True)
    else:
        _check_adjacent(left.path, right.path)


def _check_root(proof: Existence, root: bytes, who: str) -> None:
    """Climb from the leaf; every step must lie on the side that the key's hash says."""
    key_hash = _sha256(proof.key)
    current = leaf_hash(key_hash, _sha256(proof.value))
    depth = len(proof.path)
    for number, step in enumerate(proof.path):
        depth -= 1
        if step.is_right != bit_at(key_hash, depth):
            raise InvalidProof(f"{who}: step {number} from the leaf is on the wrong side of the key's path")
        current = inner_hash(step.sibling, current) if step.is_right else inner_hash(current, step.sibling)
    if current != root:
        raise InvalidProof(f"{who}: {len(proof.path)} steps from the leaf lead to another root")


def _check_edge(path: tuple[Step, ...], steps: int, who: str, *, is_rightmost: bool) -> None:
    """Of the `steps` lowest, each must have nothing beyond it on the side of the absent key."""
    for number in range(steps):
        if path[number].is_right != is_rightmost and path[number].sibling != EMPTY_ROOT:
            raise InvalidProof(f"{who}: step {number} from the leaf leaves room for another key")


def _check_adjacent(left: tuple[Step, ...], right: tuple[Step, ...]) -> None:
    """Both climb to one fork, left from its left child and right from its right, with nothing between them."""
    common = 0
    while common < len(left) and common < len(right) and left[-1 - common] == right[-1 - common]:
        common += 1
    left_steps, right_steps = len(left) - common - 1, len(right) - common - 1
    if left_steps < 0 or right_steps < 0:
        raise InvalidProof("neighbours: their paths never part")
    if left[left_steps].is_right or not right[right_steps].is_right:
        raise InvalidProof("neighbours: they do not part as left and right at their first differing step")
    _check_edge(left, left_steps, "left neighbour", is_rightmost=True)
    _check_edge(right, right_steps, "right neighbour", is_rightmost=False)


def encode(proof: Existence | Absence) -> bytes:
    """Return the bytes of the proof: an ICS-23 `CommitmentProof`.

    Raises:
        ValueError: an empty key or value, no neighbour, more steps than MAX_DEPTH, a hash not of 32 bytes.
    """
    if isinstance(proof, Existence):
        return _message(1, _encode_existence(proof))
    if not proof.key or (proof.left is None and proof.right is None):
        raise ValueError("an absence proof needs a key and at least one neighbour")
    body = _message(1, proof.key)
    if proof.left is not None:
        body += _message(2, _encode_existence(proof.left))
    if proof.right is not None:
        body += _message(3, _encode_existence(proof.right))
    return _message(2, body)


def _encode_existence(proof: Existence) -> bytes:
    if not proof.key or not proof.value:
        raise ValueError("an empty key or value can not be proved")
    if len(proof.path) > MAX_DEPTH or any(len(step.sibling) != HASH_BYTES for step in proof.path):
        raise ValueError(f"a path has at most {MAX_DEPTH} steps, each with a hash of {HASH_BYTES} bytes")
    parts = [_message(1, proof.key), _message(2, proof.value), _message(3, _LEAF_OP)]
    for step in proof.path:
        if step.is_right:
            operation = b"\x08\x01" + _message(2, INNER_PREFIX + step.sibling)
        else:
            operation = b"\x08\x01" + _message(2, INNER_PREFIX) + _message(3, step.sibling)
        parts.append(_message(4, operation))
    return b"".join(parts)


def decode(data: bytes) -> Existence | Absence:
    """Return the proof whose encoding is `data`.

    Raises:
        InvalidProof: not an existence or absence proof of our specification, or not its one encoding.
    """
    if len(data) > MAX_PROOF_BYTES:
        raise InvalidProof(f"proof of {len(data)} bytes; at most {MAX_PROOF_BYTES}")
    fields = list(_fields(data, "proof"))
    if len(fields) != 1:
        raise InvalidProof("proof: exactly one existence or absence proof must be given")
    number, body = fields[0]
    if number == 1:
        proof: Existence | Absence = _decode_existence(_bytes(body, "proof"), "record")
    elif number == 2:
        proof = _decode_absence(_bytes(body, "proof"))
    else:
        raise InvalidProof(f"proof: kind {number} is none of existence (1) and absence (2)")
    if encode(proof) != data:
        raise InvalidProof("proof: not the canonical encoding (field order, shortest varints, no defaults written)")
    return proof


def _decode_absence(data: bytes) -> Absence:
    key = b""
    neighbours: dict[int, Existence] = {}
    for number, value in _fields(data, "absence proof"):
        body = _bytes(value, "absence proof")
        if number == 1 and not key:
            key = body
        elif number in (2, 3) and number not in neighbours:
            neighbours[number] = _decode_existence(body, "left neighbour" if number == 2 else "right neighbour")
        else:
            raise InvalidProof(f"absence proof: field {number} is unknown or given twice")
    if not key:
        raise InvalidProof("absence proof: an empty key can not be proved")
    if not neighbours:
        raise InvalidProof("absence proof: neither left nor right neighbour is given")
    return Absence(key, neighbours.get(2), neighbours.get(3))


def _decode_existence(data: bytes, who: str) -> Existence:
    found: dict[int, bytes] = {}
    path: list[Step] = []
    for number, value in _fields(data, who):
        body = _bytes(value, who)
        if number == 4:
            if len(path) == MAX_DEPTH:
                raise InvalidProof(f"{who}: more than {MAX_DEPTH} steps")
            path.append(_decode_step(body, f"{who}: step {len(path)} from the leaf"))
        elif number in (1, 2, 3) and number not in found:
            found[number] = body
        else:
            raise InvalidProof(f"{who}: field {number} is unknown or given twice")
    if not found.get(1):
        raise InvalidProof(f"{who}: an empty key can not be proved")
    if not found.get(2):
        raise InvalidProof(f"{who}: an empty value can not be proved")
    if found.get(3) != _LEAF_OP:
        raise InvalidProof(f"{who}: the leaf operation is not that of the state tree")
    return Existence(found[1], found[2], tuple(path))


def _decode_step(data: bytes, who: str) -> Step:
    found: dict[int, int | bytes] = {}
    for number, value in _fields(data, who):
        if number not in (1, 2, 3) or number in found:
            raise InvalidProof(f"{who}: field {number} is unknown or given twice")
        found[number] = value
    if found.get(1) != _SHA256_OP:
        raise InvalidProof(f"{who}: the hash operation is not SHA-256")
    prefix, suffix = _bytes(found.get(2, b""), who), _bytes(found.get(3, b""), who)
    if not prefix.startswith(INNER_PREFIX):
        raise InvalidProof(f"{who}: the prefix is not that of an inner node")
    sibling = prefix[len(INNER_PREFIX) :]
    if len(sibling) == HASH_BYTES and not suffix:
        return Step(sibling, is_right=True)
    if not sibling and len(suffix) == HASH_BYTES:
        return Step(suffix, is_right=False)
    raise InvalidProof(f"{who}: prefix and suffix must hold one sibling of {HASH_BYTES} bytes")


def _bytes(value: int | bytes, who: str) -> bytes:
    if isinstance(value, int):
        raise InvalidProof(f"{who}: a number stands where bytes belong")
    return value


def _fields(data: bytes, who: str) -> Iterator[tuple[int, int | bytes]]:
    """Yield (field number, number or bytes) of a protobuf message; the two wire types that ICS-23 needs."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place, who)
        value, place = _varint(data, place, who)
        if tag & 7 == _VARINT:
            yield tag >> 3, value
        elif tag & 7 == _LENGTH_DELIMITED:
            if value > len(data) - place:
                raise InvalidProof(f"{who}: field {tag >> 3} is longer than what is left")
            yield tag >> 3, data[place : place + value]
            place += value
        else:
            raise InvalidProof(f"{who}: wire type {tag & 7} has no place in a proof")


def _varint(data: bytes, place: int, who: str) -> tuple[int, int]:
    value = shift = 0
    while place < len(data) and shift < 35:
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise InvalidProof(f"{who}: a varint is cut off or too long")


def _message(number: int, body: bytes) -> bytes:
    """Return one length-delimited field."""
    size = len(body)
    head = bytearray((number << 3 | _LENGTH_DELIMITED,))
    while size >= 0x80:
        head.append(size & 0x7F | 0x80)
        size >>= 7
    head.append(size)
    return bytes(head) + body


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
