"""Rows of the state tree: how a few levels of it lie in one row of the store, and how a row is read and changed.

A row holds the subtree at a path of whole hexadecimal digits, four levels deep. Below that, a subtree of at most
`INLINE_LEAVES` leaves, told apart within the next four bits, lies in the same row; a larger one has a row of its own,
to which the row links. Nothing of this is part of any root. Reasons and figures:
`docs/decisions/0002-state-tree-layout.md`.

Bytes of a row: the numbers of pairs, leaves and links (one byte each, then a zero); for each pair of children its two
hashes (64); for each pair the slot that holds its own hash; for each leaf its slot; for each link its slot; for each
link its hexadecimal digit; for each link its row's height (8); for each leaf its key's hash (32). Slot 2p is the left
of pair p, 2p + 1 the right; a pair comes after the pair above it. A row of one leaf has no pair, and that leaf's hash
in the place of pairs; the row of an empty tree has nothing.
"""

import hashlib
from collections.abc import Sequence
from struct import Struct

from feiqian.state.proofs import EMPTY_ROOT, HASH_BYTES, INNER_PREFIX, bit_at, inner_hash

INLINE_LEAVES = 1
DIGIT_BITS = 4
DIGITS = b"0123456789abcdef"

_HEADER_BYTES = 4
_HEIGHT_BYTES = 8
_NO_SLOT = 255  # where the topmost pair's own hash stands: in the row above
_MOST_PAIRS = 127

_sha256 = hashlib.sha256
_inner = _sha256(INNER_PREFIX).copy  # the fastest way to put the prefix before two hashes that lie in a row
_SLOTS = [slice(_HEADER_BYTES + 32 * slot, _HEADER_BYTES + 32 * slot + 32) for slot in range(256)]
_PAIRS = [slice(_HEADER_BYTES + 64 * pair, _HEADER_BYTES + 64 * pair + 64) for pair in range(128)]
_PAIR_BITS = [1 << (slot >> 1) for slot in range(256)]  # the pair of a slot, as a bit among all pairs
_HASHES = [Struct("32s" * count).unpack_from for count in range(256)]

Leaf = tuple[bytes, bytes]
"""SHA-256 of the key, and the leaf's hash."""


class Link:
    """A subtree that lies in a row of its own, written at `height` (8 bytes)."""

    __slots__ = ("hash", "height")

    def __init__(self, hash_: bytes, height: bytes) -> None:
        self.hash = hash_
        self.height = height


Subtree = None | Leaf | list | Link
"""A decoded subtree: None is empty; a list is an inner node, [its hash, left, right], the hash None until computed."""

Below = Sequence[tuple[int, bytes | None, Subtree]]
"""What became of rows below: number of the link, and the new hash, or None and the subtree that replaces the link."""

Done = tuple[bytes, bytes]
"""A row's new bytes and the new hash of its subtree."""

UNCHANGED: Done = (b"", b"")


def hash_of(subtree: Subtree) -> bytes:
    """Return the hash of a subtree that has one."""
    if type(subtree) is list:
        return subtree[0]
    if type(subtree) is tuple:
        return subtree[1]
    return EMPTY_ROOT if subtree is None else subtree.hash  # type: ignore[union-attr]


def root_of_row(row: bytes) -> bytes:
    """Return the hash of the subtree in a row."""
    if row[0]:
        return _sha256(INNER_PREFIX + row[_PAIRS[0]]).digest()
    return row[_SLOTS[0]] if row[1] else EMPTY_ROOT


def links_of(row: bytes) -> tuple[bytes, int]:
    """Return the digits of a row's links, and where in the row their heights begin."""
    links = row[2]
    start = _HEADER_BYTES + 65 * row[0] + row[1] + links
    return row[start : start + links], start + links


