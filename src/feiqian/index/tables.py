"""The core tables of the SQL index. Everything in them is derived from committed blocks and can be rebuilt.

A `position` orders what happened on the whole ledger: height in the upper bits, place within the block in the lower
24. It is the same on every gateway, so it serves as cursor and as event id.
"""

import sqlalchemy as sa

PLACE_BITS = 24
MAX_PLACE = (1 << PLACE_BITS) - 1

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""64 bits everywhere; SQLite makes only INTEGER keys its row ids."""

METADATA = sa.MetaData()

MARKER = sa.Table(
    "index_marker",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("chain_id", sa.Text, nullable=False),
    sa.Column("base_height", BIG, nullable=False),
    sa.Column("height", BIG, nullable=False),
    sa.Column("time_ms", BIG, nullable=False),
    sa.Column("app_hash", sa.LargeBinary, nullable=False),
    sa.Column("schema_digest", sa.Text, nullable=False),
)
"""One row: how far the index has come. It moves in the same SQL transaction as the rows of the blocks it counts."""

BLOCKS = sa.Table(
    "blocks",
    METADATA,
    sa.Column("height", BIG, primary_key=True, autoincrement=False),
    sa.Column("time_ms", BIG, nullable=False),
    sa.Column("app_hash", sa.LargeBinary, nullable=False),
    sa.Column("transaction_count", sa.Integer, nullable=False),
    sa.Column("result_count", sa.Integer, nullable=False),
    sa.Column("event_count", sa.Integer, nullable=False),
    sa.Column("size_bytes", sa.Integer, nullable=False),
)

RESULTS = sa.Table(
    "results",
    METADATA,
    sa.Column("position", BIG, primary_key=True, autoincrement=False),
    sa.Column("id", sa.LargeBinary, nullable=False, index=True),
    sa.Column("is_trigger", sa.Boolean, nullable=False),
    sa.Column("codespace", sa.Text, nullable=False),
    sa.Column("number", BIG, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("work", BIG, nullable=False),
)
"""What became of each transaction and trigger; position: place among the block's results. `id` as in the proof."""

TRANSACTIONS = sa.Table(
    "transactions",
    METADATA,
    sa.Column("position", BIG, primary_key=True, autoincrement=False),
    sa.Column("tx_id", sa.LargeBinary, nullable=False),
    sa.Column("sponsor", sa.Text, nullable=False),
    sa.Column("kinds", sa.Text, nullable=False),
    sa.Column("expires_at_ms", BIG, nullable=False),
    sa.Column("size_bytes", sa.Integer, nullable=False),
)
"""What was asked, under the position of its result. `kinds`: distinct message tags in order, separated by spaces."""

EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("position", BIG, primary_key=True, autoincrement=False),
    sa.Column("result_position", BIG, nullable=False),
    sa.Column("event_index", sa.Integer, nullable=False),
    sa.Column("tag", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
)
"""What happened; position: place among all events of the block. `body` is the event's canonical bytes."""

EVENT_PARTIES = sa.Table(
    "event_parties",
    METADATA,
    sa.Column("member", sa.Text, primary_key=True),
    sa.Column("position", BIG, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Which members an event concerns: those named by it and those of the accounts it names."""

EVENT_ACCOUNTS = sa.Table(
    "event_accounts",
    METADATA,
    sa.Column("account", sa.LargeBinary, primary_key=True),
    sa.Column("position", BIG, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Which accounts an event concerns: those named by it."""

TRANSACTION_PARTIES = sa.Table(
    "transaction_parties",
    METADATA,
    sa.Column("member", sa.Text, primary_key=True),
    sa.Column("position", BIG, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Which members a result concerns: its sponsor, those of the accounts it acted for, and the parties to its events."""

TRANSACTION_ACCOUNTS = sa.Table(
    "transaction_accounts",
    METADATA,
    sa.Column("account", sa.LargeBinary, primary_key=True),
    sa.Column("position", BIG, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Which accounts a result concerns: those that its messages acted for, and those that its events name."""

ACCOUNTS = sa.Table(
    "accounts",
    METADATA,
    sa.Column("address", sa.LargeBinary, primary_key=True),
    sa.Column("member", sa.Text, nullable=False, index=True),
    sa.Column("position", BIG, nullable=False),
    sqlite_with_rowid=False,
)

BALANCES = sa.Table(
    "balances",
    METADATA,
    sa.Column("account", sa.LargeBinary, primary_key=True),
    sa.Column("asset", sa.Text, primary_key=True),
    sa.Column("posted_minor", BIG, nullable=False),
    sa.Column("entry_count", BIG, nullable=False),
    sa.Column("position", BIG, nullable=False),
    sqlite_with_rowid=False,
)
"""The sum of each account's entries in each asset, and when it last moved."""

ENTRIES = sa.Table(
    "entries",
    METADATA,
    sa.Column("account", sa.LargeBinary, primary_key=True),
    sa.Column("position", BIG, primary_key=True, autoincrement=False),
    sa.Column("leg_index", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("asset", sa.Text, nullable=False),
    sa.Column("sequence", BIG, nullable=False),
    sa.Column("amount_minor", BIG, nullable=False),
    sa.Column("posted_minor", BIG, nullable=False),
    sa.Column("result_position", BIG, nullable=False),
    sa.Column("time_ms", BIG, nullable=False),
    sqlite_with_rowid=False,
)
"""Each leg of each posting. `sequence` counts the account's entries in the asset from 1; `posted_minor` is after it."""


def position(height: int, place: int) -> int:
    """Return where the `place`th thing of a block stands on the whole ledger."""
    assert 0 <= place <= MAX_PLACE
    return height << PLACE_BITS | place


def split_position(value: int) -> tuple[int, int]:
    """Return height and place of a position."""
    return value >> PLACE_BITS, value & MAX_PLACE
