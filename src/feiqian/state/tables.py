"""Typed tables over an overlay: how rules read and write state, with every write held back until it is kept.

Records are read decoded, once a block, and encoded as they are written. Nothing here knows of disk or tree.
"""

from collections.abc import Iterable, Iterator
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

from feiqian.core.encoding import MAX_KEY_BYTES, MAX_RECORD_BYTES, Codec, Record, encode
from feiqian.core.errors import TooLarge

R = TypeVar("R", bound=Record)

_UNREAD: Any = object()


class Reader(Protocol):
    """Committed state as bytes: the store at one height."""

    def get(self, key: bytes, /) -> bytes | None:
        """Return the record's bytes under a full key, or None."""
        ...

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield (full key, record bytes) in key order for keys with `prefix`, those > `after` only."""
        ...


class Table(Generic[R]):
    """One kind of record under one name; the full key is `name`, a slash and the record's own key."""

    __slots__ = ("codec", "is_plain", "name", "prefix", "record_type")

    def __init__(self, name: str, record_type: type[R], *, is_plain: bool = False) -> None:
        """`name` is `"module.table"`; `is_plain` puts key and record themselves, not digests, into the tree."""
        if not name or "/" in name or not name.isascii():
            raise ValueError(f"table name {name!r}: ASCII text without a slash, since a slash ends it in every key")
        self.name = name
        self.prefix = name.encode() + b"/"
        self.record_type = record_type
        self.codec: Codec[R] = Codec(record_type, name)
        self.is_plain = is_plain

    def get(self, state: "Overlay", key: bytes) -> R | None:
        """Return the record under `key` as this overlay sees it, or None."""
        full_key = self.prefix + key
        found = state.written.get(full_key)
        return state.read_below(self, full_key) if found is None else found[0]  # type: ignore[return-value]

    def has(self, state: "Overlay", key: bytes) -> bool:
        """Say whether this overlay sees a record under `key`, without decoding it."""
        return state.has(self.prefix + key)

    def put(self, state: "Overlay", key: bytes, record: R) -> None:
        """Write the record under `key` in this overlay.

        Raises:
            TooLarge: the full key has more than 200 bytes or the record more than 16 KiB.
        """
        full_key = self.prefix + key
        if len(full_key) > MAX_KEY_BYTES:
            raise TooLarge(f"{self.name}: key of {len(full_key)} bytes; at most {MAX_KEY_BYTES}")
        data = encode(record)
        if len(data) > MAX_RECORD_BYTES:
            raise TooLarge(f"{self.name}: record of {len(data)} bytes; at most {MAX_RECORD_BYTES}")
        state.written[full_key] = (record, data)

    def delete(self, state: "Overlay", key: bytes) -> None:
        """Remove the record under `key` in this overlay."""
        state.written[self.prefix + key] = (None, None)

    def scan(self, state: "Overlay", prefix: bytes = b"", after: bytes = b"") -> Iterator[tuple[bytes, R]]:
        """Yield (key, record) in key order, for keys that start with `prefix` and are > `after`."""
        start = len(self.prefix)
        for full_key, record in state.scan(self, self.prefix + prefix, self.prefix + after if after else b""):
            yield full_key[start:], record


