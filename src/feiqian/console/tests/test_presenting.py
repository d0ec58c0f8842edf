"""How values look, where forms may lead, and how the overview's pace is reckoned."""

from typing import Any

import pytest

from feiqian.console.forms import local_path
from feiqian.console.pages.accounts import day_start_ms
from feiqian.console.pages.overview import pace_of
from feiqian.console.presenting import (
    Line,
    amount_text,
    day_text,
    describe,
    machine_time,
    number_text,
    short_address,
    short_hash,
    time_text,
)
from feiqian.index.reading import BlockRow


@pytest.mark.parametrize(
    ("amount_minor", "scale", "text"),
    [
        (0, 2, "0.00"),
        (5, 2, "0.05"),
        (123_456_789, 2, "1,234,567.89"),
        (-123_456, 2, "−1,234.56"),
        (1_000, 0, "1,000"),
        (1, 9, "0.000000001"),
        (2**62, 2, "46,116,860,184,273,879.04"),
    ],
)
def test_amounts_keep_every_digit(amount_minor: int, scale: int, text: str) -> None:
    assert amount_text(amount_minor, scale) == text


def test_a_credit_has_its_sign_where_asked() -> None:
    assert amount_text(150, 2, is_signed=True) == "+1.50"
    assert amount_text(-150, 2, is_signed=True) == "−1.50"
    assert amount_text(0, 2, is_signed=True) == "0.00"
    assert number_text(1_234_567) == "1,234,567"


def test_times_are_utc() -> None:
    # 2026-09-21 14:13:20 UTC, by `date -u -d @1790000000`.
    assert time_text(1_790_000_000_999) == "2026-09-21 14:13:20"
    assert machine_time(1_790_000_000_999) == "2026-09-21T14:13:20.999Z"
    assert day_start_ms("2026-09-21") == 1_789_948_800_000
    assert day_start_ms("") is None
    # `date -u -d @1790000000 +%s / 86400` is 20717.
    assert day_text(20_717) == "2026-09-21"
    assert day_text(2**32 - 1) == "9999-12-31"


def test_a_message_s_day_is_a_date() -> None:
    no_ledger: Any = None
    assert describe(no_ledger, {"requested_day": 20_717, "work": 20_717}) == [
        Line("requested_day", "text", "2026-09-21"),
        Line("work", "text", "20,717"),
    ]


def test_long_texts_show_both_ends() -> None:
    assert short_hash("0123456789abcdef" * 4) == "01234567…abcdef"
    assert short_hash("0123456789abcde") == "0123456789abcde"
    assert short_address("fq1" + "q" * 58) == "fq1qqqqqq…qqqqqq"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://elsewhere.example/",
        "//elsewhere.example",
        "/\\elsewhere.example",
        "blocks",
        "/blocks\r\nSet-Cookie: a=b",
        "/" + "x" * 5000,
        "javascript:alert(1)",
    ],
)
def test_forms_lead_nowhere_else(text: str) -> None:
    assert local_path(text) == "/"


def test_forms_lead_to_pages() -> None:
    assert (
        local_path("/accounts/fq1x?from=2026-01-01&asset=EUR.mint") == "/accounts/fq1x?from=2026-01-01&asset=EUR.mint"
    )


def test_the_pace_is_of_the_last_minute() -> None:
    """30 transactions a second ago, 60 half a minute ago, 1,000 before the minute: 90 in 60 s are 1.5 a second."""
    now_ms = 1_790_000_000_000

    def block(height: int, age_ms: int, transactions: int) -> BlockRow:
        return BlockRow(height, now_ms - age_ms, b"", transactions, transactions, 0, 0)

    pace = pace_of([block(3, 1_000, 30), block(2, 31_000, 60), block(1, 61_000, 1_000)], now_ms)
    assert pace.per_second == 1.5
    assert pace.bars[-1] == 30
    assert pace.bars[14] == 60
    assert sum(pace.bars) == 90
