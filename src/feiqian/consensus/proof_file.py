"""The proof file: one fact about the ledger that anyone can check offline against the genesis file alone.

Canonical JSON, UTF-8, without white space, fields in this order:

    version     1
    kind        "record", "absence" or "result"
    chain_id    the ledger's
    height      H, the block after which the fact holds
    key, value  what the innermost proof shows, hex; the value is null for an absence
    record      the state record concerned: {"table", "key", "value"}, key and value hex, value null for an absence.
                Of a record or absence it is what the tree's digests stand for; of a result it is the record of table
                execution.results that holds the root of the block's results tree
    proofs      ICS-23 CommitmentProofs, base64, innermost first: of a result the results tree, then the state tree
    app_hash    the state tree's root after H, hex
    trail       light blocks in CometBFT's JSON, from what the verifier trusts to H+1, whose header holds `app_hash`
    hand_over   of a network that was handed a solo ledger: what that one's validator signed, so that its genesis leads
                here too; other ledgers' files have no such field

Nothing in it is decoration: whatever field is changed, some step refuses it.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from feiqian.consensus import comet_json, hand_over, light
from feiqian.consensus.comet_json import LightBlockJson, MalformedJson
from feiqian.consensus.genesis_file import Genesis, InvalidGenesis
from feiqian.consensus.hand_over import HandOver, HandOverJson, MalformedHandOver
from feiqian.consensus.light import InvalidTrail, KnownBlock, LightBlock, Trust
from feiqian.core.encoding import Record
from feiqian.core.errors import InvalidTransaction
from feiqian.execution.tables import RESULTS, height_key
from feiqian.state.proofs import InvalidProof, verify_absence, verify_existence
from feiqian.state.staging import tree_leaf
from feiqian.state.tables import Table

VERSION = 1
HEIGHT_KEY_BYTES = 8
MAX_FILE_BYTES = 64 * 1024 * 1024

Kind = Literal["record", "absence", "result"]


class InvalidProofFile(Exception):
    """A proof file that proves nothing.

    `step` is where it broke: file, hand-over, trail, record, results tree or state tree.
    """

    def __init__(self, step: str, message: str) -> None:
        super().__init__(f"{step}: {message}")
        self.step = step
        self.message = message


class Verified(NamedTuple):
    """What a proof file proved, and what was trusted for it.

    `height` is the block after which it holds, `block_height` the one that held a result's transaction. `key` is the
    record's own, or the transaction's id; `value` the record's bytes, the encoded Result, or None for an absence;
    `record` the decoded record of kind "record". `header_hash` and `header_time_ns` are of block `height` + 1,
    whose validators vouch for the state; `signatures` of them are in its commit.
    """

    kind: Kind
    chain_id: str
    height: int
    block_height: int | None
    table: str
    key: bytes
    value: bytes | None
    record: Record | None
    app_hash: bytes
    header_hash: bytes
    header_time_ns: int
    signatures: int
    trail_heights: tuple[int, ...]
    trusted: str


class _RecordJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    table: Annotated[str, Meta(min_length=1, max_length=200)]
    key: str
    value: str | None


class _ProofFileJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1]
    kind: Kind
    chain_id: str
    height: Annotated[int, Meta(ge=0, le=2**63 - 2)]
    key: str
    value: str | None
    record: _RecordJson
    proofs: Annotated[tuple[str, ...], Meta(min_length=1, max_length=2)]
    app_hash: str
    trail: tuple[LightBlockJson, ...]
    hand_over: HandOverJson | msgspec.UnsetType = msgspec.UNSET


class _Start(NamedTuple):
    """What a trail is judged by, how it is called, and the hand-over that no block of it may lie beyond."""

    trust: Trust
    name: str
    end: HandOver | None


def build_record(
    height: int,
    table: Table[Any],
    key: bytes,
    record: bytes | None,
    proof: bytes,
    app_hash: bytes,
    trail: Sequence[LightBlock],
    handed_over: HandOver | None = None,
) -> bytes:
    """Return the proof file of a state record, or of its absence where `record` is None.

    `key` is the record's own, without the table's name; `proof` the store's proof for the full key at `height`;
    `trail` leads to `height` + 1; `handed_over` is that by which the chain began.
    """
    tree_key, tree_value = tree_leaf(table.prefix + key, record or b"", is_plain=table.is_plain)
    return _encode(
        _ProofFileJson(
            version=VERSION,
            kind="absence" if record is None else "record",
            chain_id=trail[-1].header.chain_id,
            height=height,
            key=tree_key.hex(),
            value=None if record is None else tree_value.hex(),
            record=_RecordJson(table.name, key.hex(), None if record is None else record.hex()),
            proofs=(comet_json.write_base64(proof),),
            app_hash=app_hash.hex(),
            trail=tuple(light.write_light_block(block) for block in trail),
            hand_over=msgspec.UNSET if handed_over is None else hand_over.write(handed_over),
        )
    )


def build_result(
    block_height: int,
    height: int,
    tx_id: bytes,
    result: bytes,
    results_record: bytes,
    proofs: tuple[bytes, bytes],
    app_hash: bytes,
    trail: Sequence[LightBlock],
    handed_over: HandOver | None = None,
) -> bytes:
    """Return the proof file of a transaction's encoded Result.

    `block_height` is the block that held it, `height` the state that still holds the root of that block's results
    (the same height unless a later one is wanted); `results_record` is the record of table `RESULTS` that holds it.
    `proofs` are that of `tx_id` in the block's results tree, and that of the record in the state tree at `height`.
    """
    return _encode(
        _ProofFileJson(
            version=VERSION,
            kind="result",
            chain_id=trail[-1].header.chain_id,
            height=height,
            key=tx_id.hex(),
            value=result.hex(),
            record=_RecordJson(RESULTS.name, height_key(block_height).hex(), results_record.hex()),
            proofs=(comet_json.write_base64(proofs[0]), comet_json.write_base64(proofs[1])),
            app_hash=app_hash.hex(),
            trail=tuple(light.write_light_block(block) for block in trail),
            hand_over=msgspec.UNSET if handed_over is None else hand_over.write(handed_over),
        )
    )


def verify(
    data: bytes, genesis: Genesis, tables: Mapping[str, Table[Any]], known: KnownBlock | None = None
) -> Verified:
    """Check a proof file from what the verifier trusts: the genesis, or `known`, a block he names by height and hash.

    `tables` are this release's by name. They decide whether a record stands in the tree itself or as digests: to take
    a plain record for a digest would prove it absent.

    Raises:
        InvalidProofFile: names the step that broke.
    """
    file = _decode(data)
    app_hash = _read_hex(file.app_hash, "app_hash")
    walk = _check_trail(file, app_hash, _start(file, genesis), known)
    block_height = record = None
    if file.kind == "result":
        key, value, block_height = _check_result(file, app_hash)
    else:
        key, value, record = _check_record(file, app_hash, tables)
    header, commit, _ = walk.last
    return Verified(
        kind=file.kind,
        chain_id=file.chain_id,
        height=file.height,
        block_height=block_height,
        table=file.record.table,
        key=key,
        value=value,
        record=record,
        app_hash=app_hash,
        header_hash=header.hash(),
        header_time_ns=header.time_ns,
        signatures=sum(bool(signature.signature) for signature in commit.signatures),
        trail_heights=tuple(int(block.signed_header.header.height) for block in file.trail),
        trusted=walk.trusted,
    )


def _encode(file: _ProofFileJson) -> bytes:
    return msgspec.json.encode(file)


def _decode(data: bytes) -> _ProofFileJson:
    if len(data) > MAX_FILE_BYTES:
        raise InvalidProofFile("file", f"{len(data)} bytes; at most {MAX_FILE_BYTES}")
    try:
        return comet_json.parse(data, _ProofFileJson, "proof file")
    except MalformedJson as error:
        raise InvalidProofFile("file", str(error)) from None


def _start(file: _ProofFileJson, genesis: Genesis) -> _Start:
    """Return where the trail starts: at the genesis, or across the hand-over that leads from it to the file's chain."""
    try:
        own = hand_over.of_genesis(genesis)
        given = None if isinstance(file.hand_over, msgspec.UnsetType) else hand_over.read(file.hand_over)
    except (InvalidGenesis, MalformedHandOver) as error:
        raise InvalidProofFile("hand-over", str(error)) from None
    name = light.name_of(genesis)
    if file.chain_id == genesis.chain_id:
        if given != own:
            raise InvalidProofFile("hand-over", f"the file's is not that of the genesis of {genesis.chain_id!r}")
        return _Start(light.trust_in_genesis(genesis), name, None)
    if own is not None and given is None and file.chain_id == own.origin.chain_id:
        return _Start(own.origin.trust(), f"{name}, to which {file.chain_id} was handed over", own)
    if given is not None and hand_over.is_from(given, genesis) and file.chain_id == given.successor.chain_id:
        return _Start(given.successor.trust(), f"{name}, which was handed over to {file.chain_id}", None)
    raise InvalidProofFile("file", f"chain_id {file.chain_id[:60]!r}; the genesis is of {genesis.chain_id!r}")


