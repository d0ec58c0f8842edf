"""What assets adds to the ledger's own records: the lists that its rules refer to.

Assets, balances and holds themselves lie in `ledger`, where every module shares them.
"""

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
