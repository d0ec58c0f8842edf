"""What a scope finds, page by page and in both directions, from rows written by hand; both databases."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from feiqian.index import scopes
from feiqian.index.database import migrate
from feiqian.index.reading import IndexReader
from feiqian.index.scopes import END, Scope, results_of
from feiqian.index.tables import ENTRIES, EVENTS, HOLDERS, RESULT_ACCOUNTS, RESULT_MEMBERS, position

ACCOUNT, OTHER = bytes([1]) * 32, bytes([2]) * 32
MINE = Scope("north", ACCOUNT)


@pytest.fixture
def filled(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> sa.Engine:
    """Blocks 1 to 4 of four results each; the account has two entries in one asset in each even result of 2 and 3,
    one entry in another asset in the last of 3, and is concerned without an entry by the first of 1 and 4.
    """
    monkeypatch.setattr(scopes, "PAGE_ROWS", 3)
    migrate(engine)
    entries = [("CNY", height, place, leg) for height in (2, 3) for place in (0, 2) for leg in (0, 1)]
    entries.append(("USD", 3, 3, 0))
    with engine.begin() as connection:
        connection.execute(sa.insert(HOLDERS), [{"asset": asset, "account": ACCOUNT} for asset in ("CNY", "USD")])
        for number, (asset, height, place, leg) in enumerate(entries):
            row = (ACCOUNT, asset, position(height, 2 * place), leg, number, 1, 1, position(height, place), height)
            connection.execute(sa.insert(ENTRIES).values(row))
        for height in (1, 4):
            connection.execute(sa.insert(RESULT_ACCOUNTS).values((ACCOUNT, position(height, 0))))
        for height in range(1, 5):
            for place in range(4):
                result = position(height, place)
                connection.execute(sa.insert(RESULT_MEMBERS).values(("north", result)))
                for index, of in enumerate((ACCOUNT, OTHER)):
                    parties = ("north", OTHER + of) if of == ACCOUNT else ("north south", OTHER)
                    here = position(height, 2 * place + index)
                    connection.execute(sa.insert(EVENTS).values((here, result, index, "test.Event", b"", *parties)))
    return engine


CONCERNED = [(1, 0), (2, 0), (2, 2), (3, 0), (3, 2), (3, 3), (4, 0)]


@pytest.mark.parametrize("first", [(0, 0), (2, 0), (2, 1), (3, 3), (4, 1)])
@pytest.mark.parametrize("end", [(2, 0), (2, 2), (2, 3), (3, 3), (5, 0), None])
def test_an_accounts_results_come_once_each_in_either_order(
    filled: sa.Engine, first: tuple[int, int], end: tuple[int, int] | None
) -> None:
    ask = IndexReader(filled)._rows
    expected = [position(*at) for at in CONCERNED if at >= first and (end is None or at < end)]
    bounds = (position(*first), END if end is None else position(*end))
    assert list(results_of(ask, MINE, *bounds, is_newest_first=False)) == expected
    assert list(results_of(ask, MINE, *bounds, is_newest_first=True)) == expected[::-1]


def test_a_members_results_come_in_either_order(filled: sa.Engine) -> None:
    ask = IndexReader(filled)._rows
    everything = [position(height, place) for height in range(1, 5) for place in range(4)]
    bounds = (everything[2], everything[13])
    assert list(results_of(ask, Scope("north"), *bounds, is_newest_first=False)) == everything[2:13]
    assert list(results_of(ask, Scope("north"), *bounds, is_newest_first=True)) == everything[2:13][::-1]
    assert list(results_of(ask, Scope("south"), 0, END, is_newest_first=True)) == []


def pages_of(read: Callable[[int], list[int]], after: int) -> list[int]:
    found: list[int] = []
    while page := read(after):
        found += page
        after = page[-1]
    return found


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
def test_events_come_page_by_page_from_any_position(filled: sa.Engine, limit: int) -> None:
    reader = IndexReader(filled)
    of_account = [position(height, 2 * place) for height, place in CONCERNED]
    every = [position(height, place) for height in range(1, 5) for place in range(8)]
    of_south = [each for each in every if each % 2]

    def reading(scope: Scope | None, until: int | None = None) -> Callable[[int], list[int]]:
        return lambda after: [row.position for row in reader.events(scope, after, limit, until)]

    for start in (0, every[3], every[8], position(3, 0) - 1):
        assert pages_of(reading(None), start) == [each for each in every if each > start]
        assert pages_of(reading(Scope("north")), start) == [each for each in every if each > start]
        assert pages_of(reading(MINE), start) == [each for each in of_account if each > start]
        assert pages_of(reading(Scope("north", OTHER)), start) == []
    until = position(3, 4)
    assert pages_of(reading(MINE, until), 0) == [each for each in of_account if each <= until]
    assert pages_of(reading(Scope("south")), 0) == []
    with filled.begin() as connection:
        connection.execute(
            sa.insert(RESULT_MEMBERS).from_select(
                ["member", "position"], sa.select(sa.literal("south"), RESULT_MEMBERS.c.position)
            )
        )
    assert pages_of(reading(Scope("south")), 0) == of_south


def test_an_address_across_two_others_is_no_party() -> None:
    straddling = OTHER[:16] + ACCOUNT + OTHER[16:]
    assert not MINE.holds("", straddling)
    assert MINE.holds("", OTHER + ACCOUNT)
    assert not Scope("north").holds("north-bank south", b"")
    assert Scope("north-bank").holds("south north-bank", b"")
