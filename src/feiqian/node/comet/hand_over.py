"""Makes a network of a solo ledger: its members' validators go on with the height after its last.

The solo ledger's validator signs what it is handed over as; from then on its node does not start any more, for a block
that it made would stand beside the network's. Its store and segment files go along to every validator, to be read only.
"""

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from feiqian.consensus import hand_over, light
from feiqian.consensus.genesis_file import Genesis, load_genesis
from feiqian.consensus.hand_over import HandOver
from feiqian.consensus.solo import SoloSigner
from feiqian.core.errors import Fault
from feiqian.execution.genesis import ConsortiumError, hand_over_changes
from feiqian.execution.registry import Registry
from feiqian.execution.upgrades import check_release
from feiqian.ledger.members import MEMBERS
from feiqian.ledger.parameters import get_parameters
from feiqian.ledger.records import Parameters
from feiqian.ledger.validators import validator_set
from feiqian.node.comet.testnet import (
    RUNNING_ROLES,
    Endpoints,
    Keys,
    Network,
    Runner,
    network_genesis,
    network_tables,
    refuse_full,
    write_network,
)
from feiqian.node.configuration import Layout
from feiqian.node.initialise import plain_tables
from feiqian.node.process import only_node
from feiqian.state import snapshots
from feiqian.state.block_log import BlockLog
from feiqian.state.files import sync_directory
from feiqian.state.store import Store
from feiqian.state.tables import BlockState

_REVISION = re.compile(r"\A(.+)-([1-9]\d{0,17})\Z", re.ASCII)
MAX_CHAIN_ID = 50


class NotHandedOver(Exception):
    """A ledger that cannot be handed over as it is; the message says why and what to do. Nothing was changed."""


class _Solo(NamedTuple):
    """A solo ledger that stands still."""

    layout: Layout
    genesis: Genesis
    signer: SoloSigner
    store: Store


def next_chain_id(chain_id: str) -> str:
    """Return the id of the chain that goes on with another: its revision is one higher, the first one's is 1.

    Raises:
        NotHandedOver: it would be longer than an id may be.
    """
    found = _REVISION.match(chain_id)
    name, revision = (chain_id, 1) if found is None else (found[1], int(found[2]))
    following = f"{name}-{revision + 1}"
    if len(following) > MAX_CHAIN_ID:
        raise NotHandedOver(f"chain id {following!r} is too long; an id has at most {MAX_CHAIN_ID} characters")
    return following


def hand_over_ledger(
    directory: Path,
    source: Path,
    registry: Registry,
    endpoints: Sequence[Endpoints],
    time_ms: int,
    members: Sequence[str] = (),
) -> Network:
    """Write the directories of a network that goes on with the solo ledger in `source`, one for each of `endpoints`.

    `members` run the validators; unless given, the first in the order of their ids with one of `RUNNING_ROLES`.
    `time_ms` is the network's genesis time, unless that is not after the ledger's last block.

    Raises:
        LedgerExists: something is in the directory already.
        NotHandedOver, ConsortiumError: the ledger or what is asked for does not allow it.
        SettingsError: the ledger runs.
        Fault, WrongRelease: its store or key file is damaged, or this is not the release that runs the next height.
        OSError: a file cannot be read or written.
    """
    refuse_full(directory)
    layout = Layout(source)
    if layout.handed_over.exists():
        raise NotHandedOver(
            f"the ledger was handed over already: a second network would be another ledger of the same money. If none "
            f"of the first one's validators ever ran, remove {layout.handed_over.name}"
        )
    if not layout.ledger.exists():
        raise NotHandedOver("the ledger was never started: make a network of its consortium file instead")
    with only_node(layout):
        store = Store.open(layout.ledger, read_only=True)
        try:
            solo = _Solo(layout, load_genesis(layout.genesis), SoloSigner.load(layout.validator_key), store)
            _check(solo)
            runners = _runners(BlockState(store), members, len(endpoints))
            return _make(directory, solo, registry, runners, endpoints, max(time_ms, store.time_ms + 1))
        finally:
            store.close()


def _check(solo: _Solo) -> None:
    """Refuse a ledger that is no solo one, or whose last block is not the last that anyone was told of."""
    genesis, store = solo.genesis, solo.store
    keys = [validator.public_key for validator in genesis.validators]
    if validator_set(BlockState(store)) or keys != [solo.signer.public_key]:
        raise NotHandedOver("the ledger is not run by one node alone, whose key lies in its directory")
    if store.height < genesis.initial_height:
        raise NotHandedOver("the ledger has no block yet: start it once and stop it")
    log = BlockLog(solo.layout.block_log, store)
    log.close()
    if log.beyond:
        raise NotHandedOver("the ledger ended without being stopped: start it once more and stop it, then hand it over")
    check_release(BlockState(store), store.height + 1)


