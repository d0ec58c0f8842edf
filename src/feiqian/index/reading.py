"""What the gateway reads from the index. Every question names its reader's scope; None asks for everything."""

from collections.abc import Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError, ProgrammingError

from feiqian.index.tables import (
    ACCOUNTS,
    BLOCKS,
    ENTRIES,
    EVENT_ACCOUNTS,
    EVENT_PARTIES,
    EVENTS,
    MARKER,
    PLACE_BITS,
    RESULTS,
    TRANSACTION_ACCOUNTS,
    TRANSACTION_PARTIES,
    TRANSACTIONS,
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


class Scope(NamedTuple):
    """Whose things are asked for: this account's alone, or where it is None everything of the member."""

    member: str
    account: bytes | None = None


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


class IndexReader:
    """Questions to the index; each runs in one short transaction and may be asked from any thread."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    def height(self) -> int | None:
        """Return the height up to which everything is indexed; None before the index has begun."""
        with self.engine.connect() as connection:
            try:
                return connection.execute(sa.select(MARKER.c.height)).scalar_one_or_none()
            except _NO_TABLES:
                return None

    def events(self, scope: Scope | None, after: int, limit: int, until: int | None = None) -> list[EventRow]:
        """Return the events after a position, up to another, that concern this scope, oldest first."""
        key = EVENTS.c.position
        question = (
            sa.select(
                EVENTS.c.position, EVENTS.c.tag, EVENTS.c.body, RESULTS.c.id, RESULTS.c.is_trigger, BLOCKS.c.time_ms
            )
            .join(RESULTS, RESULTS.c.position == EVENTS.c.result_position, isouter=True)
            .join(BLOCKS, BLOCKS.c.height == _height_of(EVENTS), isouter=True)
            .limit(limit)
        )
        if scope is not None:
            parties, is_in_scope = _parties(scope, EVENT_PARTIES, EVENT_ACCOUNTS)
            question = question.join(parties, parties.c.position == key).where(is_in_scope)
            key = parties.c.position
        question = question.where(key > after).order_by(key)
        if until is not None:
            question = question.where(key <= until)
        return [EventRow(*row) for row in self._rows(question)]

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
        if asset is not None:
            question = question.where(ENTRIES.c.asset == asset)
        if before is not None:
            question = question.where(sa.tuple_(ENTRIES.c.position, ENTRIES.c.leg_index) < before)
        if from_ms is not None:
            question = question.where(ENTRIES.c.time_ms >= from_ms)
        if until_ms is not None:
            question = question.where(ENTRIES.c.time_ms < until_ms)
        return [EntryRow(*row) for row in self._rows(question)]

    def transactions(
        self, scope: Scope | None, before: int | None, limit: int, height: int | None = None
    ) -> list[TransactionRow]:
        """Return results before a position that concern this scope, newest first; of one block if asked."""
        source = RESULTS.join(BLOCKS, BLOCKS.c.height == _height_of(RESULTS))
        key = RESULTS.c.position
        condition = sa.true()
        if scope is not None:
            parties, condition = _parties(scope, TRANSACTION_PARTIES, TRANSACTION_ACCOUNTS)
            source = parties.join(source, parties.c.position == key)
            key = parties.c.position
        question = (
            sa.select(*RESULTS.columns, BLOCKS.c.time_ms, TRANSACTIONS.c.sponsor, TRANSACTIONS.c.kinds)
            .select_from(source.join(TRANSACTIONS, TRANSACTIONS.c.position == RESULTS.c.position, isouter=True))
            .where(condition)
            .order_by(key.desc())
            .limit(limit)
        )
        if before is not None:
            question = question.where(key < before)
        if height is not None:
            question = question.where(key >= position(height, 0), key < position(height + 1, 0))
        return [TransactionRow(*row) for row in self._rows(question)]

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
            chosen = RESULTS.c.id.in_(ids[start : start + ASKED_AT_ONCE])
            for row in self._rows(sa.select(RESULTS.c.id, RESULTS.c.position).where(chosen)):
                found[row[0]] = split_position(row[1])
        return found

    def accounts_of(self, scope: Scope | None, after: bytes, limit: int) -> list[tuple[bytes, str]]:
        """Return (address, member) of the accounts in this scope, in address order."""
        question = sa.select(ACCOUNTS.c.address, ACCOUNTS.c.member).where(ACCOUNTS.c.address > after)
        if scope is not None:
            is_own = ACCOUNTS.c.member == scope.member
            question = question.where(is_own if scope.account is None else ACCOUNTS.c.address == scope.account)
        return [(row[0], row[1]) for row in self._rows(question.order_by(ACCOUNTS.c.address).limit(limit))]

    def _rows(self, question: sa.Select) -> Sequence[sa.Row]:
        try:
            with self.engine.connect() as connection:
                return connection.execute(question).all()
        except _NO_TABLES as error:
            raise IndexAway(f"the index cannot answer now: {type(error).__name__}") from error


def _parties(scope: Scope, of_members: sa.Table, of_accounts: sa.Table) -> tuple[sa.Table, sa.ColumnElement[bool]]:
    if scope.account is None:
        return of_members, of_members.c.member == scope.member
    return of_accounts, of_accounts.c.account == scope.account
