"""The bodies that the governance routes answer with. Accounts are `fq1…`, ids hex, times ms since 1970."""

from typing import Any

import msgspec


class ProposalBody(msgspec.Struct):
    """A proposal; `status`: open, approved, rejected, withdrawn, expired. `action` has its tag as `type`.

    `proposer` is null where the ledger itself proposed, after misbehaviour of a validator.
    """

    proposal: str
    height: int
    proposer: str | None
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


class ValidatorBody(msgspec.Struct):
    """A validator: its key and CometBFT address in hex, who runs it, and what its vote weighs."""

    public_key: str
    address: str
    member: str
    name: str
    power: int


class NodeBody(msgspec.Struct):
    """A node that the network's nodes let in: its key in hex, and its id as CometBFT writes it."""

    public_key: str
    node_id: str
    member: str
    name: str


class MisbehaviourBody(msgspec.Struct):
    """What consensus proved of a validator: at `height` it broke the rules; `outcome`: what became of it.

    `outcome`: "removed", "left in place" or "gone before"; member and name are null where it was no validator any more.
    """

    address: str
    member: str | None
    name: str | None
    kind: str
    height: int
    outcome: str
    recorded_at_ms: int
    recorded_at_height: int


class NetworkBody(msgspec.Struct):
    """Who runs the network; a solo ledger has neither validators nor nodes here."""

    validators: list[ValidatorBody]
    nodes: list[NodeBody]
    misbehaviour: list[MisbehaviourBody]


class GovernanceBody(msgspec.Struct):
    """How the ledger is governed now; the rules are null on a ledger that nobody governs."""

    approvals_needed: int | None
    voting_days: int | None
    governors: list[GovernorBody]
    parameters: dict[str, int]
    upgrade_height: int | None
    upgrade_app_version: int | None
