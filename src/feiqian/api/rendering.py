"""How ledger records look in JSON: fields by name, addresses as `fq1…`, other bytes as hex, amounts as integers.

Amounts are 64-bit; a reader whose numbers are doubles (JavaScript) must parse them as big integers.
"""

from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from feiqian.core import addresses
from feiqian.core.addresses import Address

Render = Callable[[Any], Any]


def render(value: Any) -> Any:
    """Return a record, or any value that may stand in one, as plain JSON values."""
    if isinstance(value, msgspec.Struct):
        return _of_struct(type(value))(value)
    return _plain(value)


def render_tagged(value: msgspec.Struct) -> dict[str, Any]:
    """Return a message or event with its tag as `type` before its fields."""
    return {"type": type(value).__struct_config__.tag, **render(value)}


@cache
def _of_struct(type_: type[msgspec.Struct]) -> Render:
    hints = get_type_hints(type_, include_extras=True)
    fields = [(name, _of_type(hints[name])) for name in type_.__struct_fields__]

    def render_fields(value: Any) -> dict[str, Any]:
        return {name: render_field(getattr(value, name)) for name, render_field in fields}

    return render_fields


def _of_type(hint: Any) -> Render:
    """Return how a field of this type is shown. Only the type tells an address from a hash: both are 32 bytes."""
    if hint == Address:
        return addresses.to_text
    origin = get_origin(hint)
    if origin is Annotated:
        return _of_type(get_args(hint)[0])
    if origin is tuple:
        inner = [_of_type(argument) for argument in get_args(hint) if argument is not Ellipsis]
        if Ellipsis in get_args(hint):
            return lambda value: [inner[0](item) for item in value]
        return lambda value: [render_item(item) for render_item, item in zip(inner, value, strict=True)]
    if origin in (Union, UnionType):
        others = [argument for argument in get_args(hint) if argument is not type(None)]
        if len(others) == 1:
            render_value = _of_type(others[0])
            return lambda value: None if value is None else render_value(value)
        # One of several kinds of record, such as a governance action: only its tag says which.
        return lambda value: render_tagged(value) if isinstance(value, msgspec.Struct) else _plain(value)
    return render


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, tuple | list):
        return [render(item) for item in value]
    if isinstance(value, Mapping):
        return {key: render(item) for key, item in value.items()}
    return value
