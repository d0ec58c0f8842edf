"""Canonical encoding: msgspec Structs as MessagePack arrays, one byte string for each value.

What decodes must encode to the same bytes again, or it is refused. Only constrained integers, `bytes`, `str`,
`bool`, `None`, tuples and Structs may stand in a record; `tests/test_tidy.py` holds it.
"""

from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar, dataclass_transform

import msgspec
from msgspec import Meta

from feiqian.core.errors import NonCanonical, Undecodable

INT64_MIN = -(2**63)
INT64_MAX = 2**63 - 1
MAX_SUPPLY_MINOR = 2**62
MAX_TRANSACTION_BYTES = 128 * 1024
MAX_RECORD_BYTES = 16 * 1024
MAX_KEY_BYTES = 200

Int64 = Annotated[int, Meta(ge=INT64_MIN, le=INT64_MAX)]
Uint8 = Annotated[int, Meta(ge=0, le=2**8 - 1)]
Uint16 = Annotated[int, Meta(ge=0, le=2**16 - 1)]
Uint32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Uint63 = Annotated[int, Meta(ge=0, le=INT64_MAX)]
Height = Annotated[int, Meta(ge=0, le=INT64_MAX)]
TimeMs = Annotated[int, Meta(ge=0, le=2**53)]
AmountMinor = Annotated[int, Meta(ge=0, le=MAX_SUPPLY_MINOR)]
PositiveMinor = Annotated[int, Meta(ge=1, le=MAX_SUPPLY_MINOR)]
DeltaMinor = Annotated[int, Meta(ge=-MAX_SUPPLY_MINOR, le=MAX_SUPPLY_MINOR)]
Scale = Annotated[int, Meta(ge=0, le=9)]
Hash32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
MemberId = Annotated[str, Meta(min_length=2, max_length=32, pattern=r"\A[a-z0-9][a-z0-9-]*[a-z0-9]\Z")]
AssetId = Annotated[str, Meta(min_length=1, max_length=48, pattern=r"\A[A-Za-z0-9][A-Za-z0-9.-]*\Z")]
ShortText = Annotated[str, Meta(max_length=140)]
Text = Annotated[str, Meta(max_length=1000)]


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class _RecordMeta(type(msgspec.Struct)):
    """Tells type checkers what msgspec does anyway: a subclass of a frozen Struct is frozen."""


class Record(msgspec.Struct, metaclass=_RecordMeta, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """What lies in state, in a transaction or in a result: immutable, encoded as an array of its fields.

    Messages and events are Records with a tag of the form `"module.Name"`, declared as
    `class Transfer(Record, tag="assets.Transfer")`.
    """


T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
"""Encode a Record, tuple or scalar to its canonical bytes."""


class Codec(Generic[T]):
    """Decodes one type and refuses every encoding of it but the canonical one."""

    __slots__ = ("_decode", "decode_trusted", "what")

    def __init__(self, type_: Any, what: str) -> None:
        """`what` names the type in error messages, e.g. "transaction"."""
        self._decode = msgspec.msgpack.Decoder(type_).decode
        # Not a method: each record that a block reads comes through here.
        self.decode_trusted: Callable[[bytes], T] = self._decode
        """Decode bytes that this node encoded itself; a failure here is ours, not a sender's."""
        self.what = what

    def decode(self, data: bytes) -> T:
        """Return the value whose canonical encoding is `data`.

        Raises:
            Undecodable: truncated, of the wrong shape, out of range, an unknown tag, too deep, extra fields.
            NonCanonical: another encoding of a valid value.
        """
        try:
            value = self._decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError, ValueError) as error:
            raise Undecodable(f"{self.what}: {str(error)[:200]}") from None
        if _encoder.encode(value) != data:
            raise NonCanonical(f"{self.what}: not the canonical encoding of its value; encode it once more")
        return value
