"""Double-entry postings: the one place where value moves and where an asset's rules bind.

An entry is atomic and its legs have no order, so only its net effect on each account counts: whether enough is
available is asked of the final balance, and legs that pass through an account need no cover on the way.
"""

from feiqian.core.addresses import to_text
from feiqian.core.encoding import MAX_SUPPLY_MINOR
from feiqian.ledger.assets import ASSETS, require_asset
from feiqian.ledger.authority import ACCOUNTS, require_account
from feiqian.ledger.balances import BALANCES, EMPTY, available_minor, balance_key, get_balance
from feiqian.ledger.context import Context
from feiqian.ledger.errors import (
    AccountFrozen,
    AccountUnknown,
    AssetFrozenForAccount,
    AssetUnknown,
    BalanceOutOfRange,
    DailyLimitExceeded,
    EntryMovesNothing,
    EntryNotBalanced,
    HolderNotListed,
    InsufficientAvailable,
    IssuanceLimitFixed,
    LimitBelowUse,
    MalformedEntry,
    NotAllowListed,
    NotController,
    NotFreezable,
    NothingChanges,
    SupplyCapExceeded,
    TransferLimitExceeded,
)
from feiqian.ledger.events import AssetFreezeSet, LimitSet, ListingSet, Posted
from feiqian.ledger.metering import WORK_PER_POSTING
from feiqian.ledger.records import DAY_MS, Asset, Balance, DayOutflow, Leg
from feiqian.state.tables import Overlay, Table

__all__ = [
    "BALANCES",
    "MAX_LEGS",
    "OUTFLOWS",
    "Balance",
    "Leg",
    "available_minor",
    "balance_key",
    "get_balance",
    "post",
    "set_asset_frozen",
    "set_limit",
    "set_listed",
]

OUTFLOWS: Table[DayOutflow] = Table("ledger.outflows", DayOutflow)
MAX_LEGS = 4_000

Part = tuple[str, Asset, dict[bytes, int]]
"""What an entry does in one asset: its code, the asset, the net of each account."""

Released = tuple[bytes, int]
"""Key of a balance and the held amount that is freed in the same stroke as the entry is posted."""


def post(ctx: Context, legs: tuple[Leg, ...], *, forced_by: bytes | None = None) -> None:
    """Post one entry: all its legs or none.

    `forced_by` is the acting account of a forced movement; it must be the controller of every asset moved. Freezes and
    transfer limits do not bind a forced movement; available balances, holds and the list of holders do.

    Raises:
        MalformedEntry: fewer than 2 or more than 4,000 legs, or a leg of zero or beyond ±2^62.
        AssetUnknown, NotController: the asset; EntryNotBalanced, EntryMovesNothing: the entry as a whole.
        AccountUnknown, AccountFrozen, AssetFrozenForAccount, HolderNotListed: who may send and receive.
        TransferLimitExceeded, DailyLimitExceeded: the asset's limits.
        InsufficientAvailable, SupplyCapExceeded, BalanceOutOfRange: the balances.
    """
    enter(ctx, legs, forced_by, None)


def enter(ctx: Context, legs: tuple[Leg, ...], forced_by: bytes | None, released: Released | None) -> None:
    """Post one entry, freeing held money of one balance in the same stroke. For `holds`; others call `post`."""
    ctx.work += WORK_PER_POSTING * len(legs)
    state = ctx.state
    parts: list[Part] = []
    is_limited = False
    for code, nets in _net(legs).items():
        asset = ASSETS.get(state, code.encode())
        if asset is None:
            raise AssetUnknown(f"asset {code[:48]!r} is not defined")
        total = sum(nets.values())
        if total:
            raise EntryNotBalanced(f"legs in {code} sum to {total}; an entry sums to zero in each asset")
        if forced_by is not None and asset.controller != forced_by:
            raise NotController(f"asset {code}: only its controller may force a movement, not {to_text(forced_by)}")
        if asset.transfer_limit_minor is not None or asset.daily_limit_minor is not None:
            is_limited = True
        parts.append((code, asset, nets))
    outflows: list[tuple[bytes, DayOutflow]] = []
    if is_limited and forced_by is None:
        _check_transfer_limits(parts, legs)
        outflows = _day_outflows(ctx, parts)
    written: list[tuple[bytes, Balance]] = []
    for code, asset, nets in parts:
        written += _new_balances(state, asset, code, nets, forced_by is not None, released)
    if not written:
        raise EntryMovesNothing("every account would end where it began; transfer to another account")
    for key, balance in written:
        BALANCES.put(state, key, balance)
    for key, outflow in outflows:
        OUTFLOWS.put(state, key, outflow)
    ctx.events.append(Posted(legs))


