"""Records as named plain values and back."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from feiqian.core.addresses import Address, to_text
from feiqian.core.encoding import AmountMinor, Hash32, Record
from feiqian.core.errors import Undecodable
from feiqian.core.plain import from_plain, to_plain


class Part(Record):
    account: Address
    amount_minor: AmountMinor


class Ask(Record, tag="test.Ask"):
    parts: tuple[Part, ...]
    digest: Hash32
    note: str | None = None
    owner: Address | None = None


class Tell(Record, tag="test.Tell"):
    what: str


parts = st.builds(Part, st.binary(min_size=32, max_size=32), st.integers(0, 2**62))
optional_address = st.none() | st.binary(min_size=32, max_size=32)
asks = st.builds(
    Ask,
    st.lists(parts, max_size=3).map(tuple),
    st.binary(min_size=32, max_size=32),
    st.none() | st.text(),
    optional_address,
)


@given(asks | st.builds(Tell, st.text()))
def test_a_record_survives_json(record: Ask | Tell) -> None:
    text = msgspec.json.encode(to_plain(record))
    assert from_plain(Ask | Tell, msgspec.json.decode(text)) == record


def test_addresses_read_as_addresses_and_digests_as_hex() -> None:
    plain = to_plain(Ask((Part(bytes(32), 5),), b"\x01" * 32, None, b"\x02" * 32))
    assert plain == {
        "type": "test.Ask",
        "parts": [{"account": to_text(bytes(32)), "amount_minor": 5}],
        "digest": "01" * 32,
        "note": None,
        "owner": to_text(b"\x02" * 32),
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": 1}, "no field 'colour'"),
        ({"digest": "zz"}, "neither an address nor hex"),
        ({"digest": "00"}, "length"),
        ({"digest": 5}, "address or hex"),
        ({"parts": 5}, "parts is a list"),
        ({"parts": [5]}, "is an object"),
        ({"parts": [{"account": "00" * 32}]}, "misses the field 'amount_minor'"),
        ({"parts": [{"account": "00" * 32, "amount_minor": -1}]}, ">= 0"),
        ({"type": "test.Other"}, "type 'test.Other' is unknown"),
    ],
)
def test_mistakes_are_named(change: dict, said: str) -> None:
    good = {"type": "test.Ask", "parts": [], "digest": "00" * 32}
    assert from_plain(Ask | Tell, good) == Ask((), bytes(32))
    with pytest.raises(Undecodable, match=said):
        from_plain(Ask | Tell, good | change)
