"""Writes committed blocks into the index: a batch of blocks is one SQL transaction, its height marker included."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from feiqian.core.encoding import encode
from feiqian.core.errors import Fault
from feiqian.core.wire import Committed
from feiqian.execution.registry import Registry
from feiqian.index.database import Writer
from feiqian.index.decoding import DecodedResult, decode_events, decode_results
from feiqian.index.projection import CommittedEvent, Projection, Rows
from feiqian.index.tables import (
    ACCOUNTS,
    BLOCKS,
    ENTRIES,
    EVENT_ACCOUNTS,
    EVENT_PARTIES,
    EVENTS,
    MARKER,
    METADATA,
    RESULTS,
    TRANSACTION_ACCOUNTS,
    TRANSACTION_PARTIES,
    TRANSACTIONS,
    position,
)
from feiqian.ledger.context import Event
from feiqian.ledger.events import AccountOpened, Posted

REMEMBERED_ACCOUNTS = 200_000


class Marker(NamedTuple):
    """How far the index has come: everything up to and including `height` is in it."""

    chain_id: str
    base_height: int
    height: int
    time_ms: int
    app_hash: bytes
    schema_digest: str


class Base(NamedTuple):
    """Where the ledger begins: its state as of `height`, one below the first block, and the events that made it."""

    chain_id: str
    height: int
    time_ms: int
    app_hash: bytes
    events: Sequence[Event]


class _Batch:
    """The rows of one batch, in the columns' order of each table."""

    def __init__(self) -> None:
        self.blocks: list[tuple[Any, ...]] = []
        self.results: list[tuple[Any, ...]] = []
        self.transactions: list[tuple[Any, ...]] = []
        self.events: list[tuple[Any, ...]] = []
        self.of_events: list[tuple[tuple[bytes, ...], tuple[str, ...], int, int]] = []
        self.of_transactions: list[tuple[tuple[bytes, ...], str, int]] = []
        self.accounts: dict[bytes, tuple[str, int]] = {}
        self.legs: list[tuple[bytes, str, int, int, int, int, int]] = []


