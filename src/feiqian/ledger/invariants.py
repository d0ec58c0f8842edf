"""What holds after every block, checked over what the block touched, or over all state."""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from feiqian.core.addresses import ADDRESS_BYTES
from feiqian.core.encoding import MAX_SUPPLY_MINOR, Record
from feiqian.ledger.accounts import ADMINISTRATIONS
from feiqian.ledger.approvals import PENDING
from feiqian.ledger.assets import ASSETS
from feiqian.ledger.authority import ACCOUNTS
from feiqian.ledger.balances import BALANCES, EMPTY
from feiqian.ledger.holds import HOLD_COUNTS, HOLDS, MAX_OPEN_HOLDS
from feiqian.ledger.members import MEMBERS
from feiqian.ledger.records import Balance
from feiqian.ledger.triggers import SCHEDULED
from feiqian.ledger.validators import MAX_TOTAL_POWER, NODES, VALIDATORS, validator_set
from feiqian.state.tables import Overlay, Table

R = TypeVar("R", bound=Record)


class Scope:
    """What the invariants are asked about: the records that a block touched, or all state. Lives for one check.

    Each touched record is decoded once, for whichever invariants look at it.
    """

    __slots__ = ("_before", "_found", "_touched", "after", "is_all")

    def __init__(self, before: Overlay, after: Overlay, touched: Iterable[bytes] | None) -> None:
        """`touched` holds full keys; None asks for all state, and nothing is known of before."""
        self.after = after
        self.is_all = touched is None
        self._before = before
        self._touched = sorted(touched or ())
        self._found: dict[str, list[tuple[bytes, Any, Any]]] = {}

    def changes(self, table: Table[R]) -> Iterable[tuple[bytes, R | None, R | None]]:
        """Return (key, record after, record before) in key order; of all state, every record with no before."""
        if self.is_all:
            return ((key, record, None) for key, record in table.scan(self.after))
        if table.name not in self._found:
            start, before, after, get = len(table.prefix), self._before, self.after, table.get
            keys = [full_key[start:] for full_key in self._keys_of(table)]
            self._found[table.name] = [(key, get(after, key), get(before, key)) for key in keys]
        return self._found[table.name]

    def reaches(self, *tables: Table[Any]) -> bool:
        """Say whether records of these tables are looked at, touched or with all state."""
        return self.is_all or any(self._keys_of(table) for table in tables)

    def _keys_of(self, table: Table[Any]) -> list[bytes]:
        first, keys = bisect_left(self._touched, table.prefix), self._touched
        return keys[first : bisect_left(keys, table.name.encode() + _AFTER_SLASH, first)]


_AFTER_SLASH = bytes([ord("/") + 1])


def assets_sum_to_zero(scope: Scope) -> Iterator[str]:
    """Every asset's balances sum to zero; of touched ones, the changes do."""
    sums: dict[bytes, int] = {}
    for key, new, old in scope.changes(BALANCES):
        code = key[ADDRESS_BYTES:]
        change = (new or EMPTY).posted_minor - (old or EMPTY).posted_minor
        sums[code] = sums.get(code, 0) + change
    for code, total in sums.items():
        if total:
            yield f"balances of {code.decode()} {'sum to' if scope.is_all else 'changed by'} {total}, not 0"


def balances_within_limits(scope: Scope) -> Iterator[str]:
    """posted − held ≥ −limit, each within its range."""
    for key, balance, _ in scope.changes(BALANCES):
        if balance is None:
            yield f"balance {key.hex()} was deleted"
            continue
        if balance.posted_minor - balance.held_minor < -balance.limit_minor:
            yield f"balance {key.hex()}: {_figures(balance)} is below minus the limit"
        is_posted_in_range = -MAX_SUPPLY_MINOR <= balance.posted_minor <= MAX_SUPPLY_MINOR
        if not (is_posted_in_range and 0 <= balance.held_minor <= MAX_SUPPLY_MINOR and balance.limit_minor >= 0):
            yield f"balance {key.hex()}: {_figures(balance)} is out of range"


def balances_have_owners(scope: Scope) -> Iterator[str]:
    """Each balance is of an open account in a defined asset."""
    for key, _, _ in scope.changes(BALANCES):
        if not (ACCOUNTS.has(scope.after, key[:ADDRESS_BYTES]) and ASSETS.has(scope.after, key[ADDRESS_BYTES:])):
            yield f"balance {key.hex()} is of no open account or no defined asset"


