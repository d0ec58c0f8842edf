"""What an index begins with where the blocks before a snapshot are not to be had: accounts, balances, what is pending.

The state says how things stand, not how they came to be: entries, payments and documents before it stay unknown.
"""

from collections.abc import Iterator

from feiqian.core.addresses import ADDRESS_BYTES
from feiqian.ledger.accounts import ACCOUNTS
from feiqian.ledger.approvals import PENDING
from feiqian.ledger.assets import ASSETS
from feiqian.ledger.balances import BALANCES
from feiqian.ledger.context import Event
from feiqian.ledger.events import AccountOpened, Posted, Proposed
from feiqian.ledger.records import Leg
from feiqian.state.tables import BlockState, Changes

LEGS = 500
"""Accounts that one opening entry concerns, beside the issuance account that balances it."""


def opening_events(records: Changes) -> list[Event]:
    """Return events by which an index comes to hold the accounts, balances and proposals of a state."""
    state = BlockState(_Records(records))
    opened: list[Event] = [
        AccountOpened(address, account.member, account.policy) for address, account in ACCOUNTS.scan(state)
    ]
    pending = [
        Proposed(key, entry.account, entry.messages, entry.accounts, entry.keys, entry.expires_at_ms)
        for key, entry in PENDING.scan(state)
    ]
    legs: dict[str, list[Leg]] = {}
    for key, balance in BALANCES.scan(state):
        if balance.posted_minor:
            address, asset = key[:ADDRESS_BYTES], key[ADDRESS_BYTES:].decode()
            legs.setdefault(asset, []).append(Leg(address, asset, balance.posted_minor))
    issuance = {code.decode(): asset.issuance_account for code, asset in ASSETS.scan(state)}
    postings = [posting for asset, entries in legs.items() for posting in _postings(asset, entries, issuance[asset])]
    return [*opened, *postings, *pending]


def _postings(asset: str, legs: list[Leg], issuance_account: bytes) -> Iterator[Posted]:
    """Yield balanced entries: what is on each account, against the issuance account."""
    others = [leg for leg in legs if leg.account != issuance_account]
    for start in range(0, len(others), LEGS):
        part = others[start : start + LEGS]
        yield Posted((*part, Leg(issuance_account, asset, -sum(leg.amount_minor for leg in part))))


class _Records:
    """Records in key order, to be read like committed state."""

    def __init__(self, records: Changes) -> None:
        self._records = records

    def get(self, key: bytes, /) -> bytes | None:
        return self._records.get(key)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        for key, record in self._records.items():
            if key.startswith(prefix) and key > after and record is not None:
                yield key, record