def _check_trail(file: _ProofFileJson, app_hash: bytes, start: _Start, known: KnownBlock | None) -> light.Walk:
    try:
        blocks = [light.read_light_block(block) for block in file.trail]
        walk = light.verify_trail_from(start.trust, start.name, blocks, known)
    except (InvalidTrail, MalformedJson) as error:
        raise InvalidProofFile("trail", str(error)) from None
    header = walk.last.header
    _check_end(walk.last, start.end)
    if header.height != file.height + 1:
        raise InvalidProofFile("trail", f"it ends at block {header.height}; a proof of {file.height} needs the next")
    if header.app_hash != app_hash:
        raise InvalidProofFile("trail", f"the header of block {header.height} has another app hash than the file")
    return walk


def _check_end(last: LightBlock, end: HandOver | None) -> None:
    """Refuse what was signed for a ledger after it was handed over, or beside its last block."""
    if end is None or last.header.height < end.height:
        return
    if last.header.height > end.height:
        raise InvalidProofFile("trail", f"{last.header.chain_id} was handed over after block {end.height}")
    if last.header.hash() != end.header_hash:
        raise InvalidProofFile("trail", f"block {end.height} is not the one that was handed over")


def _check_record(
    file: _ProofFileJson, app_hash: bytes, tables: Mapping[str, Table[Any]]
) -> tuple[bytes, bytes | None, Record | None]:
    key = _read_hex(file.record.key, "record.key")
    value = None if file.record.value is None else _read_hex(file.record.value, "record.value")
    if (value is None) != (file.kind == "absence") or (file.value is None) != (value is None):
        raise InvalidProofFile("record", "an absence has no values, a record has both")
    tree_key, tree_value = _leaf_of(file, key, value, tables)
    with_proof = _read_proofs(file, 1)
    try:
        if value is None:
            verify_absence(with_proof[0], app_hash, tree_key)
        else:
            verify_existence(with_proof[0], app_hash, tree_key, tree_value)
    except InvalidProof as error:
        raise InvalidProofFile("state tree", str(error)) from None
    return key, value, _decode_record(file.record.table, value, tables)


