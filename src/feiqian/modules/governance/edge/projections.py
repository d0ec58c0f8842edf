"""Governance in the SQL index: every proposal with its standing, and every vote."""

from collections.abc import Callable

import msgspec
import sqlalchemy as sa

from feiqian.core.plain import to_plain
from feiqian.index.projection import CommittedEvent, Projection, Rows
from feiqian.index.tables import BIG
from feiqian.ledger.context import Event
from feiqian.modules.governance.events import (
    ProposalApproved,
    ProposalExpired,
    ProposalRejected,
    ProposalWithdrawn,
    Proposed,
    Voted,
)

METADATA = sa.MetaData()

PROPOSALS = sa.Table(
    "governance_proposals",
    METADATA,
    sa.Column("position", BIG, primary_key=True, autoincrement=False),
    sa.Column("proposal", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("proposer", sa.Text, nullable=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("rationale", sa.Text, nullable=False),
    sa.Column("opened_at_ms", BIG, nullable=False),
    sa.Column("expires_at_ms", BIG, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("decided_at_ms", BIG, nullable=True),
    sa.Column("decided_position", BIG, nullable=True),
    sa.Column("approvals", sa.Integer, nullable=False),
    sa.Column("rejections", sa.Integer, nullable=False),
    sa.Index("governance_proposals_by_status", "status", "position"),
)
"""`proposer`: null where the ledger itself proposed; `kind`: the action's tag; `action`: its fields as JSON.

Counts are those of governors in office at the last vote.
"""

BALLOTS = sa.Table(
    "governance_ballots",
    METADATA,
    sa.Column("proposal", sa.LargeBinary, primary_key=True),
    sa.Column("position", BIG, primary_key=True, autoincrement=False),
    sa.Column("member", sa.Text, nullable=False),
    sa.Column("is_approval", sa.Boolean, nullable=False),
    sa.Column("time_ms", BIG, nullable=False),
)


def _on_proposed(rows: Rows, committed: CommittedEvent) -> None:
    event = committed.event
    assert isinstance(event, Proposed)
    action = to_plain(event.action)
    rows.insert(
        PROPOSALS,
        position=committed.position,
        proposal=event.proposal,
        proposer=event.proposer,
        kind=action["type"],
        action=msgspec.json.encode(action).decode(),
        # PostgreSQL's text holds every character but this one.
        rationale=event.rationale.replace("\x00", "\ufffd"),
        opened_at_ms=committed.time_ms,
        expires_at_ms=event.expires_at_ms,
        status="open",
        decided_at_ms=None,
        decided_position=None,
        approvals=0,
        rejections=0,
    )


def _on_voted(rows: Rows, committed: CommittedEvent) -> None:
    event = committed.event
    assert isinstance(event, Voted)
    rows.insert(
        BALLOTS,
        proposal=event.proposal,
        position=committed.position,
        member=event.member,
        is_approval=event.is_approval,
        time_ms=committed.time_ms,
    )
    rows.update(
        PROPOSALS, ("proposal",), proposal=event.proposal, approvals=event.approvals, rejections=event.rejections
    )


def _on_decided(rows: Rows, committed: CommittedEvent) -> None:
    event = committed.event
    assert isinstance(event, ProposalApproved | ProposalRejected | ProposalWithdrawn | ProposalExpired)
    rows.update(
        PROPOSALS,
        ("proposal",),
        proposal=event.proposal,
        status=_STATUS[type(event)],
        decided_at_ms=committed.time_ms,
        decided_position=committed.position,
    )


_STATUS: dict[type[Event], str] = {
    ProposalApproved: "approved",
    ProposalRejected: "rejected",
    ProposalWithdrawn: "withdrawn",
    ProposalExpired: "expired",
}

_HANDLERS: dict[type[Event], Callable[[Rows, CommittedEvent], None]] = {
    Proposed: _on_proposed,
    Voted: _on_voted,
    **dict.fromkeys(_STATUS, _on_decided),
}

PROJECTION = Projection("governance", METADATA, _HANDLERS)
