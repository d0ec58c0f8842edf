"""Records as people and other programs read them: named fields, addresses as bech32m, other bytes as hex.

Not an encoding that anything is hashed or signed in: that is `core.encoding` alone.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from feiqian.core import addresses
from feiqian.core.encoding import Record
from feiqian.core.errors import Undecodable

TYPE_FIELD = "type"
"""Where a tagged record's tag stands among its plain fields."""


def to_plain(record: Record) -> dict[str, Any]:
    """Return a record as JSON-ready values; integers stay integers, so JavaScript must take care beyond 2^53."""
    return _out_struct(_info(type(record)), record)


def from_plain(type_: Any, value: Any) -> Any:
    """Return the record of `type_` (a Record type or a union of tagged ones) that plain values describe.

    Raises:
        Undecodable: a field is missing, unknown or of the wrong kind; the message names it.
    """
    raw = _in(_info(type_), value, "value")
    try:
        return msgspec.convert(raw, type_)
    except msgspec.ValidationError as error:
        raise Undecodable(str(error)) from None


@cache
def _info(type_: Any) -> Any:
    return inspect.type_info(type_)


def _out(info: Any, value: Any) -> Any:
    if isinstance(value, bytes):
        return addresses.to_text(value) if _is_address(info) else value.hex()
    if isinstance(value, tuple):
        items = _item_infos(_strip(info), len(value))
        return [_out(item, inner) for item, inner in zip(items, value, strict=True)]
    if isinstance(value, Record):
        return _out_struct(_info(type(value)), value)
    return value


def _out_struct(info: inspect.StructType, record: Record) -> dict[str, Any]:
    head = {} if info.tag is None else {TYPE_FIELD: info.tag}
    return head | {field.name: _out(field.type, getattr(record, field.name)) for field in info.fields}


def _in(info: Any, value: Any, where: str) -> Any:
    info = _choose(info, value, where)
    bare = _strip(info)
    if isinstance(bare, inspect.BytesType):
        return _in_bytes(value, where)
    if isinstance(bare, inspect.VarTupleType | inspect.TupleType):
        if not isinstance(value, list | tuple):
            raise Undecodable(f"{where} is a list")
        items = _item_infos(bare, len(value))
        pairs = zip(items, value, strict=True)
        return tuple(_in(item, inner, f"{where}[{place}]") for place, (item, inner) in enumerate(pairs))
    if isinstance(bare, inspect.StructType):
        return _in_struct(bare, value, where)
    return value


def _in_struct(info: inspect.StructType, value: Any, where: str) -> list[Any]:
    if not isinstance(value, Mapping):
        raise Undecodable(f"{where} is an object with the fields {[field.name for field in info.fields]}")
    names = {field.name for field in info.fields}
    unknown = sorted(set(value) - names - {TYPE_FIELD})
    if unknown:
        raise Undecodable(f"{where} has no field {unknown[0]!r}; it has {sorted(names)}")
    fields: list[Any] = [] if info.tag is None else [info.tag]
    for field in info.fields:
        if field.name in value:
            fields.append(_in(field.type, value[field.name], f"{where}.{field.name}"))
        elif field.required and not _takes_none(field.type):
            raise Undecodable(f"{where} misses the field {field.name!r}")
        else:
            fields.append(None if field.required else field.default)
    return fields


def _in_bytes(value: Any, where: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise Undecodable(f"{where} is an address or hex text")
    if value.startswith(addresses.PREFIX + "1"):
        return addresses.from_text(value)
    try:
        return bytes.fromhex(value)
    except ValueError:
        raise Undecodable(f"{where}: {value[:80]!r} is neither an address nor hex") from None


def _choose(info: Any, value: Any, where: str) -> Any:
    """Return the member of a union that the value belongs to."""
    bare = _strip(info)
    if not isinstance(bare, inspect.UnionType):
        return info
    if value is None:
        return inspect.NoneType()
    others = [option for option in bare.types if not isinstance(option, inspect.NoneType)]
    structs = {option.tag: option for option in others if isinstance(option, inspect.StructType)}
    if structs and isinstance(value, Mapping):
        tag = value.get(TYPE_FIELD)
        if len(structs) == 1:
            return next(iter(structs.values()))
        if tag not in structs:
            raise Undecodable(f"{where}: type {tag!r} is unknown; known are {sorted(map(str, structs))}")
        return structs[tag]
    return others[0] if len(others) == 1 else info


def _item_infos(info: Any, count: int) -> list[Any]:
    if isinstance(info, inspect.VarTupleType):
        return [info.item_type] * count
    if isinstance(info, inspect.TupleType):
        return list(info.item_types)
    if isinstance(info, inspect.UnionType):
        tuples = [option for option in map(_strip, info.types) if hasattr(option, "item_type")]
        return _item_infos(tuples[0], count)
    return [inspect.AnyType()] * count


def _strip(info: Any) -> Any:
    return info.type if isinstance(info, inspect.Metadata) else info


def _is_address(info: Any) -> bool:
    if isinstance(info, inspect.UnionType):
        return any(_is_address(option) for option in info.types)
    return isinstance(info, inspect.Metadata) and (info.extra or {}).get("kind") == "address"


def _takes_none(info: Any) -> bool:
    bare = _strip(info)
    return isinstance(bare, inspect.UnionType) and any(isinstance(option, inspect.NoneType) for option in bare.types)
