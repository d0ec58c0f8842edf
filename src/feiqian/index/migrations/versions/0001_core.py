"""The core tables: blocks, results, events, parties, accounts, holders, entries, and the marker."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables of the first release."""
    _marker_and_blocks()
    _results()
    _events()
    _parties("result_members", "member", sa.Text)
    _parties("result_accounts", "account", sa.LargeBinary)
    _accounts()


def _marker_and_blocks() -> None:
    op.create_table(
        "index_marker",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("chain_id", sa.Text, nullable=False),
        sa.Column("base_height", _BIG, nullable=False),
        sa.Column("height", _BIG, nullable=False),
        sa.Column("time_ms", _BIG, nullable=False),
        sa.Column("app_hash", sa.LargeBinary, nullable=False),
        sa.Column("schema_digest", sa.Text, nullable=False),
    )
    op.create_table(
        "blocks",
        sa.Column("height", _BIG, primary_key=True, autoincrement=False),
        sa.Column("time_ms", _BIG, nullable=False),
        sa.Column("app_hash", sa.LargeBinary, nullable=False),
        sa.Column("transaction_count", sa.Integer, nullable=False),
        sa.Column("result_count", sa.Integer, nullable=False),
        sa.Column("event_count", sa.Integer, nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
    )


def _results() -> None:
    op.create_table(
        "results",
        sa.Column("position", _BIG, primary_key=True, autoincrement=False),
        sa.Column("id", sa.LargeBinary, nullable=False),
        sa.Column("id_head", _BIG, nullable=False),
        sa.Column("is_trigger", sa.Boolean, nullable=False),
        sa.Column("codespace", sa.Text, nullable=False),
        sa.Column("number", _BIG, nullable=False),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("work", _BIG, nullable=False),
        sa.Column("sponsor", sa.Text),
        sa.Column("kinds", sa.Text),
    )
    op.create_index("ix_results_id_head", "results", ["id_head"])


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("position", _BIG, primary_key=True, autoincrement=False),
        sa.Column("result_position", _BIG, nullable=False),
        sa.Column("event_index", sa.Integer, nullable=False),
        sa.Column("tag", sa.Text, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("members", sa.Text, nullable=False),
        sa.Column("accounts", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_events_result_position", "events", ["result_position"])


def _parties(name: str, party: str, party_type: type[sa.types.TypeEngine]) -> None:
    op.create_table(
        name,
        sa.Column(party, party_type, primary_key=True),
        sa.Column("position", _BIG, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )


def _accounts() -> None:
    op.create_table(
        "accounts",
        sa.Column("address", sa.LargeBinary, primary_key=True),
        sa.Column("member", sa.Text, nullable=False),
        sa.Column("position", _BIG, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_accounts_member", "accounts", ["member"])
    op.create_table(
        "holders",
        sa.Column("asset", sa.Text, primary_key=True),
        sa.Column("account", sa.LargeBinary, primary_key=True),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_holders_account", "holders", ["account"])
    op.create_table(
        "entries",
        sa.Column("account", sa.LargeBinary, primary_key=True),
        sa.Column("asset", sa.Text, primary_key=True),
        sa.Column("position", _BIG, primary_key=True, autoincrement=False),
        sa.Column("leg_index", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sequence", _BIG, nullable=False),
        sa.Column("amount_minor", _BIG, nullable=False),
        sa.Column("posted_minor", _BIG, nullable=False),
        sa.Column("result_position", _BIG, nullable=False),
        sa.Column("time_ms", _BIG, nullable=False),
        sqlite_with_rowid=False,
    )
