"""Runs this module's messages. That the acting account's policy is met was checked before."""

from feiqian.core.addresses import to_text
from feiqian.ledger import approvals
from feiqian.ledger.accounts import (
    change_policy,
    open_account,
    require_account,
    require_administration,
    set_administration,
    set_frozen,
)
from feiqian.ledger.assets import require_issuer
from feiqian.ledger.context import Context
from feiqian.ledger.postings import set_limit
from feiqian.ledger.records import BY_GOVERNANCE, BY_MEMBER
from feiqian.modules.accounts.errors import AdministrationStays, FrozenByGovernance, NotYourAccount
from feiqian.modules.accounts.messages import (
    Approve,
    ChangePolicy,
    Open,
    Propose,
    SetAdministration,
    SetFrozen,
    SetLimit,
    Withdraw,
)


def open_(ctx: Context, message: Open) -> None:
    """Open an account of the acting account's member.

    Raises:
        NotAdministration: another account of the member speaks for it; and what `open_account` refuses.
    """
    open_account(ctx, require_administration(ctx.state, message.account).member, message.policy, message.salt)


def change_policy_(ctx: Context, message: ChangePolicy) -> None:
    """Replace the acting account's policy."""
    change_policy(ctx, message.account, message.policy)


def set_administration_(ctx: Context, message: SetAdministration) -> None:
    """Hand the member's administration over to another of its accounts.

    Raises:
        NotAdministration: the acting account does not have it; and what `set_administration` refuses.
    """
    member = require_administration(ctx.state, message.account).member
    set_administration(ctx, member, message.administration)


def set_frozen_(ctx: Context, message: SetFrozen) -> None:
    """Freeze or release another account of the same member.

    Raises:
        NotAdministration, NotYourAccount, FrozenByGovernance, AdministrationStays: see each.
        AccountUnknown, NothingChanges: the target.
    """
    acting = require_administration(ctx.state, message.account).member
    target = require_account(ctx.state, message.target)
    if target.member != acting:
        raise NotYourAccount(f"account {to_text(message.target)} is {target.member!r}'s, not {acting!r}'s")
    if target.frozen_by == BY_GOVERNANCE:
        raise FrozenByGovernance(f"account {to_text(message.target)} was frozen by vote, and by vote it is released")
    if message.target == message.account:
        raise AdministrationStays("hand administration to another account before this one is frozen")
    set_frozen(ctx, message.target, message.is_frozen, BY_MEMBER, message.reason)


def set_limit_(ctx: Context, message: SetLimit) -> None:
    """Set an account's credit limit in an asset that is issued from the acting account.

    Raises:
        AssetUnknown, NotIssuer: the asset; and what `set_limit` refuses.
    """
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
    SetAdministration: set_administration_,
    SetFrozen: set_frozen_,
    SetLimit: set_limit_,
    Propose: propose,
    Approve: approve,
    Withdraw: withdraw,
}