def patch(
    row: bytes, here: Sequence[int], keys: Sequence[bytes], hashes: Sequence[bytes | None], below: Below, height: bytes
) -> Done | None:
    """Put new hashes into a row whose shape stays; None where it does not, UNCHANGED where nothing is new.

    `here` are the places in `keys` and `hashes` (None deletes) that end in this row, `height` the 8 bytes of the new
    height, at which the rows of `below` are written.
    """
    pairs, leaves, links = row[0], row[1], row[2]
    if not pairs:
        return None
    at_ups = _HEADER_BYTES + 64 * pairs
    at_slots = at_ups + pairs
    at_links = at_slots + leaves
    at_keys = at_links + 10 * links
    new = memoryview(bytearray(row))  # of all ways to put 32 bytes into place, assigning to its slices is the fastest
    dirty = 0  # a bit for each pair
    for change in here:
        hash_ = hashes[change]
        found = row.find(keys[change], at_keys)
        if found < 0:
            if hash_ is None:
                continue
            return None
        if hash_ is None or (found - at_keys) & 31:
            return None
        slot = row[at_slots + (found - at_keys >> 5)]
        where = _SLOTS[slot]
        if row[where] != hash_:
            new[where] = hash_
            dirty |= _PAIR_BITS[slot]
    for link, hash_, _ in below:
        if hash_ is None:
            return None
        slot = row[at_links + link]
        new[_SLOTS[slot]] = hash_
        where = at_links + 2 * links + _HEIGHT_BYTES * link
        new[where : where + _HEIGHT_BYTES] = height
        dirty |= _PAIR_BITS[slot]
    if not dirty:
        return UNCHANGED
    while dirty > 1:  # the last first: a pair comes after the one above it
        pair = dirty.bit_length() - 1
        slot = row[at_ups + pair]
        state = _inner()
        state.update(new[_PAIRS[pair]])
        new[_SLOTS[slot]] = state.digest()
        dirty = (dirty ^ (1 << pair)) | _PAIR_BITS[slot]
    state = _inner()
    state.update(new[_PAIRS[0]])
    return bytes(new), state.digest()


def edit(
    row: bytes,
    here: Sequence[int],
    keys: Sequence[bytes],
    hashes: Sequence[bytes | None],
    below: Below,
    height: bytes,
    depth: int,
) -> Done | None:
    """Do what `patch` does where leaves come and go; None where leaves must move between rows.

    `depth` is that of the row, in bits; 0 is the root's row, which may hold any number of leaves.
    """
    flat = Row.of(row)
    for link, hash_, _ in below:
        if hash_ is None:
            return None
        flat.relink(link, hash_, height)
    for change in here:
        hash_ = hashes[change]
        if not (flat.drop(keys[change]) if hash_ is None else flat.put(keys[change], hash_, depth)):
            return None
    if not flat.dirty:
        return UNCHANGED
    if depth and not flat.digits and len(flat.keys) <= INLINE_LEAVES:
        return None
    root = flat.rehash()
    return flat.encode(), root