def _runners(state: BlockState, members: Sequence[str], count: int) -> list[Runner]:
    known = {key.decode(): member for key, member in MEMBERS.scan(state)}
    able = [
        name for name, member in known.items() if set(member.roles) & set(RUNNING_ROLES) and not member.is_suspended
    ]
    for name in members:
        if name not in known or known[name].is_suspended:
            raise ConsortiumError(f"{name[:40]!r} is no member in good standing; those are: {', '.join(able)}")
    chosen = list(members) or able[:count]
    if len(chosen) != count or len(set(chosen)) != count:
        raise ConsortiumError(
            f"{count} validators, and each institution runs one: {len(set(chosen))} would run one ({', '.join(chosen)})"
        )
    return [Runner(name, name) for name in chosen]


def _make(
    directory: Path,
    solo: _Solo,
    registry: Registry,
    runners: Sequence[Runner],
    endpoints: Sequence[Endpoints],
    time_ms: int,
) -> Network:
    layout = solo.layout
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=f".{directory.name}-") as temporary:
        first_state, origin = Path(temporary) / "first-state", Path(temporary) / "ledger.lmdb"

        def compose(keys: Sequence[Keys]) -> Genesis:
            genesis, signed = _compose(solo, registry, runners, keys, time_ms, first_state)
            _write_mark(layout, signed)
            return genesis

        def carry(target: Layout) -> None:
            shutil.copyfile(first_state, target.first_state)
            _carry_origin(layout, origin, Layout(target.origin))

        solo.store.copy_to(origin)
        try:
            return write_network(directory, runners, endpoints, compose, carry)
        except BaseException:
            layout.handed_over.unlink(missing_ok=True)
            raise


def _compose(
    solo: _Solo, registry: Registry, runners: Sequence[Runner], keys: Sequence[Keys], time_ms: int, first_state: Path
) -> tuple[Genesis, HandOver]:
    """Write the state that the network begins with, and return its genesis and the hand-over in it."""
    store, height = solo.store, solo.store.height
    former = dict(solo.genesis.app_state)
    parameters = get_parameters(BlockState(store))
    app_state: dict[str, Any] = {
        **former,
        "chain": {**former["chain"], "id": next_chain_id(solo.genesis.chain_id)},
        "app_version": parameters.app_version,
        "parameters": _plain(parameters),
        **network_tables(runners, keys),
    }
    changes = hand_over_changes(registry, store, app_state, time_ms, height)
    app_hash = _write_state(first_state, store, registry, changes, app_state["chain"]["id"], time_ms)
    genesis = network_genesis(app_state, runners, keys, time_ms, height + 1)._replace(app_hash=app_hash)
    row = store.archive_row(height)
    if row is None:
        raise Fault(f"the last block, {height}, is not signed")
    origin = hand_over.side_of(solo.genesis, store.app_hash)
    header_hash = light.light_block(row).header.hash()
    signed = hand_over.sign(solo.signer, origin, height, header_hash, hand_over.side_of(genesis, app_hash))
    entry = msgspec.to_builtins(hand_over.write(signed))
    return genesis._replace(app_state={**app_state, hand_over.ENTRY: entry}), signed


def _write_state(
    path: Path, store: Store, registry: Registry, changes: Mapping[bytes, bytes | None], chain_id: str, time_ms: int
) -> bytes:
    """Write the snapshot of a store's state with some records changed, and return its root."""
    records = {key: record for key, record in {**dict(store.scan(b"")), **changes}.items() if record is not None}
    beside, height = path.with_name(path.name + ".lmdb"), store.height
    made = Store.create(beside, chain_id, height + 1, records, time_ms, plain_tables=plain_tables(registry))
    try:
        return snapshots.export(made, height, path).app_hash
    finally:
        made.close()
        shutil.rmtree(beside)


def _carry_origin(source: Layout, ledger: Path, target: Layout) -> None:
    """Copy what the ledger's past is proved from: nobody writes there any more."""
    target.data.mkdir(parents=True)
    shutil.copytree(ledger, target.ledger)
    if source.segments.exists():
        shutil.copytree(source.segments, target.segments)
    if source.base_snapshot.exists():
        shutil.copyfile(source.base_snapshot, target.base_snapshot)
    shutil.copyfile(source.genesis, target.genesis)
    for path in target.directory.rglob("*"):
        if path.is_file():
            path.chmod(0o440)


def _write_mark(layout: Layout, signed: HandOver) -> None:
    """Say in the solo ledger's directory that it goes on elsewhere."""
    text = msgspec.json.format(msgspec.json.encode(hand_over.write(signed)), indent=2)
    layout.handed_over.write_bytes(text + b"\n")
    sync_directory(layout.directory)


def _plain(parameters: Parameters) -> dict[str, int]:
    return {name: getattr(parameters, name) for name in Parameters.__struct_fields__}
