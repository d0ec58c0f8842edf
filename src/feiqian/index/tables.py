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
    sa.Column("id", sa.LargeBinary, nullable=False),
    sa.Column("id_head", BIG, nullable=False, index=True),
    sa.Column("is_trigger", sa.Boolean, nullable=False),
    sa.Column("codespace", sa.Text, nullable=False),
    sa.Column("number", BIG, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("work", BIG, nullable=False),
    sa.Column("sponsor", sa.Text),
    sa.Column("kinds", sa.Text),
)
"""What became of each transaction and trigger; position: place among the block's results. `id` as in the proof.

`id_head` is made of its first bytes and finds it: ids come in no order, so the smaller their index the better.
`sponsor` and `kinds` (distinct message tags in order, separated by spaces) say what was asked; null for a trigger.
"""

EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("position", BIG, primary_key=True, autoincrement=False),
    sa.Column("result_position", BIG, nullable=False, index=True),
    sa.Column("event_index", sa.Integer, nullable=False),
    sa.Column("tag", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("members", sa.Text, nullable=False),
    sa.Column("accounts", sa.LargeBinary, nullable=False),
)
"""What happened; position: place among all events of the block. `body` is the event's canonical bytes.

`accounts` are the addresses of those it concerns, one after another; `members` theirs and those it names, separated by
spaces. They are read together with the event: what a party may find at all is found by its results.
"""

RESULT_MEMBERS = sa.Table(
    "result_members",
    METADATA,
    sa.Column("member", sa.Text, primary_key=True),
    sa.Column("position", BIG, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Which members a result concerns: its sponsor, those of the accounts it acted for, and the parties to its events."""

RESULT_ACCOUNTS = sa.Table(
    "result_accounts",
    METADATA,
    sa.Column("account", sa.LargeBinary, primary_key=True),
    sa.Column("position", BIG, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)
"""Which accounts a result concerns beside those with an entry in it: those it acted for, those its events name."""

ACCOUNTS = sa.Table(
    "accounts",
    METADATA,
    sa.Column("address", sa.LargeBinary, primary_key=True),
    sa.Column("member", sa.Text, nullable=False, index=True),
    sa.Column("position", BIG, nullable=False),
    sqlite_with_rowid=False,
)

HOLDERS = sa.Table(
    "holders",
    METADATA,
    sa.Column("asset", sa.Text, primary_key=True),
    sa.Column("account", sa.LargeBinary, primary_key=True, index=True),
    sqlite_with_rowid=False,
)
"""Which accounts have entries in an asset, written with the first; the last entry says how much each has."""

ENTRIES = sa.Table(
    "entries",
    METADATA,
    sa.Column("account", sa.LargeBinary, primary_key=True),
    sa.Column("asset", sa.Text, primary_key=True),
    sa.Column("position", BIG, primary_key=True, autoincrement=False),
    sa.Column("leg_index", sa.Integer, primary_key=True, autoincrement=False),
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


def id_head(id_: bytes) -> int:
    """Return what `RESULTS.id_head` holds for an id."""
    return int.from_bytes(id_[:8], "big", signed=True)


def split_position(value: int) -> tuple[int, int]:
    """Return height and place of a position."""
    return value >> PLACE_BITS, value & MAX_PLACE
