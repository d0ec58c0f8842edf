"""Per-block keys of the tree: what lets a proof reach a transaction's result and a snapshot's replay ids."""

from feiqian.core.encoding import Hash32, Record
from feiqian.state.replay import REPLAY_DIGESTS
from feiqian.state.tables import Table


class ResultsRoot(Record):
    """The root of one block's results tree."""

    digest: Hash32


RESULTS = Table("execution.results", ResultsRoot, is_plain=True)
"""Key: height, 8 bytes big endian."""

TABLES = (RESULTS, REPLAY_DIGESTS)


def height_key(height: int) -> bytes:
    """Return the key of a block's record in both tables."""
    return height.to_bytes(8, "big")
