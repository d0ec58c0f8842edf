"""What holds after every block, checked over what the block touched, or over all state."""

from collections.abc import Iterator
from typing import Any, TypeVar

from feiqian.core.addresses import ADDRESS_BYTES
from feiqian.core.encoding import MAX_SUPPLY_MINOR, Record
from feiqian.ledger.accounts import ADMINISTRATIONS
from feiqian.ledger.approvals import PENDING
from feiqian.ledger.assets import ASSETS
from feiqian.ledger.authority import ACCOUNTS
from feiqian.ledger.balances import BALANCES, EMPTY
from feiqian.ledger.holds import HOLD_COUNTS, HOLDS, MAX_OPEN_HOLDS
from feiqian.ledger.records import Balance
from feiqian.ledger.triggers import SCHEDULED
from feiqian.state.tables import Overlay, Table

R = TypeVar("R", bound=Record)


def assets_sum_to_zero(before: Overlay, after: Overlay, touched: frozenset[bytes] | None) -> Iterator[str]:
    """Every asset's balances sum to zero; of touched ones, the changes do."""
    sums: dict[bytes, int] = {}
    for key, new, old in changes(BALANCES, before, after, touched):
        code = key[ADDRESS_BYTES:]
        change = (new or EMPTY).posted_minor - (old or EMPTY).posted_minor
        sums[code] = sums.get(code, 0) + change
    for code, total in sums.items():
        if total:
            yield f"balances of {code.decode()} {'sum to' if touched is None else 'changed by'} {total}, not 0"


def balances_within_limits(before: Overlay, after: Overlay, touched: frozenset[bytes] | None) -> Iterator[str]:
    """posted − held ≥ −limit, each within its range."""
    for key, balance, _ in changes(BALANCES, before, after, touched):
        if balance is None:
            yield f"balance {key.hex()} was deleted"
            continue
        if balance.posted_minor - balance.held_minor < -balance.limit_minor:
            yield f"balance {key.hex()}: {_figures(balance)} is below minus the limit"
        is_posted_in_range = -MAX_SUPPLY_MINOR <= balance.posted_minor <= MAX_SUPPLY_MINOR
        if not (is_posted_in_range and 0 <= balance.held_minor <= MAX_SUPPLY_MINOR and balance.limit_minor >= 0):
            yield f"balance {key.hex()}: {_figures(balance)} is out of range"


def balances_have_owners(before: Overlay, after: Overlay, touched: frozenset[bytes] | None) -> Iterator[str]:
    """Each balance is of an open account in a defined asset."""
    # Walks accounts and balances side by side where all state is asked for: both are sorted by address.
    accounts = (key for key, _ in ACCOUNTS.scan(after)) if touched is None else iter(())
    account: bytes | None = b""
    for key, _, _ in changes(BALANCES, before, after, touched):
        address, code = key[:ADDRESS_BYTES], key[ADDRESS_BYTES:]
        while touched is None and account is not None and account < address:
            account = next(accounts, None)
        is_open = account == address if touched is None else ACCOUNTS.get(after, address) is not None
        if not is_open or ASSETS.get(after, code) is None:
            yield f"balance {key.hex()} is of no open account or no defined asset"


def supply_within_cap(before: Overlay, after: Overlay, touched: frozenset[bytes] | None) -> Iterator[str]:
    """An issuance account's limit is its asset's supply cap, so that the cap binds as the limit does."""
    codes = {key: None for key, _, _ in changes(ASSETS, before, after, touched)}
    if touched is not None:
        codes |= {key[ADDRESS_BYTES:]: None for key, _, _ in changes(BALANCES, before, after, touched)}
    for code in codes:
        asset = ASSETS.get(after, code)
        if asset is None:
            yield f"asset {code.decode()} has balances or was deleted, but is not defined"
            continue
        balance = BALANCES.get(after, asset.issuance_account + code) or EMPTY
        if balance.limit_minor != asset.supply_cap_minor:
            yield f"asset {code.decode()}: issuance limit {balance.limit_minor}, cap {asset.supply_cap_minor}"


