"""How the store's own rows look: their fields, keys and pieces. No row described here is part of any root."""

from collections.abc import Iterator, Sequence
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from feiqian.core.encoding import Codec, Hash32, Height, Record, TimeMs, Uint32, Uint63, encode
from feiqian.core.errors import InvalidTransaction

FORMAT = 3
CHAIN_KEY = b"chain"
HEAD_KEY = b"head"
ARCHIVE_FROM_KEY = b"archive_from"
"""Archive rows below the height that stands under this key were looked at and are gone, or are kept for good."""

HEIGHT_BYTES = 8
REPLAY_BUCKET_MS = 1_000
"""Expiries follow the clocks of those who sign: what a block uses up lies in few buckets, so these are kept small."""

IMPORTED_BUCKET = b"imported"
"""Ids that came with a snapshot: their expiry is hearsay, so they are kept for the whole replay window."""

PIECE_BYTES = 4080
"""An LMDB overflow page less its header: blocks lie in single pages, so that no run of free pages is searched for."""

KEY_HASH_BYTES = 16
"""How much of a leaf's key hash leads back to its full key, which absence proofs of its neighbours need."""

ID_PREFIX_BYTES = 12
ID_BUCKET_ENTRIES = 1 << 16
"""A bucket of the id index is closed at this many entries, so that inserts touch few pages (decision 0003)."""

STALE_KEYS = 256
STALE_EPOCH_HEIGHTS = 64
"""Stale nodes are deleted for this many heights together, so that most pages are emptied whole (decision 0003)."""

_FORMER_OVERHEAD_BYTES = 18
_NO_BUNDLE = (b"",)

BLOCK_PIECE = b"\x00"
RESULTS_PIECE = b"\x01"


class Chain(Record):
    """What a store is of; written once."""

    format: Uint32
    chain_id: str
    initial_height: Height
    plain_tables: tuple[str, ...]


class Head(Record):
    """Where the store stands: the last committed height and the bounds of what it keeps.

    `first_provable` is the first height whose tree and records are whole, `first_block` the first whose block is held.
    `id_bucket` and `id_entries` are the open bucket of the id index and its size. Until `imported_until_ms` (0: none)
    ids of an imported snapshot count as used up.
    """

    height: Height
    time_ms: TimeMs
    app_hash: Hash32
    root_key: bytes
    first_provable: Height
    first_block: Height
    id_bucket: Height
    id_entries: Uint63
    imported_until_ms: TimeMs


class HeightRow(Record):
    """One height: `used` is a bitmap over its results, most significant bit first, of the ids that they used up."""

    time_ms: TimeMs
    app_hash: Hash32
    root_key: bytes
    has_block: bool
    used: bytes


FormerRow = tuple[bytes, Annotated[int, Meta(ge=0, le=2**63 - 1)], bytes | None, bool]
"""Full key, height of the former bytes (0 where absent and unknown), former bytes, whether this height deleted it."""


class Age(NamedTuple):
    """How far something lies back; it is older than this only if it is so in both."""

    blocks: int
    ms: int


NO_AGE = Age(0, 0)

UsedIds = dict[int, tuple[int, list[bytes]]]
"""Transaction ids that blocks before a store's first one used up: by height, that block's time and the ids."""

CHAIN: Codec[Chain] = Codec(Chain, "store: chain")
HEAD: Codec[Head] = Codec(Head, "store: head")
HEIGHT_ROW: Codec[HeightRow] = Codec(HeightRow, "store: height")
BUNDLE: Codec[tuple[bytes, ...]] = Codec(tuple[bytes, ...], "bundle")

decode_former = msgspec.msgpack.Decoder(tuple[FormerRow, ...]).decode
decode_stale = msgspec.msgpack.Decoder(tuple[bytes, ...]).decode
decode_results = msgspec.msgpack.Decoder(tuple[tuple[bytes, bytes], ...]).decode
_decode_block = msgspec.msgpack.Decoder(tuple[Uint63, Uint63, tuple[bytes, ...], msgspec.Raw]).decode


def height_bytes(height: int) -> bytes:
    """Return the 8 bytes by which heights sort."""
    return height.to_bytes(HEIGHT_BYTES, "big")


