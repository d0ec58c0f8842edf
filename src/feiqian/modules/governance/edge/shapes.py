"""The bodies that the governance routes answer with. Accounts are `fq1…`, ids hex, times ms since 1970."""

from typing import Any

import msgspec


class ProposalBody(msgspec.Struct):
    """A proposal; `status`: open, approved, rejected, withdrawn, expired. `action` has its tag as `type`."""

    proposal: str
    height: int
    proposer: str
    kind: str
    action: dict[str, Any]
    rationale: str
    opened_at_ms: int
    expires_at_ms: int
    status: str
    decided_at_ms: int | None
    approvals: int
    rejections: int


class BallotBody(msgspec.Struct):
    """One member's vote."""

    member: str
    is_approval: bool
    time_ms: int
    height: int


class ProposalWithBallots(msgspec.Struct):
    """A proposal and its votes, oldest first."""

    proposal: ProposalBody
    ballots: list[BallotBody]


class GovernorBody(msgspec.Struct):
    """A member that governs now, and its administration account, by which it votes."""

    member: str
    administration: str


class GovernanceBody(msgspec.Struct):
    """How the ledger is governed now; the rules are null on a ledger that nobody governs."""

    approvals_needed: int | None
    voting_days: int | None
    governors: list[GovernorBody]
    parameters: dict[str, int]
    upgrade_height: int | None
    upgrade_app_version: int | None
