"""The state tree: a Jellyfish Merkle tree whose roots are those of the public crate, updated in one batch a height.

The hash of a set of leaves is fixed (`leaf_hash`, `inner_hash`, `EMPTY_ROOT`); how it lies in rows is ours and no
part of any root (`tree_rows.py`).
"""

import hashlib
from binascii import hexlify
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import NamedTuple, Protocol

from feiqian.core.errors import Fault
from feiqian.state.proofs import (
    EMPTY_ROOT,
    HASH_BYTES,
    INNER_PREFIX,
    LEAF_PREFIX,
    Absence,
    Existence,
    Step,
    bit_at,
    encode,
    inner_hash,
)
from feiqian.state.tree_rows import (
    DIGIT_BITS,
    DIGITS,
    UNCHANGED,
    Leaf,
    Link,
    Row,
    Subtree,
    decode,
    edit,
    hash_of,
    is_small,
    links_of,
    patch,
    root_of_row,
)

KEY_BITS = 256

_sha256 = hashlib.sha256


class NodeReader(Protocol):
    """Tree rows as the store holds them, those of heights staged but not yet committed included."""

    def node(self, node_key: bytes, /) -> bytes | None:
        """Return the row under `node_key`, or None."""
        ...


Outcome = tuple[bytes | None, Subtree]
"""What became of a row: its new hash, or None and the subtree that stands in the row above in its place."""


class TreeUpdate(NamedTuple):
    """What one height does to the tree."""

    root: bytes
    nodes: dict[bytes, bytes]
    stale: list[bytes]
    root_key: bytes


def update(
    reader: NodeReader, root_key: bytes | None, height: int, leaves: Sequence[tuple[bytes, bytes | None]]
) -> TreeUpdate:
    """Apply one height's changes to the tree whose root row is `root_key` (None before the first height).

    `leaves` holds (SHA-256 of key, SHA-256 of value or None to delete), in any order; deleting what is absent is no
    change. `nodes` of the answer are in the order of their keys, which are above all keys of lower heights.

    Raises:
        Fault: a key given twice, a hash not of 32 bytes; a height not above the root's; a row missing from the store.
    """
    if root_key is not None and int.from_bytes(root_key[:8], "big") >= height:
        raise Fault("state tree: a height must be above the height of the root it starts from")
    return _Batch(reader, height, leaves).run(root_key)


def prove(
    reader: NodeReader,
    root_key: bytes,
    key: bytes,
    value: bytes | None,
    leaf_of: Callable[[bytes], tuple[bytes, bytes]],
) -> bytes:
    """Return the ICS-23 proof that the tree holds `value` under `key`, or that it holds nothing there (None).

    `leaf_of` gives, for the SHA-256 of a neighbour's key, that leaf's key and value as of this tree; an absence
    proof shows them.

    Raises:
        ValueError: an empty key or value, or absence from an empty tree: neither can be proved.
        Fault: tree, value and neighbours do not fit together, or a row is missing.
    """
    if not key or value == b"":
        raise ValueError("an empty key or value can not be proved")
    key_hash = _sha256(key).digest()
    leaf, steps = _walk(reader, root_key, lambda depth, _: bit_at(key_hash, depth))
    is_held = leaf is not None and leaf[0] == key_hash
    if is_held != (value is not None):
        raise Fault("state tree: it disagrees with the store on whether the key to be proved is held")
    if value is not None:
        return encode(_existence(leaf, steps, key, value))
    neighbours = [_neighbour(reader, root_key, key_hash, leaf, steps, is_right, leaf_of) for is_right in (False, True)]
    if neighbours == [None, None]:
        raise ValueError("an empty tree has no absence proof; compare its root with EMPTY_ROOT")
    return encode(Absence(key, *neighbours))


def root_of(leaves: Mapping[bytes, bytes]) -> bytes:
    """Return the root of the tree that holds these values under these keys, without keeping the tree."""
    return MemoryTree(leaves).root


