"""The rules of voting: who may propose, vote and withdraw, when a proposal is decided, and what then happens."""

from collections.abc import Mapping
from typing import NamedTuple

from feiqian.core.encoding import Hash32, encode
from feiqian.ledger.accounts import require_administration
from feiqian.ledger.context import Context, Message, Trigger
from feiqian.ledger.members import require_active
from feiqian.ledger.records import DAY_MS
from feiqian.ledger.triggers import cancel, schedule
from feiqian.modules import Handler
from feiqian.modules.governance.actions import carry_out, check, current_rules, governors_in_office
from feiqian.modules.governance.errors import (
    ActionTooLarge,
    AlreadyVoted,
    NotGovernor,
    NotProposer,
    ProposalClosed,
    ProposalUnknown,
)
from feiqian.modules.governance.events import (
    ProposalApproved,
    ProposalExpired,
    ProposalRejected,
    ProposalWithdrawn,
    Proposed,
    Voted,
)
from feiqian.modules.governance.messages import Action, Propose, Vote, Withdraw
from feiqian.modules.governance.state import (
    APPROVED,
    BALLOTS,
    EXPIRED,
    GOVERNOR,
    MAX_ACTION_BYTES,
    PROPOSALS,
    REJECTED,
    WITHDRAWN,
    Ballot,
    Decision,
    Proposal,
    ballots_of,
)


class ExpireProposal(Trigger, tag="governance.ExpireProposal"):
    """Runs when a proposal's voting days are over."""

    proposal: Hash32


class Tally(NamedTuple):
    """How governors in office voted, and what their votes come to; `outcome` None leaves the proposal open."""

    approvals: int
    rejections: int
    approvals_needed: int
    outcome: str | None


def propose(ctx: Context, message: Propose) -> None:
    """Open a proposal with its proposer's approval, and carry it out at once where that one suffices.

    Raises:
        NotAdministration, NotGovernor, ActionTooLarge: see each.
        InvalidTransaction: the rule that the action would break as things stand.
    """
    member = _require_governor(ctx, message.account)
    size_bytes = len(encode(message.action))
    if size_bytes > MAX_ACTION_BYTES:
        raise ActionTooLarge(f"action of {size_bytes} bytes; at most {MAX_ACTION_BYTES}")
    check(ctx, message.action)
    proposal_id, proposal = open_proposal(ctx, member, message.action, message.rationale)
    tally = _tally(ctx, proposal_id, member, is_approval=True)
    _cast(ctx, proposal_id, proposal, member, Ballot(message.account, True, ctx.block.time_ms, ctx.block.height), tally)


def open_proposal(ctx: Context, proposer: str | None, action: Action, rationale: str) -> tuple[bytes, Proposal]:
    """Put an action to the vote and return the proposal with its id; no vote is cast yet."""
    proposal_id = ctx.new_id()
    expires_at_ms = ctx.block.time_ms + current_rules(ctx.state).voting_days * DAY_MS
    expiry_key = schedule(ctx, expires_at_ms, ExpireProposal(proposal_id))
    proposal = Proposal(
        proposer=proposer,
        action=action,
        rationale=rationale,
        opened_at_ms=ctx.block.time_ms,
        opened_at_height=ctx.block.height,
        expires_at_ms=expires_at_ms,
        expiry_key=expiry_key,
        decision=None,
    )
    PROPOSALS.put(ctx.state, proposal_id, proposal)
    ctx.emit(Proposed(proposal_id, proposer, action, rationale, expires_at_ms))
    return proposal_id, proposal


def vote(ctx: Context, message: Vote) -> None:
    """Count one governor's vote; the deciding one carries the action out, or is refused with what stands against it.

    Raises:
        NotAdministration, NotGovernor, ProposalUnknown, ProposalClosed, AlreadyVoted: see each.
        InvalidTransaction: the vote decides, and the action breaks this rule; the vote may be sent again later.
    """
    member = _require_governor(ctx, message.account)
    proposal = _require_open(ctx, message.proposal)
    if BALLOTS.get(ctx.state, message.proposal + member.encode()) is not None:
        raise AlreadyVoted(f"member {member!r} has voted on this proposal; a vote is final")
    tally = _tally(ctx, message.proposal, member, is_approval=message.is_approval)
    if tally.outcome == APPROVED:
        check(ctx, proposal.action)
    ballot = Ballot(message.account, message.is_approval, ctx.block.time_ms, ctx.block.height)
    _cast(ctx, message.proposal, proposal, member, ballot, tally)


