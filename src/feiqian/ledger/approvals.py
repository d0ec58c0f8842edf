"""Pending approvals: messages that wait on the ledger, for days, until enough keys stand behind them.

Whoever holds a key of an account that the messages act for may add it. As soon as all keys together meet every
account's policy, as it stands then, the messages run once: all of them, or none with the failure recorded.
"""

from feiqian.core.addresses import to_text
from feiqian.core.encoding import Hash32
from feiqian.core.errors import InvalidTransaction
from feiqian.core.signatures import PublicKey
from feiqian.ledger.authority import Contribution, policy_keys, require_account, require_authority
from feiqian.ledger.context import Context, Message, Trigger
from feiqian.ledger.errors import (
    AccountFrozen,
    AlreadyApproved,
    MalformedProposal,
    MemberSuspended,
    NestedProposal,
    NoAccountClaimed,
    NotAuthorised,
    NotConcerned,
    NotProposer,
    PendingPastExpiry,
    PendingUnknown,
)
from feiqian.ledger.events import (
    Approved,
    PendingExecuted,
    PendingExpired,
    PendingFailed,
    PendingWithdrawn,
    Proposed,
)
from feiqian.ledger.metering import WORK_PER_RECORD
from feiqian.ledger.parameters import get_parameters
from feiqian.ledger.records import DAY_MS, MAX_PROPOSAL_MESSAGES, Pending
from feiqian.ledger.triggers import cancel, schedule
from feiqian.state.tables import Overlay, Table

PENDING: Table[Pending] = Table("ledger.pending", Pending)
MAX_PROPOSAL_BYTES = 8 * 1024
MAX_PROPOSAL_ACCOUNTS = 32
MAX_PROPOSAL_KEYS = 64
"""Messages, accounts and keys at their limits fit a record of 16 KiB together."""


class ExpirePending(Trigger, tag="ledger.ExpirePending"):
    """Runs when the time for approving is over."""

    pending: Hash32


def propose(ctx: Context, account: bytes, messages: tuple[bytes, ...], days: int) -> bytes:
    """Put messages up for approval on behalf of `account`, and return the pending's id.

    The transaction's signers that stand in the account's policy are its first keys; if they suffice, it runs at once.

    Raises:
        MalformedProposal: too many or too large messages, accounts or days.
        Undecodable, NonCanonical: a message is none of this ledger.
        NestedProposal: a message is itself a proposal, approval or withdrawal.
        NoAccountClaimed, AccountUnknown: a message acts for no account, or one that is not open.
        NotConcerned: no message acts for `account`.
        NotAuthorised: no signer stands in the account's policy any more.
    """
    longest = get_parameters(ctx.state).max_approval_days
    if not 1 <= days <= longest:
        raise MalformedProposal(f"approval within {days} days; 1 to {longest} are accepted")
    size_bytes = sum(len(message) for message in messages)
    if not 1 <= len(messages) <= MAX_PROPOSAL_MESSAGES or size_bytes > MAX_PROPOSAL_BYTES:
        raise MalformedProposal(
            f"proposal of {len(messages)} messages and {size_bytes} bytes; 1 to {MAX_PROPOSAL_MESSAGES} messages and "
            f"{MAX_PROPOSAL_BYTES} bytes are accepted"
        )
    parties = _parties(ctx.state, ctx.dispatch.decode(messages))
    if account not in parties:
        raise NotConcerned(f"no message acts for {to_text(account)}; propose by an account that one acts for")
    keys = _signing_keys(ctx, account)
    pending_id = ctx.new_id()
    expires_at_ms = ctx.block.time_ms + days * DAY_MS
    expiry_key = schedule(ctx, expires_at_ms, ExpirePending(pending_id))
    pending = Pending(account, messages, parties, keys, expires_at_ms, expiry_key)
    PENDING.put(ctx.state, pending_id, pending)
    ctx.emit(Proposed(pending_id, account, messages, parties, keys, expires_at_ms))
    _run_if_met(ctx, pending_id, pending)
    return pending_id


def approve(ctx: Context, account: bytes, pending_id: bytes) -> None:
    """Add the transaction's signers that stand in the account's policy; run the messages if that suffices.

    Raises:
        PendingUnknown, PendingPastExpiry: it is not open.
        NotConcerned: no message acts for `account`.
        NotAuthorised: no signer stands in the account's policy any more.
        AlreadyApproved: no key is new, and the policies are still not met.
        MalformedProposal: more than 64 keys.
    """
    pending = _require_open(ctx, pending_id)
    if account not in pending.accounts:
        raise NotConcerned(f"pending {pending_id.hex()} does not act for {to_text(account)}")
    signed = _signing_keys(ctx, account)
    added = tuple(key for key in signed if key not in pending.keys)
    keys = tuple(sorted((*pending.keys, *added), key=lambda key: (key.scheme, key.data)))
    if len(keys) > MAX_PROPOSAL_KEYS:
        raise MalformedProposal(f"pending {pending_id.hex()} would have {len(keys)} keys; at most {MAX_PROPOSAL_KEYS}")
    if not added and not _is_met(ctx, pending):
        raise AlreadyApproved(f"these keys approved {pending_id.hex()} before; others are needed")
    pending = Pending(
        pending.account, pending.messages, pending.accounts, keys, pending.expires_at_ms, pending.expiry_key
    )
    PENDING.put(ctx.state, pending_id, pending)
    ctx.emit(Approved(pending_id, account, added, pending.accounts))
    _run_if_met(ctx, pending_id, pending)


