"""Writes committed blocks into the index: a batch of blocks is one SQL transaction, its height marker included."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.schema import CreateIndex, CreateTable

from feiqian.core.encoding import encode
from feiqian.core.errors import Fault
from feiqian.core.wire import Stored
from feiqian.execution.registry import Registry
from feiqian.index.database import Writer
from feiqian.index.decoding import DecodedResult, decode_events, decode_results
from feiqian.index.projection import CommittedEvent, Projection, Rows
from feiqian.index.tables import (
    ACCOUNTS,
    BLOCKS,
    ENTRIES,
    EVENTS,
    HOLDERS,
    MARKER,
    METADATA,
    RESULT_ACCOUNTS,
    RESULT_MEMBERS,
    RESULTS,
    id_head,
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


class _Seen(NamedTuple):
    """An event with what its row holds, but for the members whose accounts it names."""

    position: int
    event_index: int
    event: Event
    accounts: tuple[bytes, ...]
    data: bytes


class _Parties:
    """What is known of who is concerned by one result: it asks for the members of these accounts."""

    __slots__ = ("accounts", "entered", "events", "members", "position")

    def __init__(self, place: int) -> None:
        self.position = place
        self.members: dict[str, None] = {}
        self.accounts: dict[bytes, None] = {}
        self.entered: set[bytes] = set()
        self.events: list[_Seen] = []


class _Batch:
    """The rows of one batch, in the columns' order of each table, and what rows are still to be made of."""

    def __init__(self) -> None:
        self.blocks: list[tuple[Any, ...]] = []
        self.results: list[tuple[Any, ...]] = []
        self.parties: list[_Parties] = []
        self.accounts: dict[bytes, tuple[str, int]] = {}
        self.legs: list[tuple[bytes, str, int, int, int, int, int]] = []


