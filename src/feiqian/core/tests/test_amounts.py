"""Amounts: nothing overflows, goes below zero or gets lost."""

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feiqian.core.amounts import add, allocate, from_decimal_text, scale_half_even, subtract, to_decimal_text
from feiqian.core.encoding import INT64_MAX, INT64_MIN
from feiqian.core.errors import AmountOutOfRange

amounts = st.integers(0, INT64_MAX)


def test_additions_stop_at_64_bits() -> None:
    assert add(INT64_MAX - 1, 1) == INT64_MAX
    assert add(INT64_MIN + 1, -1) == INT64_MIN
    for left, right in [(INT64_MAX, 1), (INT64_MIN, -1)]:
        with pytest.raises(AmountOutOfRange):
            add(left, right)


def test_subtraction_stops_at_zero() -> None:
    assert subtract(5, 5) == 0
    with pytest.raises(AmountOutOfRange):
        subtract(5, 6)


@given(st.integers(0, 10**12), st.integers(0, 10**6), st.integers(1, 10**6))
def test_shares_round_half_to_even_as_decimal_does(amount: int, numerator: int, denominator: int) -> None:
    exact = Fraction(amount * numerator, denominator)
    assert scale_half_even(amount, numerator, denominator) == round(exact)


@pytest.mark.parametrize(("amount", "expected"), [(1, 0), (3, 2), (5, 2), (7, 4)])
def test_halves_go_to_the_even_neighbour(amount: int, expected: int) -> None:
    assert scale_half_even(amount, 1, 2) == expected


@given(amounts, st.lists(st.integers(0, 10**9), min_size=1, max_size=20).filter(any))
def test_parts_sum_to_the_whole_and_lie_within_one_unit(amount: int, weights: list[int]) -> None:
    parts = allocate(amount, tuple(weights))
    assert sum(parts) == amount
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part - Fraction(amount * weight, sum(weights))) < 1
        assert weight or part == 0


def test_left_over_units_go_to_the_earliest() -> None:
    assert allocate(100, (1, 1, 1)) == (34, 33, 33)
    assert allocate(2, (0, 1, 1, 1)) == (0, 1, 1, 0)
    for amount, weights in [(-1, (1,)), (1, (0, 0)), (1, (2, -1))]:
        with pytest.raises(AmountOutOfRange):
            allocate(amount, weights)


@given(st.integers(INT64_MIN, INT64_MAX), st.integers(0, 9))
def test_decimal_text_is_what_decimal_writes(amount: int, scale: int) -> None:
    exact = Decimal(amount).scaleb(-scale).quantize(Decimal(1).scaleb(-scale), ROUND_HALF_EVEN)
    assert to_decimal_text(amount, scale) == f"{exact:f}" or amount == 0
    if amount >= 0:
        assert from_decimal_text(to_decimal_text(amount, scale), scale) == amount


@pytest.mark.parametrize(
    ("text", "scale"),
    [("1.005", 2), ("1e3", 2), ("-1", 2), ("+1", 2), ("", 2), (".", 2), (".5", 2), ("1.", 2), ("1,5", 2), ("٣", 2),
     ("92233720368547758.08", 2), ("0x10", 0), (" 1", 2), ("NaN", 2), ("1" * 41, 0), ("1_000", 2)],
)  # fmt: skip
def test_text_that_is_no_amount_is_refused(text: str, scale: int) -> None:
    with pytest.raises(AmountOutOfRange):
        from_decimal_text(text, scale)


def test_fraction_digits_beyond_the_scale_may_only_be_zeros() -> None:
    assert from_decimal_text("1.500", 2) == 150
    assert from_decimal_text("92233720368547758.07", 2) == INT64_MAX
    assert from_decimal_text("12", 3) == 12000
