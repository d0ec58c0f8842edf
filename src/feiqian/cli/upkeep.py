"""`feiqian audit`, `snapshot`, `archive`: check a ledger, copy its state, put its blocks into segment files."""

import sys
from pathlib import Path

from feiqian.cli.output import EXIT_FAULT, Output
from feiqian.consensus.audit import audit as run_audit
from feiqian.consensus.genesis_file import load_genesis
from feiqian.core.errors import Fault
from feiqian.execution.registry import discover
from feiqian.node.configuration import Layout
from feiqian.state.segments import GENESIS_CHAIN_HASH, SegmentWriter, append_from, verify_segments
from feiqian.state.snapshots import export as export_snapshot
from feiqian.state.store import Store

SEGMENT_PATTERN = "segment-*.fqs"
SEGMENT_HEIGHTS = 100_000
"""How many heights go into one segment file."""


def audit(directory: Path, *, signatures: bool = True, json: bool = False) -> None:
    """Run the ledger in DIRECTORY again from its base and compare every root, signature, posting and invariant.

    Works beside a running ledger, whose store it only reads.

    Parameters
    ----------
    directory: the ledger's directory.
    signatures: check the transactions' signatures too; --no-signatures leaves them out.
    json: print one JSON value.
    """
    layout, out = Layout(directory), Output(is_json=json)
    genesis, store = load_genesis(layout.genesis), _open(layout)
    try:
        with out.progress("audit") as progress:
            report = run_audit(store, discover(), genesis, progress, check_signatures=signatures)
    finally:
        store.close()
    value = {name: getattr(report, name) for name in report._fields if name not in ("problems", "app_hash")}
    problems = [f"height {problem.height}: {problem.what}" for problem in report.problems]
    out.value({"is_clean": report.is_clean} | value | {"app_hash": report.app_hash.hex(), "problems": problems})
    if not report.is_clean:
        sys.exit(EXIT_FAULT)


def snapshot(directory: Path, *, out: Path, height: int | None = None, json: bool = False) -> None:
    """Write the state after a block into one file, from which another ledger's node can start.

    Parameters
    ----------
    directory: the ledger's directory.
    out: the snapshot file; an existing one is never overwritten.
    height: after which block; the last one otherwise.
    json: print one JSON value.
    """
    store = _open(Layout(directory))
    try:
        manifest = export_snapshot(store, store.height if height is None else height, out)
    finally:
        store.close()
    value = {"file": str(out), "chain_id": manifest.chain_id, "height": manifest.height}
    Output(is_json=json).value(value | {"app_hash": manifest.app_hash.hex()})


def archive(directory: Path, *, out: Path, json: bool = False) -> None:
    """Append the ledger's blocks to hash-chained segment files in a folder, and verify the whole chain of them.

    Parameters
    ----------
    directory: the ledger's directory.
    out: the folder of segment files; what is there already is continued.
    json: print one JSON value.
    """
    out.mkdir(parents=True, exist_ok=True)
    store = _open(Layout(directory))
    try:
        appended = _append(store, out)
        segments = verify_segments(sorted(out.glob(SEGMENT_PATTERN)), store.chain_id)
    finally:
        store.close()
    last = segments[-1]
    value = {"folder": str(out), "appended": appended, "files": len(segments), "next_height": last.next_height}
    Output(is_json=json).value(value | {"chain_hash": last.chain_hash.hex()})


def _append(store: Store, folder: Path) -> int:
    files = sorted(folder.glob(SEGMENT_PATTERN))
    done = verify_segments(files[:-1], store.chain_id)
    previous = done[-1].chain_hash if done else GENESIS_CHAIN_HASH
    first = done[-1].next_height if done else store.initial_height
    appended = 0
    while first <= store.height:
        last = min(first + SEGMENT_HEIGHTS - 1, store.height)
        writer = SegmentWriter(folder / f"segment-{first:012d}.fqs", store.chain_id, first, previous)
        appended += append_from(store, writer, last)
        first, previous = writer.next_height, writer.chain_hash
        writer.close()
    return appended


def _open(layout: Layout) -> Store:
    if not layout.ledger.exists():
        raise Fault(f"{layout.directory} holds no ledger that was started; see `feiqian init` and `feiqian start`")
    return Store.open(layout.ledger, read_only=True)