class MemoryTree:
    """A tree built once from a mapping, for the results of one block."""

    __slots__ = ("_hashes", "_keys", "_leaves", "root")

    def __init__(self, leaves: Mapping[bytes, bytes]) -> None:
        """Build the tree of `leaves`, values by key, neither empty.

        Raises:
            ValueError: an empty key or value, which could not be proved.
        """
        sha256 = _sha256
        if not all(leaves) or not all(leaves.values()):
            raise ValueError("an empty key or value can not be proved")
        self._leaves = dict(leaves)
        hashes: dict[bytes, bytes] = {}
        for key, value in leaves.items():
            key_hash = sha256(key).digest()
            hashes[key_hash] = sha256(LEAF_PREFIX + key_hash + sha256(value).digest()).digest()
        self._keys = sorted(hashes)
        self._hashes = [hashes[key_hash] for key_hash in self._keys]
        self.root = _hash_leaves(self._keys, self._hashes, 0, len(hashes), 0)

    def prove(self, key: bytes) -> bytes:
        """Return the ICS-23 proof of what the tree holds under `key`, or that it holds nothing there.

        Raises:
            ValueError: an empty key, or absence from an empty tree: neither can be proved.
        """
        if not key:
            raise ValueError("an empty key can not be proved")
        if key in self._leaves:
            return encode(self._existence(key))
        if not self._keys:
            raise ValueError("an empty tree has no absence proof; compare its root with EMPTY_ROOT")
        place = bisect_left(self._keys, _sha256(key).digest())
        near = {_sha256(other).digest(): other for other in self._leaves}
        left = self._existence(near[self._keys[place - 1]]) if place else None
        right = self._existence(near[self._keys[place]]) if place < len(self._keys) else None
        return encode(Absence(key, left, right))

    def _existence(self, key: bytes) -> Existence:
        keys, hashes = self._keys, self._hashes
        key_hash = _sha256(key).digest()
        steps: list[Step] = []
        first, last = 0, len(keys)
        while last - first > 1:
            depth = len(steps)
            middle = _middle(keys, first, last, depth)
            if bit_at(key_hash, depth):
                steps.append(Step(_hash_leaves(keys, hashes, first, middle, depth + 1), is_right=True))
                first = middle
            else:
                steps.append(Step(_hash_leaves(keys, hashes, middle, last, depth + 1), is_right=False))
                last = middle
        return Existence(key, self._leaves[key], tuple(reversed(steps)))