def supply_within_cap(scope: Scope) -> Iterator[str]:
    """An issuance account's limit is its asset's supply cap, so that the cap binds as the limit does."""
    codes = {key: None for key, _, _ in scope.changes(ASSETS)}
    if not scope.is_all:
        codes |= {key[ADDRESS_BYTES:]: None for key, _, _ in scope.changes(BALANCES)}
    for code in codes:
        asset = ASSETS.get(scope.after, code)
        if asset is None:
            yield f"asset {code.decode()} has balances or was deleted, but is not defined"
            continue
        balance = BALANCES.get(scope.after, asset.issuance_account + code) or EMPTY
        if balance.limit_minor != asset.supply_cap_minor:
            yield f"asset {code.decode()}: issuance limit {balance.limit_minor}, cap {asset.supply_cap_minor}"


def holds_match_held(scope: Scope) -> Iterator[str]:
    """Each balance's held amount is the sum of its open holds; of touched ones, the changes agree."""
    differences: dict[bytes, int] = {}
    for key, new, old in scope.changes(BALANCES):
        change = (new or EMPTY).held_minor - (old or EMPTY).held_minor
        if change:
            differences[key] = change
    for _, new, old in scope.changes(HOLDS):
        for hold, sign in ((new, -1), (old, 1)):
            if hold is not None:
                key = hold.account + hold.asset.encode()
                differences[key] = differences.get(key, 0) + sign * hold.amount_minor
    for key, difference in differences.items():
        if difference:
            yield f"balance {key.hex()}: held amount and holds differ by {difference}"


def holds_are_counted(scope: Scope) -> Iterator[str]:
    """Each count is that of the open holds on its balance, at most the limit; of touched ones, the changes agree."""
    differences: dict[bytes, int] = {}
    for key, new, old in scope.changes(HOLD_COUNTS):
        differences[key] = (new.open if new else 0) - (old.open if old else 0)
        if new is not None and not 1 <= new.open <= MAX_OPEN_HOLDS:
            yield f"balance {key.hex()}: {new.open} open holds; 1 to {MAX_OPEN_HOLDS} are counted"
    for _, new, old in scope.changes(HOLDS):
        for hold, sign in ((new, -1), (old, 1)):
            if hold is not None:
                key = hold.account + hold.asset.encode()
                differences[key] = differences.get(key, 0) + sign
    for key, difference in differences.items():
        if difference:
            yield f"balance {key.hex()}: count and number of open holds differ by {difference}"


def members_have_administrations(scope: Scope) -> Iterator[str]:
    """Each member with an account has one of its own that speaks for it."""
    for key, account, _ in scope.changes(ACCOUNTS):
        if account is None:
            yield f"account {key.hex()} was deleted"
        elif not ADMINISTRATIONS.has(scope.after, account.member.encode()):
            yield f"member {account.member!r} has an account, but none that speaks for it"
    for key, administration, _ in scope.changes(ADMINISTRATIONS):
        account = None if administration is None else ACCOUNTS.get(scope.after, administration.account)
        if account is None or account.member != key.decode():
            yield f"member {key.decode()!r} is spoken for by no account of its own"


def expiries_are_scheduled(scope: Scope) -> Iterator[str]:
    """Each open hold and pending approval has the trigger that will end it."""
    yield from _without_expiry(HOLDS, scope)
    yield from _without_expiry(PENDING, scope)


def _without_expiry(table: Table[Any], scope: Scope) -> Iterator[str]:
    for key, record, _ in scope.changes(table):
        if record is not None and not SCHEDULED.has(scope.after, record.expiry_key):
            yield f"{table.name} {key.hex()} has no trigger that ends it"


def validators_can_decide(scope: Scope) -> Iterator[str]:
    """The powers are within what CometBFT counts; whoever stays kept two thirds of what there was: never nobody."""
    if not scope.reaches(VALIDATORS):
        return
    total = former = sum([power for _, power in validator_set(scope.after)])
    if total > MAX_TOTAL_POWER:
        yield f"the validators' powers add up to {total}, above {MAX_TOTAL_POWER}"
    if scope.is_all:
        return
    lost = 0
    for _, new, old in scope.changes(VALIDATORS):
        new_power, old_power = new.power if new else 0, old.power if old else 0
        former += old_power - new_power
        lost += max(0, old_power - new_power)
    if lost * 3 > former:
        yield f"validators lost {lost} of {former} in one block"


def nodes_have_members(scope: Scope) -> Iterator[str]:
    """Each validator and each node is run by a member that the ledger knows."""
    yield from _without_member(VALIDATORS, scope)
    yield from _without_member(NODES, scope)


def _without_member(table: Table[Any], scope: Scope) -> Iterator[str]:
    for key, record, _ in scope.changes(table):
        if record is not None and not MEMBERS.has(scope.after, record.member.encode()):
            yield f"{table.name} {key.hex()} is run by {record.member!r}, which is no member"


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
    validators_can_decide,
    nodes_have_members,
)
