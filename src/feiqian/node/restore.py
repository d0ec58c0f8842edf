"""Makes the directory of a ledger that there was before: from a snapshot, segment files, or both."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from feiqian.consensus import light
from feiqian.consensus.genesis_file import Genesis, InvalidGenesis, load_genesis, save_genesis
from feiqian.consensus.headers import Validator, ValidatorSet
from feiqian.consensus.light import KnownBlock, LightBlock, Trust
from feiqian.consensus.restoring import Checked, begin, check_snapshot, replay
from feiqian.consensus.solo import SoloSigner
from feiqian.core.errors import Fault
from feiqian.execution.registry import Registry
from feiqian.node.configuration import Layout
from feiqian.node.initialise import SETTINGS_TEXT, refuse_existing, store_of_genesis
from feiqian.state.errors import SegmentRefused, SnapshotRefused
from feiqian.state.files import sync_directory
from feiqian.state.segment_folder import rows_from
from feiqian.state.segments import SegmentRow
from feiqian.state.store import Store

Progress = Callable[[int], None]
"""Told each height that was run again."""


class WrongValidatorKey(Exception):
    """The key given is not the one that signs the ledger's blocks, so a node could not go on with it."""


class Restored(NamedTuple):
    """Where a restored ledger stands, and by what what it holds is trusted."""

    genesis: Genesis
    first_block: int
    height: int
    app_hash: bytes
    trusted: str


class Source(NamedTuple):
    """What a ledger is restored from: at least one of a snapshot file and a folder of segment files."""

    snapshot: Path | None
    segments: Path | None
    known: KnownBlock | None


def restore(
    directory: Path,
    source: Source,
    genesis_file: Path,
    validator_key: Path,
    registry: Registry,
    progress: Progress = lambda height: None,
) -> Restored:
    """Make a ledger in `directory` that goes on where the source ends.

    Raises:
        LedgerExists: there is one already.
        InvalidGenesis, WrongValidatorKey: they do not belong to what is restored.
        SnapshotRefused, SegmentRefused: damaged, not signed, or not leading to the block that is known.
        Fault: the key file is damaged, this release cannot run a height, or the disk refuses.
        OSError: a file cannot be read, or the directory cannot be written.
    """
    layout = Layout(directory)
    refuse_existing(layout)
    genesis = load_genesis(genesis_file)
    if not genesis.is_started:
        raise InvalidGenesis("genesis_time is not written yet: take the file of the ledger that is to be restored")
    _check_key(genesis, validator_key)
    checked = None if source.snapshot is None else check_snapshot(source.snapshot, genesis, source.known)
    is_new = not directory.exists()
    try:
        layout.data.mkdir(parents=True, mode=0o750)
        restored = _fill(layout, source, genesis, checked, registry, progress)
        _copy(validator_key, layout.validator_key, 0o600)
        layout.settings.write_text(SETTINGS_TEXT, "utf-8")
        # The genesis comes last: with it the ledger is whole.
        save_genesis(layout.genesis, genesis)
    except BaseException:
        shutil.rmtree(directory if is_new else layout.data, ignore_errors=True)
        for path in (layout.validator_key, layout.settings):
            path.unlink(missing_ok=True)
        raise
    for written in (layout.data, directory):
        sync_directory(written)
    return restored


def _check_key(genesis: Genesis, path: Path) -> None:
    signer = SoloSigner.load(path)
    if ValidatorSet((Validator(signer.public_key, genesis.validators[0].power),)) != genesis.validator_set():
        raise WrongValidatorKey(
            f"{path.name} is not the key that signs the blocks of {genesis.chain_id}; a ledger goes on with the key "
            "that its genesis names, and with no other"
        )


def _fill(
    layout: Layout, source: Source, genesis: Genesis, checked: Checked | None, registry: Registry, progress: Progress
) -> Restored:
    """Make the store, run what follows the snapshot or the genesis, and keep the snapshot for audits to begin with."""
    if checked is None:
        store = store_of_genesis(layout.ledger, registry, genesis)
        trust = light.trust_in_genesis(genesis)
        trusted = f"the genesis of {genesis.chain_id} (SHA-256 {genesis.digest().hex()})"
    else:
        store = begin(checked, layout.ledger)
        trust, trusted = checked.trust, checked.trusted
    try:
        trusted = _run(store, source, genesis, checked, trust, registry, progress) or trusted
        restored = Restored(genesis, store.head.first_block, store.height, store.app_hash, trusted)
    finally:
        store.close()
    if source.snapshot is not None:
        _copy(source.snapshot, layout.base_snapshot, 0o640)
    return restored


def _run(
    store: Store,
    source: Source,
    genesis: Genesis,
    checked: Checked | None,
    trust: Trust,
    registry: Registry,
    progress: Progress,
) -> str:
    """Run the blocks that the source holds; return in words the block that is known, if it is among them."""
    base, known = store.height, source.known
    said = _meet(known, None if checked is None else checked.own, genesis.chain_id)
    for block in replay(store, registry, genesis, trust, _rows(store, source, checked)):
        said = said or _meet(known, block, genesis.chain_id)
        progress(block.header.height)
    if store.height == base:
        raise SegmentRefused(f"segment: the folder holds no block {base + 1}, with which the ledger would go on")
    if known is not None and not said:
        raise SnapshotRefused(
            f"snapshot: block {known.height} is to be trusted, and what is given holds {base + 1} to {store.height}; "
            "give what leads to it"
        )
    return said


def _rows(store: Store, source: Source, checked: Checked | None) -> Iterator[SegmentRow]:
    if checked is not None:
        yield checked.following
    if source.segments is not None:
        yield from rows_from(source.segments, store.chain_id, store.height + 1)


def _meet(known: KnownBlock | None, block: LightBlock | None, chain_id: str) -> str:
    if known is None or block is None or known.height != block.header.height:
        return ""
    if block.header.hash() != known.hash:
        raise SegmentRefused(f"segment: the header hash of block {known.height} is not the trusted {known.hash.hex()}")
    return f"block {known.height} of {chain_id} (header hash {known.hash.hex()})"


def _copy(source: Path, target: Path, mode: int) -> None:
    with source.open("rb") as given:
        try:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with os.fdopen(descriptor, "wb") as copy:
                shutil.copyfileobj(given, copy, 1 << 20)
                copy.flush()
                os.fsync(copy.fileno())
        except OSError as error:
            raise Fault(f"restoring: {target.name} cannot be written: {error.strerror}") from error
