"""The strict verifier: one encoding a proof, and every way to bend a proof refused with the step that broke."""

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feiqian.state import proofs
from feiqian.state.proofs import EMPTY_ROOT, Absence, Existence, InvalidProof, Step
from feiqian.state.tree import MemoryTree

LEAVES = {b"key %d" % number: b"value %d" % number for number in range(40)}
TREE = MemoryTree(LEAVES)
ABSENT = b"key 1000"


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def existence(key: bytes) -> Existence:
    proof = proofs.decode(TREE.prove(key))
    assert isinstance(proof, Existence)
    return proof


def absence(key: bytes) -> Absence:
    proof = proofs.decode(TREE.prove(key))
    assert isinstance(proof, Absence)
    return proof


def field(number: int, body: bytes) -> bytes:
    """A length-delimited protobuf field of fewer than 128 bytes."""
    assert len(body) < 128
    return bytes((number << 3 | 2, len(body))) + body


LEAF_OP = bytes.fromhex("0801 1001 1801 2a0d") + b"JMT::LeafNode"
KEY, VALUE, SIBLING = b"a", b"b", b"s" * 32
# SHA-256("a") begins with the bits 11, so "a" is the right child of the root.
ROOT = digest(b"JMT::IntrnalNode" + SIBLING + digest(b"JMT::LeafNode" + digest(KEY) + digest(VALUE)))
STEP = bytes((0x08, 1)) + field(2, b"JMT::IntrnalNode" + SIBLING)
PARTS = [field(1, KEY), field(2, VALUE), field(3, LEAF_OP), field(4, STEP)]


def wrapped(*parts: bytes) -> bytes:
    body = b"".join(parts)
    assert 128 <= len(body) < 256 or len(body) < 128
    size = bytes((len(body),)) if len(body) < 128 else bytes((len(body) & 127 | 128, 1))
    return b"\x0a" + size + body


def test_the_encoding_is_that_of_the_published_schema() -> None:
    """Written by hand from cosmos/ics23/v1/proofs.proto."""
    data = wrapped(*PARTS)
    assert proofs.decode(data) == Existence(KEY, VALUE, (Step(SIBLING, is_right=True),))
    assert proofs.encode(proofs.decode(data)) == data
    proofs.verify_existence(data, ROOT, KEY, VALUE)


def long(number: int, body: bytes) -> bytes:
    """A field whose length is written with one byte more than it needs."""
    return bytes((number << 3 | 2, len(body) | 128, 0)) + body


