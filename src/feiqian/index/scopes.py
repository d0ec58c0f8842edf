"""Which results concern a reader: found page by page in the order asked for, whichever table holds them."""

from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from itertools import groupby
from typing import NamedTuple

import sqlalchemy as sa

from feiqian.core.addresses import ADDRESS_BYTES
from feiqian.index.tables import ENTRIES, HOLDERS, RESULT_ACCOUNTS, RESULT_MEMBERS, position, split_position

PAGE_ROWS = 200
END = 2**63 - 1
"""Beyond every position."""

Ask = Callable[[sa.Select], Sequence[sa.Row]]
"""Runs a question and returns its rows."""


class Scope(NamedTuple):
    """Whose things are asked for: this account's alone, or where it is None everything of the member."""

    member: str
    account: bytes | None = None

    def holds(self, members: str, accounts: bytes) -> bool:
        """Say whether an event that concerns these, as `EVENTS` has them, concerns this reader."""
        if self.account is None:
            return self.member in members.split(" ")
        places = range(0, len(accounts), ADDRESS_BYTES)
        return any(accounts[place : place + ADDRESS_BYTES] == self.account for place in places)


def results_of(ask: Ask, scope: Scope, first: int, end: int, *, is_newest_first: bool) -> Iterator[int]:
    """Yield the positions from `first` to before `end` of the results that concern this scope, each once."""
    if scope.account is None:
        yield from _noted(ask, RESULT_MEMBERS, scope.member, first, end, is_newest_first)
        return
    sources = [_noted(ask, RESULT_ACCOUNTS, scope.account, first, end, is_newest_first)]
    for asset in assets_of(ask, scope.account):
        sources.append(_with_entries(ask, scope.account, asset, first, end, is_newest_first))
    for each, _ in groupby(merge(*sources, reverse=is_newest_first)):
        yield each


def assets_of(ask: Ask, account: bytes) -> list[str]:
    """Return the assets in which an account has entries, in no order."""
    return [row[0] for row in ask(sa.select(HOLDERS.c.asset).where(HOLDERS.c.account == account))]


def _noted(ask: Ask, table: sa.Table, party: str | bytes, first: int, end: int, is_newest_first: bool) -> Iterator[int]:
    """Yield what stands under a party in a table of (party, position)."""
    party_column, place = table.columns
    question = sa.select(place).where(party_column == party).limit(PAGE_ROWS)
    while True:
        rows = ask(question.where(place >= first, place < end).order_by(place.desc() if is_newest_first else place))
        for row in rows:
            yield row[0]
        if len(rows) < PAGE_ROWS:
            return
        first, end = (first, rows[-1][0]) if is_newest_first else (rows[-1][0] + 1, end)


def _with_entries(ask: Ask, account: bytes, asset: str, first: int, end: int, is_newest_first: bool) -> Iterator[int]:
    """Yield the results in which an account has entries in an asset; one with many entries stands several times."""
    # Entries lie by their events' positions, which share the height with the result's and have the same order.
    place = sa.tuple_(ENTRIES.c.position, ENTRIES.c.leg_index)
    low = (position(split_position(first)[0], 0), -1)
    high = (position(split_position(end)[0] + 1, 0), -1) if end < END else (END, -1)
    order = (ENTRIES.c.position, ENTRIES.c.leg_index)
    question = (
        sa.select(*order, ENTRIES.c.result_position)
        .where(ENTRIES.c.account == account, ENTRIES.c.asset == asset)
        .where(ENTRIES.c.result_position >= first, ENTRIES.c.result_position < end)
        .order_by(*([column.desc() for column in order] if is_newest_first else order))
        .limit(PAGE_ROWS)
    )
    while True:
        rows = ask(question.where(place > low, place < high))
        for row in rows:
            yield row[2]
        if len(rows) < PAGE_ROWS:
            return
        last = (rows[-1][0], rows[-1][1])
        low, high = (low, last) if is_newest_first else (last, high)
