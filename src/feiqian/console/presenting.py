"""How values look on a page: amounts, times, hashes, and whole messages and events field by field."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from feiqian.api.ledger_view import LedgerView
from feiqian.core import addresses
from feiqian.core.amounts import to_decimal_text
from feiqian.core.errors import MalformedAddress

MINUS = "\u2212"
HASH_HEAD, HASH_TAIL = 8, 6
ADDRESS_HEAD, ADDRESS_TAIL = 9, 6
MIN_HASH_CHARACTERS = 32
DAY_MS = 86_400_000
MAX_TIME_MS = 253_402_300_799_999
"""The end of the year 9999, the last that a date can say."""

_ASSET_FIELDS = ("asset", "debtor_asset", "deposit_asset", "code")

Form = Literal["text", "address", "hash", "amount", "time", "flag", "none", "lines", "list", "legs"]


class Line(NamedTuple):
    """One field of a message, event or record, and how to show it."""

    name: str
    form: Form
    value: Any
    scale: int | None = None
    unit: str = ""


def number_text(number: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{number:,}".replace("-", MINUS)


def amount_text(amount_minor: int, scale: int, *, is_signed: bool = False) -> str:
    """Return an amount with its thousands apart and all digits of its scale; a plus sign too where asked."""
    whole, dot, fraction = to_decimal_text(abs(amount_minor), scale).partition(".")
    sign = MINUS if amount_minor < 0 else ("+" if is_signed and amount_minor > 0 else "")
    return f"{sign}{int(whole):,}{dot}{fraction}"


def short_hash(text: str) -> str:
    """Return the two ends of a hash in hex, or of an id."""
    return _ends(text, HASH_HEAD, HASH_TAIL)


def short_address(text: str) -> str:
    """Return the two ends of an address."""
    return _ends(text, ADDRESS_HEAD, ADDRESS_TAIL)


def time_text(time_ms: int) -> str:
    """Return a time of the ledger in UTC, to the second."""
    return _moment(time_ms).strftime("%Y-%m-%d %H:%M:%S")


def day_text(day: int) -> str:
    """Return a day that is given as days since 1970-01-01."""
    return _moment(day * DAY_MS).strftime("%Y-%m-%d")


def clock_text(time_ms: int) -> str:
    """Return the time of day in UTC, to the second."""
    return _moment(time_ms).strftime("%H:%M:%S")


def machine_time(time_ms: int) -> str:
    """Return a time as HTML's `datetime` takes it."""
    return _moment(time_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def size_text(size_bytes: int) -> str:
    """Return a size in bytes, kB or MB."""
    if size_bytes < 1000:
        return f"{size_bytes} B"
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1000:.1f} kB"
    return f"{size_bytes / 1_000_000:.1f} MB"


def describe(ledger: LedgerView, fields: Mapping[str, Any]) -> list[Line]:
    """Return the fields of a message, event or record, given as plain JSON values, in the order they have."""
    unit = next((fields[name] for name in _ASSET_FIELDS if isinstance(fields.get(name), str)), "")
    asset = ledger.asset(unit) if unit else None
    scale = None if asset is None else asset.scale
    return [_line(ledger, name, value, unit, scale) for name, value in fields.items() if name != "type"]


def _line(ledger: LedgerView, name: str, value: Any, unit: str, scale: int | None) -> Line:
    if value is None or value in ("", [], {}):
        return Line(name, "none", None)
    if isinstance(value, bool):
        return Line(name, "flag", value)
    if isinstance(value, int):
        return _of_number(name, value, unit, scale)
    if isinstance(value, str):
        if name == "uetr":
            return Line(name, "hash", str(UUID(value)))
        return Line(name, _form_of_text(value), value)
    if isinstance(value, Mapping):
        return Line(name, "lines", describe(ledger, value))
    if name == "legs":
        return Line(name, "legs", [_leg(ledger, leg) for leg in value])
    if isinstance(value[0], Mapping):
        return Line(name, "list", [describe(ledger, item) for item in value])
    return Line(name, "list", [[_line(ledger, "", item, unit, scale)] for item in value])


def _of_number(name: str, value: int, unit: str, scale: int | None) -> Line:
    if name.endswith("_minor") and scale is not None:
        return Line(name, "amount", value, scale, unit)
    if name.endswith("_at_ms") and 0 < value <= MAX_TIME_MS:
        return Line(name, "time", value)
    if name.endswith("_day"):
        return Line(name, "text", day_text(value))
    return Line(name, "text", number_text(value))


def _leg(ledger: LedgerView, leg: Mapping[str, Any]) -> dict[str, Any]:
    asset = ledger.asset(leg["asset"])
    return {**leg, "scale": 0 if asset is None else asset.scale}


def _form_of_text(text: str) -> Form:
    if text.startswith(f"{addresses.PREFIX}1") and _is_address(text):
        return "address"
    if len(text) >= MIN_HASH_CHARACTERS and all(character in "0123456789abcdef" for character in text):
        return "hash"
    return "text"


def _is_address(text: str) -> bool:
    try:
        addresses.from_text(text)
    except MalformedAddress:
        return False
    return True


def _ends(text: str, head: int, tail: int) -> str:
    return text if len(text) <= head + tail + 1 else f"{text[:head]}…{text[-tail:]}"


def _moment(time_ms: int) -> datetime:
    seconds, milliseconds = divmod(max(0, min(time_ms, MAX_TIME_MS)), 1000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=milliseconds * 1000)