def withdraw(ctx: Context, message: Withdraw) -> None:
    """Take a proposal back.

    Raises:
        NotAdministration, ProposalUnknown, ProposalClosed, NotProposer: see each.
    """
    member = _require_member(ctx, message.account)
    proposal = _require_open(ctx, message.proposal)
    if proposal.proposer != member:
        whose = "the ledger" if proposal.proposer is None else repr(proposal.proposer)
        raise NotProposer(f"the proposal is {whose}'s, not {member!r}'s")
    cancel(ctx, proposal.expiry_key)
    _decide(ctx, message.proposal, proposal, WITHDRAWN)
    ctx.emit(ProposalWithdrawn(message.proposal, proposal.proposer))


def expire(ctx: Context, trigger: ExpireProposal) -> None:
    """Close a proposal that was not decided in time.

    Raises:
        ProposalUnknown, ProposalClosed: nothing to close; the trigger of a decided proposal is taken back.
    """
    proposal = PROPOSALS.get(ctx.state, trigger.proposal)
    if proposal is None:
        raise ProposalUnknown(f"no proposal {trigger.proposal.hex()}")
    if proposal.decision is not None:
        raise ProposalClosed(f"proposal {trigger.proposal.hex()} is {proposal.status}")
    _decide(ctx, trigger.proposal, proposal, EXPIRED)
    ctx.emit(ProposalExpired(trigger.proposal, proposal.proposer))


HANDLERS: Mapping[type[Message], Handler] = {Propose: propose, Vote: vote, Withdraw: withdraw}
TRIGGERS: Mapping[type[Trigger], Handler] = {ExpireProposal: expire}


def _require_member(ctx: Context, account: bytes) -> str:
    """Return the active member whose administration account this is."""
    member = require_administration(ctx.state, account).member
    require_active(ctx.state, member)
    return member


def _require_governor(ctx: Context, account: bytes) -> str:
    member = _require_member(ctx, account)
    if GOVERNOR not in require_active(ctx.state, member).roles:
        raise NotGovernor(f"member {member!r} has no role {GOVERNOR!r}")
    return member


def _require_open(ctx: Context, proposal_id: bytes) -> Proposal:
    proposal = PROPOSALS.get(ctx.state, proposal_id)
    if proposal is None:
        raise ProposalUnknown(f"no proposal {proposal_id.hex()}")
    if proposal.decision is not None:
        raise ProposalClosed(f"the proposal is {proposal.status}")
    if ctx.block.time_ms >= proposal.expires_at_ms:
        raise ProposalClosed(f"the proposal expired at {proposal.expires_at_ms} ms")
    return proposal


def _tally(ctx: Context, proposal_id: bytes, voter: str, *, is_approval: bool) -> Tally:
    """Count the ballots of governors in office and the one being cast. Others' ballots stay on record, uncounted."""
    in_office = governors_in_office(ctx)
    needed = current_rules(ctx.state).approvals_needed
    cast = [ballot.is_approval for member, ballot in ballots_of(ctx.state, proposal_id) if member in in_office]
    cast.append(is_approval)
    approvals = cast.count(True)
    rejections = len(cast) - approvals
    outcome = None
    if approvals >= needed:
        outcome = APPROVED
    elif len(in_office) - rejections < needed:
        outcome = REJECTED
    return Tally(approvals, rejections, needed, outcome)


def _cast(ctx: Context, proposal_id: bytes, proposal: Proposal, member: str, ballot: Ballot, tally: Tally) -> None:
    BALLOTS.put(ctx.state, proposal_id + member.encode(), ballot)
    ctx.emit(Voted(proposal_id, member, ballot.is_approval, tally.approvals, tally.rejections))
    if tally.outcome is None:
        return
    cancel(ctx, proposal.expiry_key)
    _decide(ctx, proposal_id, proposal, tally.outcome)
    if tally.outcome == REJECTED:
        ctx.emit(ProposalRejected(proposal_id, proposal.proposer, tally.rejections))
        return
    needed = tally.approvals_needed
    ctx.emit(ProposalApproved(proposal_id, proposal.proposer, proposal.action, tally.approvals, needed))
    carry_out(ctx, proposal.action)


def _decide(ctx: Context, proposal_id: bytes, proposal: Proposal, status: str) -> None:
    decided = Proposal(
        proposer=proposal.proposer,
        action=proposal.action,
        rationale=proposal.rationale,
        opened_at_ms=proposal.opened_at_ms,
        opened_at_height=proposal.opened_at_height,
        expires_at_ms=proposal.expires_at_ms,
        expiry_key=proposal.expiry_key,
        decision=Decision(status, ctx.block.time_ms, ctx.block.height),
    )
    PROPOSALS.put(ctx.state, proposal_id, decided)
