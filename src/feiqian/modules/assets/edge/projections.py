"""Assets in the SQL index: who is frozen or listed and why, what issuers and controllers did, what is held for whom.

Definitions and supply are read from state; entries and balances are the core's tables.
"""

from collections.abc import Callable

import sqlalchemy as sa

from feiqian.index.projection import CommittedEvent, Projection, Rows
from feiqian.index.tables import BIG
from feiqian.ledger.context import Event
from feiqian.ledger.events import AssetFreezeSet, HoldExpired, HoldPosted, HoldVoided, ListingSet
from feiqian.modules.assets.events import (
    Frozen,
    HoldMade,
    HoldVoidForced,
    Issued,
    Redeemed,
    Released,
    TransferForced,
)

METADATA = sa.MetaData()

STANDINGS = sa.Table(
    "assets_standings",
    METADATA,
    sa.Column("asset", sa.Text, primary_key=True),
    sa.Column("account", sa.LargeBinary, primary_key=True),
    sa.Column("is_frozen", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("is_listed", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("reason", sa.Text, nullable=True),
)
"""Accounts that are or were frozen or listed. `reason`: of the last freeze or release."""

ISSUES = sa.Table(
    "assets_issues",
    METADATA,
    sa.Column("position", BIG, primary_key=True, autoincrement=False),
    sa.Column("time_ms", BIG, nullable=False),
    sa.Column("tx_id", sa.LargeBinary, nullable=True),
    sa.Column("asset", sa.Text, nullable=False),
    sa.Column("account", sa.LargeBinary, nullable=False),
    sa.Column("amount_minor", BIG, nullable=False),
    sa.Column("reference", sa.LargeBinary, nullable=False),
    sa.Index("assets_issues_by_asset", "asset", "position"),
)
"""What `Issue` made (> 0, to the account) and `Redeem` ended (< 0)."""

CONTROLS = sa.Table(
    "assets_controls",
    METADATA,
    sa.Column("position", BIG, primary_key=True, autoincrement=False),
    sa.Column("time_ms", BIG, nullable=False),
    sa.Column("tx_id", sa.LargeBinary, nullable=True),
    sa.Column("asset", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("controller", sa.LargeBinary, nullable=False),
    sa.Column("account", sa.LargeBinary, nullable=False),
    sa.Column("other_account", sa.LargeBinary, nullable=True),
    sa.Column("amount_minor", BIG, nullable=True),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Index("assets_controls_by_asset", "asset", "position"),
)
"""What a controller did; `kind`: frozen, released, transfer-forced, hold-voided. The other: payee or beneficiary."""

HOLDS = sa.Table(
    "assets_holds",
    METADATA,
    sa.Column("hold", sa.LargeBinary, primary_key=True),
    sa.Column("position", BIG, nullable=False),
    sa.Column("time_ms", BIG, nullable=False),
    sa.Column("account", sa.LargeBinary, nullable=False),
    sa.Column("beneficiary", sa.LargeBinary, nullable=False),
    sa.Column("asset", sa.Text, nullable=False),
    sa.Column("amount_minor", BIG, nullable=False),
    sa.Column("remaining_minor", BIG, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("expires_at_ms", BIG, nullable=False),
    sa.Column("reference", sa.LargeBinary, nullable=False),
    sa.Index("assets_holds_by_account", "account", "position"),
    sa.Index("assets_holds_by_beneficiary", "beneficiary", "position"),
)
"""Holds that this module placed; `status`: open, posted, voided, expired."""

Handler = Callable[[Rows, CommittedEvent], None]


def _on_freeze_set(rows: Rows, committed: CommittedEvent) -> None:
    event = committed.event
    assert isinstance(event, AssetFreezeSet)
    rows.upsert(STANDINGS, ("asset", "account"), asset=event.asset, account=event.account, is_frozen=event.is_frozen)


def _on_listing_set(rows: Rows, committed: CommittedEvent) -> None:
    event = committed.event
    assert isinstance(event, ListingSet)
    rows.upsert(STANDINGS, ("asset", "account"), asset=event.asset, account=event.account, is_listed=event.is_listed)


def _on_issued(rows: Rows, committed: CommittedEvent) -> None:
    event = committed.event
    assert isinstance(event, Issued)
    _add_issue(rows, committed, event.asset, event.payee, event.amount_minor, event.reference)


def _on_redeemed(rows: Rows, committed: CommittedEvent) -> None:
    event = committed.event
    assert isinstance(event, Redeemed)
    _add_issue(rows, committed, event.asset, event.account, -event.amount_minor, event.reference)


def _on_frozen(rows: Rows, committed: CommittedEvent) -> None:
    event = committed.event
    assert isinstance(event, Frozen | Released)
    rows.upsert(STANDINGS, ("asset", "account"), asset=event.asset, account=event.account, reason=event.reason)
    kind = "frozen" if isinstance(event, Frozen) else "released"
    _add_control(rows, committed, event, kind, event.account, None, None)


def _on_transfer_forced(rows: Rows, committed: CommittedEvent) -> None:
    event = committed.event
    assert isinstance(event, TransferForced)
    _add_control(rows, committed, event, "transfer-forced", event.payer, event.payee, event.amount_minor)


def _on_hold_void_forced(rows: Rows, committed: CommittedEvent) -> None:
    event = committed.event
    assert isinstance(event, HoldVoidForced)
    _add_control(rows, committed, event, "hold-voided", event.account, event.beneficiary, event.amount_minor)


def _on_hold_made(rows: Rows, committed: CommittedEvent) -> None:
    event = committed.event
    assert isinstance(event, HoldMade)
    rows.insert(
        HOLDS,
        hold=event.hold,
        position=committed.position,
        time_ms=committed.time_ms,
        account=event.account,
        beneficiary=event.beneficiary,
        asset=event.asset,
        amount_minor=event.amount_minor,
        remaining_minor=event.amount_minor,
        status="open",
        expires_at_ms=event.expires_at_ms,
        reference=event.reference,
    )


def _on_hold_posted(rows: Rows, committed: CommittedEvent) -> None:
    # Other modules' holds have no row here, so these updates find nothing for them.
    event = committed.event
    assert isinstance(event, HoldPosted)
    status = "open" if event.remaining_minor else "posted"
    rows.update(HOLDS, ("hold",), hold=event.hold, remaining_minor=event.remaining_minor, status=status)


def _on_hold_ended(rows: Rows, committed: CommittedEvent) -> None:
    event = committed.event
    assert isinstance(event, HoldVoided | HoldExpired)
    status = "voided" if isinstance(event, HoldVoided) else "expired"
    rows.update(HOLDS, ("hold",), hold=event.hold, remaining_minor=0, status=status)


def _add_issue(
    rows: Rows, committed: CommittedEvent, asset: str, account: bytes, amount_minor: int, reference: bytes
) -> None:
    rows.insert(
        ISSUES,
        position=committed.position,
        time_ms=committed.time_ms,
        tx_id=committed.tx_id,
        asset=asset,
        account=account,
        amount_minor=amount_minor,
        reference=reference,
    )


def _add_control(
    rows: Rows,
    committed: CommittedEvent,
    event: Frozen | Released | TransferForced | HoldVoidForced,
    kind: str,
    account: bytes,
    other_account: bytes | None,
    amount_minor: int | None,
) -> None:
    rows.insert(
        CONTROLS,
        position=committed.position,
        time_ms=committed.time_ms,
        tx_id=committed.tx_id,
        asset=event.asset,
        kind=kind,
        controller=event.controller,
        account=account,
        other_account=other_account,
        amount_minor=amount_minor,
        reason=event.reason,
    )


_HANDLERS: dict[type[Event], Handler] = {
    AssetFreezeSet: _on_freeze_set,
    ListingSet: _on_listing_set,
    Issued: _on_issued,
    Redeemed: _on_redeemed,
    Frozen: _on_frozen,
    Released: _on_frozen,
    TransferForced: _on_transfer_forced,
    HoldVoidForced: _on_hold_void_forced,
    HoldMade: _on_hold_made,
    HoldPosted: _on_hold_posted,
    HoldVoided: _on_hold_ended,
    HoldExpired: _on_hold_ended,
}

PROJECTION = Projection("assets", METADATA, _HANDLERS)
