"""The archive row's encoding is fixed: old rows must be read for as long as a chain lives."""

import pytest

from feiqian.core.encoding import encode
from feiqian.core.errors import NonCanonical, Undecodable
from feiqian.state.archive import ARCHIVE_ROW, ArchiveRow


def test_a_row_is_a_messagepack_array_of_its_four_fields():
    # MessagePack: fixarray 4, positive fixint 7, bin 8 of 1, 2 and 3 bytes.
    data = bytes.fromhex("94 07 c401 68 c402 6363 c403 767676")
    assert encode(ArchiveRow(7, b"h", b"cc", b"vvv")) == data
    assert ARCHIVE_ROW.decode(data) == ArchiveRow(7, b"h", b"cc", b"vvv")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ("93 07 c401 68 c402 6363", Undecodable),
        ("95 07 c401 68 c402 6363 c403 767676 c0", Undecodable),
        ("94 ff c401 68 c402 6363 c403 767676", Undecodable),
        ("94 07 c401 68 c402 6363 c403 7676", Undecodable),
        ("94 07 c401 68 c402 6363 c403 767676 00", Undecodable),
        ("94 cc07 c401 68 c402 6363 c403 767676", NonCanonical),
        ("94 07 c50001 68 c402 6363 c403 767676", NonCanonical),
    ],
)
def test_other_bytes_are_refused(data: str, error: type[Exception]):
    with pytest.raises(error):
        ARCHIVE_ROW.decode(bytes.fromhex(data))
