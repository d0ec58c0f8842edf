"""What one height will write, worked out before any of it is written: new tree nodes, former bytes, rows in order."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from feiqian.core.encoding import MAX_KEY_BYTES, MAX_RECORD_BYTES, encode
from feiqian.core.errors import Fault
from feiqian.core.hashing import Domain
from feiqian.state import rows, tree
from feiqian.state.archive import ArchiveRow
from feiqian.state.rows import FormerRow, HeightRow
from feiqian.state.tables import Changes
from feiqian.state.tree import TreeUpdate
from feiqian.state.upper import UpperRows

_PAGE_BYTES = 4096
_STATE_KEY = Domain("feiqian/state-key/v1")
_STATE_VALUE = Domain("feiqian/state-value/v1")

Pairs = list[tuple[bytes, bytes]]


class HeightWrites(NamedTuple):
    """Everything one height writes.

    `block` is the encoded Block, empty where there is none (genesis); `results` are (id, encoded Result) in order;
    `replay_ids` are (expires_at_ms, tx id) used up by this block, each with a result in it.
    """

    height: int
    time_ms: int
    block: bytes
    results: tuple[tuple[bytes, bytes], ...]
    changes: Changes
    replay_ids: tuple[tuple[int, bytes], ...]
    archive: ArchiveRow | None


class Layer(NamedTuple):
    """What a staged height means to those above it: changed records, new nodes and where it stands."""

    height: int
    changed: Changes
    nodes: dict[bytes, bytes]
    root_key: bytes
    app_hash: bytes
    time_ms: int


class Rows(NamedTuple):
    """The rows of one height, each list in key order. `size_bytes` bounds what writing them may add to the file."""

    records: Pairs
    created: Pairs
    deleted: list[bytes]
    gone: Pairs
    former: Pairs
    nodes: Pairs
    stale: Pairs
    height_row: bytes
    pieces: Pairs
    id_entries: list[bytes]
    replay: Pairs
    size_bytes: int


class Staged(NamedTuple):
    """A height ready to be committed. `below` are the heights staged before it that were not committed then."""

    writes: HeightWrites
    tree: TreeUpdate
    app_hash: bytes
    parent_app_hash: bytes
    parent_root_key: bytes | None
    layer: Layer
    below: tuple[Layer, ...]
    rows: Rows


class CommittedView(Protocol):
    """What staging reads of committed state, all at one height."""

    def record_row(self, key: bytes, /) -> bytes | None:
        """Return 8 bytes of the height that wrote the record, then the record; None where there is none."""
        ...

    def gone_height(self, key: bytes, /) -> int:
        """Return the height that deleted the record under `key`, 0 where that is not remembered."""
        ...

    def node(self, node_key: bytes, /) -> bytes | None:
        """Return a tree row."""
        ...


def tree_leaf(key: bytes, record: bytes, *, is_plain: bool) -> tuple[bytes, bytes]:
    """Return what stands in the tree for a record: itself in a plain table, else digests of its key and bytes."""
    return (key, record) if is_plain else (_STATE_KEY.hash(key), _STATE_VALUE.hash(record))


def leaf_key_hash(key: bytes, *, is_plain: bool) -> bytes:
    """Return the SHA-256 under which a record's leaf stands in the tree."""
    return hashlib.sha256(key if is_plain else _STATE_KEY.hash(key)).digest()


def is_plain_key(key: bytes, plain_tables: frozenset[bytes]) -> bool:
    """Say whether a full key is of a plain table."""
    return bool(plain_tables) and key.partition(b"/")[0] in plain_tables


def stage_height(
    view: CommittedView,
    writes: HeightWrites,
    parent_root_key: bytes | None,
    parent_root: bytes,
    below: tuple[Layer, ...],
    plain_tables: frozenset[bytes],
    upper: UpperRows,
) -> Staged:
    """Work out all rows of a height; `below` are uncommitted heights between `view` and it, the newest first.

    Raises:
        Fault: a key or record is empty or over its limit, a used-up id has no result, the tree is broken.
    """
    _check(writes)
    former, changed = _former_rows(view, writes.changes, below)
    leaves = _leaves(changed, plain_tables)
    if changed or parent_root_key is None:
        tree_rows = _TreeRows(view, below, upper.of_tree(parent_root_key, parent_root))
        update = tree.update(tree_rows, parent_root_key, writes.height, leaves)
        upper.follow(update)
    else:
        update = TreeUpdate(parent_root, {}, [], parent_root_key)
    layer = Layer(writes.height, changed, update.nodes, update.root_key, update.root, writes.time_ms)
    created = sorted(
        (leaf_key[: rows.KEY_HASH_BYTES], row[0])
        for (leaf_key, _), row in zip(leaves, former, strict=True)
        if row[2] is None
    )
    written = _rows(writes, update, changed, former, created, is_first=parent_root_key is None)
    return Staged(writes, update, update.root, parent_root, parent_root_key, layer, below, written)


def stage_first(writes: HeightWrites, plain_tables: frozenset[str]) -> Staged:
    """Work out the rows of a store's first height from all of its records.

    Raises:
        Fault: a key or record is empty or over its limit.
    """
    names = frozenset(name.encode() for name in plain_tables)
    return stage_height(_Nothing(), writes, None, tree.EMPTY_ROOT, (), names, UpperRows())


class _Nothing:
    """The committed view before the first height."""

    def record_row(self, key: bytes, /) -> bytes | None:
        return None

    def gone_height(self, key: bytes, /) -> int:
        return 0

    def node(self, node_key: bytes, /) -> bytes | None:
        return None