NOT_CANONICAL = {
    "nothing": b"",
    "trailing byte": wrapped(*PARTS) + b"\x00",
    "trailing field": wrapped(*PARTS) + field(9, b"x"),
    "proof twice": wrapped(*PARTS) * 2,
    "batch": field(3, b""),
    "compressed": field(4, b""),
    "number instead of proof": b"\x08\x01",
    "cut off": wrapped(*PARTS)[:-1],
    "length too large": b"\x0a\xff\xff\xff\xff\x0f",
    "endless varint": b"\x0a" + b"\x80" * 12,
    "group": b"\x0b\x00",
    "fixed32": b"\x0d\x00\x00\x00\x00",
    "key twice": wrapped(PARTS[0], *PARTS),
    "value twice": wrapped(PARTS[0], PARTS[1], *PARTS[1:]),
    "leaf twice": wrapped(*PARTS[:3], *PARTS[2:]),
    "unknown field": wrapped(*PARTS, field(5, b"x")),
    "field zero": wrapped(*PARTS, field(0, b"x")),
    "order": wrapped(PARTS[1], PARTS[0], *PARTS[2:]),
    "path before leaf": wrapped(*PARTS[:2], PARTS[3], PARTS[2]),
    "long varint": wrapped(long(1, KEY), *PARTS[1:]),
    "no key": wrapped(*PARTS[1:]),
    "empty key": wrapped(field(1, b""), *PARTS[1:]),
    "no value": wrapped(PARTS[0], *PARTS[2:]),
    "empty value": wrapped(PARTS[0], field(2, b""), *PARTS[2:]),
    "no leaf": wrapped(*PARTS[:2], PARTS[3]),
    "leaf without prehash of the key": wrapped(*PARTS[:2], field(3, LEAF_OP.replace(b"\x10\x01", b"")), PARTS[3]),
    "leaf with a longer prefix": wrapped(
        *PARTS[:2], field(3, LEAF_OP.replace(b"\x2a\x0d", b"\x2a\x0e") + b"x"), PARTS[3]
    ),
    "leaf with its default length written": wrapped(
        *PARTS[:2], field(3, LEAF_OP.replace(b"\x2a", b"\x20\x00\x2a")), PARTS[3]
    ),
    "step without hash": wrapped(*PARTS[:3], field(4, STEP[2:])),
    "step with SHA-512": wrapped(*PARTS[:3], field(4, b"\x08\x02" + STEP[2:])),
    "step with hash twice": wrapped(*PARTS[:3], field(4, b"\x08\x01" + STEP)),
    "step with hash as bytes": wrapped(*PARTS[:3], field(4, field(1, b"\x01") + STEP[2:])),
    "step with empty suffix written": wrapped(*PARTS[:3], field(4, STEP + field(3, b""))),
    "step with two siblings": wrapped(*PARTS[:3], field(4, STEP + field(3, SIBLING))),
    "step with no sibling": wrapped(*PARTS[:3], field(4, b"\x08\x01" + field(2, b"JMT::IntrnalNode"))),
    "step with longer prefix": wrapped(
        *PARTS[:3], field(4, b"\x08\x01" + field(2, b"JMT::IntrnalNode" + SIBLING + b"x"))
    ),
    "step with shorter prefix": wrapped(*PARTS[:3], field(4, b"\x08\x01" + field(2, b"JMT::IntrnalNod" + SIBLING))),
    "step with leaf prefix": wrapped(*PARTS[:3], field(4, b"\x08\x01" + field(2, b"JMT::LeafNode" + b"abc" + SIBLING))),
    "step with suffix of 64": wrapped(
        *PARTS[:3], field(4, b"\x08\x01" + field(2, b"JMT::IntrnalNode") + field(3, SIBLING * 2))
    ),
    "absence of nothing": field(2, b""),
    "absence without neighbours": field(2, field(1, KEY)),
    "absence with key twice": field(2, field(1, KEY) * 2),
    "absence with unknown field": field(2, field(1, KEY) + field(4, b"x")),
    "absence with empty neighbour": field(2, field(1, KEY) + field(2, b"")),
}


@pytest.mark.parametrize("case", NOT_CANONICAL)
def test_bytes_that_are_not_the_one_encoding_of_a_proof_are_refused(case: str) -> None:
    with pytest.raises(InvalidProof):
        proofs.verify_existence(NOT_CANONICAL[case], ROOT, KEY, VALUE)
    with pytest.raises(InvalidProof):
        proofs.verify_absence(NOT_CANONICAL[case], ROOT, KEY)


@pytest.mark.parametrize("neighbour", [2, 3])
def test_a_neighbour_given_twice_or_in_the_wrong_order_is_refused(neighbour: int) -> None:
    body = b"".join(PARTS)
    near = bytes((neighbour << 3 | 2, len(body) & 127 | 128, 1)) + body
    other = bytes(((5 - neighbour) << 3 | 2, len(body) & 127 | 128, 1)) + body
    key = field(1, ABSENT)
    for inside in (key + near + near, near + key, key + bytes(near) + (other if neighbour == 3 else near)):
        size = len(inside)
        with pytest.raises(InvalidProof):
            proofs.decode(b"\x12" + bytes((size & 127 | 128, size >> 7)) + inside)


