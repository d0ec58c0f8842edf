"""Account addresses: 32 bytes on the ledger, bech32m text with prefix `fq` for people (BIP 350)."""

from typing import Annotated

from msgspec import Meta

from feiqian.core.errors import MalformedAddress

PREFIX = "fq"
ADDRESS_BYTES = 32
Address = Annotated[bytes, Meta(min_length=ADDRESS_BYTES, max_length=ADDRESS_BYTES, extra={"kind": "address"})]

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES = {character: value for value, character in enumerate(_CHARSET)}
_BECH32M = 0x2BC830A3
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_CHECKSUM_LENGTH = 6


def to_text(address: bytes) -> str:
    """Return the bech32m text of a 32-byte address, 61 characters starting with `fq1`."""
    if len(address) != ADDRESS_BYTES:
        raise MalformedAddress(f"an address has {ADDRESS_BYTES} bytes, not {len(address)}")
    return encode_bech32m(PREFIX, _regroup(address, 8, 5, pad=True))


def from_text(text: str) -> bytes:
    """Return the 32 bytes that the text stands for.

    Raises:
        MalformedAddress: wrong prefix, length, character, mixed case, padding or checksum.
    """
    prefix, values = decode_bech32m(text)
    if prefix != PREFIX:
        raise MalformedAddress(f"address starts with {prefix!r}; addresses here start with {PREFIX!r}")
    address = bytes(_regroup(values, 5, 8, pad=False))
    if len(address) != ADDRESS_BYTES:
        raise MalformedAddress(f"address holds {len(address)} bytes; expected {ADDRESS_BYTES}")
    return address


def encode_bech32m(prefix: str, values: list[int]) -> str:
    """Return `prefix`, the separator, the 5-bit `values` and their checksum as text (BIP 350)."""
    checksum = _polymod([*_expand(prefix), *values, 0, 0, 0, 0, 0, 0]) ^ _BECH32M
    tail = [(checksum >> 5 * (5 - place)) & 31 for place in range(_CHECKSUM_LENGTH)]
    return prefix + "1" + "".join(_CHARSET[value] for value in [*values, *tail])


def decode_bech32m(text: str) -> tuple[str, list[int]]:
    """Return prefix and 5-bit values of a bech32m string of at most 90 characters.

    Raises:
        MalformedAddress: wrong length, character, mixed case or checksum.
    """
    if len(text) > 90 or any(not 33 <= ord(character) <= 126 for character in text):
        raise MalformedAddress("address is longer than 90 characters or holds a character outside ASCII 33-126")
    if text.lower() != text and text.upper() != text:
        raise MalformedAddress("address mixes upper and lower case; write it all lower case")
    prefix, separator, data = text.lower().rpartition("1")
    if not separator or not prefix or len(data) < _CHECKSUM_LENGTH:
        raise MalformedAddress("address has no prefix, no separator '1' or no checksum")
    unknown = [character for character in data if character not in _VALUES]
    if unknown:
        raise MalformedAddress(f"address holds {unknown[0]!r}, which bech32 does not use")
    values = [_VALUES[character] for character in data]
    if _polymod([*_expand(prefix), *values]) != _BECH32M:
        raise MalformedAddress("address checksum does not match; a character was mistyped")
    return prefix, values[:-_CHECKSUM_LENGTH]


def _polymod(values: list[int]) -> int:
    checksum = 1
    for value in values:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for place, generator in enumerate(_GENERATORS):
            if (top >> place) & 1:
                checksum ^= generator
    return checksum


def _expand(prefix: str) -> list[int]:
    return [ord(character) >> 5 for character in prefix] + [0] + [ord(character) & 31 for character in prefix]


def _regroup(values: bytes | list[int], from_bits: int, to_bits: int, *, pad: bool) -> list[int]:
    accumulator = bits = 0
    groups: list[int] = []
    for value in values:
        accumulator = accumulator << from_bits | value
        bits += from_bits
        while bits >= to_bits:
            bits -= to_bits
            groups.append(accumulator >> bits & ((1 << to_bits) - 1))
        accumulator &= (1 << bits) - 1
    if pad and bits:
        groups.append(accumulator << (to_bits - bits) & ((1 << to_bits) - 1))
    elif not pad and (bits >= from_bits or accumulator):
        raise MalformedAddress("address has wrong padding")
    return groups
