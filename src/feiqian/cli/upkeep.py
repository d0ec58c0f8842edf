"""`feiqian audit`, `snapshot`, `archive`, `import`: check a ledger, copy its state, keep its blocks in files."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from feiqian.cli.arguments import GivenFile, GivenFolder, LedgerDirectory, NewFile, OutFolder
from feiqian.cli.output import EXIT_FAULT, EXIT_USAGE, Output, fail
from feiqian.cli.proving import known_block
from feiqian.consensus import hand_over, light
from feiqian.consensus.audit import Base, genesis_base, hand_over_base, snapshot_base
from feiqian.consensus.audit import audit as run_audit
from feiqian.consensus.genesis_file import Genesis, load_genesis
from feiqian.consensus.restoring import check_snapshot, evidence_for
from feiqian.execution.registry import Registry, discover
from feiqian.ledger.validators import validator_set
from feiqian.node.configuration import Layout
from feiqian.node.importing import import_earlier
from feiqian.state.history import History
from feiqian.state.segment_folder import FolderWriter, verify_folder
from feiqian.state.segments import append_from
from feiqian.state.snapshots import export as export_snapshot
from feiqian.state.store import Store
from feiqian.state.tables import BlockState


def audit(
    directory: LedgerDirectory,
    *,
    snapshot: GivenFile = None,
    trusted: str | None = None,
    signatures: Annotated[bool, Parameter(negative="--no-signatures")] = True,
    json: bool = False,
) -> None:
    """Run the ledger in DIRECTORY again from its base and compare every root, signature, posting and invariant.

    The base is the genesis, with the state that was handed over where the network began with one, or where blocks were
    given up or the ledger was made from a snapshot, that snapshot. Works beside a running ledger, whose store and
    segment files it only reads. What lay before a hand-over is a ledger of its own: audit DIRECTORY/origin.

    Args:
        directory: the ledger's directory.
        snapshot: begin with this snapshot instead.
        trusted: HEIGHT:HASH of a block that you trust: the snapshot's own or the one after it.
        signatures: check the transactions' signatures too; --no-signatures leaves them out.
        json: print one JSON value.
    """
    if trusted is not None and snapshot is None:
        fail("--trusted says by what a snapshot is trusted; name one with --snapshot FILE", EXIT_USAGE)
    layout, out = Layout(directory), Output(is_json=json)
    genesis, store = load_genesis(layout.genesis), _open(layout)
    try:
        registry, history = discover(), History(store, layout.segments)
        if snapshot is None:
            base = _earliest_base(layout, history, registry, genesis)
        else:
            base = _base_of(snapshot, genesis, trusted)
        with out.progress("audit") as progress:
            report = run_audit(history, registry, genesis, progress, base=base, check_signatures=signatures)
    finally:
        store.close()
    value = {name: getattr(report, name) for name in report._fields if name not in ("problems", "app_hash", "goes_on")}
    problems = [f"height {problem.height}: {problem.what}" for problem in report.problems]
    goes_on = {"goes_on": report.goes_on} if report.goes_on else {}
    found = {"is_clean": report.is_clean} | value | {"app_hash": report.app_hash.hex()} | goes_on
    out.value(found | {"problems": problems})
    if not report.is_clean:
        sys.exit(EXIT_FAULT)


def snapshot(directory: LedgerDirectory, *, out: NewFile, height: int | None = None, json: bool = False) -> None:
    """Write the state after a block into one file, from which `feiqian init` makes a directory that goes on.

    The block after it goes into the file too, since its header carries the state's hash. Keep what is printed as
    `trusted` apart from the file.

    Args:
        directory: the ledger's directory.
        out: the snapshot file; an existing one is never overwritten.
        height: after which block; the last but one otherwise.
        json: print one JSON value.
    """
    layout = Layout(directory)
    store = _open(layout)
    try:
        at = _provable_height(store) if height is None else height
        evidence = evidence_for(store, at, load_genesis(layout.genesis))
        manifest = export_snapshot(store, at, out, evidence)
    finally:
        store.close()
    assert evidence.following.archive is not None
    header = light.light_block(evidence.following.archive).header
    value = {"file": str(out), "chain_id": manifest.chain_id, "height": manifest.height}
    trusted = f"{header.height}:{header.hash().hex()}"
    Output(is_json=json).value(value | {"app_hash": manifest.app_hash.hex(), "trusted": trusted})


def archive(directory: LedgerDirectory, *, out: OutFolder, json: bool = False) -> None:
    """Append the ledger's blocks to hash-chained segment files in a folder, and verify the whole chain of them.

    Args:
        directory: the ledger's directory.
        out: the folder of segment files; what is there already is continued.
        json: print one JSON value.
    """
    layout = Layout(directory)
    store = _open(layout)
    try:
        history = History(store, layout.segments)
        writer = FolderWriter(out, store.chain_id, history.first_height)
        try:
            appended = append_from(history, writer, _last_final(store))
        finally:
            writer.close()
        files = verify_folder(out, store.chain_id)
    finally:
        store.close()
    value = {"folder": str(out), "appended": appended, "files": len(files)}
    value |= {"first_height": files[0].header.first_height, "next_height": files[-1].next_height}
    Output(is_json=json).value(value | {"chain_hash": files[-1].chain_hash.hex()})


def _provable_height(store: Store) -> int:
    """Return the last height whose successor is archived."""
    archived = store.archived_heights()
    return store.height - 1 if archived is None else archived[1] - 1


def import_blocks(directory: LedgerDirectory, folder: GivenFolder, *, json: bool = False) -> None:
    """Put the blocks from before a ledger's own first one beside it, from the segment files of any member.

    A ledger that began with a snapshot lacks them, and its index with them. Nobody need be trusted: header by header
    they must lead to the first block that the ledger has itself. Stop the ledger first; when it starts again its index
    is built anew, with all of them.

    Args:
        directory: the ledger's directory.
        folder: the folder of segment files that another member wrote with `feiqian archive`.
        json: print one JSON value.
    """
    out = Output(is_json=json)
    with out.progress("import") as progress:
        imported = import_earlier(Layout(directory), folder, progress)
    out.value({"first_height": imported.first_height, "last_height": imported.last_height})


def _last_final(store: Store) -> int:
    """Return the last block whose signatures stay as they are archived.

    A solo ledger signs its blocks itself, once. A network's block is signed for good when the next one names by whom.
    """
    if not validator_set(BlockState(store)):
        return store.height
    archived = store.archived_heights()
    return 0 if archived is None else archived[1] - 1


def _earliest_base(layout: Layout, history: History, registry: Registry, genesis: Genesis) -> Base:
    """Return the earliest state from which every block is held."""
    first = history.first_height
    if first <= genesis.initial_height:
        if hand_over.of_genesis(genesis) is not None:
            return hand_over_base(hand_over.read_state(layout.first_state, genesis), genesis)
        return genesis_base(registry, genesis)
    base = _base_of(layout.base_snapshot, genesis, None) if layout.base_snapshot.exists() else None
    if base is None or first > base.height + 1:
        fail(
            f"blocks before {first} are held neither in the store nor in data/{layout.segments.name}: put the segment "
            "files back there, or begin with a snapshot: --snapshot FILE",
            EXIT_USAGE,
        )
    return base


def _base_of(file: Path, genesis: Genesis, trusted: str | None) -> Base:
    known = None if trusted is None else known_block(trusted)
    checked = check_snapshot(file, genesis, known)
    height = checked.snapshot.manifest.height
    if known is not None and known.height not in (height, height + 1):
        fail(f"--trusted: name block {height} or {height + 1}; the snapshot is of height {height}", EXIT_USAGE)
    return snapshot_base(checked.snapshot, checked.trust)


def _open(layout: Layout) -> Store:
    if not layout.ledger.exists():
        fail(f"the ledger in {layout.directory} was never started; start it: `feiqian start`", EXIT_USAGE)
    return Store.open(layout.ledger, read_only=True, is_read_in_order=True)
