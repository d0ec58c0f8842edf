"""The audit's own copy of the ledger's state: records and tree in memory, built up block by block.

It takes about half a gigabyte a million accounts and touches no disk, so that it keeps ahead of the node it audits.
"""

import hashlib
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from feiqian.consensus.light import Trust
from feiqian.state import tree
from feiqian.state.staging import is_plain_key, tree_leaf
from feiqian.state.tables import Changes

_BUCKET_MS = 10_000


class Base(NamedTuple):
    """Where an audit starts: the state after a height, and the transaction ids that still count as used there.

    `trust` is that in the height's signed block, where that was verified already.
    """

    name: str
    height: int
    time_ms: int
    records: Changes
    used_ids: frozenset[bytes] = frozenset()
    trust: Trust | None = None


class AuditState:
    """Records, tree and used-up ids after one height. Reads like a store; `apply` moves it to the next height."""

    def __init__(self, base: Base, plain_tables: frozenset[str]) -> None:
        self.height = base.height - 1
        self.root = tree.EMPTY_ROOT
        self.records: dict[bytes, bytes] = {}
        self._plain_tables = frozenset(name.encode() for name in plain_tables)
        self._ordered: dict[bytes, list[bytes]] = {}
        self._nodes: dict[bytes, bytes] = {}
        self._root_key: bytes | None = None
        self._base_ids = base.used_ids
        self._used_ids: defaultdict[int, set[bytes]] = defaultdict(set)
        self.apply(base.height, base.time_ms, base.records, ())

    def get(self, key: bytes, /) -> bytes | None:
        """Return the record's bytes under a full key, or None."""
        return self.records.get(key)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield (full key, record bytes) in key order for keys with `prefix`, those > `after` only."""
        keys = self._keys_under(prefix)
        start = max(bisect_left(keys, prefix), bisect_right(keys, after))
        for place in range(start, len(keys)):
            key = keys[place]
            if not key.startswith(prefix):
                return
            yield key, self.records[key]

    def has_replay_id(self, expires_at_ms: int, tx_id: bytes) -> bool:
        """Say whether a transaction with this expiry and id was used up."""
        return tx_id in self._used_ids.get(expires_at_ms // _BUCKET_MS, ()) or tx_id in self._base_ids

    def node(self, node_key: bytes, /) -> bytes | None:
        """Return a tree row."""
        return self._nodes.get(node_key)

    def apply(self, height: int, time_ms: int, changes: Changes, replay_ids: tuple[tuple[int, bytes], ...]) -> None:
        """Move to the next height and its root."""
        changed = {key: record for key, record in changes.items() if self.records.get(key) != record}
        self.height = height
        if changed or self._root_key is None:
            self._update_tree(changed)
        for key, record in changed.items():
            if record is None or key not in self.records:
                self._keep_order(key, is_new=record is not None)
            if record is None:
                del self.records[key]
            else:
                self.records[key] = record
        for expires_at_ms, tx_id in replay_ids:
            self._used_ids[expires_at_ms // _BUCKET_MS].add(tx_id)
        for bucket in [bucket for bucket in self._used_ids if (bucket + 1) * _BUCKET_MS <= time_ms]:
            del self._used_ids[bucket]

    def _update_tree(self, changed: Changes) -> None:
        leaves: list[tuple[bytes, bytes | None]] = []
        for key, record in changed.items():
            is_plain = is_plain_key(key, self._plain_tables)
            leaf_key, leaf_value = tree_leaf(key, record or b"", is_plain=is_plain)
            value_hash = None if record is None else hashlib.sha256(leaf_value).digest()
            leaves.append((hashlib.sha256(leaf_key).digest(), value_hash))
        update = tree.update(self, self._root_key, self.height, leaves)
        for node_key in update.stale:
            self._nodes.pop(node_key, None)
        self._nodes.update(update.nodes)
        self.root, self._root_key = update.root, update.root_key

    def _keep_order(self, key: bytes, *, is_new: bool) -> None:
        """Let a key come or go where its table's order is remembered."""
        ordered = self._ordered.get(_table_prefix(key))
        if ordered is None:
            return
        if is_new:
            insort(ordered, key)
        else:
            del ordered[bisect_left(ordered, key)]

    def _keys_under(self, prefix: bytes) -> list[bytes]:
        """Return the keys of the prefix's table in order; remembered from the first time, since few are scanned."""
        table = _table_prefix(prefix)
        if not table:
            return sorted(self.records)
        if table not in self._ordered:
            self._ordered[table] = sorted(key for key in self.records if key.startswith(table))
        return self._ordered[table]


def _table_prefix(key: bytes) -> bytes:
    name, slash, _ = key.partition(b"/")
    return name + slash if slash else b""
