"""Makes camt.053 statements and camt.054 notifications from what the gateway books and what the vault lets one read."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from feiqian.core.errors import Fault, InvalidTransaction
from feiqian.modules.payments.edge.bookings import Booking, Settled, StatedAccount
from feiqian.modules.payments.edge.camt053 import Statement
from feiqian.modules.payments.edge.camt054 import Notification
from feiqian.modules.payments.edge.instructions import AccountNumber, AgentNumber, Instruction
from feiqian.modules.payments.edge.particulars import decode_particulars
from feiqian.modules.payments.edge.shapes import AgentBody, BookingBody, PaymentBody, StatementBody
from feiqian.vault.documents import DocumentRefused, open_

MAX_LOCAL_NUMBER = 34
"""ISO 20022 Max34Text of an account's other identification."""

MAX_SCALE = 5
"""Fraction digits of an ISO 20022 amount."""

Fetch = Callable[[bytes], bytes | None]
"""Returns the sealed document under a commitment, or None where there is none or it may not be read."""


class VaultReader(Struct, frozen=True):
    """As whom documents are opened."""

    member: str
    private_key: bytes


class CurrencyMissing(InvalidTransaction):
    """The asset counts no currency of ISO 4217, so no camt message can state it."""

    codespace = "payments.files"
    number = 21


def statement_of(
    body: StatementBody,
    agents: list[AgentBody],
    fetch: Fetch,
    reader: VaultReader | None,
    number: AccountNumber | None,
    before: Statement | None = None,
) -> Statement:
    """Return a statement, or a page of one, of what the gateway booked; `before` is the page before it.

    `number` is the account's IBAN or local number; without one it is taken from a payment's particulars on the first
    page, else the ledger address stands for it, cut to what the message takes.

    Raises:
        CurrencyMissing: see there.
        Fault: the page does not begin where the one before it ended.
    """
    bookings = tuple(_booking(booking, agents, fetch, reader) for booking in body.bookings)
    if before is not None and before.closing_minor != body.opening_minor:
        raise Fault(f"page {before.page} closes at {before.closing_minor}, the next opens at {body.opening_minor}")
    return Statement(
        id=statement_id(body),
        sequence=body.sequence if before is None else before.sequence,
        account=_account(body, bookings, number) if before is None else before.account,
        from_ms=body.from_ms,
        until_ms=body.until_ms,
        opening_minor=body.opening_minor,
        closing_minor=body.closing_minor,
        bookings=bookings,
        page=1 if before is None else before.page + 1,
        is_last=body.next_cursor is None,
    )


def notification_of(statement: Statement) -> Notification:
    """Return the same bookings as a notification."""
    return Notification(statement.id, statement.account, statement.bookings, statement.page, statement.is_last)


def statement_id(body: StatementBody) -> str:
    """Return an id of at most 35 characters that the same account and span always have."""
    return f"{body.account[3:15]}-{body.from_ms // 1000}-{body.until_ms // 1000}"


def day_of(text: str) -> tuple[int, int]:
    """Return [start, end) of a UTC day written 2026-01-31, in ms since 1970. Raises: ValueError."""
    start = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    end = start + timedelta(days=1)
    return int(start.timestamp()) * 1000, int(end.timestamp()) * 1000


def _booking(body: BookingBody, agents: list[AgentBody], fetch: Fetch, reader: VaultReader | None) -> Booking:
    payment = body.payment
    return Booking(
        reference=body.reference,
        amount_minor=body.amount_minor,
        booked_at_ms=body.time_ms,
        tx_id=None if body.tx_id is None else bytes.fromhex(body.tx_id),
        payment=None if payment is None else _settled(payment, agents, fetch, reader),
    )


def _settled(payment: PaymentBody, agents: list[AgentBody], fetch: Fetch, reader: VaultReader | None) -> Settled:
    return Settled(
        uetr=payment.uetr,
        debtor_agent=_agent(payment.debtor_asset, agents),
        creditor_agent=_agent(payment.creditor_asset, agents),
        purpose=payment.purpose,
        instruction=_instruction(payment, fetch, reader),
    )


def _instruction(payment: PaymentBody, fetch: Fetch, reader: VaultReader | None) -> Instruction | None:
    if payment.commitment is None or reader is None:
        return None
    commitment = bytes.fromhex(payment.commitment)
    envelope = fetch(commitment)
    if envelope is None:
        return None
    try:
        content = open_(envelope, reader.member, reader.private_key, commitment)
    except DocumentRefused:
        # Sealed for others: the statement says what the ledger says.
        return None
    return decode_particulars(content).instruction


def _agent(deposit_asset: str, agents: list[AgentBody]) -> AgentNumber:
    for agent in agents:
        if agent.deposit_asset == deposit_asset:
            return agent_number(agent)
    return AgentNumber(name=deposit_asset)


def agent_number(agent: AgentBody) -> AgentNumber:
    """Return a bank as messages name it."""
    return AgentNumber(
        bic=agent.bic,
        clearing_system=agent.clearing_system,
        clearing_member=agent.clearing_member,
        name=agent.legal_name[:140],
    )


def _account(body: StatementBody, bookings: tuple[Booking, ...], number: AccountNumber | None) -> StatedAccount:
    if body.currency is None or body.scale > MAX_SCALE:
        raise CurrencyMissing(f"asset {body.asset} counts no ISO 4217 currency of at most {MAX_SCALE} decimals")
    servicer = AgentNumber(name=body.asset) if body.servicer is None else agent_number(body.servicer)
    return StatedAccount(
        number=number or _own_number(bookings) or AccountNumber("local", body.account[:MAX_LOCAL_NUMBER]),
        currency=body.currency,
        scale=body.scale,
        owner=body.owner,
        servicer=servicer,
    )


def _own_number(bookings: tuple[Booking, ...]) -> AccountNumber | None:
    for booking in bookings:
        instruction = None if booking.payment is None else booking.payment.instruction
        if instruction is not None:
            return instruction.debtor_account if booking.amount_minor < 0 else instruction.creditor_account
    return None
