"""The digest by which a block's used-up transaction ids stand in the tree, so that a snapshot's can be checked."""

from collections.abc import Iterable

from feiqian.core.encoding import Hash32, Record
from feiqian.core.hashing import Domain
from feiqian.state.tables import Table

MAX_REPLAY_WINDOW_MS = 600_000
"""No transaction expires later than this after the block that uses it up (architecture, "Transaction")."""

_REPLAY_DIGEST = Domain("feiqian/replay-digest/v1")


class ReplayDigest(Record):
    """What table `execution.replay` holds for a block; the same encoding as the record that execution writes."""

    digest: Hash32


REPLAY_DIGESTS = Table("execution.replay", ReplayDigest)
"""Read side of execution's table; key: height, 8 bytes big endian."""


def replay_digest(ids: Iterable[bytes]) -> bytes:
    """Return the 32-byte digest of the transaction ids (32 bytes each) that one block used up, in whatever order."""
    return _REPLAY_DIGEST.hash(b"".join(sorted(ids)))
