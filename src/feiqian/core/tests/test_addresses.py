"""bech32m as BIP 350 publishes it, and our own addresses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feiqian.core.addresses import decode_bech32m, encode_bech32m, from_text, to_text
from feiqian.core.errors import MalformedAddress

# BIP 350, test vectors for bech32m.
VALID = [
    "A1LQFN3A",
    "a1lqfn3a",
    "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6",
    "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx",
    "11llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllludsr8",
    "split1checkupstagehandshakeupstreamerranterredcaperredlc445v",
    "?1v759aa",
]
INVALID = [
    "\x201xj0phk",
    "\x7f1g6xzxy",
    "\x801vctc34",
    "an84characterslonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11d6pts4",
    "qyrz8wqd2c9m",
    "1qyrz8wqd2c9m",
    "y1b0jsk6g",
    "lt1igcx5c0",
    "in1muywd",
    "mm1crxm3i",
    "au1s5cgom",
    "M1VUXWEZ",
    "16plkw9",
    "1p2gdwpf",
]


@pytest.mark.parametrize("text", VALID)
def test_published_strings_decode_and_encode_again(text: str) -> None:
    prefix, values = decode_bech32m(text)
    assert encode_bech32m(prefix, values) == text.lower()


@pytest.mark.parametrize("text", INVALID)
def test_published_mistakes_are_refused(text: str) -> None:
    with pytest.raises(MalformedAddress):
        decode_bech32m(text)


@given(st.binary(min_size=32, max_size=32))
def test_an_address_survives_its_text(address: bytes) -> None:
    text = to_text(address)
    assert text.startswith("fq1")
    assert len(text) == 61
    assert from_text(text) == address == from_text(text.upper())


@given(st.binary(min_size=32, max_size=32), st.integers(3, 60), st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l"))
def test_one_mistyped_character_is_noticed(address: bytes, place: int, character: str) -> None:
    text = to_text(address)
    mistyped = text[:place] + character + text[place + 1 :]
    if mistyped != text:
        with pytest.raises(MalformedAddress):
            from_text(mistyped)


def test_other_prefixes_lengths_and_cases_are_refused() -> None:
    text = to_text(bytes(32))
    with pytest.raises(MalformedAddress, match="mixes"):
        from_text(text[:-1] + text[-1].upper())
    with pytest.raises(MalformedAddress, match="starts with 'bc'"):
        from_text(encode_bech32m("bc", [0] * 52))
    with pytest.raises(MalformedAddress, match="holds 31 bytes"):
        from_text(encode_bech32m("fq", [0] * 50))
    with pytest.raises(MalformedAddress, match="padding"):
        from_text(encode_bech32m("fq", [0] * 51 + [1]))
    with pytest.raises(MalformedAddress):
        to_text(bytes(20))