def height_of(data: bytes) -> int:
    """Return the height that the first 8 bytes hold."""
    return int.from_bytes(data[:HEIGHT_BYTES], "big")


def replay_bucket(expires_at_ms: int) -> bytes:
    """Return the key of the bucket of ids that expire at this time."""
    return (expires_at_ms // REPLAY_BUCKET_MS).to_bytes(8, "big")


def pieces(height: int, kind: bytes, data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the rows in which `data` lies, in key order."""
    prefix = height_bytes(height) + kind
    for number, start in enumerate(range(0, len(data), PIECE_BYTES)):
        yield prefix + number.to_bytes(4, "big"), data[start : start + PIECE_BYTES]


def id_entry(tx_id: bytes, height: int, place: int) -> bytes:
    """Return an entry of the id index: a prefix of the id and where it stands."""
    return tx_id[:ID_PREFIX_BYTES] + height_bytes(height) + place.to_bytes(4, "big")


def id_entry_place(entry: bytes) -> tuple[int, int]:
    """Return (height, place in results) of an entry of the id index."""
    return height_of(entry[ID_PREFIX_BYTES:]), int.from_bytes(entry[ID_PREFIX_BYTES + HEIGHT_BYTES :], "big")


def used_bitmap(places: Sequence[int], results_count: int) -> bytes:
    """Return the bitmap of `places` among `results_count` results; empty where none is used."""
    if not places:
        return b""
    bitmap = bytearray((results_count + 7) // 8)
    for place in places:
        bitmap[place >> 3] |= 0x80 >> (place & 7)
    return bytes(bitmap)


def used_places(bitmap: bytes) -> list[int]:
    """Return the places that a bitmap marks, ascending."""
    return [place for place in range(len(bitmap) * 8) if bitmap[place >> 3] & 0x80 >> (place & 7)]


def block_transactions(block: bytes) -> list[bytes]:
    """Return the transactions of an encoded block (height, time, bundles of transactions, …), in order."""
    _, _, bundles, _ = _decode_block(block)
    return [signed for bundle in bundles for signed in open_bundle(bundle)]


def open_bundle(data: bytes) -> tuple[bytes, ...]:
    """Return the transactions of a bundle in a block that was decided.

    Bytes that are no bundle stand for one empty transaction, which running the block records as refused: members who
    decided such a block broke the rules, and still every reader of it must count the same results.
    """
    try:
        return BUNDLE.decode(data)
    except InvalidTransaction:
        return _NO_BUNDLE


def former_chunks(height: int, former: Sequence[FormerRow]) -> list[tuple[bytes, bytes]]:
    """Return the rows that hold what `height` changed, each of a page at most; `former` is in key order."""
    prefix = height_bytes(height)
    chunks: list[tuple[bytes, bytes]] = []
    start = size_bytes = 0
    for place, (key, _, record, _) in enumerate(former):
        row_bytes = len(key) + len(record or b"") + _FORMER_OVERHEAD_BYTES
        if place > start and size_bytes + row_bytes > PIECE_BYTES:
            chunks.append((prefix + former[start][0], encode(former[start:place])))
            start, size_bytes = place, 0
        size_bytes += row_bytes
    if former:
        chunks.append((prefix + former[start][0], encode(former[start:])))
    return chunks


def stale_epoch(height: int) -> bytes:
    """Return the key prefix of the epoch in which a height's stale nodes are listed."""
    return height_bytes(height // STALE_EPOCH_HEIGHTS)


def stale_chunks(height: int, node_keys: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """Return the rows that list the tree nodes which `height` replaced, in key order.

    Inside an epoch they are listed by the height that wrote them, which is the order in which nodes lie on pages.
    """
    by_writer: dict[bytes, list[bytes]] = {}
    for node_key in sorted(node_keys):
        by_writer.setdefault(node_key[:HEIGHT_BYTES], []).append(node_key)
    prefix = stale_epoch(height)
    return [
        (prefix + writer + height_bytes(height) + start.to_bytes(4, "big"), encode(keys[start : start + STALE_KEYS]))
        for writer, keys in by_writer.items()
        for start in range(0, len(keys), STALE_KEYS)
    ]
