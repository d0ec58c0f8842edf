"""Runs this module's messages. That the acting account's policy is met was checked before."""

from feiqian.core.addresses import to_text
from feiqian.ledger import approvals
from feiqian.ledger.accounts import change_policy, open_account, require_account, set_frozen
from feiqian.ledger.assets import require_issuer
from feiqian.ledger.context import Context
from feiqian.ledger.members import require_active
from feiqian.ledger.postings import set_limit
from feiqian.modules.accounts.errors import FrozenByOther, NotYourAccount
from feiqian.modules.accounts.messages import (
    Approve,
    ChangePolicy,
    Open,
    Propose,
    SetFrozen,
    SetLimit,
    Withdraw,
)

GOVERNOR = "governor"


def open_(ctx: Context, message: Open) -> None:
    """Open an account of the acting account's member."""
    open_account(ctx, require_account(ctx.state, message.account).member, message.policy, message.salt)


def change_policy_(ctx: Context, message: ChangePolicy) -> None:
    """Replace the acting account's policy."""
    change_policy(ctx, message.account, message.policy)


def set_frozen_(ctx: Context, message: SetFrozen) -> None:
    """Freeze or release an account of the same member, or of any as a governor."""
    acting = require_account(ctx.state, message.account).member
    target = require_account(ctx.state, message.target)
    is_governor = GOVERNOR in require_active(ctx.state, acting).roles
    if target.member != acting and not is_governor:
        raise NotYourAccount(f"account {to_text(message.target)} is {target.member!r}'s; {acting!r} is no governor")
    if target.frozen_by not in (None, acting) and not is_governor:
        raise FrozenByOther(f"account {to_text(message.target)} was frozen by {target.frozen_by!r}, not by {acting!r}")
    set_frozen(ctx, message.target, message.is_frozen, acting, message.reason)


def set_limit_(ctx: Context, message: SetLimit) -> None:
    """Set an account's credit limit in an asset that the acting account's member issues."""
    require_issuer(ctx.state, message.asset, message.account)
    set_limit(ctx, message.target, message.asset, message.limit_minor)


def propose(ctx: Context, message: Propose) -> None:
    """Put messages up for approval."""
    approvals.propose(ctx, message.account, message.messages, message.days)


def approve(ctx: Context, message: Approve) -> None:
    """Add keys to a pending approval, and run it if they suffice."""
    approvals.approve(ctx, message.account, message.pending)


def withdraw(ctx: Context, message: Withdraw) -> None:
    """Take a pending approval back."""
    approvals.withdraw(ctx, message.account, message.pending)


HANDLERS = {
    Open: open_,
    ChangePolicy: change_policy_,
    SetFrozen: set_frozen_,
    SetLimit: set_limit_,
    Propose: propose,
    Approve: approve,
    Withdraw: withdraw,
}