class _Batch:
    """The changes of one height on their way through the tree: down to their rows, and up again."""

    __slots__ = ("hashes", "height", "hexes", "keys", "node", "nodes", "stale")

    def __init__(self, reader: NodeReader, height: int, leaves: Sequence[tuple[bytes, bytes | None]]) -> None:
        self.node = reader.node
        self.height = height.to_bytes(8, "big")
        changes = sorted(leaves, key=itemgetter(0))
        self.keys = [key for key, _ in changes]
        if set(map(len, self.keys)) - {HASH_BYTES} or len(set(self.keys)) != len(self.keys):
            raise Fault("state tree: each key of a height must be given once, as its 32-byte hash")
        if {len(value) for _, value in changes if value is not None} - {HASH_BYTES}:
            raise Fault("state tree: a value must be given as its 32-byte hash")
        self.hexes = [hexlify(key) for key in self.keys]
        self.hashes = [None if value is None else _sha256(LEAF_PREFIX + key + value).digest() for key, value in changes]
        self.nodes: dict[bytes, bytes] = {}
        self.stale: list[bytes] = []

    def run(self, root_key: bytes | None) -> TreeUpdate:
        if root_key is None:
            return self._finish(self._merge(None, 0, len(self.keys), 0))
        outcome = self._visit(root_key, b"", range(len(self.keys)))
        if outcome is None:
            row = self.node(root_key)
            assert row is not None  # the visit has read it
            return TreeUpdate(root_of_row(row), {}, [], root_key)
        root, subtree = outcome
        return self._finish(subtree) if root is None else self._answer(root)

    def _finish(self, subtree: Subtree) -> TreeUpdate:
        """Write the root row of a tree that was built or changed in shape."""
        subtree = _settle(subtree)
        self._emit(subtree, b"")
        return self._answer(hash_of(subtree))

    def _answer(self, root: bytes) -> TreeUpdate:
        nodes = self.nodes
        return TreeUpdate(root, {node_key: nodes[node_key] for node_key in sorted(nodes)}, self.stale, self.height)

    def _visit(self, row_key: bytes, path: bytes, here: Sequence[int]) -> Outcome | None:
        """Make changes in a row and those below it; return what it has become, None where nothing is new.

        A row is patched where its shape stays, edited where leaves come and go in it, else built anew.
        """
        row = self.node(row_key)
        if row is None:
            raise _missing(row_key)
        node_key = self.height + path
        self.nodes[node_key] = b""  # its place is before the rows below, so that there is little left to sort
        below: list[tuple[int, bytes | None, Subtree]] = []
        if row[2] and here:
            here = self._visit_below(row, path, here, below)
        done = patch(row, here, self.keys, self.hashes, below, self.height)
        if done is None:
            done = edit(row, here, self.keys, self.hashes, below, self.height, DIGIT_BITS * len(path))
        if done is UNCHANGED:
            del self.nodes[node_key]
            return None
        outcome: Outcome
        if done is not None:
            self.nodes[node_key] = done[0]
            outcome = done[1], None
        else:
            before = decode(row, {link: Link(hash_, self.height) if hash_ else other for link, hash_, other in below})
            subtree = self._rebuild(before, path, here)
            del self.nodes[node_key]
            if type(subtree) is not list and subtree == before:
                return None
            if not path or is_small(subtree):
                outcome = None, subtree
            else:
                self._emit(subtree, path)
                outcome = hash_of(subtree), None
        self.stale.append(row_key)
        return outcome

    def _visit_below(
        self, row: bytes, path: bytes, here: Sequence[int], below: list[tuple[int, bytes | None, Subtree]]
    ) -> Sequence[int]:
        """Send the changes under a link on to its row; return those that end in this row."""
        hexes = self.hexes
        digits, heights = links_of(row)
        depth = len(path)
        place, end = here[0], here[-1] + 1
        stay: list[int] = []
        while place < end:
            digit = hexes[place][depth]
            link = digits.find(digit)
            first = place
            place += 1
            if link < 0:
                stay.append(first)
                continue
            if end - place > 16:
                place = bisect_left(hexes, path + bytes((digit + 1,)), place, end)
            else:
                while place < end and hexes[place][depth] == digit:
                    place += 1
            child = hexes[first][: depth + 1]
            where = heights + 8 * link
            outcome = self._visit(row[where : where + 8] + child, child, range(first, place))
            if outcome is not None:
                hash_, subtree = outcome
                below.append((link, hash_, subtree))
        return stay

    def _rebuild(self, subtree: Subtree, path: bytes, here: Sequence[int]) -> Subtree:
        for first, last in _runs(here):
            subtree = self._merge(subtree, first, last, DIGIT_BITS * len(path))
        return _settle(subtree)

    def _merge(self, subtree: Subtree, first: int, last: int, depth: int) -> Subtree:
        """Return the subtree at `depth` bits after the changes `first` to `last`, its new hashes not yet computed."""
        if first == last:
            return subtree
        if type(subtree) is list:
            middle = _middle(self.keys, first, last, depth)
            subtree[0] = None
            subtree[1] = self._merge(subtree[1], first, middle, depth + 1)
            subtree[2] = self._merge(subtree[2], middle, last, depth + 1)
            return subtree
        assert not isinstance(subtree, Link)
        keys = self.keys[first:last]
        leaves = [(key, hash_) for key, hash_ in zip(keys, self.hashes[first:last], strict=True) if hash_ is not None]
        if type(subtree) is tuple and subtree[0] not in keys:
            leaves.append(subtree)
            leaves.sort()
        return _build([key for key, _ in leaves], leaves, 0, len(leaves), depth)

    def _emit(self, subtree: Subtree, path: bytes) -> None:
        """Write the row of a settled subtree, and rows below it for what it may not hold."""
        row = Row()
        if type(subtree) is tuple:
            row.add_leaf(0, subtree[0])
            row.hashes.append(subtree[1])
        elif type(subtree) is list:
            self._emit_inner(row, subtree, 255, 0, path, 0)
        self.nodes[self.height + path] = row.encode()

    def _emit_inner(self, row: Row, subtree: list, slot: int, level: int, path: bytes, digit: int) -> None:
        """Add an inner node, then its children; `level` and `digit` count its bits below the row's top."""
        pair = row.add_pair(slot)
        for side in (0, 1):
            child: Subtree = subtree[1 + side]
            child_slot, child_digit = 2 * pair + side, 2 * digit + side
            row.hashes[child_slot] = hash_of(child)
            if type(child) is tuple:
                row.add_leaf(child_slot, child[0])
            elif type(child) is Link:
                row.add_link(child_slot, DIGITS[child_digit], child.height)
            elif type(child) is list and level == DIGIT_BITS - 1 and not is_small(child):
                self._emit(child, path + DIGITS[child_digit : child_digit + 1])
                row.add_link(child_slot, DIGITS[child_digit], self.height)
            elif type(child) is list:
                self._emit_inner(row, child, child_slot, level + 1, path, child_digit)


