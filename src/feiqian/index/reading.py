"""What the gateway reads from the index. Every question names its reader's scope; None asks for everything."""

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError, ProgrammingError

from feiqian.index.scopes import END, Scope, assets_of, results_of
from feiqian.index.tables import (
    ACCOUNTS,
    BLOCKS,
    ENTRIES,
    EVENTS,
    MARKER,
    PLACE_BITS,
    RESULTS,
    id_head,
    position,
    split_position,
)

ASKED_AT_ONCE = 500
_NO_TABLES = (OperationalError, ProgrammingError)
"""What both databases raise while the index is not built yet, is being built anew, or cannot be reached."""


class IndexAway(Exception):
    """The index has not begun, is being built anew, or its database does not answer."""


def _height_of(table: sa.Table) -> sa.ColumnElement[int]:
    # A literal: PostgreSQL shifts a bigint by an integer, and a bound number would be a bigint.
    return table.c.position.op(">>")(sa.literal_column(str(PLACE_BITS)))


class EventRow(NamedTuple):
    """One event with the time and the transaction (or trigger) that caused it."""

    position: int
    tag: str
    body: bytes
    id: bytes
    is_trigger: bool
    time_ms: int


class EntryRow(NamedTuple):
    """One leg of a posting, with the account's balance in the asset after it."""

    position: int
    leg_index: int
    asset: str
    sequence: int
    amount_minor: int
    posted_minor: int
    time_ms: int
    id: bytes
    is_trigger: bool


class TransactionRow(NamedTuple):
    """A transaction's or trigger's result; the transaction's own fields are None for a trigger."""

    position: int
    id: bytes
    is_trigger: bool
    codespace: str
    number: int
    message: str
    work: int
    time_ms: int
    sponsor: str | None
    kinds: str | None


class BlockRow(NamedTuple):
    """What an overview shows of a block."""

    height: int
    time_ms: int
    app_hash: bytes
    transaction_count: int
    result_count: int
    event_count: int
    size_bytes: int


class RowsAsOf(NamedTuple):
    """A question's rows, and where the index that gave them begins: after a height, with a block of this time."""

    base_height: int
    first_time_ms: int | None
    rows: Sequence[sa.Row]


