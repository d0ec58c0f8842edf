"""The rules of assets: each handler refuses in the order a person would ask, then moves value through the ledger.

What the ledger refuses (unknown, frozen, unlisted, beyond limits or available) is asked there, before its first write.
"""

from collections.abc import Mapping

from feiqian.core.addresses import to_text
from feiqian.core.encoding import MAX_SUPPLY_MINOR
from feiqian.core.errors import AmountOutOfRange
from feiqian.ledger import holds
from feiqian.ledger.accounts import require_administration
from feiqian.ledger.assets import define_asset, require_asset, require_controller
from feiqian.ledger.context import Context, Message
from feiqian.ledger.members import require_active
from feiqian.ledger.postings import post, set_asset_frozen, set_listed
from feiqian.ledger.records import Asset, Hold, Leg
from feiqian.modules import Handler
from feiqian.modules.assets.errors import (
    CodeNotOfIssuer,
    HoldOfOtherAsset,
    HoldTooLong,
    IssuanceByTransfer,
    LimitAboveCap,
    NotAnIssuer,
    NotBeneficiary,
    NotIssuanceAccount,
    ReasonUnknown,
    SelfTransfer,
)
from feiqian.modules.assets.events import (
    BatchTransferred,
    Frozen,
    HoldGivenUp,
    HoldMade,
    HoldTaken,
    HoldVoidForced,
    Issued,
    Redeemed,
    Released,
    TransferForced,
    Transferred,
)
from feiqian.modules.assets.messages import (
    AllowHolder,
    BatchTransfer,
    Define,
    DisallowHolder,
    ForcedTransfer,
    ForcedVoidHold,
    Freeze,
    Issue,
    PlaceHold,
    PostHold,
    Redeem,
    Release,
    Transfer,
    VoidHold,
)
from feiqian.modules.assets.state import ISSUING_ROLES, MAX_HOLD_MS, NAME, REASONS


def define(ctx: Context, message: Define) -> None:
    """Create an asset of the acting account's member, whose code ends in the member's id.

    Raises:
        NotAdministration: another account of the member speaks for it.
        CodeNotOfIssuer: the code ends otherwise; and whatever `create` raises.
    """
    issuer = require_administration(ctx.state, message.account).member
    if not message.code.endswith(f".{issuer}"):
        raise CodeNotOfIssuer(f"code {message.code!r} of issuer {issuer!r}; it must end in .{issuer}")
    asset = Asset(
        scale=message.scale,
        issuer=issuer,
        issuance_account=message.issuance_account,
        supply_cap_minor=message.supply_cap_minor,
        is_freezable=message.is_freezable,
        is_allow_listed=message.is_allow_listed,
        transfer_limit_minor=message.transfer_limit_minor,
        daily_limit_minor=message.daily_limit_minor,
        controller=message.controller,
        name=message.name,
        currency=message.currency,
    )
    create(ctx, message.code, asset)


def create(ctx: Context, code: str, asset: Asset) -> None:
    """Create an asset under any free code, as genesis may: all members agreed to it.

    Raises:
        NotAnIssuer, LimitAboveCap: see each.
        MemberUnknown, MemberSuspended, AccountUnknown, AssetExists, MalformedAsset: the ledger's.
    """
    issuer = require_active(ctx.state, asset.issuer)
    if not any(role in ISSUING_ROLES for role in issuer.roles):
        raise NotAnIssuer(
            f"member {asset.issuer!r} has the roles {', '.join(issuer.roles) or 'none'}; "
            f"one of {', '.join(ISSUING_ROLES)} is needed to issue assets"
        )
    _check_limits(asset)
    define_asset(ctx, code, asset)


def issue(ctx: Context, message: Issue) -> None:
    """Post new units from the issuance account to the payee."""
    _require_issuance_account(ctx, message.asset, message.issuance_account)
    _refuse_self(message.issuance_account, message.payee)
    post(ctx, _pair(message.asset, message.issuance_account, message.payee, message.amount_minor))
    ctx.emit(Issued(message.issuance_account, message.payee, message.asset, message.amount_minor, message.reference))


def redeem(ctx: Context, message: Redeem) -> None:
    """Post the holder's units back to the issuance account."""
    issuance_account = require_asset(ctx.state, message.asset).issuance_account
    _refuse_self(message.account, issuance_account)
    post(ctx, _pair(message.asset, message.account, issuance_account, message.amount_minor))
    ctx.emit(Redeemed(message.account, issuance_account, message.asset, message.amount_minor, message.reference))