def _leaf_of(
    file: _ProofFileJson, key: bytes, value: bytes | None, tables: Mapping[str, Table[Any]]
) -> tuple[bytes, bytes]:
    """Return the tree's key and value, which must be what the record's digests, or a plain record itself, are."""
    table = tables.get(file.record.table)
    if table is None:
        raise InvalidProofFile("record", f"this release knows no table {file.record.table[:60]!r}")
    tree_key, tree_value = tree_leaf(table.prefix + key, value or b"", is_plain=table.is_plain)
    if _read_hex(file.key, "key") != tree_key:
        raise InvalidProofFile("record", "key is not that of the record's table and key")
    if value is not None and file.value is not None and _read_hex(file.value, "value") != tree_value:
        raise InvalidProofFile("record", "value is not that of the record's bytes")
    return tree_key, tree_value


def _decode_record(name: str, value: bytes | None, tables: Mapping[str, Table[Any]]) -> Record | None:
    if value is None:
        return None
    try:
        return tables[name].codec.decode(value)
    except InvalidTransaction as error:
        raise InvalidProofFile("record", error.message) from None


def _check_result(file: _ProofFileJson, app_hash: bytes) -> tuple[bytes, bytes, int]:
    if file.record.table != RESULTS.name or file.record.value is None or file.value is None:
        raise InvalidProofFile("record", f"a result needs its value and the record of table {RESULTS.name}")
    tx_id, result = _read_hex(file.key, "key"), _read_hex(file.value, "value")
    record_key, record = _read_hex(file.record.key, "record.key"), _read_hex(file.record.value, "record.value")
    try:
        results_root = RESULTS.codec.decode(record).digest
    except InvalidTransaction as error:
        raise InvalidProofFile("record", error.message) from None
    if len(record_key) != HEIGHT_KEY_BYTES:
        raise InvalidProofFile("record", f"record.key has {len(record_key)} bytes; a block's has {HEIGHT_KEY_BYTES}")
    results_proof, state_proof = _read_proofs(file, 2)
    try:
        verify_existence(results_proof, results_root, tx_id, result)
    except InvalidProof as error:
        raise InvalidProofFile("results tree", str(error)) from None
    tree_key, tree_value = tree_leaf(RESULTS.prefix + record_key, record, is_plain=RESULTS.is_plain)
    try:
        verify_existence(state_proof, app_hash, tree_key, tree_value)
    except InvalidProof as error:
        raise InvalidProofFile("state tree", str(error)) from None
    return tx_id, result, int.from_bytes(record_key, "big")


def _read_proofs(file: _ProofFileJson, count: int) -> list[bytes]:
    if len(file.proofs) != count:
        raise InvalidProofFile("file", f"{len(file.proofs)} proofs; kind {file.kind} has {count}")
    try:
        return [comet_json.read_base64(proof, f"proofs[{at}]") for at, proof in enumerate(file.proofs)]
    except MalformedJson as error:
        raise InvalidProofFile("file", str(error)) from None


def _read_hex(text: str, where: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = None
    if value is None or value.hex() != text:
        raise InvalidProofFile("file", f"{where}: {text[:60]!r} is no lower-case hex")
    return value
