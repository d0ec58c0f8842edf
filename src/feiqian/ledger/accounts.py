"""Accounts: opened explicitly, named by what created them, with a policy that may change and a freeze.

A member's accounts may be its customers', with their keys. One, the administration account, speaks for the member.
"""

from feiqian.core.addresses import to_text
from feiqian.core.encoding import encode
from feiqian.core.hashing import Domain
from feiqian.ledger.authority import ACCOUNTS, check_policy, require_account
from feiqian.ledger.context import Context
from feiqian.ledger.errors import (
    AccountExists,
    AccountFrozen,
    NotAdministration,
    NothingChanges,
    NotMembersAccount,
)
from feiqian.ledger.events import AccountFrozen as AccountFrozenEvent
from feiqian.ledger.events import AccountOpened, AccountReleased, AdministrationSet, PolicyChanged
from feiqian.ledger.members import require_active
from feiqian.ledger.records import Account, Administration, Policy
from feiqian.state.tables import Overlay, Table

__all__ = [
    "ACCOUNTS",
    "ADMINISTRATIONS",
    "Account",
    "address_of",
    "administration_of",
    "change_policy",
    "check_administration",
    "open_account",
    "require_account",
    "require_administration",
    "set_administration",
    "set_frozen",
]

ADMINISTRATIONS: Table[Administration] = Table("ledger.administrations", Administration)

_ADDRESS = Domain("feiqian/account-address/v1")


def address_of(member: str, policy: Policy, salt: bytes) -> bytes:
    """Return the 32-byte address of the account that this member creates with this policy and salt."""
    return _ADDRESS.hash(encode((member, policy, salt)))


def open_account(ctx: Context, member: str, policy: Policy, salt: bytes) -> bytes:
    """Open an account of an active member and return its address; a member's first account speaks for it.

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
    if administration_of(ctx.state, member) is None:
        _put_administration(ctx, member, address)
    return address


def administration_of(state: Overlay, member: str) -> bytes | None:
    """Return the address of a member's administration account; None where the member has no account at all."""
    administration = ADMINISTRATIONS.get(state, member.encode())
    return None if administration is None else administration.account


def require_administration(state: Overlay, address: bytes) -> Account:
    """Return the account, which is the administration account of its member.

    Raises:
        AccountUnknown: not open.
        NotAdministration: another account of the member is.
    """
    account = require_account(state, address)
    if administration_of(state, account.member) != address:
        raise NotAdministration(f"{to_text(address)} is not the administration account of member {account.member!r}")
    return account


def check_administration(state: Overlay, member: str, address: bytes) -> None:
    """Refuse an account that cannot speak for the member.

    Raises:
        AccountUnknown: not open.
        NotMembersAccount: another member's.
        AccountFrozen: it may not act.
        NothingChanges: it is the administration account already.
    """
    account = require_account(state, address)
    if account.member != member:
        raise NotMembersAccount(f"account {to_text(address)} is {account.member!r}'s; it must be {member!r}'s")
    if account.is_frozen:
        raise AccountFrozen(f"account {to_text(address)} is frozen and can speak for no member")
    if administration_of(state, member) == address:
        raise NothingChanges(f"account {to_text(address)} is the administration account of {member!r} already")


def set_administration(ctx: Context, member: str, address: bytes) -> None:
    """Let another of a member's accounts speak for it from here on; who may ask is the caller's rule.

    Raises:
        AccountUnknown, NotMembersAccount, AccountFrozen, NothingChanges: see `check_administration`.
    """
    check_administration(ctx.state, member, address)
    _put_administration(ctx, member, address)


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
    """Freeze or release an account in all assets, `by` `BY_MEMBER` or `BY_GOVERNANCE`; who may is the caller's rule.

    A second freeze by the other takes the first one over.

    Raises:
        AccountUnknown: not open.
        NothingChanges: it is so already.
    """
    account = require_account(ctx.state, address)
    frozen_by = by if is_frozen else None
    if account.frozen_by == frozen_by:
        raise NothingChanges(f"account {to_text(address)} is {'already' if is_frozen else 'not'} frozen")
    ACCOUNTS.put(ctx.state, address, Account(account.member, account.policy, frozen_by))
    ctx.emit(AccountFrozenEvent(address, by, reason) if is_frozen else AccountReleased(address, by, reason))


def _put_administration(ctx: Context, member: str, address: bytes) -> None:
    ADMINISTRATIONS.put(ctx.state, member.encode(), Administration(address))
    ctx.emit(AdministrationSet(member, address))