def is_accepted(proof: bytes, key: bytes) -> bool:
    try:
        if key in LEAVES:
            proofs.verify_existence(proof, TREE.root, key, LEAVES[key])
        else:
            proofs.verify_absence(proof, TREE.root, key)
    except InvalidProof:
        return False
    return True


def test_every_single_bit_of_a_proof_counts() -> None:
    """Each bit of both kinds of proof flipped on its own."""
    for key in (b"key 7", ABSENT):
        good = TREE.prove(key)
        assert is_accepted(good, key)
        for place in range(len(good)):
            for bit in range(8):
                assert not is_accepted(good[:place] + bytes((good[place] ^ 1 << bit,)) + good[place + 1 :], key)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_refused_and_never_breaks_the_reader(data: bytes) -> None:
    with pytest.raises(InvalidProof):
        proofs.decode(data)


@settings(max_examples=300, deadline=None)
@given(st.randoms(use_true_random=False))
def test_a_proof_with_bytes_cut_doubled_or_moved_is_refused(source: random.Random) -> None:
    good = TREE.prove(b"key 3")
    first, last = sorted((source.randrange(len(good)), source.randrange(len(good))))
    for bad in (good[:first] + good[last:], good[:last] + good[first:], good[last:] + good[:last]):
        if bad != good:
            with pytest.raises(InvalidProof):
                proofs.verify_existence(bad, TREE.root, b"key 3", b"value 3")


def test_the_message_names_what_broke() -> None:
    proof = existence(b"key 7")
    data = proofs.encode(proof)
    turned = proof._replace(
        path=(*proof.path[:2], Step(proof.path[2].sibling, not proof.path[2].is_right), *proof.path[3:])
    )
    other = digest(b"another root")
    cases = [
        (data, TREE.root, b"key 8", b"value 7", "key: the proof is for another key"),
        (data, TREE.root, b"key 7", b"value 8", "value: the proof is for another value"),
        (data, other, b"key 7", b"value 7", "record: [0-9]+ steps from the leaf lead to another root"),
        (proofs.encode(turned), TREE.root, b"key 7", b"value 7", "record: step 2 from the leaf is on the wrong side"),
        (TREE.prove(ABSENT), TREE.root, b"key 7", b"value 7", "an absence proof was given"),
    ]
    for given_proof, root, key, value, message in cases:
        with pytest.raises(InvalidProof, match=message):
            proofs.verify_existence(given_proof, root, key, value)
    with pytest.raises(InvalidProof, match="an existence proof was given"):
        proofs.verify_absence(data, TREE.root, ABSENT)


def test_a_value_passed_off_as_a_leaf_further_up_is_refused() -> None:
    """Steps lost at either end: the leaf's side no longer fits its key, or the root is another."""
    proof = existence(b"key 7")
    for path in (proof.path[1:], proof.path[:-1], (), proof.path + proof.path[-1:], proof.path[::-1]):
        with pytest.raises(InvalidProof, match=r"wrong side|another root"):
            proofs.verify_existence(proofs.encode(proof._replace(path=path)), TREE.root, b"key 7", b"value 7")


ORDERED = sorted(LEAVES, key=digest)


def neighbours(key: bytes) -> int:
    """The place in ORDERED of the first leaf right of an absent key."""
    return sum(digest(held) < digest(key) for held in ORDERED)