class IndexWriter:
    """The one writer of an index. Not safe for use by two threads."""

    def __init__(self, engine: sa.Engine, registry: Registry, projections: Sequence[Projection]) -> None:
        self._engine = engine
        self._registry = registry
        self._projections = tuple(sorted(projections, key=lambda projection: projection.name))
        self._handlers: dict[type[Event], list[Any]] = {}
        for projection in self._projections:
            for event_type, handler in projection.handlers.items():
                self._handlers.setdefault(event_type, []).append(handler)
        self._schema_digest = schema_digest(self._projections)
        self._members: dict[bytes, str] = {}

    def marker(self) -> Marker | None:
        """Return how far the index has come; None where it holds nothing."""
        with self._engine.connect() as connection:
            return read_marker(connection)

    def is_of_this_release(self, marker: Marker) -> bool:
        """Say whether the tables have the shape that this release's projections write."""
        return marker.schema_digest == self._schema_digest

    def clear(self) -> None:
        """Drop every table, so that the index can be built again from the ledger."""
        with self._engine.begin() as connection:
            everything = sa.MetaData()
            everything.reflect(connection)
            everything.drop_all(connection)
        self._members.clear()

    def begin(self, base: Base) -> None:
        """Make the modules' tables and write what the ledger began with. The core tables exist and are empty."""
        with self._engine.begin() as connection:
            for projection in self._projections:
                projection.metadata.create_all(connection)
            connection.execute(
                sa.insert(MARKER),
                {
                    "id": 1,
                    "chain_id": base.chain_id,
                    "base_height": base.height,
                    "height": base.height,
                    "time_ms": base.time_ms,
                    "app_hash": base.app_hash,
                    "schema_digest": self._schema_digest,
                },
            )
            batch = _Batch()
            rows = Rows(connection)
            result_position = position(base.height, 0)
            for place, event in enumerate(base.events):
                data = encode(event)
                self._add_event(
                    batch, rows, base.height, base.time_ms, None, result_position, place, place, event, data
                )
            self._write(connection, batch, rows)

    def apply(self, blocks: Sequence[Committed], after: int) -> None:
        """Write consecutive blocks, the first of height `after` + 1, in one transaction.

        Raises:
            Fault: the blocks do not follow on what the index holds, or another process writes the same index.
        """
        if [block.height for block in blocks] != list(range(after + 1, after + 1 + len(blocks))):
            raise Fault(f"the index is at height {after} and was sent block {blocks[0].height}")
        last = blocks[-1]
        with self._engine.begin() as connection:
            moved = connection.execute(
                sa.update(MARKER)
                .where(MARKER.c.id == 1, MARKER.c.height == after)
                .values(height=last.height, time_ms=last.time_ms, app_hash=last.app_hash)
            )
            if moved.rowcount != 1:
                raise Fault(f"the index is no longer at height {after}: another process writes it")
            batch = _Batch()
            rows = Rows(connection)
            for block in blocks:
                self._add_block(batch, rows, block)
            self._write(connection, batch, rows)

    def _add_block(self, batch: _Batch, rows: Rows, block: Committed) -> None:
        results = decode_results(self._registry, block)
        event_place = 0
        for place, decoded in enumerate(results):
            here = position(block.height, place)
            self._add_result(batch, here, decoded)
            tx_id = None if decoded.asked is None else decoded.asked.tx_id
            for index, event in enumerate(decode_events(self._registry, decoded.result)):
                data = decoded.result.events[index]
                self._add_event(batch, rows, block.height, block.time_ms, tx_id, here, index, event_place, event, data)
                event_place += 1
        transaction_count = sum(decoded.asked is not None for decoded in results)
        size_bytes = len(block.block)
        batch.blocks.append(
            (block.height, block.time_ms, block.app_hash, transaction_count, len(results), event_place, size_bytes)
        )

    def _add_result(self, batch: _Batch, here: int, decoded: DecodedResult) -> None:
        result = decoded.result
        message = result.message.replace("\x00", "\ufffd")
        batch.results.append(
            (here, decoded.id, decoded.asked is None, result.codespace, result.number, message, result.work)
        )
        if decoded.asked is None or decoded.asked.transaction is None:
            return
        transaction = decoded.asked.transaction
        kinds = " ".join(dict.fromkeys(type(message).__struct_config__.tag for message in transaction.messages))
        size_bytes = len(decoded.asked.signed)
        batch.transactions.append(
            (here, decoded.asked.tx_id, transaction.sponsor, kinds, transaction.expires_at_ms, size_bytes)
        )
        # One that was refused as unauthorised names any sponsor and any accounts it likes: nobody reads it by that.
        if decoded.id == decoded.asked.tx_id:
            acting = tuple([claim.account for message in transaction.messages for claim in message.claims()])
            batch.of_transactions.append((acting, transaction.sponsor, here))

    def _add_event(
        self,
        batch: _Batch,
        rows: Rows,
        height: int,
        time_ms: int,
        tx_id: bytes | None,
        result_position: int,
        event_index: int,
        event_place: int,
        event: Event,
        data: bytes,
    ) -> None:
        here = position(height, event_place)
        event_type = type(event)
        if isinstance(event, AccountOpened):
            batch.accounts[event.account] = (event.member, here)
        elif isinstance(event, Posted):
            for leg_index, leg in enumerate(event.legs):
                batch.legs.append((leg.account, leg.asset, here, leg_index, leg.amount_minor, result_position, time_ms))
        batch.events.append((here, result_position, event_index, event_type.__struct_config__.tag, data))
        batch.of_events.append((event.accounts(), event.members(), here, result_position))
        handlers = self._handlers.get(event_type)
        if handlers:
            result_index = result_position - position(height, 0)
            committed = CommittedEvent(height, time_ms, tx_id, result_index, event_index, event, here, result_position)
            for handler in handlers:
                handler(rows, committed)

    def _write(self, connection: sa.Connection, batch: _Batch, rows: Rows) -> None:
        writer = Writer(connection)
        writer.insert(BLOCKS, batch.blocks)
        writer.insert(RESULTS, batch.results)
        writer.insert(TRANSACTIONS, batch.transactions)
        writer.insert(EVENTS, batch.events)
        writer.insert(ACCOUNTS, [(address, member, at) for address, (member, at) in batch.accounts.items()])
        self._write_parties(writer, batch)
        _write_entries(writer, batch)
        rows.flush()

    def _write_parties(self, writer: Writer, batch: _Batch) -> None:
        members = self._known_members(writer, batch)
        # Sorted: rows reach the database in the keys' order, which appends to each party's run.
        event_members: set[tuple[str, int]] = set()
        event_accounts: set[tuple[bytes, int]] = set()
        result_members: set[tuple[str, int]] = set()
        result_accounts: set[tuple[bytes, int]] = set()
        for accounts, sponsor, here in batch.of_transactions:
            result_members.update((member, here) for member in (sponsor, *_owners(members, accounts)))
            result_accounts.update((account, here) for account in accounts)
        for accounts, named, here, result_position in batch.of_events:
            for member in (*named, *_owners(members, accounts)):
                event_members.add((member, here))
                result_members.add((member, result_position))
            for account in accounts:
                event_accounts.add((account, here))
                result_accounts.add((account, result_position))
        writer.insert(EVENT_PARTIES, sorted(event_members))
        writer.insert(EVENT_ACCOUNTS, sorted(event_accounts))
        writer.insert(TRANSACTION_PARTIES, sorted(result_members))
        writer.insert(TRANSACTION_ACCOUNTS, sorted(result_accounts))

    def _known_members(self, writer: Writer, batch: _Batch) -> Mapping[bytes, str]:
        if len(self._members) > REMEMBERED_ACCOUNTS:
            self._members.clear()
        known = self._members
        known.update((address, member) for address, (member, _) in batch.accounts.items())
        asked = dict.fromkeys(account for accounts, *_ in batch.of_events for account in accounts)
        asked.update(dict.fromkeys(account for accounts, *_ in batch.of_transactions for account in accounts))
        missing = [account for account in asked if account not in known]
        if missing:
            known.update(writer.members_of(missing))
        return known


