"""The upper rows of the tree, which nearly every height touches, kept in memory between heights."""

from feiqian.state.rows import HEIGHT_BYTES
from feiqian.state.tree import TreeUpdate

UPPER_DIGITS = 3
"""Rows at paths of so many hexadecimal digits are kept: at most 4,369 of them, a few megabytes."""

_UPPER_KEY_BYTES = HEIGHT_BYTES + UPPER_DIGITS


class UpperRows:
    """Upper rows of the one tree to which the last height staged led."""

    __slots__ = ("_root", "_rows")

    def __init__(self) -> None:
        self._rows: dict[bytes, bytes] = {}
        self._root: tuple[bytes | None, bytes] = (None, b"")

    def of_tree(self, root_key: bytes | None, root: bytes) -> dict[bytes, bytes]:
        """Return what is known of this tree's rows, by key: nothing unless the last height staged led to it."""
        if self._root != (root_key, root):
            self._rows = {}
        return self._rows

    def follow(self, update: TreeUpdate) -> None:
        """Go on to the tree that an update of this one has led to."""
        rows = self._rows
        for node_key in update.stale:
            rows.pop(node_key, None)
        rows.update([node for node in update.nodes.items() if len(node[0]) <= _UPPER_KEY_BYTES])
        self._root = (update.root_key, update.root)