class Row:
    """A row taken apart into flat lists, to be changed in place or written anew."""

    __slots__ = ("digits", "dirty", "hashes", "heights", "keys", "leaf_slots", "link_slots", "ups")

    def __init__(self) -> None:
        self.hashes: list[bytes] = []
        self.ups = bytearray()
        self.leaf_slots = bytearray()
        self.link_slots = bytearray()
        self.digits = bytearray()
        self.heights: list[bytes] = []
        self.keys: list[bytes] = []
        self.dirty = 0  # a bit for each pair

    @classmethod
    def of(cls, data: bytes) -> "Row":
        """Decode a row."""
        row = cls()
        pairs, leaves, links = data[0], data[1], data[2]
        slots = 2 * pairs or leaves
        at_ups = _HEADER_BYTES + HASH_BYTES * slots
        at_slots = at_ups + pairs
        at_links = at_slots + leaves
        at_digits = at_links + links
        at_heights = at_digits + links
        at_keys = at_heights + _HEIGHT_BYTES * links
        row.hashes = list(_HASHES[slots](data, _HEADER_BYTES))
        row.ups = bytearray(data[at_ups:at_slots])
        row.leaf_slots = bytearray(data[at_slots:at_links])
        row.link_slots = bytearray(data[at_links:at_digits])
        row.digits = bytearray(data[at_digits:at_heights])
        row.heights = [data[at : at + _HEIGHT_BYTES] for at in range(at_heights, at_keys, _HEIGHT_BYTES)]
        row.keys = list(_HASHES[leaves](data, at_keys))
        return row

    def encode(self) -> bytes:
        """Return the row's bytes."""
        counts = bytes((len(self.ups), len(self.keys), len(self.digits), 0))
        return b"".join(
            (counts, *self.hashes, self.ups, self.leaf_slots, self.link_slots, self.digits, *self.heights, *self.keys)
        )

    def add_pair(self, slot: int) -> int:
        """Add two empty children of the inner node at `slot`; return the pair's number."""
        self.ups.append(slot)
        self.hashes += (EMPTY_ROOT, EMPTY_ROOT)
        return len(self.ups) - 1

    def add_leaf(self, slot: int, key: bytes) -> None:
        """Let the slot, whose hash is set apart from this, hold a leaf."""
        self.leaf_slots.append(slot)
        self.keys.append(key)

    def add_link(self, slot: int, digit: int, height: bytes) -> None:
        """Let the slot, whose hash is set apart from this, stand for the row at `digit` (ASCII) below."""
        self.link_slots.append(slot)
        self.digits.append(digit)
        self.heights.append(height)

    def relink(self, link: int, hash_: bytes, height: bytes) -> None:
        """Let a link stand for the same row at a new height."""
        slot = self.link_slots[link]
        self.hashes[slot] = hash_
        self.heights[link] = height
        self.dirty |= _PAIR_BITS[slot]

    def put(self, key: bytes, hash_: bytes, depth: int) -> bool:
        """Set or insert a leaf; False (and the row unusable) where the change needs another row."""
        if not self.ups:
            return False
        above, slot, level = self._find(key, depth)
        held = self.leaf_slots.find(slot)
        if held >= 0 and self.keys[held] == key:
            if self.hashes[slot] != hash_:
                self.hashes[slot] = hash_
                self.dirty |= 1 << above
            return True
        if level > depth + DIGIT_BITS and self._leaves_beside(key, depth) >= INLINE_LEAVES:
            return False
        if held >= 0:
            slot, level = self._fork(held, key, level)
            if level > depth + 2 * DIGIT_BITS or len(self.ups) > _MOST_PAIRS:
                return False
        self.hashes[slot] = hash_
        self.add_leaf(slot, key)
        self.dirty |= _PAIR_BITS[slot]
        return True

    def _find(self, key: bytes, depth: int) -> tuple[int, int, int]:
        """Return the lowest pair on the way to `key`, the slot it takes there, and that slot's depth in bits."""
        pair, level, find = 0, depth, self.ups.find
        while True:
            slot = 2 * pair + bit_at(key, level)
            level += 1
            below = find(slot)
            if below < 0:
                return pair, slot, level
            pair = below

    def _leaves_beside(self, key: bytes, depth: int) -> int:
        """Return how many leaves of the row share the digit at `depth` with `key`."""
        byte, mask = depth >> 3, 0x0F if depth & DIGIT_BITS else 0xF0
        digit = key[byte] & mask
        return sum([other[byte] & mask == digit for other in self.keys])

    def _fork(self, held: int, key: bytes, level: int) -> tuple[int, int]:
        """Move a leaf down from its slot at depth `level` until `key` parts from it; return the slot for `key`."""
        other, slot = self.keys[held], self.leaf_slots[held]
        other_hash = self.hashes[slot]
        is_right = bit_at(other, level)
        pair = self.add_pair(slot)
        while is_right == bit_at(key, level) and pair < _MOST_PAIRS:
            level += 1
            pair = self.add_pair(2 * pair + is_right)
            is_right = bit_at(other, level)
        slot = 2 * pair + is_right
        if pair < _MOST_PAIRS:
            self.leaf_slots[held] = slot
            self.hashes[slot] = other_hash
        return slot ^ 1, level + 1

    def drop(self, key: bytes) -> bool:
        """Remove a leaf if it is there; False (and the row unusable) where one leaf or none would be left."""
        if key not in self.keys:
            return True
        place = self.keys.index(key)
        slot = self.leaf_slots[place]
        del self.keys[place], self.leaf_slots[place]
        self.hashes[slot] = EMPTY_ROOT
        beside = self.leaf_slots.find(slot ^ 1)
        if beside >= 0:  # the last leaf of its pair rises until something else is beside it
            hash_ = self.hashes[slot ^ 1]
            while True:
                pair = slot >> 1
                if not pair:
                    return False
                slot = self.ups[pair]
                self._remove_pair(pair)
                if self.hashes[slot ^ 1] != EMPTY_ROOT:
                    break
            self.leaf_slots[beside] = slot
            self.hashes[slot] = hash_
        self.dirty |= _PAIR_BITS[slot]
        return bool(self.ups)

    def _remove_pair(self, pair: int) -> None:
        """Take a pair out; those after it move up."""
        del self.ups[pair], self.hashes[2 * pair : 2 * pair + 2]
        moved = bytes(slot - 2 if 2 * pair + 1 < slot < _NO_SLOT else slot for slot in range(256))
        self.ups = self.ups.translate(moved)
        self.leaf_slots = self.leaf_slots.translate(moved)
        self.link_slots = self.link_slots.translate(moved)
        self.dirty = (self.dirty & ((1 << pair) - 1)) | (self.dirty >> (pair + 1) << pair)

    def rehash(self) -> bytes:
        """Compute the hashes of the dirty pairs and those above; return the hash of the topmost."""
        hashes, dirty = self.hashes, self.dirty
        while dirty > 1:
            pair = dirty.bit_length() - 1
            slot = self.ups[pair]
            hashes[slot] = inner_hash(hashes[2 * pair], hashes[2 * pair + 1])
            dirty = (dirty ^ (1 << pair)) | _PAIR_BITS[slot]
        return inner_hash(hashes[0], hashes[1])


