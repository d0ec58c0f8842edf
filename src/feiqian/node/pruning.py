"""Gives up what lies further back than the operator wants kept, a little after each height.

State goes for good. Blocks go only after they lie in segment files, on disk and hash-chained: a crash between the two
leaves a block in both places, never in none.
"""

from pathlib import Path

from feiqian.core.errors import Fault
from feiqian.state.replay import MAX_REPLAY_WINDOW_MS
from feiqian.state.rows import NO_AGE, Age
from feiqian.state.segment_folder import FolderWriter
from feiqian.state.segments import append_from
from feiqian.state.store import Store

PRUNE_HEIGHTS = 64
"""Pruning begins when so many heights lie too far back, since many at once cost less; then it goes on to the last."""

PRUNE_ROWS = 20_000
PRUNE_BLOCKS = 16
ARCHIVE_BYTES = 8 << 20
"""A step ends after so many rows of state; after so many blocks, or bytes of them written to a segment file."""


class Pruner:
    """Keeps the store's size bounded; each `step` is a write of its own. For the one process that writes the store."""

    def __init__(
        self, store: Store, past_heights: int, keep_blocks: int, segments: Path, times_of: Age = NO_AGE
    ) -> None:
        """`keep_blocks` 0 keeps every block; otherwise those before the last so many go to the folder `segments`.

        `times_of`: of how old heights the store is asked for the time though their blocks are gone.

        Raises:
            Fault: the folder does not fit the store.
            SegmentRefused: its last file is damaged, or of another chain.
        """
        self._store = store
        self._past_heights = past_heights
        self._keep_blocks = keep_blocks
        self._times_of = times_of
        self._segments = open_segments(store, segments) if keep_blocks else None
        self._is_pruning_state = False
        self._is_pruning_blocks = False

    def step(self) -> None:
        """Give up a little of what lies too far back, if enough does. Raises: Fault."""
        self._prune_state()
        if self._segments is not None:
            self._prune_blocks(self._segments)

    def close(self) -> None:
        """Let go of the segment files."""
        if self._segments is not None:
            self._segments.close()

    def _prune_state(self) -> None:
        keep_from = self._store.height - self._past_heights
        behind = keep_from - self._store.head.first_provable
        if self._is_pruning_state or behind >= PRUNE_HEIGHTS:
            self._is_pruning_state = self._store.prune(max(keep_from, 0), PRUNE_ROWS) >= PRUNE_ROWS

    def _prune_blocks(self, segments: FolderWriter) -> None:
        # The signatures on the last archived block may yet give way to those that the next one names.
        archived = self._store.archived_heights()
        keep_from = min(self._store.height + 1 - self._keep_blocks, 0 if archived is None else archived[1])
        if not self._is_pruning_blocks and not self._is_worth_it(keep_from):
            return
        append_from(self._store, segments, min(keep_from, segments.next_height + PRUNE_BLOCKS) - 1, ARCHIVE_BYTES)
        pruned = self._store.prune_blocks(min(keep_from, segments.next_height), PRUNE_BLOCKS, self._times_of)
        first = self._store.head.first_block
        is_cut_short = pruned == PRUNE_BLOCKS or first == segments.next_height
        self._is_pruning_blocks = is_cut_short and first < keep_from

    def _is_worth_it(self, keep_from: int) -> bool:
        """Say whether enough blocks lie before `keep_from` that are also too old to hold replay ids that count."""
        with self._store.view() as view:
            last = view.head.first_block + PRUNE_HEIGHTS - 1
            time_ms = view.block_time_ms(last) if last < keep_from else None
            return time_ms is not None and time_ms + MAX_REPLAY_WINDOW_MS < view.head.time_ms


def open_segments(store: Store, folder: Path) -> FolderWriter:
    """Open the folder that takes a store's blocks; an empty one begins with the first block that the store holds.

    Raises:
        Fault: its files end before the store begins, or hold other blocks than the store's.
        SegmentRefused: its last file is damaged, or of another chain.
    """
    first, last = store.head.first_block, store.height
    writer = FolderWriter(folder, store.chain_id, first)
    ends_with, row = writer.next_height - 1, writer.last_row
    if ends_with < first - 1:
        raise Fault(f"the segment files end with block {ends_with} and the store begins at {first}: put the last back")
    held = None if row is None else store.block(row.height)
    if ends_with > last or (row is not None and held is not None and held.block != row.block):
        raise Fault(
            f"the segment files hold another block {min(ends_with, last + 1)} than this ledger, which ends at {last}: "
            "it is an older copy, or the files are another ledger's"
        )
    return writer
