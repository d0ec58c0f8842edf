"""Writes debit and credit notifications: camt.054.001.08, entries as they are booked, without balances."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from feiqian.modules.payments.edge import schemas
from feiqian.modules.payments.edge.bookings import (
    Booking,
    StatedAccount,
    account_fields,
    entry_fields,
    pagination_fields,
    time_text,
    totals_fields,
)

MESSAGE = "camt.054.001.08"


class Notification(Struct, frozen=True):
    """Bookings on one account that its owner is told of; a long one in pages, as a statement."""

    id: str
    account: StatedAccount
    bookings: tuple[Booking, ...]
    page: int = 1
    is_last: bool = True


def write_notifications(notifications: Sequence[Notification], message_id: str, created_at_ms: int) -> bytes:
    """Return the message that holds these notifications.

    Raises:
        Fault: what was built breaks the schema.
    """
    created_at = time_text(created_at_ms)
    return schemas.write(
        MESSAGE,
        {
            "bk_to_cstmr_dbt_cdt_ntfctn": {
                "grp_hdr": {"msg_id": message_id, "cre_dt_tm": created_at},
                "ntfctn": [_notification(notification, created_at) for notification in notifications],
            }
        },
    )


def _notification(notification: Notification, created_at: str) -> dict[str, Any]:
    account = notification.account
    return {
        "id": notification.id,
        "ntfctn_pgntn": pagination_fields(notification.page, is_last=notification.is_last),
        "cre_dt_tm": created_at,
        "acct": account_fields(account),
        "txs_summry": totals_fields(notification.bookings, account),
        "ntry": [entry_fields(booking, account) for booking in notification.bookings],
    }
