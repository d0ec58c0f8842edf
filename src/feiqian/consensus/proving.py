"""Makes proof files from a node's store: the fact, its tree proofs, and the trail of archived blocks for it."""

from typing import Any, Protocol

from feiqian.consensus import hand_over, light, proof_file
from feiqian.consensus.genesis_file import Genesis
from feiqian.consensus.light import LightBlock
from feiqian.core.errors import Fault
from feiqian.execution.blocks import RESULTS_CODEC
from feiqian.execution.tables import RESULTS, height_key
from feiqian.state.archive import ArchiveRow
from feiqian.state.errors import OutsideWindow
from feiqian.state.rows import Head
from feiqian.state.store import StoredBlock
from feiqian.state.tables import Table
from feiqian.state.tree import MemoryTree


class Unprovable(Exception):
    """What was asked cannot be proved now: not there, not provable yet, or no longer held. The message says which."""


class ArchiveStore(Protocol):
    """What a trail is built from."""

    @property
    def head(self) -> Head: ...

    def archive_row(self, height: int) -> ArchiveRow | None: ...

    def archive_row_below(self, height: int) -> ArchiveRow | None: ...


class ProofStore(ArchiveStore, Protocol):
    """What proving reads of a store."""

    def archived_heights(self) -> tuple[int, int] | None: ...

    def app_hash_at(self, height: int) -> bytes: ...

    def prove(self, height: int, key: bytes) -> tuple[bytes | None, bytes]: ...

    def block(self, height: int) -> StoredBlock | None: ...

    def result(self, tx_id: bytes) -> tuple[int, int, bytes] | None: ...


def provable_height(store: ProofStore) -> int:
    """Return the last height that can be proved: its successor's header is archived.

    Raises:
        Unprovable: no header is archived yet.
    """
    archived = store.archived_heights()
    if archived is None:
        raise Unprovable("no block has been archived yet; wait for the second one")
    return archived[1] - 1


def prove_record(
    store: ProofStore,
    genesis: Genesis,
    table: Table[Any],
    key: bytes,
    *,
    height: int | None = None,
    known_height: int | None = None,
) -> bytes:
    """Return the proof file of a record, or of its absence, after `height` (the last provable one unless given).

    `key` is the record's own. `known_height` starts the trail at a block that the verifier knows, not at the genesis.

    Raises:
        Unprovable: that height is not provable yet.
        OutsideWindow: the store no longer holds the state of that height, or the known block.
    """
    at = _height(store, height)
    record, proof = store.prove(at, table.prefix + key)
    trail = archived_trail(store, genesis, at + 1, known_height)
    handed_over = hand_over.of_genesis(genesis)
    return proof_file.build_record(at, table, key, record, proof, store.app_hash_at(at), trail, handed_over)


def prove_result(
    store: ProofStore, genesis: Genesis, tx_id: bytes, *, height: int | None = None, known_height: int | None = None
) -> bytes:
    """Return the proof file of a transaction's result, by the state after `height` (the last provable unless given).

    Raises:
        Unprovable: no such transaction is committed, or see `prove_record`.
        OutsideWindow: the store no longer holds the state of that height.
    """
    found = store.result(tx_id)
    block = None if found is None else store.block(found[0])
    if found is None or block is None:
        raise Unprovable(f"no transaction {tx_id.hex()} is committed here")
    at = _height(store, height)
    if at < block.height:
        raise Unprovable(f"the transaction stands in block {block.height}, which is not provable yet")
    key = RESULTS.prefix + height_key(block.height)
    record, state_proof = store.prove(at, key)
    if record is None:
        # Its root has left the state since; the state after its own block holds it, for as long as that is kept.
        at = block.height
        record, state_proof = store.prove(at, key)
    if record is None:
        raise Fault(f"state after block {at} does not hold the root of its own results")
    results = MemoryTree({stored.id: stored.result for stored in RESULTS_CODEC.decode_trusted(block.results)})
    trail = archived_trail(store, genesis, at + 1, known_height)
    proofs = (results.prove(tx_id), state_proof)
    return proof_file.build_result(
        block.height,
        at,
        tx_id,
        found[2],
        record,
        proofs,
        store.app_hash_at(at),
        trail,
        hand_over.of_genesis(genesis),
    )


def archived_trail(
    store: ArchiveStore, genesis: Genesis, height: int, known_height: int | None = None
) -> list[LightBlock]:
    """Return the trail to an archived block, from the genesis or from a block that the verifier knows.

    Raises:
        OutsideWindow: that block, or the known one, is not archived.
        InvalidTrail: the archive does not lead there.
    """
    for needed in (height, known_height):
        if needed is not None and needed <= height and store.archive_row(needed) is None:
            raise OutsideWindow(needed, store.head.first_block, store.head.height)

    def fetch(wanted: int) -> LightBlock | None:
        row = store.archive_row_below(wanted + 1)
        return None if row is None else light.light_block(row)

    return light.build_trail(fetch, genesis, height, known_height)


def _height(store: ProofStore, height: int | None) -> int:
    last = provable_height(store)
    if height is not None and height > last:
        raise Unprovable(f"height {height} is not provable yet; the last that is: {last}")
    return last if height is None else height