def transfer(ctx: Context, message: Transfer) -> None:
    """Post units from holder to holder."""
    _refuse_self(message.payer, message.payee)
    issuance_account = require_asset(ctx.state, message.asset).issuance_account
    _refuse_issuance(message.asset, issuance_account, message.payer)
    _refuse_issuance(message.asset, issuance_account, message.payee)
    post(ctx, _pair(message.asset, message.payer, message.payee, message.amount_minor))
    ctx.emit(Transferred(message.payer, message.payee, message.asset, message.amount_minor, message.reference))


def batch_transfer(ctx: Context, message: BatchTransfer) -> None:
    """Post one debit of the whole sum and a credit for each leg: what as many single transfers would do."""
    payer, code, legs = message.payer, message.asset, message.legs
    issuance_account = require_asset(ctx.state, code).issuance_account
    _refuse_issuance(code, issuance_account, payer)
    credits_: list[Leg] = []
    for leg in legs:
        _refuse_self(payer, leg.payee)
        _refuse_issuance(code, issuance_account, leg.payee)
        credits_.append(Leg(leg.payee, code, leg.amount_minor))
    total_minor = message.total_minor()
    if total_minor > MAX_SUPPLY_MINOR:
        raise AmountOutOfRange(f"the legs sum to {total_minor}; at most {MAX_SUPPLY_MINOR} can exist")
    post(ctx, (Leg(payer, code, -total_minor), *credits_))
    ctx.emit(BatchTransferred(payer, code, total_minor, legs))


def place_hold(ctx: Context, message: PlaceHold) -> None:
    """Reserve units of the account for the beneficiary."""
    _refuse_self(message.account, message.beneficiary)
    issuance_account = require_asset(ctx.state, message.asset).issuance_account
    _refuse_issuance(message.asset, issuance_account, message.account)
    _refuse_issuance(message.asset, issuance_account, message.beneficiary)
    latest_ms = ctx.block.time_ms + MAX_HOLD_MS
    if message.expires_at_ms > latest_ms:
        raise HoldTooLong(f"the hold would end at {message.expires_at_ms} ms; it may end by {latest_ms} (366 days)")
    hold_id = holds.place(
        ctx,
        message.account,
        message.asset,
        message.amount_minor,
        NAME,
        message.reference,
        message.expires_at_ms,
        beneficiary=message.beneficiary,
    )
    ctx.emit(
        HoldMade(
            hold_id,
            message.account,
            message.beneficiary,
            message.asset,
            message.amount_minor,
            message.expires_at_ms,
            message.reference,
        )
    )


def post_hold(ctx: Context, message: PostHold) -> None:
    """Move held units to the beneficiary."""
    hold = _require_hold_for(ctx, message.hold, message.beneficiary)
    _require_asset_of(hold, message.asset)
    credit = Leg(message.beneficiary, hold.asset, message.amount_minor)
    holds.post_hold(ctx, message.hold, (credit,), is_final=message.is_final)
    ctx.emit(
        HoldTaken(message.hold, hold.account, message.beneficiary, hold.asset, message.amount_minor, message.is_final)
    )


def void_hold(ctx: Context, message: VoidHold) -> None:
    """Release held units at the beneficiary's word; the payer cannot: the hold is a promise to the beneficiary."""
    hold = _require_hold_for(ctx, message.hold, message.beneficiary)
    holds.void(ctx, message.hold)
    ctx.emit(HoldGivenUp(message.hold, hold.account, message.beneficiary, hold.asset, hold.amount_minor))


def freeze(ctx: Context, message: Freeze) -> None:
    """Stop an account for one asset."""
    require_controller(ctx.state, message.asset, message.controller)
    _check_reason(message.reason)
    set_asset_frozen(ctx, message.account, message.asset, True)
    ctx.emit(Frozen(message.controller, message.account, message.asset, message.reason))


def release(ctx: Context, message: Release) -> None:
    """End a freeze."""
    require_controller(ctx.state, message.asset, message.controller)
    _check_reason(message.reason)
    set_asset_frozen(ctx, message.account, message.asset, False)
    ctx.emit(Released(message.controller, message.account, message.asset, message.reason))


def allow_holder(ctx: Context, message: AllowHolder) -> None:
    """Put an account on the asset's list of holders."""
    _require_issuance_account(ctx, message.asset, message.issuance_account)
    set_listed(ctx, message.account, message.asset, True)


