"""Accounts: opened explicitly, named by what created them, with a policy that may change and a freeze."""

from feiqian.core.addresses import to_text
from feiqian.core.encoding import encode
from feiqian.core.hashing import Domain
from feiqian.ledger.authority import ACCOUNTS, check_policy, require_account
from feiqian.ledger.context import Context
from feiqian.ledger.errors import AccountExists, NothingChanges
from feiqian.ledger.events import AccountFrozen, AccountOpened, AccountReleased, PolicyChanged
from feiqian.ledger.members import require_active
from feiqian.ledger.records import Account, Policy

__all__ = ["ACCOUNTS", "Account", "address_of", "change_policy", "open_account", "require_account", "set_frozen"]

_ADDRESS = Domain("feiqian/account-address/v1")


def address_of(member: str, policy: Policy, salt: bytes) -> bytes:
    """Return the 32-byte address of the account that this member creates with this policy and salt."""
    return _ADDRESS.hash(encode((member, policy, salt)))


def open_account(ctx: Context, member: str, policy: Policy, salt: bytes) -> bytes:
    """Open an account of an active member and return its address.

    Raises:
        MemberUnknown, MemberSuspended: the member may not act.
        MalformedPolicy: see `check_policy`.
        AccountExists: the same creation was done before.
    """
    require_active(ctx.state, member)
    check_policy(policy)
    address = address_of(member, policy, salt)
    if ACCOUNTS.get(ctx.state, address) is not None:
        raise AccountExists(f"account {to_text(address)} is already open; choose another salt")
    ACCOUNTS.put(ctx.state, address, Account(member, policy, None))
    ctx.emit(AccountOpened(address, member, policy))
    return address


def change_policy(ctx: Context, address: bytes, policy: Policy) -> None:
    """Replace an account's policy; its address stays.

    Raises:
        AccountUnknown: not open.
        MalformedPolicy: see `check_policy`.
        NothingChanges: it is the present policy.
    """
    account = require_account(ctx.state, address)
    check_policy(policy)
    if policy == account.policy:
        raise NothingChanges(f"account {to_text(address)} already has this policy")
    ACCOUNTS.put(ctx.state, address, Account(account.member, policy, account.frozen_by))
    ctx.emit(PolicyChanged(address, policy))


def set_frozen(ctx: Context, address: bytes, is_frozen: bool, by: str, reason: str) -> None:
    """Freeze or release an account in all assets, on behalf of member `by`; who may do so is the caller's rule.

    A second freeze by another member takes the first one over.

    Raises:
        AccountUnknown: not open.
        NothingChanges: it is so already.
    """
    account = require_account(ctx.state, address)
    frozen_by = by if is_frozen else None
    if account.frozen_by == frozen_by:
        raise NothingChanges(f"account {to_text(address)} is {'already' if is_frozen else 'not'} frozen")
    ACCOUNTS.put(ctx.state, address, Account(account.member, account.policy, frozen_by))
    ctx.emit(AccountFrozen(address, by, reason) if is_frozen else AccountReleased(address, by, reason))
