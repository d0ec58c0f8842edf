"""Amounts in minor units: arithmetic that cannot overflow, go negative by accident or lose a unit."""

from feiqian.core.encoding import INT64_MAX, INT64_MIN
from feiqian.core.errors import AmountOutOfRange


def add(left: int, right: int) -> int:
    """Return the sum of two int64 amounts.

    Raises:
        AmountOutOfRange: the sum does not fit in int64.
    """
    total = left + right
    if not INT64_MIN <= total <= INT64_MAX:
        raise AmountOutOfRange(f"{left} + {right} does not fit in 64 bits")
    return total


def subtract(left: int, right: int) -> int:
    """Return `left` − `right`; both and the difference are ≥ 0.

    Raises:
        AmountOutOfRange: the difference would be negative.
    """
    if right > left:
        raise AmountOutOfRange(f"{left} - {right} would be below zero")
    return left - right


def scale_half_even(amount_minor: int, numerator: int, denominator: int) -> int:
    """Return `amount_minor` × `numerator` / `denominator`, ties to the even neighbour (IEEE 754 roundTiesToEven).

    Amount ≥ 0, numerator ≥ 0, denominator ≥ 1.

    Raises:
        AmountOutOfRange: an argument or the result is out of range.
    """
    if amount_minor < 0 or numerator < 0 or denominator < 1:
        raise AmountOutOfRange("a share is taken of an amount >= 0 with numerator >= 0 and denominator >= 1")
    quotient, remainder = divmod(amount_minor * numerator, denominator)
    doubled = remainder * 2
    if doubled > denominator or (doubled == denominator and quotient % 2 == 1):
        quotient += 1
    if quotient > INT64_MAX:
        raise AmountOutOfRange(f"{amount_minor} x {numerator} / {denominator} does not fit in 64 bits")
    return quotient


def allocate(amount_minor: int, weights: tuple[int, ...]) -> tuple[int, ...]:
    """Split an amount by weights; the parts sum to it, leftover units go one each to the earliest weights > 0.

    Raises:
        AmountOutOfRange: the amount or a weight is negative, or all weights are zero.
    """
    total = sum(weights)
    if amount_minor < 0 or total < 1 or min(weights) < 0:
        raise AmountOutOfRange("an amount >= 0 is split by weights >= 0 that are not all zero")
    parts = [amount_minor * weight // total for weight in weights]
    left_over = amount_minor - sum(parts)
    for place, weight in enumerate(weights):
        if left_over and weight:
            parts[place] += 1
            left_over -= 1
    return tuple(parts)


def to_decimal_text(amount_minor: int, scale: int) -> str:
    """Return an amount as decimal text with exactly `scale` fraction digits: 12345 at scale 2 is `123.45`."""
    sign = "-" if amount_minor < 0 else ""
    digits = str(abs(amount_minor)).rjust(scale + 1, "0")
    return sign + (digits if scale == 0 else f"{digits[:-scale]}.{digits[-scale:]}")


def from_decimal_text(text: str, scale: int) -> int:
    """Return the minor units of plain decimal text without sign or exponent.

    Raises:
        AmountOutOfRange: not plain decimal digits, more fraction digits than `scale`, or beyond 64 bits.
    """
    whole, dot, fraction = text.partition(".")
    plain = whole.isascii() and whole.isdigit() and (not dot or (fraction.isascii() and fraction.isdigit()))
    if not plain or len(text) > 40:
        raise AmountOutOfRange(f"{text[:40]!r} is not a plain decimal amount such as 123.45")
    significant = fraction.rstrip("0")
    if len(significant) > scale:
        raise AmountOutOfRange(f"{text} has more than the {scale} fraction digits of its currency")
    amount_minor = int(whole + significant.ljust(scale, "0"))
    if amount_minor > INT64_MAX:
        raise AmountOutOfRange(f"{text} does not fit in 64 bits of minor units")
    return amount_minor