def set_limit(ctx: Context, address: bytes, asset: str, limit_minor: int) -> None:
    """Set how far below zero an account's available balance may go.

    Raises:
        AssetUnknown, AccountUnknown: no such asset or account.
        IssuanceLimitFixed: the issuance account's limit is the supply cap.
        BalanceOutOfRange: the limit is negative or above 2^62.
        LimitBelowUse: the account already uses more.
        NothingChanges: it is the present limit.
    """
    definition = require_asset(ctx.state, asset)
    require_account(ctx.state, address)
    if address == definition.issuance_account:
        raise IssuanceLimitFixed(f"asset {asset}: the issuance account's limit is the supply cap and stays")
    if not 0 <= limit_minor <= MAX_SUPPLY_MINOR:
        raise BalanceOutOfRange(f"limit {limit_minor} is not within 0 to 2^62 minor units")
    balance = get_balance(ctx.state, address, asset)
    if limit_minor == balance.limit_minor:
        raise NothingChanges(f"the limit of {to_text(address)} in {asset} is already {limit_minor}")
    if available_minor(balance) < -limit_minor:
        raise LimitBelowUse(f"{to_text(address)} uses {-available_minor(balance)} of its limit in {asset}")
    BALANCES.put(
        ctx.state,
        balance_key(address, asset),
        Balance(balance.posted_minor, balance.held_minor, limit_minor, balance.is_frozen, balance.is_listed),
    )
    ctx.emit(LimitSet(address, asset, limit_minor))


def set_asset_frozen(ctx: Context, address: bytes, asset: str, is_frozen: bool) -> None:
    """Freeze or release an account for one asset; that the asset's controller asks is the caller's rule.

    Raises:
        AssetUnknown, AccountUnknown, NotFreezable, NothingChanges.
    """
    if not require_asset(ctx.state, asset).is_freezable:
        raise NotFreezable(f"asset {asset} was defined without freezing")
    require_account(ctx.state, address)
    balance = get_balance(ctx.state, address, asset)
    if balance.is_frozen == is_frozen:
        raise NothingChanges(f"{to_text(address)} is {'already' if is_frozen else 'not'} frozen for {asset}")
    BALANCES.put(
        ctx.state,
        balance_key(address, asset),
        Balance(balance.posted_minor, balance.held_minor, balance.limit_minor, is_frozen, balance.is_listed),
    )
    ctx.emit(AssetFreezeSet(address, asset, is_frozen))


def set_listed(ctx: Context, address: bytes, asset: str, is_listed: bool) -> None:
    """Put an account on an asset's list of holders or take it off; who may ask is the caller's rule.

    An account taken off keeps what it has and neither sends nor receives; the controller may move it away.

    Raises:
        AssetUnknown, AccountUnknown, NotAllowListed, NothingChanges.
    """
    if not require_asset(ctx.state, asset).is_allow_listed:
        raise NotAllowListed(f"asset {asset} was defined without a list of holders")
    require_account(ctx.state, address)
    balance = get_balance(ctx.state, address, asset)
    if balance.is_listed == is_listed:
        raise NothingChanges(f"{to_text(address)} is {'already' if is_listed else 'not'} listed for {asset}")
    BALANCES.put(
        ctx.state,
        balance_key(address, asset),
        Balance(balance.posted_minor, balance.held_minor, balance.limit_minor, balance.is_frozen, is_listed),
    )
    ctx.emit(ListingSet(address, asset, is_listed))


def _net(legs: tuple[Leg, ...]) -> dict[str, dict[bytes, int]]:
    """Return asset code → account → sum of its legs, each in order of first mention."""
    if not 2 <= len(legs) <= MAX_LEGS:
        raise MalformedEntry(f"entry of {len(legs)} legs; 2 to {MAX_LEGS} are accepted")
    nets: dict[str, dict[bytes, int]] = {}
    for leg in legs:
        amount_minor = leg.amount_minor
        if not amount_minor or not -MAX_SUPPLY_MINOR <= amount_minor <= MAX_SUPPLY_MINOR:
            raise MalformedEntry(f"leg of {amount_minor} minor units; a leg is not zero and at most 2^62 either way")
        of_asset = nets.get(leg.asset)
        if of_asset is None:
            nets[leg.asset] = {leg.account: amount_minor}
        else:
            of_asset[leg.account] = of_asset.get(leg.account, 0) + amount_minor
    return nets


