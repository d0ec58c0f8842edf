"""Reads one process's table of `feiqian.toml`, each key of which the environment may overrule.

Takes text and a mapping; whoever calls it does the reading.
"""

import tomllib
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

ENVIRONMENT_PREFIX = "FEIQIAN"
TABLES = ("node", "comet", "gateway")

T = TypeVar("T", bound=msgspec.Struct)


class SettingsError(ValueError):
    """A setting that is unknown, of the wrong kind or out of range; the message names it and what would do."""


def read_settings(text: str, table: str, type_: type[T], environment: Mapping[str, str]) -> T:
    """Return `[table]` of a `feiqian.toml` as `type_`, with `FEIQIAN_<TABLE>_<KEY>` of the environment over it.

    Raises:
        SettingsError: not TOML, or an unknown table, key or variable, or a value that its field refuses.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"feiqian.toml is not TOML: {error}") from None
    unknown = sorted(set(document) - set(TABLES))
    if unknown:
        raise SettingsError(f"feiqian.toml: unknown table or key {unknown[0]!r}; tables are {', '.join(TABLES)}")
    values: Any = document.get(table, {})
    if not isinstance(values, dict):
        raise SettingsError(f"feiqian.toml: {table!r} is a table; write [{table}]")
    known = [field.name for field in msgspec.structs.fields(type_)]
    _refuse_unknown(f"feiqian.toml: [{table}] has no key", values, known)
    overrides = _from_environment(table, environment)
    _refuse_unknown(f"environment: [{table}] has no key", overrides, known)
    try:
        checked = msgspec.convert({**values}, type_)
        return msgspec.convert({**msgspec.to_builtins(checked), **overrides}, type_, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"feiqian.toml or environment, [{table}]: {error}") from None


def _from_environment(table: str, environment: Mapping[str, str]) -> dict[str, str]:
    prefix = f"{ENVIRONMENT_PREFIX}_{table.upper()}_"
    return {name[len(prefix) :].lower(): text for name, text in environment.items() if name.startswith(prefix)}


def _refuse_unknown(where: str, values: Mapping[str, Any], known: list[str]) -> None:
    for name in values:
        if name not in known:
            raise SettingsError(f"{where} {name!r}; known are {', '.join(known)}")
