"""What assets adds to the ledger's own records: the terms of a hold, and the lists that rules refer to.

Assets, balances and holds themselves lie in `ledger`, where every module shares them.
"""

from typing import NamedTuple

from feiqian.core.addresses import ADDRESS_BYTES
from feiqian.ledger.records import Hold

NAME = "assets"

ISSUING_ROLES = ("bank", "issuer")
"""A member with one of these may define assets."""

MAX_HOLD_MS = 366 * 24 * 60 * 60 * 1000
"""Units stay reserved a year at most, so that a forgotten hold cannot bind them for ever."""

REASONS = (
    "COURT_ORDER",
    "REGULATOR_ORDER",
    "SANCTIONS",
    "FRAUD",
    "INSOLVENCY",
    "ERROR_CORRECTION",
    "LOST_KEY",
    "HOLDER_REQUEST",
    "ORDER_LIFTED",
)
"""Why a controller may act; grows at an upgrade height, never shrinks."""


class HoldTerms(NamedTuple):
    """What this module writes into a hold's `reference`: who may take the units, and the sender's own mark."""

    beneficiary: bytes
    reference: bytes


def encode_terms(beneficiary: bytes, reference: bytes) -> bytes:
    """Return the bytes that stand as the hold's reference, 32 to 64: the beneficiary, then the sender's mark."""
    return beneficiary + reference


def terms_of(hold: Hold) -> HoldTerms:
    """Return the terms of a hold that this module placed."""
    return HoldTerms(hold.reference[:ADDRESS_BYTES], hold.reference[ADDRESS_BYTES:])