def _new_balances(
    state: Overlay, asset: Asset, code: str, nets: dict[bytes, int], is_forced: bool, released: Released | None
) -> list[tuple[bytes, Balance]]:
    """Return the balances that the nets lead to, every rule on who may send and receive checked."""
    suffix = code.encode()
    written: list[tuple[bytes, Balance]] = []
    for address, net in nets.items():
        account = ACCOUNTS.get(state, address)
        if account is None:
            raise AccountUnknown(f"no account is open at {to_text(address)}")
        if account.frozen_by is not None and not is_forced:
            raise AccountFrozen(f"account {to_text(address)} is frozen: it neither sends nor receives")
        key = address + suffix
        balance = BALANCES.get(state, key) or EMPTY
        if balance.is_frozen and not is_forced:
            raise AssetFrozenForAccount(f"account {to_text(address)} is frozen for {code}")
        if not net:
            continue
        if asset.is_allow_listed and not balance.is_listed and not (is_forced and net < 0):
            raise HolderNotListed(f"account {to_text(address)} is not on the list of holders of {code}")
        posted_minor = balance.posted_minor + net
        held_minor = balance.held_minor
        if released is not None and key == released[0]:
            held_minor -= released[1]
        if net < 0:
            if posted_minor - held_minor < -balance.limit_minor:
                raise _overdrawn(asset, code, address, balance, net)
        elif posted_minor > MAX_SUPPLY_MINOR:
            raise BalanceOutOfRange(f"account {to_text(address)} would hold {posted_minor} of {code}; at most 2^62")
        written.append(
            (key, Balance(posted_minor, held_minor, balance.limit_minor, balance.is_frozen, balance.is_listed))
        )
    return written


def _overdrawn(
    asset: Asset, code: str, address: bytes, balance: Balance, net: int
) -> InsufficientAvailable | SupplyCapExceeded:
    if address == asset.issuance_account:
        left_minor = balance.limit_minor + available_minor(balance)
        return SupplyCapExceeded(
            f"issuing {-net} of {code}; {left_minor} are left below its cap of {balance.limit_minor}"
        )
    return InsufficientAvailable(
        f"account {to_text(address)} would pay {-net} of {code}; it has {available_minor(balance)} available "
        f"and a limit of {balance.limit_minor}"
    )


def _check_transfer_limits(parts: list[Part], legs: tuple[Leg, ...]) -> None:
    """Each credit is one transfer. Issuing and redeeming are none: they make and unmake supply."""
    limits: dict[str, int] = {}
    for code, asset, nets in parts:
        if asset.transfer_limit_minor is not None and nets.get(asset.issuance_account, 0) >= 0:
            limits[code] = asset.transfer_limit_minor
    redeeming = {code: asset.issuance_account for code, asset, _ in parts}
    for leg in legs:
        limit_minor = limits.get(leg.asset)
        if limit_minor is not None and leg.amount_minor > limit_minor and leg.account != redeeming[leg.asset]:
            raise TransferLimitExceeded(f"transfer of {leg.amount_minor} of {leg.asset}; at most {limit_minor} at once")


def _day_outflows(ctx: Context, parts: list[Part]) -> list[tuple[bytes, DayOutflow]]:
    """Return what each paying account will have sent on this UTC day of block time; redeeming counts, issuing not."""
    day = ctx.block.time_ms // DAY_MS
    written: list[tuple[bytes, DayOutflow]] = []
    for code, asset, nets in parts:
        limit_minor = asset.daily_limit_minor
        if limit_minor is None:
            continue
        for address, net in nets.items():
            if net >= 0 or address == asset.issuance_account:
                continue
            key = balance_key(address, code)
            outflow = OUTFLOWS.get(ctx.state, key)
            before_minor = outflow.amount_minor if outflow is not None and outflow.day == day else 0
            if before_minor - net > limit_minor:
                raise DailyLimitExceeded(
                    f"account {to_text(address)} would send {before_minor - net} of {code} on one UTC day; "
                    f"at most {limit_minor}, of which {limit_minor - before_minor} are left"
                )
            written.append((key, DayOutflow(day, before_minor - net)))
    return written
