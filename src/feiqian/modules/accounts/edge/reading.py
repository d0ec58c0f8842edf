"""What the gateway's routes read for accounts, from the index. Who may ask is the routes' concern."""

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from feiqian.api.shapes import ErrorOf
from feiqian.core.addresses import to_text
from feiqian.core.encoding import Codec
from feiqian.core.plain import to_plain
from feiqian.core.signatures import SCHEMES
from feiqian.index.tables import split_position
from feiqian.ledger.context import Message
from feiqian.modules.accounts.edge.projections import KEYS, PARTIES, PENDING, WAITING
from feiqian.modules.accounts.edge.shapes import PendingBody

_MESSAGES: Codec[tuple[bytes, ...]] = Codec(tuple[bytes, ...], "pending messages")

Decode = Callable[[bytes], Message]


def pending(
    engine: sa.Engine, decode: Decode, account: bytes, before: int | None, limit: int, *, only_waiting: bool
) -> list[tuple[int, PendingBody]]:
    """Return (position, proposal) of those whose messages act for an account, newest first."""
    question = (
        sa.select(PENDING)
        .join(PARTIES, PARTIES.c.pending == PENDING.c.pending)
        .where(PARTIES.c.account == account)
        .order_by(PARTIES.c.position.desc())
        .limit(limit)
    )
    if before is not None:
        question = question.where(PARTIES.c.position < before)
    if only_waiting:
        question = question.where(PENDING.c.status == WAITING)
    with engine.connect() as connection:
        rows = list(connection.execute(question))
        ids = [row.pending for row in rows]
        keys: dict[bytes, list[str]] = {id_: [] for id_ in ids}
        for row in connection.execute(
            sa.select(KEYS).where(KEYS.c.pending.in_(ids)).order_by(KEYS.c.scheme, KEYS.c.key)
        ):
            keys[row.pending].append(f"{SCHEMES[row.scheme].name.lower().replace('-', '')}:{row.key.hex()}")
    return [(row.position, _body(row, keys[row.pending], decode)) for row in rows]


def _body(row: Any, keys: list[str], decode: Decode) -> PendingBody:
    error = None
    if row.error_codespace is not None:
        error = ErrorOf(row.error_codespace, row.error_number, row.error_message)
    return PendingBody(
        id=row.pending.hex(),
        account=to_text(row.account),
        status=row.status,
        time_ms=row.time_ms,
        height=split_position(row.position)[0],
        expires_at_ms=row.expires_at_ms,
        messages=[to_plain(decode(data)) for data in _MESSAGES.decode_trusted(row.messages)],
        keys=keys,
        error=error,
    )
