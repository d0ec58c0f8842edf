"""The payments table of the SQL index: one row a settled payment, found by UETR, party, transaction or entry."""

import sqlalchemy as sa

from feiqian.index.projection import CommittedEvent, Projection, Rows
from feiqian.index.tables import BIG
from feiqian.modules.payments.events import CreditTransferSettled

METADATA = sa.MetaData()

PAYMENTS = sa.Table(
    "payments_payments",
    METADATA,
    sa.Column("position", BIG, primary_key=True, autoincrement=False),
    sa.Column("posting_position", BIG, nullable=False, unique=True),
    sa.Column("tx_id", sa.LargeBinary, nullable=True),
    sa.Column("time_ms", BIG, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("uetr", sa.LargeBinary, nullable=False, index=True),
    sa.Column("instruction_id", sa.LargeBinary, nullable=False),
    sa.Column("debtor_agent", sa.Text, nullable=False),
    sa.Column("debtor_account", sa.LargeBinary, nullable=False),
    sa.Column("debtor_asset", sa.Text, nullable=False),
    sa.Column("creditor_agent", sa.Text, nullable=False),
    sa.Column("creditor_account", sa.LargeBinary, nullable=False),
    sa.Column("creditor_asset", sa.Text, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("amount_minor", BIG, nullable=False),
    sa.Column("charge_bearer", sa.Text, nullable=False),
    sa.Column("purpose", sa.Text, nullable=True),
    sa.Column("commitment", sa.LargeBinary, nullable=True),
    sa.Index("payments_by_debtor", "debtor_account", "position"),
    sa.Index("payments_by_creditor", "creditor_account", "position"),
)
"""`posting_position` is that of the `ledger.Posted` event whose entries the payment made: the one before it."""


def _on_settled(rows: Rows, committed: CommittedEvent) -> None:
    event = committed.event
    assert isinstance(event, CreditTransferSettled)
    rows.insert(
        PAYMENTS,
        position=committed.position,
        posting_position=committed.position - 1,
        tx_id=committed.tx_id,
        time_ms=committed.time_ms,
        status=event.status,
        uetr=event.uetr,
        instruction_id=event.instruction_id,
        debtor_agent=event.debtor_agent,
        debtor_account=event.debtor_account,
        debtor_asset=event.debtor_asset,
        creditor_agent=event.creditor_agent,
        creditor_account=event.creditor_account,
        creditor_asset=event.creditor_asset,
        currency=event.currency,
        amount_minor=event.amount_minor,
        charge_bearer=event.charge_bearer,
        purpose=event.purpose,
        commitment=event.commitment,
    )


PROJECTION = Projection("payments", METADATA, {CreditTransferSettled: _on_settled})
