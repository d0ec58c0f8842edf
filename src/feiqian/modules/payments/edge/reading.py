"""What the gateway's routes read for payments: agents and directory from state, payments and entries from the index."""

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

import sqlalchemy as sa

from feiqian.core.addresses import to_text
from feiqian.index.tables import ENTRIES, RESULTS, split_position
from feiqian.ledger.accounts import ACCOUNTS
from feiqian.ledger.assets import ASSETS
from feiqian.ledger.members import MEMBERS
from feiqian.modules.payments.edge.projections import PAYMENTS
from feiqian.modules.payments.edge.shapes import AgentBody, AliasBody, BookingBody, PaymentBody, ReaderBody
from feiqian.modules.payments.state import AGENTS, ALIASES, Agent, entry_key, required_readers
from feiqian.modules.payments.state import PAYMENTS as STATE_PAYMENTS
from feiqian.state.tables import Overlay


def agents(state: Overlay) -> list[AgentBody]:
    """Return every agent, in the order of their deposit assets."""
    return [_agent(state, key.decode(), agent) for key, agent in AGENTS.scan(state)]


def agent_of(state: Overlay, deposit_asset: str) -> AgentBody | None:
    """Return the agent whose deposit asset this is."""
    agent = AGENTS.get(state, deposit_asset.encode())
    return None if agent is None else _agent(state, deposit_asset, agent)


def look_up(state: Overlay, aliases: Iterable[tuple[str, bytes]]) -> list[AliasBody | None]:
    """Return what each (deposit asset, alias digest) means."""
    return [_alias(state, deposit_asset, alias) for deposit_asset, alias in aliases]


def paid(state: Overlay, keys: Iterable[bytes]) -> list[bool]:
    """Say of each debtor account ‖ instruction id whether it is paid."""
    return [STATE_PAYMENTS.get(state, key) is not None for key in keys]


def readers(state: Overlay) -> list[ReaderBody]:
    """Return who reads every payment's particulars."""
    found = []
    for member_id in required_readers(state):
        key = _vault_key(state, member_id)
        if key is not None:
            found.append(ReaderBody(member_id, key))
    return found


def payments_by_uetr(engine: sa.Engine, uetr: bytes, limit: int) -> list[PaymentBody]:
    """Return the payments with a UETR, oldest first: more than one only where debtors use the same."""
    question = sa.select(PAYMENTS).where(PAYMENTS.c.uetr == uetr).order_by(PAYMENTS.c.position).limit(limit)
    with engine.connect() as connection:
        return [_payment(row) for row in connection.execute(question)]


def payments_of(engine: sa.Engine, account: bytes, before: int | None, limit: int) -> list[tuple[int, PaymentBody]]:
    """Return (position, payment) of those an account sent or received, newest first."""
    question = (
        sa.select(PAYMENTS)
        .where(sa.or_(PAYMENTS.c.debtor_account == account, PAYMENTS.c.creditor_account == account))
        .order_by(PAYMENTS.c.position.desc())
        .limit(limit)
    )
    if before is not None:
        question = question.where(PAYMENTS.c.position < before)
    with engine.connect() as connection:
        return [(row.position, _payment(row)) for row in connection.execute(question)]


class Bookings(NamedTuple):
    """A page of an account's entries in order, with the balances around them as the ledger kept them.

    `last` is (position, leg index) of the last entry where more follow, else None.
    """

    opening_minor: int
    closing_minor: int
    sequence: int
    entries: list[BookingBody]
    last: tuple[int, int] | None


