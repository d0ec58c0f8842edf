"""Committed state with a staged block's writes on top, so that the next block executes while that one is committed."""

from collections.abc import Collection, Iterator
from copy import copy
from typing import Protocol

from feiqian.state.tables import Changes, Reader


class ReplayingReader(Reader, Protocol):
    """Committed state that also knows which transaction ids are used up."""

    def has_replay_id(self, expires_at_ms: int, tx_id: bytes) -> bool:
        """Say whether a transaction with this expiry and id was used up."""
        ...


class Layered:
    """A reader of `below` with `changes` and used-up ids of the block above it.

    It stays right when that block is committed into `below` meanwhile: what the layer holds hides what lies below.
    Layers stack: `Layered(Layered(store, …), …)`.
    """

    __slots__ = ("_keys_of_table", "below", "changes", "used_ids")

    def __init__(
        self, below: ReplayingReader, changes: Changes, replay_ids: Collection[tuple[int, bytes]] = ()
    ) -> None:
        """`changes` and `replay_ids` are those of one `HeightWrites`; they must not change afterwards."""
        self.below = below
        self.changes = changes
        self.used_ids = frozenset([tx_id for _, tx_id in replay_ids])
        # A block writes thousands of records into few tables, and scans those into which it wrote next to nothing.
        self._keys_of_table: dict[bytes, list[bytes]] = {}
        for key in changes:
            self._keys_of_table.setdefault(key.partition(b"/")[0], []).append(key)

    def on(self, below: ReplayingReader) -> "Layered":
        """Return the same layer on top of another reader, without arranging it anew."""
        layered = copy(self)
        layered.below = below
        return layered

    def get(self, key: bytes, /) -> bytes | None:
        """Return the record's bytes under a full key, or None."""
        if key in self.changes:
            return self.changes[key]
        return self.below.get(key)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield (full key, record bytes) in key order for keys with `prefix`, those > `after` only."""
        above = self._keys_under(prefix, after)
        place = 0
        for key, record in self.below.scan(prefix, after):
            while place < len(above) and above[place] < key:
                yield from self._written(above[place])
                place += 1
            if place < len(above) and above[place] == key:
                yield from self._written(key)
                place += 1
            else:
                yield key, record
        for key in above[place:]:
            yield from self._written(key)

    def has_replay_id(self, expires_at_ms: int, tx_id: bytes) -> bool:
        """Say whether a transaction with this expiry and id was used up, by the layer's block or before."""
        return tx_id in self.used_ids or self.below.has_replay_id(expires_at_ms, tx_id)

    def _keys_under(self, prefix: bytes, after: bytes) -> list[bytes]:
        table, slash, _ = prefix.partition(b"/")
        keys = self._keys_of_table.get(table, ()) if slash else self.changes
        return sorted([key for key in keys if key > after and key.startswith(prefix)])

    def _written(self, key: bytes) -> Iterator[tuple[bytes, bytes]]:
        record = self.changes[key]
        if record is not None:
            yield key, record