def decode(row: bytes, replaced: dict[int, Subtree]) -> Subtree:
    """Return a row's subtree, given links replaced, with the hashes above these and the topmost left out."""
    flat = Row.of(row)
    hashes, keys = flat.hashes, flat.keys
    if not flat.ups:
        return (keys[0], hashes[0]) if keys else None
    slots: list[Subtree] = [None] * len(hashes)
    for slot, key in zip(flat.leaf_slots, keys, strict=True):
        slots[slot] = (key, hashes[slot])
    stale: set[int] = set()
    for link, slot in enumerate(flat.link_slots):
        if link in replaced:
            slots[slot] = replaced[link]
            stale.add(slot >> 1)
        else:
            slots[slot] = Link(hashes[slot], flat.heights[link])
    for pair in range(len(flat.ups) - 1, 0, -1):
        slot = flat.ups[pair]
        hash_: bytes | None = hashes[slot]
        if pair in stale:
            stale.add(slot >> 1)
            hash_ = None
        slots[slot] = [hash_, slots[2 * pair], slots[2 * pair + 1]]
    return [None, slots[0], slots[1]]


def is_small(subtree: Subtree) -> bool:
    """Whether a subtree four levels below its row lies in that row."""
    return _leaves_within(subtree, DIGIT_BITS) <= INLINE_LEAVES


def _leaves_within(subtree: Subtree, levels: int) -> int:
    """Count leaves; more than INLINE_LEAVES stands for too many, a leaf below `levels`, or a link."""
    if subtree is None:
        return 0
    if type(subtree) is tuple:
        return 1
    if type(subtree) is not list or not levels:
        return INLINE_LEAVES + 1
    left = _leaves_within(subtree[1], levels - 1)
    return left if left > INLINE_LEAVES else left + _leaves_within(subtree[2], levels - 1)
