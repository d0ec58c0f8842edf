"""Holds: reservations of available money, later posted in part or whole, voided or expired by block time."""

from feiqian.core.addresses import to_text
from feiqian.core.encoding import MAX_SUPPLY_MINOR, Hash32
from feiqian.ledger.assets import require_asset
from feiqian.ledger.authority import require_account
from feiqian.ledger.balances import BALANCES, balance_key, get_balance
from feiqian.ledger.context import Context, Trigger
from feiqian.ledger.errors import (
    AccountFrozen,
    AssetFrozenForAccount,
    BalanceOutOfRange,
    HoldPastExpiry,
    HoldUnknown,
    InsufficientAvailable,
    MalformedHold,
    NotHoldController,
    TooManyHolds,
    TriggerNotAhead,
)
from feiqian.ledger.events import HoldExpired, HoldPlaced, HoldPosted, HoldVoided
from feiqian.ledger.postings import MAX_LEGS, enter
from feiqian.ledger.records import Balance, Hold, HoldCount, Leg
from feiqian.ledger.triggers import TIME_MAX_MS, cancel, schedule
from feiqian.state.tables import Overlay, Table

HOLDS: Table[Hold] = Table("ledger.holds", Hold)
HOLD_COUNTS: Table[HoldCount] = Table("ledger.hold_counts", HoldCount)
MAX_REFERENCE_BYTES = 512
MAX_OPEN_HOLDS = 1_000
"""On one account in one asset, so that nobody floods the triggers with expiries."""


class ExpireHold(Trigger, tag="ledger.ExpireHold"):
    """Runs when a hold's time is over."""

    hold: Hash32


def place(
    ctx: Context,
    account: bytes,
    asset: str,
    amount_minor: int,
    controller: str,
    reference: bytes,
    expires_at_ms: int,
    *,
    beneficiary: bytes | None = None,
) -> bytes:
    """Reserve part of what is available, credit limit included, and return the hold's id.

    `controller` is the module that may post or void it, `reference` (≤512 bytes) that module's own. It can be posted
    while block time < `expires_at_ms`. `beneficiary` is the account that it is for, which may read what becomes of it.

    Raises:
        MalformedHold: amount not within 1 to 2^62, controller or reference out of form.
        TriggerNotAhead: it would expire at or before this block.
        AssetUnknown, AccountUnknown, AccountFrozen, AssetFrozenForAccount: asset, account or beneficiary.
        TooManyHolds, BalanceOutOfRange, InsufficientAvailable: the account's holds in this asset.
    """
    if not 1 <= amount_minor <= MAX_SUPPLY_MINOR:
        raise MalformedHold(f"hold of {amount_minor} minor units; 1 to 2^62 are accepted")
    if not 1 <= len(controller) <= 32 or len(reference) > MAX_REFERENCE_BYTES:
        raise MalformedHold(
            f"a hold's controller has 1 to 32 characters and its reference at most {MAX_REFERENCE_BYTES} bytes"
        )
    if not ctx.block.time_ms < expires_at_ms <= TIME_MAX_MS:
        raise TriggerNotAhead(f"hold expires at {expires_at_ms} ms; it must be after block time {ctx.block.time_ms}")
    require_asset(ctx.state, asset)
    if require_account(ctx.state, account).frozen_by is not None:
        raise AccountFrozen(f"account {to_text(account)} is frozen: nothing of it can be reserved")
    if beneficiary is not None:
        require_account(ctx.state, beneficiary)
    balance = get_balance(ctx.state, account, asset)
    if balance.is_frozen:
        raise AssetFrozenForAccount(f"account {to_text(account)} is frozen for {asset}")
    open_count = _open_count(ctx.state, account, asset)
    if open_count >= MAX_OPEN_HOLDS:
        raise TooManyHolds(f"{to_text(account)} has {open_count} open holds of {asset}; at most {MAX_OPEN_HOLDS}")
    free_minor = balance.posted_minor - balance.held_minor + balance.limit_minor
    if balance.held_minor + amount_minor > MAX_SUPPLY_MINOR:
        raise BalanceOutOfRange(f"{to_text(account)} would have more than 2^62 of {asset} held")
    if amount_minor > free_minor:
        raise InsufficientAvailable(
            f"hold of {amount_minor} of {asset} on {to_text(account)}, which has {free_minor} free, limit included"
        )
    hold_id = ctx.new_id()
    expiry_key = schedule(ctx, expires_at_ms, ExpireHold(hold_id))
    _set_held(ctx.state, account, asset, balance, balance.held_minor + amount_minor)
    HOLD_COUNTS.put(ctx.state, balance_key(account, asset), HoldCount(open_count + 1))
    hold = Hold(account, beneficiary, asset, amount_minor, controller, reference, expires_at_ms, expiry_key)
    HOLDS.put(ctx.state, hold_id, hold)
    ctx.emit(HoldPlaced(hold_id, account, beneficiary, asset, amount_minor, controller, reference, expires_at_ms))
    return hold_id