class IndexWriter:
    """The one writer of an index. Not safe for use by two threads.

    `give_way` is called between small pieces of the work, so that who works beside others can rest.
    """

    def __init__(
        self,
        engine: sa.Engine,
        registry: Registry,
        projections: Sequence[Projection],
        give_way: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._give_way = give_way
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
            parties = _Parties(position(base.height, 0))
            batch.parties.append(parties)
            for place, event in enumerate(base.events):
                at = CommittedEvent(
                    base.height, base.time_ms, None, 0, place, event, position(base.height, place), parties.position
                )
                self._add_event(batch, rows, parties, at, encode(event))
            self._write(connection, batch, rows)

    def apply(self, blocks: Sequence[Stored], after: int) -> None:
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

    def _add_block(self, batch: _Batch, rows: Rows, block: Stored) -> None:
        height, time_ms = block.height, block.time_ms
        results = decode_results(self._registry, block)
        here = first = position(height, 0)
        transaction_count = 0
        for place, decoded in enumerate(results):
            self._give_way()
            parties = self._add_result(batch, position(height, place), decoded)
            tx_id = None if decoded.asked is None else decoded.asked.tx_id
            transaction_count += decoded.asked is not None
            data = decoded.result.events
            for index, event in enumerate(decode_events(self._registry, decoded.result)):
                at = CommittedEvent(height, time_ms, tx_id, place, index, event, here, parties.position)
                self._add_event(batch, rows, parties, at, data[index])
                here += 1
        size_bytes = len(block.block)
        batch.blocks.append(
            (height, time_ms, block.app_hash, transaction_count, len(results), here - first, size_bytes)
        )

    def _add_result(self, batch: _Batch, here: int, decoded: DecodedResult) -> _Parties:
        id_, result, asked = decoded
        parties = _Parties(here)
        batch.parties.append(parties)
        transaction = None if asked is None else asked.transaction
        sponsor = kinds = None
        if asked is not None and transaction is not None:
            sponsor = transaction.sponsor
            kinds = " ".join(dict.fromkeys([type(each).__struct_config__.tag for each in transaction.messages]))
            # One that was refused as unauthorised names any sponsor and any accounts it likes: nobody reads it by that.
            if id_ == asked.tx_id:
                parties.members[sponsor] = None
                for message in transaction.messages:
                    for claim in message.claims():
                        parties.accounts[claim.account] = None
        message = result.message.replace("\x00", "\ufffd")
        number, work = result.number, result.work
        batch.results.append(
            (here, id_, id_head(id_), asked is None, result.codespace, number, message, work, sponsor, kinds)
        )
        return parties

    def _add_event(self, batch: _Batch, rows: Rows, parties: _Parties, at: CommittedEvent, data: bytes) -> None:
        event = at.event
        if isinstance(event, Posted):
            here, result_position, time_ms = at.position, at.result_position, at.time_ms
            for leg_index, leg in enumerate(event.legs):
                batch.legs.append((leg.account, leg.asset, here, leg_index, leg.amount_minor, result_position, time_ms))
                parties.entered.add(leg.account)
        elif isinstance(event, AccountOpened):
            batch.accounts[event.account] = (event.member, at.position)
        parties.events.append(_Seen(at.position, at.event_index, event, event.accounts(), data))
        for handler in self._handlers.get(type(event), ()):
            handler(rows, at)

    def _write(self, connection: sa.Connection, batch: _Batch, rows: Rows) -> None:
        writer = Writer(connection, self._give_way)
        writer.insert(BLOCKS, batch.blocks)
        writer.insert(RESULTS, batch.results)
        writer.insert(ACCOUNTS, [(address, member, at) for address, (member, at) in batch.accounts.items()])
        self._write_events(writer, batch)
        _write_entries(writer, batch)
        rows.flush()

    def _write_events(self, writer: Writer, batch: _Batch) -> None:
        """Write the events, and who may find the results that they belong to."""
        members = self._known_members(writer, batch)
        events: list[tuple[Any, ...]] = []
        of_members: dict[str, list[int]] = {}
        of_accounts: list[tuple[bytes, int]] = []
        for parties in batch.parties:
            self._give_way()
            here, concerned = parties.position, parties.members
            for account in parties.accounts:
                if account in members:
                    concerned[members[account]] = None
            for place, event_index, event, accounts, data in parties.events:
                names = dict.fromkeys(event.members())
                for account in accounts:
                    if account in members:
                        names[members[account]] = None
                tag = type(event).__struct_config__.tag
                events.append((place, here, event_index, tag, data, " ".join(names), b"".join(accounts)))
                concerned |= names
                parties.accounts |= dict.fromkeys(accounts)
            for member in concerned:
                of_members.setdefault(member, []).append(here)
            of_accounts += [(account, here) for account in parties.accounts if account not in parties.entered]
        writer.insert(EVENTS, events)
        # In the keys' order, so that the database appends to each party's run.
        writer.insert(RESULT_MEMBERS, [(member, here) for member in sorted(of_members) for here in of_members[member]])
        writer.insert(RESULT_ACCOUNTS, sorted(of_accounts))

    def _known_members(self, writer: Writer, batch: _Batch) -> Mapping[bytes, str]:
        """Return at least the members of all accounts that the batch's results and events name."""
        if len(self._members) > REMEMBERED_ACCOUNTS:
            self._members.clear()
        known = self._members
        known.update((address, member) for address, (member, _) in batch.accounts.items())
        missing: set[bytes] = set()
        for parties in batch.parties:
            for account in parties.accounts:
                if account not in known:
                    missing.add(account)
            for seen in parties.events:
                for account in seen.accounts:
                    if account not in known:
                        missing.add(account)
        if missing:
            known.update(writer.members_of(sorted(missing)))
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


def _write_entries(writer: Writer, batch: _Batch) -> None:
    """Number each leg within its account and asset, carry the running balance, and write both."""
    if not batch.legs:
        return
    # In the order in which entries lie, accounts first: what is read stays in memory until it is written.
    legs = sorted(batch.legs, key=itemgetter(0))
    known = writer.balances(dict.fromkeys([leg[:2] for leg in legs]))
    holders: list[tuple[str, bytes]] = []
    entries: list[tuple[Any, ...]] = []
    for account, asset, here, leg_index, amount_minor, result_position, time_ms in legs:
        key = (account, asset)
        posted_minor, sequence = known.get(key, (0, 0))
        if not sequence:
            holders.append((asset, account))
        posted_minor += amount_minor
        sequence += 1
        known[key] = (posted_minor, sequence)
        entries.append(
            (account, asset, here, leg_index, sequence, amount_minor, posted_minor, result_position, time_ms)
        )
    writer.insert(ENTRIES, entries)
    writer.insert(HOLDERS, sorted(holders))