def bookings(
    engine: sa.Engine,
    account: bytes,
    asset: str,
    from_ms: int,
    until_ms: int,
    after: tuple[int, int] | None,
    limit: int,
) -> Bookings:
    """Return at most `limit` of an account's entries in [from_ms, until_ms), those after (position, leg index)."""
    of_account = sa.and_(ENTRIES.c.account == account, ENTRIES.c.asset == asset)
    place = sa.tuple_(ENTRIES.c.position, ENTRIES.c.leg_index)
    is_before = ENTRIES.c.time_ms < from_ms if after is None else place <= after
    last_before = (
        sa.select(ENTRIES.c.posted_minor, ENTRIES.c.sequence)
        .where(of_account, is_before)
        .order_by(ENTRIES.c.position.desc(), ENTRIES.c.leg_index.desc())
        .limit(1)
    )
    question = (
        sa.select(
            ENTRIES.c.position.label("entry_position"),
            ENTRIES.c.leg_index,
            ENTRIES.c.amount_minor.label("entry_minor"),
            ENTRIES.c.posted_minor.label("entry_posted_minor"),
            ENTRIES.c.time_ms.label("entry_time_ms"),
            RESULTS.c.id.label("result_id"),
            PAYMENTS,
        )
        .join(RESULTS, RESULTS.c.position == ENTRIES.c.result_position, isouter=True)
        .join(PAYMENTS, PAYMENTS.c.posting_position == ENTRIES.c.position, isouter=True)
        .where(of_account, ENTRIES.c.time_ms >= from_ms, ENTRIES.c.time_ms < until_ms)
        .order_by(ENTRIES.c.position, ENTRIES.c.leg_index)
        .limit(limit + 1)
    )
    if after is not None:
        question = question.where(place > after)
    with engine.connect() as connection:
        before = connection.execute(last_before).one_or_none()
        rows = connection.execute(question).all()
    opening_minor, sequence = (0, 0) if before is None else (before.posted_minor, before.sequence)
    page = rows[:limit]
    closing_minor = page[-1].entry_posted_minor if page else opening_minor
    last = (page[-1].entry_position, page[-1].leg_index) if len(rows) > limit else None
    return Bookings(opening_minor, closing_minor, sequence + 1, [_booking(row) for row in page], last)


def _agent(state: Overlay, deposit_asset: str, agent: Agent) -> AgentBody:
    member = MEMBERS.get(state, agent.member.encode())
    asset = ASSETS.get(state, deposit_asset.encode())
    assert member is not None, "agents are members"
    assert asset is not None, "agents issue their deposit asset"
    return AgentBody(
        deposit_asset=deposit_asset,
        member=agent.member,
        legal_name=member.legal_name,
        currency=agent.currency,
        scale=asset.scale,
        bic=member.bic,
        clearing_system=None if agent.clearing is None else agent.clearing.system,
        clearing_member=None if agent.clearing is None else agent.clearing.member,
        limit_minor=agent.limit_minor,
        vault_key=_vault_key(state, agent.member),
    )


def _alias(state: Overlay, deposit_asset: str, alias: bytes) -> AliasBody | None:
    record = ALIASES.get(state, entry_key(deposit_asset, alias))
    if record is None:
        return None
    account = ACCOUNTS.get(state, record.account)
    assert account is not None, "the directory names open accounts"
    return AliasBody(
        account=to_text(record.account),
        holder_name=record.holder_name.hex(),
        is_closed=record.is_closed,
        member=account.member,
        vault_key=_vault_key(state, account.member),
    )


def _vault_key(state: Overlay, member_id: str) -> str | None:
    member = MEMBERS.get(state, member_id.encode())
    return None if member is None or member.vault_key is None else member.vault_key.hex()


def _payment(row: sa.Row) -> PaymentBody:
    return PaymentBody(
        status=row.status,
        uetr=str(UUID(bytes=row.uetr)),
        instruction_id=row.instruction_id.hex(),
        tx_id=None if row.tx_id is None else row.tx_id.hex(),
        height=split_position(row.posting_position)[0],
        time_ms=row.time_ms,
        debtor_agent=row.debtor_agent,
        debtor_account=to_text(row.debtor_account),
        debtor_asset=row.debtor_asset,
        creditor_agent=row.creditor_agent,
        creditor_account=to_text(row.creditor_account),
        creditor_asset=row.creditor_asset,
        currency=row.currency,
        amount_minor=row.amount_minor,
        charge_bearer=row.charge_bearer,
        purpose=row.purpose,
        commitment=None if row.commitment is None else row.commitment.hex(),
    )


def _booking(row: sa.Row) -> BookingBody:
    height, place = split_position(row.entry_position)
    return BookingBody(
        reference=f"{height}.{place}.{row.leg_index}",
        amount_minor=row.entry_minor,
        time_ms=row.entry_time_ms,
        tx_id=None if row.result_id is None else row.result_id.hex(),
        payment=None if row.uetr is None else _payment(row),
    )