class IndexReader:
    """Questions to the index; each runs in one short transaction and may be asked from any thread."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    def height(self) -> int | None:
        """Return the height up to which everything is indexed; None before the index has begun."""
        return self.bounds()[0]

    def bounds(self) -> tuple[int, int] | tuple[None, None]:
        """Return the height up to which all is indexed, and the first whose block is, or will be; None: not begun."""
        with self.engine.connect() as connection:
            try:
                marker = connection.execute(sa.select(MARKER.c.height, MARKER.c.base_height)).one_or_none()
            except _NO_TABLES:
                marker = None
        return (None, None) if marker is None else (marker.height, marker.base_height + 1)

    def events(self, scope: Scope | None, after: int, limit: int, until: int | None = None) -> list[EventRow]:
        """Return the events after a position, up to another, that concern this scope, oldest first."""
        question = (
            sa.select(
                EVENTS.c.position,
                EVENTS.c.tag,
                EVENTS.c.body,
                RESULTS.c.id,
                RESULTS.c.is_trigger,
                BLOCKS.c.time_ms,
                EVENTS.c.members,
                EVENTS.c.accounts,
            )
            .select_from(EVENTS)
            .join(RESULTS, RESULTS.c.position == EVENTS.c.result_position, isouter=True)
            .join(BLOCKS, BLOCKS.c.height == _height_of(EVENTS), isouter=True)
            .where(EVENTS.c.position > after)
            .order_by(EVENTS.c.position)
        )
        if until is not None:
            question = question.where(EVENTS.c.position <= until)
        if scope is None:
            return [EventRow(*row[:6]) for row in self._rows(question.limit(limit))]
        found: list[EventRow] = []
        end = END if until is None else position(split_position(until)[0] + 1, 0)
        results = results_of(self._rows, scope, self._result_with_event(after), end, is_newest_first=False)
        while len(found) < limit and (page := list(islice(results, ASKED_AT_ONCE))):
            rows = self._rows(question.where(EVENTS.c.result_position.in_(page)))
            found += [EventRow(*row[:6]) for row in rows if scope.holds(row[6], row[7])]
        return found[:limit]

    def last_event_position(self, height: int) -> int:
        """Return the greatest position that an event of this height or below can have."""
        return position(height + 1, 0) - 1

    def entries(
        self,
        account: bytes,
        asset: str | None,
        before: tuple[int, int] | None,
        limit: int,
        from_ms: int | None = None,
        until_ms: int | None = None,
    ) -> list[EntryRow]:
        """Return an account's entries before (position, leg), newest first."""
        question = (
            sa.select(
                ENTRIES.c.position,
                ENTRIES.c.leg_index,
                ENTRIES.c.asset,
                ENTRIES.c.sequence,
                ENTRIES.c.amount_minor,
                ENTRIES.c.posted_minor,
                ENTRIES.c.time_ms,
                RESULTS.c.id,
                RESULTS.c.is_trigger,
            )
            .join(RESULTS, RESULTS.c.position == ENTRIES.c.result_position, isouter=True)
            .where(ENTRIES.c.account == account)
            .order_by(ENTRIES.c.position.desc(), ENTRIES.c.leg_index.desc())
            .limit(limit)
        )
        if before is not None:
            question = question.where(sa.tuple_(ENTRIES.c.position, ENTRIES.c.leg_index) < before)
        if from_ms is not None:
            question = question.where(ENTRIES.c.time_ms >= from_ms)
        if until_ms is not None:
            question = question.where(ENTRIES.c.time_ms < until_ms)
        # Asset by asset, as they lie in the table; few accounts have more than a handful.
        assets = [asset] if asset is not None else assets_of(self._rows, account)
        rows = [EntryRow(*row) for each in assets for row in self._rows(question.where(ENTRIES.c.asset == each))]
        return sorted(rows, key=lambda row: (row.position, row.leg_index), reverse=True)[:limit]

    def transactions(
        self, scope: Scope | None, before: int | None, limit: int, height: int | None = None
    ) -> list[TransactionRow]:
        """Return results before a position that concern this scope, newest first; of one block if asked."""
        place = RESULTS.c.position
        question = (
            sa.select(
                place,
                RESULTS.c.id,
                RESULTS.c.is_trigger,
                RESULTS.c.codespace,
                RESULTS.c.number,
                RESULTS.c.message,
                RESULTS.c.work,
                BLOCKS.c.time_ms,
                RESULTS.c.sponsor,
                RESULTS.c.kinds,
            )
            .select_from(RESULTS)
            .join(BLOCKS, BLOCKS.c.height == _height_of(RESULTS))
            .order_by(place.desc())
            .limit(limit)
        )
        first, end = 0, END if before is None else before
        if height is not None:
            first, end = position(height, 0), min(end, position(height + 1, 0))
        if scope is None:
            return [TransactionRow(*row) for row in self._rows(question.where(place >= first, place < end))]
        page = list(islice(results_of(self._rows, scope, first, end, is_newest_first=True), limit))
        return [TransactionRow(*row) for row in self._rows(question.where(place.in_(page)))]

    def blocks(self, before: int | None, limit: int) -> list[BlockRow]:
        """Return blocks below a height, newest first."""
        question = sa.select(*BLOCKS.columns).order_by(BLOCKS.c.height.desc()).limit(limit)
        if before is not None:
            question = question.where(BLOCKS.c.height < before)
        return [BlockRow(*row) for row in self._rows(question)]

    def blocks_between(self, first: int, last: int) -> list[BlockRow]:
        """Return the blocks of these heights, oldest first."""
        chosen = BLOCKS.c.height.between(first, last)
        return [
            BlockRow(*row) for row in self._rows(sa.select(*BLOCKS.columns).where(chosen).order_by(BLOCKS.c.height))
        ]

    def places_of(self, ids: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
        """Return height and place among the block's results of those ids that are indexed."""
        found: dict[bytes, tuple[int, int]] = {}
        for start in range(0, len(ids), ASKED_AT_ONCE):
            asked = set(ids[start : start + ASKED_AT_ONCE])
            chosen = RESULTS.c.id_head.in_([id_head(each) for each in asked])
            for row in self._rows(sa.select(RESULTS.c.id, RESULTS.c.position).where(chosen)):
                if row[0] in asked:
                    found[row[0]] = split_position(row[1])
        return found

    def height_of(self, scope: Scope | None, tx_id: bytes) -> int | None:
        """Return the height of the last result under an id that concerns this scope, None where there is none."""
        is_it = sa.and_(RESULTS.c.id_head == id_head(tx_id), RESULTS.c.id == tx_id)
        question = sa.select(RESULTS.c.position).where(is_it).order_by(RESULTS.c.position.desc())
        for (at,) in self._rows(question):
            if scope is None or any(results_of(self._rows, scope, at, at + 1, is_newest_first=True)):
                return split_position(at)[0]
        return None

    def accounts_of(self, scope: Scope | None, after: bytes, limit: int) -> list[tuple[bytes, str]]:
        """Return (address, member) of the accounts in this scope, in address order."""
        question = sa.select(ACCOUNTS.c.address, ACCOUNTS.c.member).where(ACCOUNTS.c.address > after)
        if scope is not None:
            is_own = ACCOUNTS.c.member == scope.member
            question = question.where(is_own if scope.account is None else ACCOUNTS.c.address == scope.account)
        return [(row[0], row[1]) for row in self._rows(question.order_by(ACCOUNTS.c.address).limit(limit))]

    def rows_as_of(self, height: int, question: sa.Select) -> RowsAsOf | None:
        """Return a question's rows where the index has at least this height at that very moment, else None."""
        try:
            with self.engine.connect() as connection:
                if connection.dialect.name == "sqlite":
                    # All questions see one state; the driver begins a transaction at the first write only.
                    connection.exec_driver_sql("BEGIN")
                else:
                    connection.execution_options(isolation_level="REPEATABLE READ")
                marker = connection.execute(sa.select(MARKER.c.height, MARKER.c.base_height)).one_or_none()
                if marker is None or marker.height < height:
                    return None
                first = sa.select(BLOCKS.c.time_ms).where(BLOCKS.c.height == marker.base_height + 1)
                first_time_ms = connection.execute(first).scalar_one_or_none()
                return RowsAsOf(marker.base_height, first_time_ms, connection.execute(question).all())
        except _NO_TABLES as error:
            raise IndexAway(f"the index cannot answer now: {type(error).__name__}") from error

    def _result_with_event(self, at: int) -> int:
        """Return the position of the result whose event stands at a position, or of the last with one before it."""
        question = sa.select(EVENTS.c.result_position).where(EVENTS.c.position <= at)
        rows = self._rows(question.order_by(EVENTS.c.position.desc()).limit(1))
        return rows[0][0] if rows else 0

    def _rows(self, question: sa.Select) -> Sequence[sa.Row]:
        try:
            with self.engine.connect() as connection:
                return connection.execute(question).all()
        except _NO_TABLES as error:
            raise IndexAway(f"the index cannot answer now: {type(error).__name__}") from error