def disallow_holder(ctx: Context, message: DisallowHolder) -> None:
    """Take an account off the asset's list of holders: what it has stays, and only the controller can move it."""
    _require_issuance_account(ctx, message.asset, message.issuance_account)
    _refuse_issuance(message.asset, message.issuance_account, message.account)
    set_listed(ctx, message.account, message.asset, False)


def forced_transfer(ctx: Context, message: ForcedTransfer) -> None:
    """Post units away from a holder at the controller's word; to the issuance account, where they end, as well."""
    asset = require_controller(ctx.state, message.asset, message.controller)
    _check_reason(message.reason)
    _refuse_self(message.payer, message.payee)
    _refuse_issuance(message.asset, asset.issuance_account, message.payer)
    legs = _pair(message.asset, message.payer, message.payee, message.amount_minor)
    post(ctx, legs, forced_by=message.controller)
    ctx.emit(
        TransferForced(
            message.controller,
            message.payer,
            message.payee,
            message.asset,
            message.amount_minor,
            message.reason,
            message.reference,
        )
    )


def forced_void_hold(ctx: Context, message: ForcedVoidHold) -> None:
    """Release held units at the controller's word, so that a hold cannot put them out of a court's reach."""
    hold = holds.require_hold(ctx.state, message.hold, NAME)
    _require_asset_of(hold, message.asset)
    require_controller(ctx.state, message.asset, message.controller)
    _check_reason(message.reason)
    holds.void(ctx, message.hold)
    assert hold.beneficiary is not None, "this module places holds for a beneficiary"
    ctx.emit(
        HoldVoidForced(
            message.controller,
            message.hold,
            hold.account,
            hold.beneficiary,
            hold.asset,
            hold.amount_minor,
            message.reason,
        )
    )


HANDLERS: Mapping[type[Message], Handler] = {
    Define: define,
    Issue: issue,
    Redeem: redeem,
    Transfer: transfer,
    BatchTransfer: batch_transfer,
    PlaceHold: place_hold,
    PostHold: post_hold,
    VoidHold: void_hold,
    Freeze: freeze,
    Release: release,
    AllowHolder: allow_holder,
    DisallowHolder: disallow_holder,
    ForcedTransfer: forced_transfer,
    ForcedVoidHold: forced_void_hold,
}


def _pair(asset: str, payer: bytes, payee: bytes, amount_minor: int) -> tuple[Leg, Leg]:
    return Leg(payer, asset, -amount_minor), Leg(payee, asset, amount_minor)


def _check_limits(asset: Asset) -> None:
    cap_minor = asset.supply_cap_minor
    daily_minor = cap_minor if asset.daily_limit_minor is None else asset.daily_limit_minor
    if daily_minor > cap_minor:
        raise LimitAboveCap(f"daily limit {daily_minor}; at most the supply cap, {cap_minor}")
    if asset.transfer_limit_minor is not None and asset.transfer_limit_minor > daily_minor:
        raise LimitAboveCap(
            f"transfer limit {asset.transfer_limit_minor}; at most the daily limit and the supply cap, {daily_minor}"
        )


def _refuse_self(payer: bytes, payee: bytes) -> None:
    if payer == payee:
        raise SelfTransfer(f"payer and payee are the same account, {to_text(payer)}")


def _refuse_issuance(code: str, issuance_account: bytes, account: bytes) -> None:
    if account == issuance_account:
        raise IssuanceByTransfer(f"the issuance account of {code} pays by Issue and is paid by Redeem only")


def _require_issuance_account(ctx: Context, code: str, account: bytes) -> None:
    if account != require_asset(ctx.state, code).issuance_account:
        raise NotIssuanceAccount(f"{to_text(account)} is not the issuance account of {code}")


def _check_reason(reason: str) -> None:
    if reason not in REASONS:
        raise ReasonUnknown(f"reason {reason!r}; known are {', '.join(REASONS)}")


def _require_hold_for(ctx: Context, hold_id: bytes, beneficiary: bytes) -> Hold:
    hold = holds.require_hold(ctx.state, hold_id, NAME)
    if beneficiary != hold.beneficiary:
        raise NotBeneficiary(f"{to_text(beneficiary)} is not the beneficiary of the hold")
    return hold


def _require_asset_of(hold: Hold, code: str) -> None:
    if hold.asset != code:
        raise HoldOfOtherAsset(f"the message names {code!r}; the hold is of {hold.asset!r}")