def _settle(subtree: Subtree) -> Subtree:
    """Compute the missing hashes; a subtree left with one leaf becomes that leaf, one with none empty."""
    if type(subtree) is not list or subtree[0] is not None:
        return subtree
    left, right = _settle(subtree[1]), _settle(subtree[2])
    if left is None and (right is None or type(right) is tuple):
        return right
    if right is None and type(left) is tuple:
        return left
    return [inner_hash(hash_of(left), hash_of(right)), left, right]


def _missing(node_key: bytes) -> Fault:
    return Fault(f"state tree: row {node_key[:8].hex()} {node_key[8:].decode()} is missing from the store")


def _build(keys: list[bytes], leaves: list[Leaf], first: int, last: int, depth: int) -> Subtree:
    """Return the subtree of sorted leaves, which agree in their first `depth` bits."""
    if last - first <= 1:
        return leaves[first] if first < last else None
    middle = _middle(keys, first, last, depth)
    return [None, _build(keys, leaves, first, middle, depth + 1), _build(keys, leaves, middle, last, depth + 1)]


def _middle(keys: list[bytes], first: int, last: int, depth: int) -> int:
    """Return where, among sorted keys that agree in their first `depth` bits, the next bit turns to one."""
    byte, bit = depth >> 3, 0x80 >> (depth & 7)
    if not keys[last - 1][byte] & bit:
        return last
    if keys[first][byte] & bit:
        return first
    while last - first > 1:
        half = (first + last) >> 1
        if keys[half][byte] & bit:
            last = half
        else:
            first = half
    return last


