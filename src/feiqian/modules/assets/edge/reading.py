"""What the gateway's routes read for assets, from the index. Who may ask is the routes' concern."""

import sqlalchemy as sa

from feiqian.core.addresses import to_text
from feiqian.index.tables import ACCOUNTS, ENTRIES, HOLDERS, split_position
from feiqian.modules.assets.edge.projections import CONTROLS, HOLDS, ISSUES, STANDINGS
from feiqian.modules.assets.edge.shapes import ControlBody, HoldBody, HolderBody, IssueBody


def holders(engine: sa.Engine, asset: str, issuance_account: bytes, after: bytes, limit: int) -> list[HolderBody]:
    """Return the accounts with entries in an asset, its issuance account apart, in address order."""
    of_holder = sa.and_(ENTRIES.c.account == HOLDERS.c.account, ENTRIES.c.asset == HOLDERS.c.asset)
    last_entry = sa.select(ENTRIES.c.posted_minor).where(of_holder).correlate(HOLDERS)
    standing = sa.and_(STANDINGS.c.asset == HOLDERS.c.asset, STANDINGS.c.account == HOLDERS.c.account)
    question = (
        sa.select(
            HOLDERS.c.account,
            ACCOUNTS.c.member,
            last_entry.order_by(ENTRIES.c.position.desc(), ENTRIES.c.leg_index.desc()).limit(1).scalar_subquery(),
            sa.func.coalesce(STANDINGS.c.is_frozen, sa.false()),
            sa.func.coalesce(STANDINGS.c.is_listed, sa.false()),
            STANDINGS.c.reason,
        )
        .join(ACCOUNTS, ACCOUNTS.c.address == HOLDERS.c.account)
        .join(STANDINGS, standing, isouter=True)
        .where(HOLDERS.c.asset == asset, HOLDERS.c.account > after, HOLDERS.c.account != issuance_account)
        .order_by(HOLDERS.c.account)
        .limit(limit)
    )
    with engine.connect() as connection:
        return [
            HolderBody(to_text(account), member, posted_minor, bool(is_frozen), bool(is_listed), reason)
            for account, member, posted_minor, is_frozen, is_listed, reason in connection.execute(question)
        ]


def issues(engine: sa.Engine, asset: str, before: int | None, limit: int) -> list[tuple[int, IssueBody]]:
    """Return (position, issue or redemption) of an asset, newest first."""
    question = _newest(sa.select(ISSUES).where(ISSUES.c.asset == asset), ISSUES, before, limit)
    with engine.connect() as connection:
        return [
            (
                row.position,
                IssueBody(
                    time_ms=row.time_ms,
                    height=split_position(row.position)[0],
                    tx_id=_hex(row.tx_id),
                    account=to_text(row.account),
                    amount_minor=row.amount_minor,
                    reference=row.reference.hex(),
                ),
            )
            for row in connection.execute(question)
        ]


def controls(engine: sa.Engine, asset: str, before: int | None, limit: int) -> list[tuple[int, ControlBody]]:
    """Return (position, act of the controller) of an asset, newest first."""
    question = _newest(sa.select(CONTROLS).where(CONTROLS.c.asset == asset), CONTROLS, before, limit)
    with engine.connect() as connection:
        return [
            (
                row.position,
                ControlBody(
                    time_ms=row.time_ms,
                    height=split_position(row.position)[0],
                    tx_id=_hex(row.tx_id),
                    kind=row.kind,
                    controller=to_text(row.controller),
                    account=to_text(row.account),
                    other_account=None if row.other_account is None else to_text(row.other_account),
                    amount_minor=row.amount_minor,
                    reason=row.reason,
                ),
            )
            for row in connection.execute(question)
        ]


def holds(engine: sa.Engine, account: bytes, before: int | None, limit: int) -> list[tuple[int, HoldBody]]:
    """Return (position, hold) of those on an account or for it, newest first."""
    mine = sa.or_(HOLDS.c.account == account, HOLDS.c.beneficiary == account)
    question = _newest(sa.select(HOLDS).where(mine), HOLDS, before, limit)
    with engine.connect() as connection:
        return [
            (
                row.position,
                HoldBody(
                    hold=row.hold.hex(),
                    time_ms=row.time_ms,
                    height=split_position(row.position)[0],
                    account=to_text(row.account),
                    beneficiary=to_text(row.beneficiary),
                    asset=row.asset,
                    amount_minor=row.amount_minor,
                    remaining_minor=row.remaining_minor,
                    status=row.status,
                    expires_at_ms=row.expires_at_ms,
                    reference=row.reference.hex(),
                ),
            )
            for row in connection.execute(question)
        ]


def _newest(question: sa.Select, table: sa.Table, before: int | None, limit: int) -> sa.Select:
    if before is not None:
        question = question.where(table.c.position < before)
    return question.order_by(table.c.position.desc()).limit(limit)


def _hex(data: bytes | None) -> str | None:
    return None if data is None else data.hex()