class Overlay:
    """Writes over a parent, kept (`keep`) or dropped with the object. Not safe for use by two threads."""

    __slots__ = ("parent", "written")

    def __init__(self, parent: "Overlay | None") -> None:
        self.parent = parent
        self.written: dict[bytes, tuple[Record | None, bytes | None]] = {}

    def read_below(self, table: Table[R], full_key: bytes) -> R | None:
        """Return the record under the full key as it is without this overlay's writes."""
        parent = self.parent
        assert parent is not None
        found = parent.written.get(full_key)
        return parent.read_below(table, full_key) if found is None else found[0]  # type: ignore[return-value]

    def has(self, full_key: bytes) -> bool:
        """Say whether there is a record under the full key, without decoding it."""
        found = self.written.get(full_key)
        if found is not None:
            return found[0] is not None
        assert self.parent is not None
        return self.parent.has(full_key)

    def scan(self, table: Table[R], prefix: bytes, after: bytes) -> Iterator[tuple[bytes, R]]:
        """Yield (full key, record) in key order. The overlay must not be written during the scan."""
        assert self.parent is not None
        return _merge(self.parent.scan(table, prefix, after), self._written_under(prefix, after))

    def keep(self) -> None:
        """Move every write into the parent."""
        assert self.parent is not None
        self.parent.written.update(self.written)
        self.written = {}

    def start(self) -> "StartOfBlock":
        """Return a view of the state as it was before this block, sharing what was already read."""
        assert self.parent is not None
        return self.parent.start()

    def _written_under(self, prefix: bytes, after: bytes) -> list[tuple[bytes, Any]]:
        keys = sorted(key for key in self.written if key.startswith(prefix) and key > after)
        return [(key, self.written[key][0]) for key in keys]


class BlockState(Overlay):
    """The overlay of a whole block: reads through to committed state once per record and remembers it decoded."""

    __slots__ = ("cache", "reader")

    def __init__(self, reader: Reader) -> None:
        super().__init__(None)
        self.reader = reader
        self.cache: dict[bytes, Record | None] = {}

    def has(self, full_key: bytes) -> bool:
        found = self.written.get(full_key)
        return self.reader.get(full_key) is not None if found is None else found[0] is not None

    def read_below(self, table: Table[R], full_key: bytes) -> R | None:
        known = self.cache.get(full_key, _UNREAD)
        if known is not _UNREAD:
            return known  # type: ignore[return-value]
        data = self.reader.get(full_key)
        record = None if data is None else table.codec.decode_trusted(data)
        self.cache[full_key] = record
        return record

    def read_ahead(self, table: Table[R], keys: Iterable[bytes]) -> None:
        """Read and remember the committed records under these keys, which the block is about to ask for.

        Keys in order cost half of what keys here and there do, as they lie in the store, and all found before the first
        is decoded a tenth less than one by one; no rule sees a difference.
        """
        get, decode = self.reader.get, table.codec.decode_trusted
        full_keys = [table.prefix + key for key in keys]
        found = [get(full_key) for full_key in full_keys]
        records = [None if data is None else decode(data) for data in found]
        self.cache.update(zip(full_keys, records, strict=True))

    def scan(self, table: Table[R], prefix: bytes, after: bytes) -> Iterator[tuple[bytes, R]]:
        decode = table.codec.decode_trusted
        stored = ((key, decode(data)) for key, data in self.reader.scan(prefix, after))
        return _merge(stored, self._written_under(prefix, after))

    def start(self) -> "StartOfBlock":
        return StartOfBlock(self)

    def keep(self) -> None:
        raise AssertionError("a block's writes are taken with `changes`, not kept into a parent")

    def changes(self) -> "Changes":
        """Return every write of the block: full key to encoded record, None where it is deleted."""
        return {full_key: data for full_key, (_, data) in self.written.items()}


_NO_WRITES = MappingProxyType[bytes, tuple[Record | None, bytes | None]]({})


class StartOfBlock(BlockState):
    """Committed state as of the start of a block, whatever the block has written since. Takes no writes."""

    __slots__ = ()

    def __init__(self, block: BlockState) -> None:
        super().__init__(block.reader)
        self.cache = block.cache
        self.written = _NO_WRITES  # type: ignore[assignment]

    def start(self) -> "StartOfBlock":
        return self


Changes = dict[bytes, bytes | None]
"""What a block does to state: full key to the record's new bytes, None where it is deleted."""


def _merge(below: Iterator[tuple[bytes, Any]], above: list[tuple[bytes, Any]]) -> Iterator[tuple[bytes, Any]]:
    place = 0
    for key, record in below:
        while place < len(above) and above[place][0] < key:
            if above[place][1] is not None:
                yield above[place]
            place += 1
        if place < len(above) and above[place][0] == key:
            if above[place][1] is not None:
                yield above[place]
            place += 1
        else:
            yield key, record
    for key, record in above[place:]:
        if record is not None:
            yield key, record
