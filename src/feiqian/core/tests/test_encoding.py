"""Canonical encoding: one byte string a value, everything else refused by number."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feiqian.core.encoding import AssetId, Codec, Int64, MemberId, Record, Uint8, Uint63, encode
from feiqian.core.errors import NonCanonical, TooLarge, Undecodable
from feiqian.core.hashing import Domain
from feiqian.core.signatures import PublicKey
from feiqian.core.transactions import (
    MAX_SIGNATURES,
    Signature,
    SignedTransaction,
    decode_signed,
    encode_signed,
    transaction_id,
)


class Sample(Record, tag="test.Sample"):
    small: Uint8
    signed: Int64
    text: str
    data: bytes
    nested: tuple[Uint63, ...]
    maybe: bool | None = None


SAMPLE: Codec[Sample] = Codec(Sample, "sample")
value = Sample(7, -3, "飞钱", b"\x00\xff", (1, 2**63 - 1), True)


def test_fields_are_packed_in_order_behind_the_tag() -> None:
    # MessagePack by hand: array of 7; fixstr "test.Sample"; 7; -3; fixstr of 6 bytes; bin 2; array of 2; true.
    by_hand = (
        b"\x97\xabtest.Sample\x07\xfd\xa6\xe9\xa3\x9e\xe9\x92\xb1\xc4\x02\x00\xff"
        b"\x92\x01\xcf\x7f\xff\xff\xff\xff\xff\xff\xff\xc3"
    )
    assert encode(value) == by_hand
    assert SAMPLE.decode(by_hand) == value


@given(st.builds(Sample, st.integers(0, 255), st.integers(-(2**63), 2**63 - 1), st.text(), st.binary(),
                 st.lists(st.integers(0, 2**63 - 1)).map(tuple), st.sampled_from([None, True, False])))  # fmt: skip
def test_every_value_has_one_encoding(sample: Sample) -> None:
    data = encode(sample)
    assert SAMPLE.decode(data) == sample
    for cut in range(len(data)):
        with pytest.raises(Undecodable):
            SAMPLE.decode(data[:cut])


@pytest.mark.parametrize(
    ("mistake", "data"),
    [
        ("longer integer form", encode(value).replace(b"Sample\x07", b"Sample\xcc\x07")),
        ("longer string form", encode(value).replace(b"\xa6\xe9", b"\xd9\x06\xe9")),
        ("longer binary form", encode(value).replace(b"\xc4\x02", b"\xc5\x00\x02")),
        ("longer array form", b"\xdc\x00\x07" + encode(value)[1:]),
        ("default left out", b"\x96" + encode(value)[1:-1]),
        ("integer as float", encode(value).replace(b"Sample\x07", b"Sample\xcb\x40\x1c\x00\x00\x00\x00\x00\x00")),
    ],
)
def test_other_encodings_of_the_same_value_are_refused(mistake: str, data: bytes) -> None:
    with pytest.raises((NonCanonical, Undecodable)):
        SAMPLE.decode(data)


@pytest.mark.parametrize(
    ("mistake", "data"),
    [
        ("trailing byte", encode(value) + b"\x00"),
        ("trailing field", b"\x98" + encode(value)[1:] + b"\x01"),
        ("unknown tag", encode(value).replace(b"Sample", b"Simple")),
        ("out of range", encode(value).replace(b"Sample\x07", b"Sample\xcd\x01\x00")),
        ("uint64 beyond int64", encode(value).replace(b"\x7f\xff\xff\xff\xff\xff\xff\xff", b"\xff" * 8)),
        ("text that is not UTF-8", encode(value).replace(b"\xe9\xa3\x9e", b"\xff\xfe\xfd")),
        ("map instead of array", msgspec.msgpack.encode({"small": 7})),
        ("nil", b"\xc0"),
        ("empty", b""),
        ("nested a hundred thousand deep", b"\x91" * 100_000),
        ("claims four billion items", b"\xdd\xff\xff\xff\xff"),
    ],
)
def test_broken_encodings_are_refused(mistake: str, data: bytes) -> None:
    with pytest.raises(Undecodable):
        SAMPLE.decode(data)


@pytest.mark.parametrize("text", ["a", "-ab", "ab-", "AB", "a b", "a_b", "x" * 33, "ab\n", ""])
def test_member_ids_are_plain(text: str) -> None:
    with pytest.raises(Undecodable):
        Codec(MemberId, "member id").decode(encode(text))


@pytest.mark.parametrize("text", ["", "-X", "E UR", "EUR/x", "x" * 49, "EUR\n", "元"])
def test_asset_ids_are_plain(text: str) -> None:
    with pytest.raises(Undecodable):
        Codec(AssetId, "asset id").decode(encode(text))


def test_domains_separate_equal_data() -> None:
    # BIP 340: tagged hash; checked with hashlib by hand.
    import hashlib

    tag = hashlib.sha256(b"one").digest()
    assert Domain("one").hash(b"data") == hashlib.sha256(tag + tag + b"data").digest()
    assert Domain("one").hash(b"data") != Domain("two").hash(b"data")


def test_signatures_do_not_change_the_id_and_stand_in_order() -> None:
    keys = [PublicKey(1, bytes([n]) * 32) for n in (3, 1, 2)]
    signed = encode_signed(b"body", tuple(Signature(key, bytes(64)) for key in keys))
    decoded = decode_signed(signed)
    assert [signature.key.data[0] for signature in decoded.signatures] == [1, 2, 3]
    assert transaction_id(decoded.body) == Domain("feiqian/transaction/v1").hash(b"body")


def test_oversized_transactions_and_too_many_signatures_are_refused() -> None:
    with pytest.raises(TooLarge):
        decode_signed(b"\x00" * (128 * 1024 + 1))
    signatures = tuple(Signature(PublicKey(1, bytes(32)), bytes(64)) for _ in range(MAX_SIGNATURES + 1))
    with pytest.raises(Undecodable):
        decode_signed(encode(SignedTransaction(b"body", signatures)))