def _hash_leaves(keys: list[bytes], hashes: list[bytes], first: int, last: int, depth: int) -> bytes:
    """Return the hash, at `depth` bits, of the subtree of sorted leaves `first` to `last`, from left to right.

    Between two neighbours lies a fork, as deep as their keys agree. Left sides wait for their right side on a stack
    whose forks grow deeper; one is met once the next fork is above it.
    """
    if first == last:
        return EMPTY_ROOT
    sha256 = _sha256
    numbers = [int.from_bytes(key, "big") for key in keys[first:last]]
    following = [KEY_BITS - (left ^ right).bit_length() for left, right in pairwise(numbers)]
    forks: list[int] = []
    waiting: list[bytes] = []
    for current, number, fork in zip(hashes[first:last], numbers, (*following, depth - 1), strict=True):
        level = 0  # a leaf takes any place; an inner node stands at one level and climbs beside empty siblings
        while forks and forks[-1] > fork:
            above = forks.pop()
            if level > above + 1:
                current = _lift(current, number, level, above + 1)
            current = sha256(INNER_PREFIX + waiting.pop() + current).digest()
            level = above
        if level > fork + 1:
            current = _lift(current, number, level, fork + 1)
        forks.append(fork)
        waiting.append(current)
    return waiting[0]


def _lift(current: bytes, number: int, level: int, target: int) -> bytes:
    """Return an inner node's hash raised from `level` to `target`, each sibling on the way being empty."""
    while level > target:
        level -= 1
        if number >> (KEY_BITS - 1 - level) & 1:
            current = inner_hash(EMPTY_ROOT, current)
        else:
            current = inner_hash(current, EMPTY_ROOT)
    return current


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """Return ascending numbers as runs (first, one after the last) without gaps."""
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and runs[-1][1] == place:
            runs[-1] = (runs[-1][0], place + 1)
        else:
            runs.append((place, place + 1))
    return runs


# Proofs: slow paths over decoded rows


def _walk(
    reader: NodeReader, root_key: bytes, choose: Callable[[int, list], bool]
) -> tuple[Leaf | None, list[tuple[Subtree, bool]]]:
    """Go down, right where `choose` says so; return the leaf at the end, and at each step what was passed by."""
    subtree: Subtree = Link(b"", root_key)
    bits = 1  # a leading one, then the path
    steps: list[tuple[Subtree, bool]] = []
    while True:
        if type(subtree) is Link:
            node_key = subtree.height + (b"%x" % bits)[1:] if steps else root_key
            row = reader.node(node_key)
            if row is None:
                raise _missing(node_key)
            subtree = decode(row, {})
        if subtree is None or isinstance(subtree, tuple):
            return subtree, steps
        assert isinstance(subtree, list)
        is_right = choose(len(steps), subtree)
        steps.append((subtree[1 if is_right else 2], is_right))
        subtree = subtree[2 if is_right else 1]
        bits = bits << 1 | is_right


def _existence(leaf: Leaf | None, steps: list[tuple[Subtree, bool]], key: bytes, value: bytes) -> Existence:
    key_hash = _sha256(key).digest()
    if leaf != (key_hash, _sha256(LEAF_PREFIX + key_hash + _sha256(value).digest()).digest()):
        raise Fault("state tree: a leaf is not the hash of the key and value that the store holds for it")
    path = (Step(hash_of(other), is_right) for other, is_right in reversed(steps))
    return Existence(key, value, tuple(path))


def _neighbour(
    reader: NodeReader,
    root_key: bytes,
    key_hash: bytes,
    leaf: Leaf | None,
    steps: list[tuple[Subtree, bool]],
    is_right: bool,
    leaf_of: Callable[[bytes], tuple[bytes, bytes]],
) -> Existence | None:
    """Prove the leaf next to an absent key, given where the way to that key ended; None at the tree's edge."""
    if leaf is None or (leaf[0] > key_hash) != is_right:
        forks = [depth for depth, (other, side) in enumerate(steps) if side != is_right and other is not None]
        if not forks:
            return None
        fork = forks[-1]

        def choose(depth: int, subtree: list) -> bool:
            if depth <= fork:
                return bit_at(key_hash, depth) != (depth == fork)
            return (subtree[1] is None) if is_right else (subtree[2] is not None)

        leaf, steps = _walk(reader, root_key, choose)
    assert leaf is not None
    return _existence(leaf, steps, *leaf_of(leaf[0]))