def post_hold(ctx: Context, hold_id: bytes, legs_to: tuple[Leg, ...], *, is_final: bool) -> None:
    """Pay credits out of a hold; `is_final` frees the rest, and so does posting all of it.

    The entry binds like any other: accounts not frozen, receivers listed, limits kept.

    Raises:
        HoldUnknown, HoldPastExpiry: the hold is not open.
        MalformedHold: no credit, another asset, an amount not above zero, or more than the hold.
        What `post` raises, `InsufficientAvailable` apart.
    """
    hold = require_hold(ctx.state, hold_id)
    if hold.expires_at_ms <= ctx.block.time_ms:
        raise HoldPastExpiry(f"hold expired at {hold.expires_at_ms} ms; block time is {ctx.block.time_ms}")
    posted_minor = _sum_of_credits(hold, legs_to)
    remaining_minor = 0 if is_final else hold.amount_minor - posted_minor
    released_minor = hold.amount_minor - posted_minor - remaining_minor
    legs = (Leg(hold.account, hold.asset, -posted_minor), *legs_to)
    freed_minor = posted_minor + released_minor
    enter(ctx, legs, None, (balance_key(hold.account, hold.asset), freed_minor))
    if remaining_minor:
        HOLDS.put(
            ctx.state,
            hold_id,
            Hold(
                hold.account,
                hold.beneficiary,
                hold.asset,
                remaining_minor,
                hold.controller,
                hold.reference,
                hold.expires_at_ms,
                hold.expiry_key,
            ),
        )
    else:
        _forget(ctx.state, hold_id, hold)
        cancel(ctx, hold.expiry_key)
    ctx.emit(
        HoldPosted(hold_id, hold.account, hold.beneficiary, hold.asset, posted_minor, released_minor, remaining_minor)
    )


def void(ctx: Context, hold_id: bytes) -> None:
    """Give what remains of a hold back to available, frozen or not.

    Raises:
        HoldUnknown: no such hold is open.
    """
    hold = require_hold(ctx.state, hold_id)
    cancel(ctx, hold.expiry_key)
    _release(ctx.state, hold_id, hold)
    ctx.emit(HoldVoided(hold_id, hold.account, hold.beneficiary, hold.asset, hold.amount_minor))


def expire(ctx: Context, trigger: ExpireHold) -> None:
    """Give what remains of a hold back when its time is over."""
    hold = require_hold(ctx.state, trigger.hold)
    _release(ctx.state, trigger.hold, hold)
    ctx.emit(
        HoldExpired(
            trigger.hold,
            hold.account,
            hold.beneficiary,
            hold.asset,
            hold.amount_minor,
            hold.controller,
            hold.reference,
        )
    )


def require_hold(state: Overlay, hold_id: bytes, controller: str | None = None) -> Hold:
    """Return an open hold, of the module `controller` if one is given.

    Raises:
        HoldUnknown, NotHoldController.
    """
    hold = HOLDS.get(state, hold_id)
    if hold is None:
        raise HoldUnknown(f"no hold {hold_id.hex()} is open: it never was, or was posted, voided or expired")
    if controller is not None and hold.controller != controller:
        raise NotHoldController(f"hold {hold_id.hex()} belongs to {hold.controller}, not to {controller}")
    return hold


def _sum_of_credits(hold: Hold, legs_to: tuple[Leg, ...]) -> int:
    if not 1 <= len(legs_to) < MAX_LEGS:
        raise MalformedHold(f"hold posted to {len(legs_to)} credits; 1 to {MAX_LEGS - 1} are accepted")
    for leg in legs_to:
        if leg.asset != hold.asset:
            raise MalformedHold(f"hold of {hold.asset} posted in {leg.asset}")
        if leg.amount_minor < 1:
            raise MalformedHold(f"hold posted with a leg of {leg.amount_minor}; credits are above zero")
    posted_minor = sum(leg.amount_minor for leg in legs_to)
    if posted_minor > hold.amount_minor:
        raise MalformedHold(f"posting {posted_minor} of a hold of which {hold.amount_minor} remain")
    return posted_minor


def _release(state: Overlay, hold_id: bytes, hold: Hold) -> None:
    balance = get_balance(state, hold.account, hold.asset)
    _set_held(state, hold.account, hold.asset, balance, balance.held_minor - hold.amount_minor)
    _forget(state, hold_id, hold)


def _open_count(state: Overlay, account: bytes, asset: str) -> int:
    count = HOLD_COUNTS.get(state, balance_key(account, asset))
    return 0 if count is None else count.open


def _forget(state: Overlay, hold_id: bytes, hold: Hold) -> None:
    HOLDS.delete(state, hold_id)
    left = _open_count(state, hold.account, hold.asset) - 1
    key = balance_key(hold.account, hold.asset)
    if left:
        HOLD_COUNTS.put(state, key, HoldCount(left))
    else:
        HOLD_COUNTS.delete(state, key)


def _set_held(state: Overlay, account: bytes, asset: str, balance: Balance, held_minor: int) -> None:
    BALANCES.put(
        state,
        balance_key(account, asset),
        Balance(balance.posted_minor, held_minor, balance.limit_minor, balance.is_frozen, balance.is_listed),
    )
