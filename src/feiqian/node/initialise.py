"""Makes the directory of a new ledger, and at its first start gives the genesis its time."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from feiqian.consensus import hand_over
from feiqian.consensus.genesis_file import (
    ConsensusParams,
    Genesis,
    GenesisValidator,
    load_genesis,
    save_genesis,
)
from feiqian.consensus.headers import ZERO_TIME_NS
from feiqian.consensus.solo import SoloSigner
from feiqian.core.settings import SettingsError
from feiqian.execution.genesis import ConsortiumError, KeyResolver, compile_consortium, genesis_changes
from feiqian.execution.registry import Registry
from feiqian.execution.upgrades import check_release
from feiqian.ledger.records import Parameters
from feiqian.node.configuration import Layout
from feiqian.state import snapshots
from feiqian.state.files import sync_directory
from feiqian.state.store import Store
from feiqian.state.tables import BlockState

SOLO_POWER = 1

SETTINGS_TEXT = """\
# Settings of this ledger's two processes. Each key stands in the environment too: [node] block_interval_ms is
# FEIQIAN_NODE_BLOCK_INTERVAL_MS. What is left out has its default.

[node]
engine = "solo"

[gateway]
"""


class LedgerExists(Exception):
    """There is a ledger in the directory already; nothing was written."""


def initialise(
    directory: Path, consortium: Path, registry: Registry, resolve_key: KeyResolver | None = None
) -> Genesis:
    """Write genesis, a fresh validator key and settings for a solo ledger, and return its genesis.

    Raises:
        LedgerExists: one of these files, or data, is there already.
        ConsortiumError, InvalidGenesis: what the file describes is no ledger; nothing was written.
        OSError: the directory cannot be written.
    """
    layout = Layout(directory)
    refuse_existing(layout)
    app_state = compile_consortium(consortium, registry, resolve_key)
    for table in ("validators", "nodes"):
        if app_state.get(table):
            raise ConsortiumError(
                f"{consortium.name} lists {table}, and this ledger is run by one node alone: make a network with "
                "`feiqian testnet`, or leave the table out"
            )
    directory.mkdir(parents=True, exist_ok=True)
    try:
        signer = SoloSigner.create(layout.validator_key)
        layout.settings.write_text(SETTINGS_TEXT, "utf-8")
        genesis = _solo_genesis(app_state, signer)
        # The genesis comes last: with it the ledger is whole.
        save_genesis(layout.genesis, genesis)
    except BaseException:
        layout.validator_key.unlink(missing_ok=True)
        layout.settings.unlink(missing_ok=True)
        raise
    sync_directory(directory)
    return genesis


def refuse_existing(layout: Layout) -> None:
    """Refuse a directory that holds anything of a ledger. Raises: LedgerExists."""
    written = (layout.genesis, layout.validator_key, layout.settings, layout.data)
    existing = [path.name for path in written if path.exists()]
    if existing:
        raise LedgerExists(f"{layout.directory} holds {', '.join(existing)}; choose an empty directory")


def consensus_params(app_state: Mapping[str, Any]) -> ConsensusParams:
    """Return CometBFT's parameters of a ledger that begins with this state."""
    max_bytes = app_state.get("parameters", {}).get("max_block_bytes", Parameters().max_block_bytes)
    defaults = ConsensusParams(max_bytes)
    # CometBFT wants evidence to fit into a block.
    return defaults._replace(evidence_max_bytes=min(defaults.evidence_max_bytes, max_bytes))


def _solo_genesis(app_state: Mapping[str, Any], signer: SoloSigner) -> Genesis:
    return Genesis(
        time_ns=ZERO_TIME_NS,
        chain_id=app_state["chain"]["id"],
        initial_height=1,
        params=consensus_params(app_state),
        validators=(GenesisValidator(signer.public_key, SOLO_POWER, "solo"),),
        app_hash=b"",
        app_state=app_state,
    )


def prepare_ledger(layout: Layout, registry: Registry, clock_ms: Callable[[], int]) -> Genesis:
    """Return the genesis of a ledger that can be opened; the first start writes its time and makes the store.

    Raises:
        InvalidGenesis: the genesis file is missing a field or malformed.
        SettingsError: the ledger was handed over to a network, and whoever went on with it would sign another beside.
        SnapshotRefused: the state that was handed over is not that of the genesis.
        WrongRelease: this is not the one that runs the next height; the store was not touched.
        Fault: the store cannot be made.
    """
    genesis = load_genesis(layout.genesis)
    if layout.handed_over.exists():
        raise SettingsError(
            f"{genesis.chain_id} was handed over to a network, which goes on with it: start that one's validators. If "
            f"none of them ever ran, remove {layout.handed_over.name} to go on here"
        )
    if not genesis.is_started:
        genesis = genesis.started_at(clock_ms())
        save_genesis(layout.genesis, genesis)
        sync_directory(layout.directory)
    if not layout.ledger.exists():
        make_store(layout, registry, genesis)
    store = Store.open(layout.ledger, read_only=True)
    try:
        check_release(BlockState(store), store.height + 1)
    finally:
        store.close()
    return genesis


def plain_tables(registry: Registry) -> frozenset[str]:
    """Return the names of the tables whose records stand in the tree as they are."""
    return frozenset(name for name, table in registry.tables.items() if table.is_plain)


def store_of_genesis(path: Path, registry: Registry, genesis: Genesis) -> Store:
    """Make and open the store of a ledger as its genesis begins it.

    Raises:
        Fault: the store cannot be made.
    """
    height = genesis.initial_height - 1
    changes = genesis_changes(registry, genesis.app_state, genesis.time_ms, height)
    return Store.create(
        path, genesis.chain_id, genesis.initial_height, changes, genesis.time_ms, plain_tables=plain_tables(registry)
    )


def make_store(layout: Layout, registry: Registry, genesis: Genesis) -> None:
    """Make the store of a genesis beside its place and move it there, so that a crash leaves none or a finished one."""
    beside = layout.ledger.with_name(layout.ledger.name + ".new")
    shutil.rmtree(beside, ignore_errors=True)
    if hand_over.of_genesis(genesis) is None:
        store_of_genesis(beside, registry, genesis).close()
    else:
        snapshots.make_store(hand_over.read_state(layout.first_state, genesis), beside).close()
    beside.rename(layout.ledger)
    sync_directory(layout.data)
