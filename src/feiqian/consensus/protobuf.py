"""The few protobuf encodings that CometBFT hashes and signs: canonical proto3, in field order, zero values left out."""

import struct


def varint(value: int) -> bytes:
    """Return `value` as a base-128 varint; negative ones as 64-bit two's complement, as proto3's int64."""
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def integer(field: int, value: int) -> bytes:
    """Return an integer or enum field; nothing for zero."""
    return varint(field << 3) + varint(value) if value else b""


def fixed(field: int, value: int) -> bytes:
    """Return an sfixed64 field; nothing for zero."""
    return varint(field << 3 | 1) + struct.pack("<q", value) if value else b""


def data(field: int, value: bytes) -> bytes:
    """Return a bytes or string field; nothing where it is empty."""
    return message(field, value) if value else b""


def message(field: int, encoded: bytes) -> bytes:
    """Return an embedded message that is present, though it may be empty."""
    return varint(field << 3 | 2) + varint(len(encoded)) + encoded


def timestamp(time_ns: int) -> bytes:
    """Return a google.protobuf.Timestamp of nanoseconds since 1970, which may be negative."""
    seconds, nanos = divmod(time_ns, 1_000_000_000)
    return integer(1, seconds) + integer(2, nanos)
