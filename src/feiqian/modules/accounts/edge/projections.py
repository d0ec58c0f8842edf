"""Pending approvals in the SQL index: what waits for whom, who approved, and how it ended."""

import sqlalchemy as sa

from feiqian.core.encoding import encode
from feiqian.index.projection import CommittedEvent, Projection, Rows
from feiqian.index.tables import BIG
from feiqian.ledger.events import (
    Approved,
    PendingExecuted,
    PendingExpired,
    PendingFailed,
    PendingWithdrawn,
    Proposed,
)

METADATA = sa.MetaData()
WAITING = "waiting"

PENDING = sa.Table(
    "accounts_pending",
    METADATA,
    sa.Column("pending", sa.LargeBinary, primary_key=True),
    sa.Column("position", BIG, nullable=False),
    sa.Column("time_ms", BIG, nullable=False),
    sa.Column("account", sa.LargeBinary, nullable=False),
    sa.Column("messages", sa.LargeBinary, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("expires_at_ms", BIG, nullable=False),
    sa.Column("error_codespace", sa.Text, nullable=True),
    sa.Column("error_number", BIG, nullable=True),
    sa.Column("error_message", sa.Text, nullable=True),
)
"""`messages` is the encoded tuple of encoded messages; `status`: waiting, executed, failed, withdrawn, expired."""

PARTIES = sa.Table(
    "accounts_pending_parties",
    METADATA,
    sa.Column("account", sa.LargeBinary, primary_key=True),
    sa.Column("position", BIG, primary_key=True, autoincrement=False),
    sa.Column("pending", sa.LargeBinary, nullable=False),
)
"""The accounts that a proposal's messages act for."""

KEYS = sa.Table(
    "accounts_pending_keys",
    METADATA,
    sa.Column("pending", sa.LargeBinary, primary_key=True),
    sa.Column("scheme", BIG, primary_key=True, autoincrement=False),
    sa.Column("key", sa.LargeBinary, primary_key=True),
)
"""The keys that proposed or approved."""


def _on_proposed(rows: Rows, committed: CommittedEvent) -> None:
    event = committed.event
    assert isinstance(event, Proposed)
    rows.insert(
        PENDING,
        pending=event.pending,
        position=committed.position,
        time_ms=committed.time_ms,
        account=event.account,
        messages=encode(event.messages),
        status=WAITING,
        expires_at_ms=event.expires_at_ms,
    )
    for account in event.parties:
        rows.insert(PARTIES, account=account, position=committed.position, pending=event.pending)
    _add_keys(rows, event)


def _on_approved(rows: Rows, committed: CommittedEvent) -> None:
    event = committed.event
    assert isinstance(event, Approved)
    _add_keys(rows, event)


def _on_ended(rows: Rows, committed: CommittedEvent) -> None:
    event = committed.event
    assert isinstance(event, PendingExecuted | PendingWithdrawn | PendingExpired)
    status = {PendingExecuted: "executed", PendingWithdrawn: "withdrawn", PendingExpired: "expired"}[type(event)]
    rows.update(PENDING, ("pending",), pending=event.pending, status=status)


def _on_failed(rows: Rows, committed: CommittedEvent) -> None:
    event = committed.event
    assert isinstance(event, PendingFailed)
    rows.update(
        PENDING,
        ("pending",),
        pending=event.pending,
        status="failed",
        error_codespace=event.codespace,
        error_number=event.number,
        error_message=event.message,
    )


def _add_keys(rows: Rows, event: Proposed | Approved) -> None:
    for key in event.keys:
        rows.upsert(KEYS, ("pending", "scheme", "key"), pending=event.pending, scheme=key.scheme, key=key.data)


PROJECTION = Projection(
    "accounts",
    METADATA,
    {
        Proposed: _on_proposed,
        Approved: _on_approved,
        PendingExecuted: _on_ended,
        PendingWithdrawn: _on_ended,
        PendingExpired: _on_ended,
        PendingFailed: _on_failed,
    },
)
