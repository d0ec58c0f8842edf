"""Where an index comes from: what it begins with, whether one that was found is this ledger's, and blocks long past."""

from collections.abc import Iterator
from pathlib import Path

from feiqian.consensus import hand_over
from feiqian.consensus.genesis_file import Genesis
from feiqian.core.wire import Stored
from feiqian.execution.genesis import genesis_events
from feiqian.execution.registry import Registry
from feiqian.index.opening import opening_events
from feiqian.index.writer import Base, Marker
from feiqian.state.history import History
from feiqian.state.segment_folder import rows_from
from feiqian.state.snapshots import read_claims, read_manifest
from feiqian.state.store import Store


class IndexSource:
    """A ledger's directory as its index sees it: the node's store, its segment files, the snapshot it was made from.

    An index begins with the genesis wherever every block is to be had, otherwise with the snapshot. A genesis by which
    a ledger was handed over begins with the state that came with it.
    """

    def __init__(self, data: Path, store: Store, registry: Registry, genesis: Genesis) -> None:
        self._segments = data / "segments"
        self._snapshot = data / "base.snapshot"
        self._first_state = data.parent / "first-state.snapshot"
        self._store = store
        self._history = History(store, self._segments)
        self._registry = registry
        self._genesis = genesis

    def base(self) -> Base:
        """Return what a new index begins with. Raises: SnapshotRefused."""
        if self._begins_with_genesis():
            genesis, height = self._genesis, self._genesis.initial_height - 1
            if hand_over.of_genesis(genesis) is None:
                events = genesis_events(self._registry, genesis.app_state, genesis.time_ms, height)
            else:
                events = opening_events(hand_over.read_state(self._first_state, genesis).staged.writes.changes)
            return Base(genesis.chain_id, height, genesis.time_ms, genesis.app_hash, events)
        # It was checked when the directory was made of it.
        manifest, records = read_claims(self._snapshot)
        events = opening_events(records)
        return Base(manifest.chain_id, manifest.height, manifest.time_ms, manifest.app_hash, events)

    def is_of_this_ledger(self, marker: Marker) -> bool:
        """Say whether an index with this marker is this ledger's, and cannot begin any earlier now."""
        genesis = self._genesis
        if marker.chain_id != genesis.chain_id or marker.height > self._store.height:
            return False
        if marker.base_height != genesis.initial_height - 1 and (
            self._begins_with_genesis() or marker.base_height != self._snapshot_height()
        ):
            return False
        if marker.height == genesis.initial_height - 1:
            return marker.time_ms == genesis.time_ms
        block = self._history.block(marker.height)
        # Where that block is held nowhere any more, nothing says otherwise.
        return block is None or (block.time_ms, block.app_hash) == (marker.time_ms, marker.app_hash)

    def filed(self, height: int) -> Iterator[Stored]:
        """Yield the blocks from a height on that lie in segment files. Raises: SegmentRefused."""
        for row in rows_from(self._segments, self._genesis.chain_id, height):
            yield Stored(row.height, row.time_ms, row.app_hash, row.block, row.results)

    def _begins_with_genesis(self) -> bool:
        return self._history.first_height <= self._genesis.initial_height or not self._snapshot.exists()

    def _snapshot_height(self) -> int:
        return read_manifest(self._snapshot).height if self._snapshot.exists() else -1
