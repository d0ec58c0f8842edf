"""Puts the blocks from before a ledger's own first one beside it, as segment files: its past is then whole."""

import fcntl
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from feiqian.consensus.genesis_file import load_genesis
from feiqian.consensus.importing import check_earlier
from feiqian.core.errors import Fault
from feiqian.core.settings import SettingsError
from feiqian.node.configuration import Layout
from feiqian.state.files import sync_directory
from feiqian.state.history import History
from feiqian.state.segment_folder import FolderWriter, rows_from
from feiqian.state.segments import SegmentRow
from feiqian.state.snapshots import read_claims
from feiqian.state.store import Store

Progress = Callable[[int, int], None]
"""Told how many blocks are done, and of how many."""


class Imported(NamedTuple):
    """The blocks that were put beside a ledger."""

    first_height: int
    last_height: int


def import_earlier(layout: Layout, folder: Path, progress: Progress = lambda done, total: None) -> Imported:
    """Check another member's segment files against the ledger's own blocks and keep them in its data directory.

    The node must stand still. Segment files of the ledger's own go on in the same chain of files.

    Raises:
        SettingsError: a node runs there, or the ledger began with its genesis and lacks nothing.
        SegmentRefused: damaged, not signed, or not leading to the ledger's own first block.
        Fault: the ledger has no signed block yet, or the disk refuses.
    """
    genesis = load_genesis(layout.genesis)
    segments = _segments(layout)
    beside = segments.with_name(segments.name + ".importing")
    with layout.lock.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SettingsError(f"a node runs in {layout.directory}; stop it first") from None
        _finish(layout)
        store = Store.open(layout.ledger, read_only=True)
        try:
            history = History(store, layout.segments)
            first = history.first_height
            if first <= genesis.initial_height:
                raise SettingsError(f"the ledger in {layout.directory} holds every block already")
            known = history.archive_row(first)
            if known is None:
                raise Fault(f"block {first} is not archived yet, and it is what earlier ones are checked by; try later")
            _, state = read_claims(layout.base_snapshot)
            rows = check_earlier(rows_from(folder, genesis.chain_id, genesis.initial_height), genesis, known, state)
            total = first - genesis.initial_height
            shutil.rmtree(beside, ignore_errors=True)
            try:
                _write(beside, genesis.chain_id, genesis.initial_height, _told(rows, progress, total))
                _write(beside, genesis.chain_id, first, rows_from(layout.segments, genesis.chain_id, first))
            except BaseException:
                shutil.rmtree(beside, ignore_errors=True)
                raise
        finally:
            store.close()
        _put_in_place(layout, beside)
    return Imported(genesis.initial_height, first - 1)


def _told(rows: Iterator[SegmentRow], progress: Progress, total: int) -> Iterator[SegmentRow]:
    for done, row in enumerate(rows, 1):
        progress(done, total)
        yield row


def _write(folder: Path, chain_id: str, first_height: int, rows: Iterator[SegmentRow]) -> None:
    writer = FolderWriter(folder, chain_id, first_height)
    try:
        for row in rows:
            writer.append(row)
    finally:
        writer.close()


def _put_in_place(layout: Layout, beside: Path) -> None:
    """Let the new folder take the place of the old one: a crash leaves one or the other, or both for `_finish`."""
    segments, former = _segments(layout), _former(layout)
    if segments.exists():
        segments.rename(former)
    beside.rename(segments)
    sync_directory(segments.parent)
    shutil.rmtree(former, ignore_errors=True)


def _finish(layout: Layout) -> None:
    """Bring back the ledger's own files where a crash came between the two renames."""
    segments, former = _segments(layout), _former(layout)
    if former.exists() and not segments.exists():
        former.rename(segments)
    shutil.rmtree(former, ignore_errors=True)


def _former(layout: Layout) -> Path:
    segments = _segments(layout)
    return segments.with_name(segments.name + ".former")


def _segments(layout: Layout) -> Path:
    """Return where the segment files lie: `data/segments` may be a link to a folder on another disk."""
    return layout.segments.resolve()
