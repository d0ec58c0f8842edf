"""Balances as they are read: the table, its key, and what is available. Only `postings` and `holds` write it."""

from feiqian.ledger.records import Balance
from feiqian.state.tables import Overlay, Table

BALANCES: Table[Balance] = Table("ledger.balances", Balance)
EMPTY = Balance(0, 0, 0, False, False)
"""What an account has in an asset that it never touched."""


def balance_key(address: bytes, asset: str) -> bytes:
    """Return the key of an account's balance in an asset."""
    return address + asset.encode()


def get_balance(state: Overlay, address: bytes, asset: str) -> Balance:
    """Return an account's balance in an asset, the empty one where there is none."""
    return BALANCES.get(state, address + asset.encode()) or EMPTY


def available_minor(balance: Balance) -> int:
    """Return posted − held. What may still leave the account is this plus its limit."""
    return balance.posted_minor - balance.held_minor