def withdraw(ctx: Context, account: bytes, pending_id: bytes) -> None:
    """Take a proposal back; any key of the account that proposed may.

    Raises:
        PendingUnknown: it is not open.
        NotProposer: another account proposed.
        NotAuthorised: no signer stands in the account's policy any more.
    """
    pending = require_pending(ctx.state, pending_id)
    if account != pending.account:
        raise NotProposer(f"pending {pending_id.hex()} was proposed by {to_text(pending.account)}, which may withdraw")
    _signing_keys(ctx, account)
    _close(ctx, pending_id, pending)
    ctx.emit(PendingWithdrawn(pending_id, account, pending.accounts))


def expire(ctx: Context, trigger: ExpirePending) -> None:
    """Close a pending approval when its time is over."""
    pending = require_pending(ctx.state, trigger.pending)
    PENDING.delete(ctx.state, trigger.pending)
    ctx.emit(PendingExpired(trigger.pending, pending.accounts))


def require_pending(state: Overlay, pending_id: bytes) -> Pending:
    """Return an open pending approval.

    Raises:
        PendingUnknown.
    """
    pending = PENDING.get(state, pending_id)
    if pending is None:
        raise PendingUnknown(f"no pending {pending_id.hex()} is open: it never was, or it ran, failed, ended")
    return pending


def _require_open(ctx: Context, pending_id: bytes) -> Pending:
    pending = require_pending(ctx.state, pending_id)
    if pending.expires_at_ms <= ctx.block.time_ms:
        raise PendingPastExpiry(
            f"pending {pending_id.hex()} expired at {pending.expires_at_ms} ms; block time is {ctx.block.time_ms}"
        )
    return pending


def _signing_keys(ctx: Context, account: bytes) -> tuple[PublicKey, ...]:
    """Return the signers that stand in the account's policy now; it may have changed since the start of the block."""
    keys = policy_keys(require_account(ctx.state, account).policy, ctx.signers)
    if not keys:
        raise NotAuthorised(f"no signer stands in the policy of account {to_text(account)} any more")
    return keys


def _parties(state: Overlay, messages: tuple[Message, ...]) -> tuple[bytes, ...]:
    """Return the accounts that the messages act for, sorted, each open."""
    accounts: dict[bytes, None] = {}
    for message in messages:
        if isinstance(message, Contribution):
            raise NestedProposal("a proposal holds messages that act, not proposals, approvals or withdrawals")
        claims = message.claims()
        if not claims:
            raise NoAccountClaimed("a proposed message acts for no account; name at least one")
        for claim in claims:
            require_account(state, claim.account)
            accounts[claim.account] = None
    if len(accounts) > MAX_PROPOSAL_ACCOUNTS:
        raise MalformedProposal(f"proposal acts for {len(accounts)} accounts; at most {MAX_PROPOSAL_ACCOUNTS}")
    return tuple(sorted(accounts))


def _is_met(ctx: Context, pending: Pending) -> bool:
    try:
        require_authority(ctx.state, ctx.dispatch.decode(pending.messages), frozenset(pending.keys))
    except (NotAuthorised, AccountFrozen, MemberSuspended):
        return False
    return True


def _run_if_met(ctx: Context, pending_id: bytes, pending: Pending) -> None:
    """Run the messages on an overlay of their own, once; a broken rule drops it and is recorded."""
    if not _is_met(ctx, pending):
        return
    _close(ctx, pending_id, pending)
    keys: frozenset[PublicKey] = frozenset(pending.keys)
    nested = Context(Overlay(ctx.state), ctx.block, pending_id, ctx.sponsor, keys, ctx.dispatch)
    try:
        ctx.dispatch(nested, pending.messages)
    except InvalidTransaction as refusal:
        ctx.work += nested.work + WORK_PER_RECORD * len(nested.state.written)
        ctx.emit(PendingFailed(pending_id, pending.accounts, refusal.codespace, refusal.number, refusal.message[:500]))
        return
    ctx.work += nested.work
    nested.state.keep()
    ctx.events.extend(nested.events)
    ctx.emit(PendingExecuted(pending_id, pending.accounts))


def _close(ctx: Context, pending_id: bytes, pending: Pending) -> None:
    PENDING.delete(ctx.state, pending_id)
    cancel(ctx, pending.expiry_key)
