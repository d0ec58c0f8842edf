"""Assets as `consortium.toml` lists them: one `[[assets]]` entry each."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from feiqian.core.amounts import from_decimal_text
from feiqian.core.encoding import AssetId
from feiqian.core.errors import InvalidTransaction, Undecodable
from feiqian.ledger.context import Context
from feiqian.ledger.records import Asset
from feiqian.modules.assets.handlers import create

FREEZABLE = "freezable"
ALLOW_LISTED = "allow-listed"


class AssetEntry(msgspec.Struct, forbid_unknown_fields=True):
    """`[[assets]]`: amounts are decimal text in whole units, such as `"1000000.00"`; accounts are 32-byte addresses.

    `flags` are any of `"freezable"` and `"allow-listed"`.
    """

    code: AssetId
    name: str
    scale: int
    issuer: str
    issuance_account: bytes
    supply_cap: str
    currency: str | None = None
    flags: list[str] = []
    transfer_limit: str | None = None
    daily_limit: str | None = None
    controller: bytes | None = None


def genesis(ctx: Context, section: Mapping[str, Any] | Sequence[Any]) -> None:
    """Define each asset of the file, in its order. Takes the list, or a table that has it as `assets`.

    Raises:
        Undecodable: an entry with an unknown, missing or misshapen field.
        InvalidTransaction: an entry that `create` refuses.
    """
    entries = section.get("assets", ()) if isinstance(section, Mapping) else section
    for place, data in enumerate(entries, start=1):
        create(ctx, *_definition(place, data))


def _definition(place: int, data: object) -> tuple[str, Asset]:
    try:
        entry = msgspec.convert(data, AssetEntry)
        unknown = [flag for flag in entry.flags if flag not in (FREEZABLE, ALLOW_LISTED)]
        if unknown:
            raise Undecodable(f"flag {unknown[0]!r}; known are {FREEZABLE!r} and {ALLOW_LISTED!r}")
        fields = [
            entry.scale,
            entry.issuer,
            entry.issuance_account,
            from_decimal_text(entry.supply_cap, entry.scale),
            FREEZABLE in entry.flags,
            ALLOW_LISTED in entry.flags,
            _amount_minor(entry.transfer_limit, entry.scale),
            _amount_minor(entry.daily_limit, entry.scale),
            entry.controller,
            entry.name,
            entry.currency,
        ]
        return entry.code, msgspec.convert(fields, Asset)
    except (msgspec.ValidationError, InvalidTransaction) as error:
        raise Undecodable(f"[[assets]] entry {place}: {error}") from None


def _amount_minor(text: str | None, scale: int) -> int | None:
    return None if text is None else from_decimal_text(text, scale)