def schema_digest(projections: Sequence[Projection]) -> str:
    """Name the shape of all tables: an index of another shape is built again from the ledger."""
    digest = hashlib.sha256()
    for metadata in (METADATA, *(projection.metadata for projection in projections)):
        for table in metadata.sorted_tables:
            digest.update(str(CreateTable(table)).encode())
            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                digest.update(str(CreateIndex(index)).encode())
    return digest.hexdigest()


def read_marker(connection: sa.Connection) -> Marker | None:
    """Return the marker, or None where the index holds nothing yet."""
    row = connection.execute(sa.select(MARKER)).one_or_none()
    return None if row is None else Marker(*row[1:])


def _owners(members: Mapping[bytes, str], accounts: Sequence[bytes]) -> list[str]:
    return [members[account] for account in accounts if account in members]


def _write_entries(writer: Writer, batch: _Batch) -> None:
    """Number each leg within its account and asset, carry the running balance, and write both."""
    if not batch.legs:
        return
    keys = dict.fromkeys((account, asset) for account, asset, *_ in batch.legs)
    known = writer.balances(keys)
    running: dict[tuple[bytes, str], tuple[int, int, int]] = {}
    entries: list[tuple[Any, ...]] = []
    for account, asset, here, leg_index, amount_minor, result_position, time_ms in batch.legs:
        key = (account, asset)
        if key in running:
            posted_minor, count, _ = running[key]
        else:
            posted_minor, count = known.get(key, (0, 0))
        posted_minor += amount_minor
        count += 1
        running[key] = (posted_minor, count, here)
        entries.append((account, here, leg_index, asset, count, amount_minor, posted_minor, result_position, time_ms))
    entries.sort(key=lambda row: row[0])
    writer.insert(ENTRIES, entries)
    balances = [(*key, posted, count, here) for key, (posted, count, here) in running.items()]
    writer.put_balances(sorted(balances))
