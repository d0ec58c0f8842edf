"""The Merkle tree of RFC 6962 with SHA-256, by which CometBFT hashes headers, commits, validators and data."""

import hashlib
from collections.abc import Sequence

EMPTY_HASH = hashlib.sha256(b"").digest()


def root(items: Sequence[bytes | memoryview]) -> bytes:
    """Return the tree hash of the items in their order (RFC 6962, 2.1)."""
    if not items:
        return EMPTY_HASH
    level = [_leaf(item) for item in items]
    # Pairing level by level, an odd last node moving up, gives the tree of RFC 6962's recursive definition.
    while len(level) > 1:
        pairs = [hashlib.sha256(b"\x01" + level[at] + level[at + 1]).digest() for at in range(0, len(level) - 1, 2)]
        level = pairs if len(level) % 2 == 0 else [*pairs, level[-1]]
    return level[0]


def _leaf(item: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(b"\x00")
    digest.update(item)
    return digest.digest()
