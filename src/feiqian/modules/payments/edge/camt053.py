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
    pagination_fields,
    time_text,
    totals_fields,
)

MESSAGE = "camt.053.001.08"


class Statement(Struct, frozen=True):
    """One account over one span [from_ms, until_ms): balances before and after its bookings, oldest first.

    A long one is written in pages, each with its own part of the bookings and the balances around that; id, sequence,
    account and span are the same on all of them.
    """

    id: str
    sequence: int
    account: StatedAccount
    from_ms: int
    until_ms: int
    opening_minor: int
    closing_minor: int
    bookings: tuple[Booking, ...]
    page: int = 1
    is_last: bool = True


def write_statements(statements: Sequence[Statement], message_id: str, created_at_ms: int) -> bytes:
    """Return the message that holds these statements, or a page of one.

    Raises:
        Fault: opening and bookings do not give the closing balance, or the schema is broken.
    """
    created_at = time_text(created_at_ms)
    return schemas.write(
        MESSAGE,
        {
            "bk_to_cstmr_stmt": {
                "grp_hdr": {"msg_id": message_id, "cre_dt_tm": created_at, "msg_pgntn": _message_page(statements)},
                "stmt": [_statement(statement, created_at) for statement in statements],
            }
        },
    )


def _message_page(statements: Sequence[Statement]) -> dict[str, Any] | None:
    """Return the page that a message is, None for one that holds several statements."""
    if len(statements) != 1:
        return None
    return pagination_fields(statements[0].page, is_last=statements[0].is_last)


def _statement(statement: Statement, created_at: str) -> dict[str, Any]:
    moved_minor = sum(booking.amount_minor for booking in statement.bookings)
    if statement.opening_minor + moved_minor != statement.closing_minor:
        raise Fault(
            f"statement {statement.id}: opening {statement.opening_minor} and entries {moved_minor} "
            f"do not give closing {statement.closing_minor}"
        )
    account = statement.account
    opened_ms = statement.from_ms if statement.page == 1 else statement.bookings[0].booked_at_ms
    closed_ms = statement.until_ms - 1 if statement.is_last else statement.bookings[-1].booked_at_ms
    return {
        "id": statement.id,
        "stmt_pgntn": pagination_fields(statement.page, is_last=statement.is_last),
        "elctrnc_seq_nb": Decimal(statement.sequence),
        "cre_dt_tm": created_at,
        "fr_to_dt": {"fr_dt_tm": time_text(statement.from_ms), "to_dt_tm": time_text(statement.until_ms)},
        "acct": account_fields(account),
        "bal": [
            # Between pages, balances are intermediate (CBPR+ usage guideline of camt.053, rules on StmtPgntn).
            _balance("OPBD", statement.opening_minor, opened_ms, account, is_intermediate=statement.page > 1),
            _balance("CLBD", statement.closing_minor, closed_ms, account, is_intermediate=not statement.is_last),
        ],
        "txs_summry": totals_fields(statement.bookings, account),
        "ntry": [entry_fields(booking, account) for booking in statement.bookings],
    }


def _balance(
    kind: str, amount_minor: int, at_ms: int, account: StatedAccount, *, is_intermediate: bool
) -> dict[str, Any]:
    return {
        "tp": {"cd_or_prtry": {"cd": kind}, "sub_tp": {"cd": "INTM"} if is_intermediate else None},
        "amt": amount(amount_minor, account),
        "cdt_dbt_ind": direction(amount_minor),
        "dt": {"dt": date_text(at_ms)},
    }
