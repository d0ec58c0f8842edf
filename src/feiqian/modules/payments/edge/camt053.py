"""Writes account statements: camt.053.001.08, booked balances and every entry with its references."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from msgspec import Struct

from feiqian.core.errors import Fault
from feiqian.modules.payments.edge import schemas
from feiqian.modules.payments.edge.bookings import (
    Booking,
    StatedAccount,
    account_fields,
    amount,
    date_text,
    direction,
    entry_fields,
    time_text,
    totals_fields,
)

MESSAGE = "camt.053.001.08"


class Statement(Struct, frozen=True):
    """One account over one span [from_ms, until_ms): balances before and after all its bookings, oldest first."""

    id: str
    sequence: int
    account: StatedAccount
    from_ms: int
    until_ms: int
    opening_minor: int
    closing_minor: int
    bookings: tuple[Booking, ...]


def write_statements(statements: Sequence[Statement], message_id: str, created_at_ms: int) -> bytes:
    """Return the message that holds these statements.

    Raises:
        Fault: opening and bookings do not give the closing balance, or the schema is broken.
    """
    created_at = time_text(created_at_ms)
    return schemas.write(
        MESSAGE,
        {
            "bk_to_cstmr_stmt": {
                "grp_hdr": {"msg_id": message_id, "cre_dt_tm": created_at},
                "stmt": [_statement(statement, created_at) for statement in statements],
            }
        },
    )


def _statement(statement: Statement, created_at: str) -> dict[str, Any]:
    moved_minor = sum(booking.amount_minor for booking in statement.bookings)
    if statement.opening_minor + moved_minor != statement.closing_minor:
        raise Fault(
            f"statement {statement.id}: opening {statement.opening_minor} and entries {moved_minor} "
            f"do not give closing {statement.closing_minor}"
        )
    account = statement.account
    return {
        "id": statement.id,
        "elctrnc_seq_nb": Decimal(statement.sequence),
        "cre_dt_tm": created_at,
        "fr_to_dt": {"fr_dt_tm": time_text(statement.from_ms), "to_dt_tm": time_text(statement.until_ms)},
        "acct": account_fields(account),
        "bal": [
            _balance("OPBD", statement.opening_minor, statement.from_ms, account),
            _balance("CLBD", statement.closing_minor, statement.until_ms - 1, account),
        ],
        "txs_summry": totals_fields(statement.bookings, account),
        "ntry": [entry_fields(booking, account) for booking in statement.bookings],
    }


def _balance(kind: str, amount_minor: int, at_ms: int, account: StatedAccount) -> dict[str, Any]:
    return {
        "tp": {"cd_or_prtry": {"cd": kind}},
        "amt": amount(amount_minor, account),
        "cdt_dbt_ind": direction(amount_minor),
        "dt": {"dt": date_text(at_ms)},
    }
