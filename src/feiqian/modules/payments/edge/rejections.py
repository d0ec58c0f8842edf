"""What files were told was rejected: kept by the gateway for the payments page, since most of it never saw the ledger.

A sender's own notes, not facts of the ledger: who may speak for the account files them, and only it reads them.
Nothing that names a person or a purpose is kept: a payment is its UETR, amount and reason.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from feiqian.index.tables import BIG

KEPT_MS = 90 * 24 * 3_600_000
KEPT_OF_ACCOUNT = 50_000
MEMBER_DAY = 200_000
"""What one member may file on one day."""
DAY_MS = 86_400_000

METADATA = sa.MetaData()

REJECTIONS = sa.Table(
    "payments_rejections",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("account", sa.LargeBinary, nullable=False),
    sa.Column("debtor_account", sa.LargeBinary, nullable=True),
    sa.Column("member", sa.Text, nullable=False),
    sa.Column("rejected_at_ms", BIG, nullable=False),
    sa.Column("file", sa.Text, nullable=False),
    sa.Column("uetr", sa.LargeBinary, nullable=False),
    sa.Column("payments", sa.Integer, nullable=False),
    sa.Column("amount", sa.Text, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("codespace", sa.Text, nullable=False),
    sa.Column("rule", sa.Integer, nullable=False),
    sa.Column("tx_id", sa.LargeBinary, nullable=True),
    sa.UniqueConstraint("account", "file", "uetr", "reason"),
    sa.Index("rejections_by_account", "account", "rejected_at_ms", "number"),
    sa.Index("rejections_by_debtor", "debtor_account", "rejected_at_ms", "number"),
    sa.Index("rejections_by_member", "member", "rejected_at_ms"),
    sa.Index("rejections_by_uetr", "uetr"),
    sa.Index("rejections_by_time", "rejected_at_ms"),
)
"""`account` sent the file, `debtor_account` was to pay, where it is known and not the same. `uetr` is empty, and
`payments` their number, where a whole file was refused; amount and currency are empty then. `rule` 0: none of ours."""


class Rejection(NamedTuple):
    """One rejected payment, or a whole file, as the table has it, less whose it is."""

    rejected_at_ms: int
    file: str
    uetr: bytes
    payments: int
    amount: str
    currency: str
    reason: str
    codespace: str
    rule: int
    tx_id: bytes | None


class DayUsedUp(Exception):
    """The member has filed as many as it may on one day."""


_FIELDS = [REJECTIONS.c[name] for name in Rejection._fields]
_NEWEST_FIRST = (REJECTIONS.c.rejected_at_ms.desc(), REJECTIONS.c.number.desc())


def file_rejections(
    engine: sa.Engine, account: bytes, member: str, rejections: Sequence[tuple[bytes | None, Rejection]], now_ms: int
) -> None:
    """Keep rejections, each with the debtor's account; the same payment for the same reason again moves to the top.

    Raises:
        DayUsedUp: more than the member may file on a day.
    """
    filed_today = (
        sa.select(sa.func.count())
        .select_from(REJECTIONS)
        .where(REJECTIONS.c.member == member, REJECTIONS.c.rejected_at_ms > now_ms - DAY_MS)
    )
    with engine.begin() as connection:
        if connection.execute(filed_today).scalar_one() + len(rejections) > MEMBER_DAY:
            raise DayUsedUp
        rows = [
            {"account": account, "debtor_account": debtor, "member": member, **rejection._asdict()}
            for debtor, rejection in rejections
        ]
        statement = insert(REJECTIONS)
        renewed = {name: statement.excluded[name] for name in ("rejected_at_ms", "debtor_account", "amount", "tx_id")}
        connection.execute(
            statement.on_conflict_do_update(index_elements=["account", "file", "uetr", "reason"], set_=renewed),
            rows,
        )
        connection.execute(sa.delete(REJECTIONS).where(REJECTIONS.c.rejected_at_ms < now_ms - KEPT_MS))
        _trim(connection, account)


def rejections_of(
    engine: sa.Engine, account: bytes, before: tuple[int, int] | None, limit: int, now_ms: int
) -> list[tuple[int, Rejection]]:
    """Return (number, rejection) of what an account sent or was to pay, newest first, before (time, number)."""
    question = (
        sa.select(REJECTIONS.c.number, *_FIELDS)
        .where(
            sa.or_(REJECTIONS.c.account == account, REJECTIONS.c.debtor_account == account),
            REJECTIONS.c.rejected_at_ms >= now_ms - KEPT_MS,
        )
        .order_by(*_NEWEST_FIRST)
        .limit(limit)
    )
    if before is not None:
        question = question.where(sa.tuple_(REJECTIONS.c.rejected_at_ms, REJECTIONS.c.number) < before)
    with engine.connect() as connection:
        return [(row[0], Rejection._make(row[1:])) for row in connection.execute(question)]


def rejections_by_uetr(engine: sa.Engine, uetr: bytes, limit: int) -> list[tuple[list[bytes], Rejection]]:
    """Return rejections of payments with a UETR, newest first, each with the accounts that it is told to."""
    question = (
        sa.select(REJECTIONS.c.account, REJECTIONS.c.debtor_account, *_FIELDS)
        .where(REJECTIONS.c.uetr == uetr)
        .order_by(*_NEWEST_FIRST)
        .limit(limit)
    )
    with engine.connect() as connection:
        return [(_present(row[:2]), Rejection._make(row[2:])) for row in connection.execute(question)]


def _present(accounts: Iterable[bytes | None]) -> list[bytes]:
    return [account for account in accounts if account is not None]


def _trim(connection: sa.Connection, account: bytes) -> None:
    """Delete what an account has filed beyond its latest."""
    first_to_go = (
        sa.select(REJECTIONS.c.rejected_at_ms)
        .where(REJECTIONS.c.account == account)
        .order_by(*_NEWEST_FIRST)
        .offset(KEPT_OF_ACCOUNT)
        .limit(1)
    )
    oldest_ms = connection.execute(first_to_go).scalar_one_or_none()
    if oldest_ms is not None:
        connection.execute(
            sa.delete(REJECTIONS).where(REJECTIONS.c.account == account, REJECTIONS.c.rejected_at_ms <= oldest_ms)
        )