def holds_match_held(before: Overlay, after: Overlay, touched: frozenset[bytes] | None) -> Iterator[str]:
    """Each balance's held amount is the sum of its open holds; of touched ones, the changes agree."""
    differences: dict[bytes, int] = {}
    for key, new, old in changes(BALANCES, before, after, touched):
        change = (new or EMPTY).held_minor - (old or EMPTY).held_minor
        if change:
            differences[key] = change
    for _, new, old in changes(HOLDS, before, after, touched):
        for hold, sign in ((new, -1), (old, 1)):
            if hold is not None:
                key = hold.account + hold.asset.encode()
                differences[key] = differences.get(key, 0) + sign * hold.amount_minor
    for key, difference in differences.items():
        if difference:
            yield f"balance {key.hex()}: held amount and holds differ by {difference}"


def holds_are_counted(before: Overlay, after: Overlay, touched: frozenset[bytes] | None) -> Iterator[str]:
    """Each count is that of the open holds on its balance, at most the limit; of touched ones, the changes agree."""
    differences: dict[bytes, int] = {}
    for key, new, old in changes(HOLD_COUNTS, before, after, touched):
        differences[key] = (new.open if new else 0) - (old.open if old else 0)
        if new is not None and not 1 <= new.open <= MAX_OPEN_HOLDS:
            yield f"balance {key.hex()}: {new.open} open holds; 1 to {MAX_OPEN_HOLDS} are counted"
    for _, new, old in changes(HOLDS, before, after, touched):
        for hold, sign in ((new, -1), (old, 1)):
            if hold is not None:
                key = hold.account + hold.asset.encode()
                differences[key] = differences.get(key, 0) + sign
    for key, difference in differences.items():
        if difference:
            yield f"balance {key.hex()}: count and number of open holds differ by {difference}"


def members_have_administrations(before: Overlay, after: Overlay, touched: frozenset[bytes] | None) -> Iterator[str]:
    """Each member with an account has one of its own that speaks for it."""
    for key, account, _ in changes(ACCOUNTS, before, after, touched):
        if account is None:
            yield f"account {key.hex()} was deleted"
        elif ADMINISTRATIONS.get(after, account.member.encode()) is None:
            yield f"member {account.member!r} has an account, but none that speaks for it"
    for key, administration, _ in changes(ADMINISTRATIONS, before, after, touched):
        account = None if administration is None else ACCOUNTS.get(after, administration.account)
        if account is None or account.member != key.decode():
            yield f"member {key.decode()!r} is spoken for by no account of its own"


def expiries_are_scheduled(before: Overlay, after: Overlay, touched: frozenset[bytes] | None) -> Iterator[str]:
    """Each open hold and pending approval has the trigger that will end it."""
    yield from _without_expiry(HOLDS, before, after, touched)
    yield from _without_expiry(PENDING, before, after, touched)


def _without_expiry(
    table: Table[Any], before: Overlay, after: Overlay, touched: frozenset[bytes] | None
) -> Iterator[str]:
    for key, record, _ in changes(table, before, after, touched):
        if record is not None and SCHEDULED.get(after, record.expiry_key) is None:
            yield f"{table.name} {key.hex()} has no trigger that ends it"


def changes(
    table: Table[R], before: Overlay, after: Overlay, touched: frozenset[bytes] | None
) -> Iterator[tuple[bytes, R | None, R | None]]:
    """Yield (key, record after, record before) for touched keys, in order; every record, with no before, for None."""
    if touched is None:
        for key, record in table.scan(after):
            yield key, record, None
        return
    start = len(table.prefix)
    for full_key in sorted(full_key for full_key in touched if full_key.startswith(table.prefix)):
        key = full_key[start:]
        yield key, table.get(after, key), table.get(before, key)


def _figures(balance: Balance) -> str:
    return f"posted {balance.posted_minor}, held {balance.held_minor}, limit {balance.limit_minor}"


INVARIANTS = (
    assets_sum_to_zero,
    balances_within_limits,
    balances_have_owners,
    supply_within_cap,
    holds_match_held,
    holds_are_counted,
    members_have_administrations,
    expiries_are_scheduled,
)
