"""Records that make a state large, so that its snapshot has several pieces."""

import hashlib

from feiqian.state.tables import Changes

RECORD_BYTES = 16_000


def filler(size_bytes: int) -> Changes:
    """Return records of at least so many bytes together, under a table that no module has."""
    records: Changes = {}
    for number in range(size_bytes // RECORD_BYTES + 1):
        key = f"filler.records/{number:06}".encode()
        records[key] = hashlib.shake_128(key).digest(RECORD_BYTES)
    return records