def _check(writes: HeightWrites) -> None:
    for key, record in writes.changes.items():
        if not 0 < len(key) <= MAX_KEY_BYTES:
            raise Fault(f"store: key of {len(key)} bytes; a full key has 1 to {MAX_KEY_BYTES}")
        if record is not None and not 0 < len(record) <= MAX_RECORD_BYTES:
            raise Fault(f"store: record of {len(record)} bytes; a record has 1 to {MAX_RECORD_BYTES}")
    if writes.results and not writes.block:
        raise Fault(f"store: height {writes.height} has results but no block")


def _former_rows(view: CommittedView, changes: Changes, below: tuple[Layer, ...]) -> tuple[list[FormerRow], Changes]:
    """Return what each changed record was before, and the changes that do change something, both in key order."""
    former: list[FormerRow] = []
    changed: Changes = {}
    record_row = view.record_row
    for key in sorted(changes):
        record = changes[key]
        for layer in below:
            if key in layer.changed:
                former_height, before = layer.height, layer.changed[key]
                break
        else:
            row = record_row(key)
            if row is not None:
                former_height, before = int.from_bytes(row[:8], "big"), row[8:]
            else:
                former_height, before = view.gone_height(key), None
        if before != record:
            former.append((key, former_height, before, record is None))
            changed[key] = record
    return former, changed


def _leaves(changed: Changes, plain_tables: frozenset[bytes]) -> list[tuple[bytes, bytes | None]]:
    sha256 = hashlib.sha256
    key_digest, value_digest = _STATE_KEY.hash, _STATE_VALUE.hash
    leaves: list[tuple[bytes, bytes | None]] = []
    for key, record in changed.items():
        is_plain = is_plain_key(key, plain_tables)
        leaf_key = sha256(key if is_plain else key_digest(key)).digest()
        if record is None:
            leaves.append((leaf_key, None))
        else:
            leaves.append((leaf_key, sha256(record if is_plain else value_digest(record)).digest()))
    return leaves


def _rows(
    writes: HeightWrites,
    update: TreeUpdate,
    changed: Changes,
    former: list[FormerRow],
    created: Pairs,
    *,
    is_first: bool,
) -> Rows:
    height = rows.height_bytes(writes.height)
    places = {tx_id: place for place, (tx_id, _) in enumerate(writes.results)}
    missing = [tx_id for _, tx_id in writes.replay_ids if tx_id not in places]
    if missing:
        raise Fault(f"store: used-up id {missing[0].hex()} has no result in block {writes.height}")
    used = rows.used_bitmap([places[tx_id] for _, tx_id in writes.replay_ids], len(writes.results))
    has_block = bool(writes.block)
    block_pieces = [
        *rows.pieces(writes.height, rows.BLOCK_PIECE, writes.block),
        *(rows.pieces(writes.height, rows.RESULTS_PIECE, encode(writes.results)) if has_block else ()),
    ]
    records = [(key, height + record) for key, record in changed.items() if record is not None]
    deleted = [key for key, record in changed.items() if record is None]
    former_rows = [] if is_first else rows.former_chunks(writes.height, former)
    nodes = list(update.nodes.items())
    id_entries = sorted(rows.id_entry(tx_id, writes.height, place) for tx_id, place in places.items())
    replay = sorted((rows.replay_bucket(expires_at_ms), tx_id) for expires_at_ms, tx_id in writes.replay_ids)
    height_row = encode(HeightRow(writes.time_ms, update.root, update.root_key, has_block, used))
    gone = [(key, height) for key in deleted]
    stale = rows.stale_chunks(writes.height, update.stale)
    scattered = 0 if is_first else len(records) + len(created) + len(gone) + len(id_entries) + len(replay)
    size_bytes = _most_added(scattered, (records, created, gone, former_rows, nodes, stale, block_pieces))
    return Rows(
        records,
        created,
        deleted,
        gone,
        former_rows,
        nodes,
        stale,
        height_row,
        block_pieces,
        id_entries,
        replay,
        size_bytes,
    )


def _most_added(scattered: int, lists: tuple[Pairs, ...]) -> int:
    """Bound what writing these rows adds to the file.

    A row among others may copy its page and split it; rows side by side fill pages by a half at least.
    """
    row_bytes = sum([16 + len(key) + len(value) for pairs in lists for key, value in pairs])
    return (scattered + 256) * 2 * _PAGE_BYTES + 3 * row_bytes


class _TreeRows:
    """Tree rows of committed state and of the uncommitted heights above it; `upper` are known without reading."""

    __slots__ = ("layers", "upper", "view")

    def __init__(self, view: CommittedView, layers: tuple[Layer, ...], upper: dict[bytes, bytes]) -> None:
        self.view = view
        self.layers = layers
        self.upper = upper

    def node(self, node_key: bytes, /) -> bytes | None:
        data = self.upper.get(node_key)
        if data is not None:
            return data
        for layer in self.layers:
            data = layer.nodes.get(node_key)
            if data is not None:
                return data
        return self.view.node(node_key)


def layers_above(base: Staged | None, committed_height: int) -> tuple[Layer, ...]:
    """Return the uncommitted heights up to `base`, newest first.

    Raises:
        Fault: a height between the committed one and `base` is missing.
    """
    known: Sequence[Layer] = () if base is None else (base.layer, *base.below)
    layers = tuple(layer for layer in known if layer.height > committed_height)
    if layers and (
        layers[-1].height != committed_height + 1 or layers[0].height - layers[-1].height != len(layers) - 1
    ):
        raise Fault(f"store: staged heights do not follow committed height {committed_height}")
    return layers
