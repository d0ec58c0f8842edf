"""The row that makes a height verifiable by strangers: its header, the commit on it and the validators who signed."""

from feiqian.core.encoding import Codec, Height, Record


class ArchiveRow(Record):
    """One height's header, commit and validator set as `consensus` encodes them; opaque bytes here."""

    height: Height
    header: bytes
    commit: bytes
    validators: bytes


ARCHIVE_ROW: Codec[ArchiveRow] = Codec(ArchiveRow, "archive row")