def test_neighbours_that_are_not_adjacent_are_refused() -> None:
    """Any two true leaves left and right of the absent key but the next ones, one of them alone, or swapped."""
    place = neighbours(ABSENT)
    assert 2 < place < len(ORDERED) - 2
    lefts: list[Existence | None] = [None, *(existence(key) for key in ORDERED[:place])]
    rights: list[Existence | None] = [*(existence(key) for key in ORDERED[place:]), None]
    accepted = 0
    for left in lefts:
        for right in rights:
            if left is None and right is None:
                continue
            data = proofs.encode(Absence(ABSENT, left, right))
            if left is lefts[-1] and right is rights[0]:
                proofs.verify_absence(data, TREE.root, ABSENT)
                accepted += 1
                continue
            with pytest.raises(InvalidProof, match=r"leaves room|do not part|never part"):
                proofs.verify_absence(data, TREE.root, ABSENT)
    assert accepted == 1
    swapped = proofs.encode(Absence(ABSENT, rights[0], lefts[-1]))
    with pytest.raises(InvalidProof, match="left neighbour: its key's hash is not below"):
        proofs.verify_absence(swapped, TREE.root, ABSENT)
    with pytest.raises(InvalidProof, match="right neighbour: its key's hash is not above"):
        proofs.verify_absence(proofs.encode(Absence(ABSENT, lefts[-1], lefts[-2])), TREE.root, ABSENT)


def test_a_held_key_is_never_absent() -> None:
    """Not by its own neighbours, nor with itself as one of them."""
    for place in range(1, len(ORDERED) - 1):
        before, key, after = (existence(ORDERED[place + offset]) for offset in (-1, 0, 1))
        for left, right in ((before, after), (before, key), (key, after), (before, None), (None, after), (key, key)):
            with pytest.raises(InvalidProof):
                proofs.verify_absence(proofs.encode(Absence(key.key, left, right)), TREE.root, key.key)


def test_absence_at_the_edges_needs_the_outermost_leaf() -> None:
    outside = [b"edge %d" % number for number in range(3000)]
    leftmost = min(outside, key=digest)
    rightmost = max(outside, key=digest)
    assert digest(leftmost) < digest(ORDERED[0])
    assert digest(rightmost) > digest(ORDERED[-1])
    for key, place in ((leftmost, 0), (rightmost, -1)):
        proofs.verify_absence(TREE.prove(key), TREE.root, key)
        inner = existence(ORDERED[1 if place == 0 else -2])
        bad = Absence(key, None, inner) if place == 0 else Absence(key, inner, None)
        with pytest.raises(InvalidProof, match="leaves room"):
            proofs.verify_absence(proofs.encode(bad), TREE.root, key)


def test_an_empty_tree_has_no_absence_proof() -> None:
    with pytest.raises(InvalidProof, match="EMPTY_ROOT"):
        proofs.verify_absence(TREE.prove(ABSENT), EMPTY_ROOT, ABSENT)


def test_a_path_has_at_most_256_steps() -> None:
    """256 is what keys that differ in their last bit need; one more is refused before any hashing."""
    key_hash = digest(KEY)
    current = digest(b"JMT::LeafNode" + key_hash + digest(VALUE))
    path = []
    for depth in range(255, -1, -1):
        is_right = bool(key_hash[depth // 8] >> (7 - depth % 8) & 1)
        path.append(Step(EMPTY_ROOT, is_right))
        pair = (EMPTY_ROOT, current) if is_right else (current, EMPTY_ROOT)
        current = digest(b"JMT::IntrnalNode" + pair[0] + pair[1])
    data = proofs.encode(Existence(KEY, VALUE, tuple(path)))
    proofs.verify_existence(data, current, KEY, VALUE)
    with pytest.raises(ValueError, match="256"):
        proofs.encode(Existence(KEY, VALUE, (*path, path[0])))
    body = data[3:] + data[-len(field(4, STEP)) :]  # the last step, a right one, once more
    size = len(body)
    assert path[-1].is_right
    assert size < 2**14
    longer = b"\x0a" + bytes((size & 127 | 128, size >> 7)) + body
    with pytest.raises(InvalidProof, match="more than 256 steps"):
        proofs.decode(longer)


def test_a_proof_beyond_the_size_limit_is_refused_unread() -> None:
    with pytest.raises(InvalidProof, match="at most"):
        proofs.decode(bytes(proofs.MAX_PROOF_BYTES + 1))
