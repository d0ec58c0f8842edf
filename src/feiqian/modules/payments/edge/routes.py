"""The HTTP routes of payments: agents and directory for members, payments and statements for their parties."""

import time
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.params import Parameter

from feiqian.api.access import Access, Parties, Reader
from feiqian.api.gateway import Gateway
from feiqian.api.problems import BadParameter, NotFound
from feiqian.api.routes.accounts import Time, account_for
from feiqian.api.routes.parameters import V1, AddressText, Asker, Cursor, Here, Limit
from feiqian.api.shapes import DEFAULT_PAGE, Page, read_cursor, write_cursor
from feiqian.api.threads import on_thread
from feiqian.core import addresses
from feiqian.modules.payments.edge import reading
from feiqian.modules.payments.edge.shapes import (
    MAX_BOOKINGS,
    AgentBody,
    AliasBody,
    BookingBody,
    LookUpBody,
    PaidBody,
    PaymentBody,
    ReaderBody,
    StatementBody,
)

MAX_SAME_UETR = 100

UetrText = Annotated[str, Parameter(min_length=36, max_length=36, description="A UETR, as a UUID is written")]
Asset = Annotated[str, Parameter(max_length=48, description="An asset's code")]
AccountQuery = Annotated[str, Parameter(max_length=90, description="An account, `fq1…`")]


@get(f"{V1}/payments/agents", opt={"access": Access.MEMBER})
async def list_agents(gateway: Here) -> list[AgentBody]:
    """List the banks that take part in payments."""
    return reading.agents(gateway.ledger.state())


@get(f"{V1}/payments/readers", opt={"access": Access.MEMBER})
async def list_readers(gateway: Here) -> list[ReaderBody]:
    """List who reads every payment's particulars besides both agents."""
    return reading.readers(gateway.ledger.state())


@post(f"{V1}/payments/look-up", opt={"access": Access.MEMBER}, status_code=200)
async def look_up_aliases(data: LookUpBody, gateway: Here) -> list[AliasBody | None]:
    """Look account numbers up by their digests; null where the agent's directory has none."""
    aliases = [(question.deposit_asset, bytes.fromhex(question.alias)) for question in data.aliases]
    return await on_thread(reading.look_up, gateway.ledger.state(), aliases)


@post(f"{V1}/payments/paid", opt={"access": Access.MEMBER}, status_code=200)
async def ask_paid(data: PaidBody, gateway: Here, reader: Asker) -> list[bool]:
    """Say of each instruction whether its debtor, an account that the reader may read, has paid it."""
    keys = [bytes.fromhex(key) for key in data.keys]
    debtors = {key[: addresses.ADDRESS_BYTES] for key in keys}
    own = {debtor for debtor in debtors if reader.may_read(gateway.ledger.parties([debtor]))}
    found = await on_thread(reading.paid, gateway.ledger.state(), keys)
    return [is_paid and key[: addresses.ADDRESS_BYTES] in own for key, is_paid in zip(keys, found, strict=True)]


@get(f"{V1}/payments/by-uetr/{{uetr:str}}", opt={"access": Access.PARTY})
async def find_payments(uetr: UetrText, gateway: Here, reader: Asker) -> list[PaymentBody]:
    """Find the reader's payments with this UETR."""
    try:
        raw = UUID(uetr).bytes
    except ValueError:
        raise BadParameter("a UETR is a UUID such as eb6305c9-1f7f-49de-aed0-16487c27b42d") from None
    await gateway.indexed_height()
    found = await on_thread(reading.payments_by_uetr, gateway.index.engine, raw, MAX_SAME_UETR)
    readable = [payment for payment in found if reader.may_read(_parties(gateway, payment))]
    if not readable:
        raise NotFound("no payment with this UETR is on the ledger, or you are no party to it")
    return readable


@get(f"{V1}/payments", opt={"access": Access.PARTY})
async def list_payments(
    gateway: Here, reader: Asker, account: AccountQuery, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE
) -> Page[PaymentBody]:
    """List what an account paid and was paid, newest first."""
    address = addresses.from_text(account)
    account_for(gateway, address, reader)
    before = read_cursor(cursor, int)
    indexed = await gateway.indexed_height()
    rows = await on_thread(
        reading.payments_of, gateway.index.engine, address, None if before is None else before[0], limit
    )
    more = write_cursor(rows[-1][0]) if len(rows) == limit else None
    return Page([payment for _, payment in rows], more, indexed)


@get(f"{V1}/payments/statement/{{address:str}}", opt={"access": Access.PARTY})
async def show_statement(
    address: AddressText,
    gateway: Here,
    reader: Asker,
    asset: Asset,
    from_ms: Time = None,
    until_ms: Time = None,
) -> StatementBody:
    """Show an account's entries in one asset with the payments behind them, and the balances before and after."""
    raw = addresses.from_text(address)
    account = account_for(gateway, raw, reader)
    definition = gateway.ledger.asset(asset)
    if definition is None:
        raise NotFound("no asset has this code")
    start_ms = 0 if from_ms is None else from_ms
    end_ms = time.time_ns() // 1_000_000 + 1 if until_ms is None else until_ms
    indexed = await gateway.indexed_height()
    opening_minor, sequence, found = await on_thread(
        reading.bookings, gateway.index.engine, raw, asset, start_ms, end_ms, MAX_BOOKINGS + 1
    )
    if len(found) > MAX_BOOKINGS:
        raise BadParameter(f"more than {MAX_BOOKINGS} entries; ask for a shorter time")
    state = gateway.ledger.state()
    owner = gateway.ledger.member(account.member)
    return StatementBody(
        account=address.lower(),
        asset=asset,
        currency=definition.currency,
        scale=definition.scale,
        owner=account.member if owner is None else owner.legal_name,
        servicer=reading.agent_of(state, asset),
        from_ms=start_ms,
        until_ms=end_ms,
        sequence=sequence,
        opening_minor=opening_minor,
        closing_minor=opening_minor + sum(booking.amount_minor for booking in found),
        bookings=[_for_reader(gateway, booking, reader) for booking in found],
        indexed_height=indexed,
    )


def _parties(gateway: Gateway, payment: PaymentBody) -> Parties:
    accounts = [addresses.from_text(text) for text in (payment.debtor_account, payment.creditor_account)]
    return gateway.ledger.parties(accounts, [payment.debtor_agent, payment.creditor_agent])


def _for_reader(gateway: Gateway, booking: BookingBody, reader: Reader) -> BookingBody:
    """Leave the payment behind an entry out where the reader is no party to it: a settlement account's own keys."""
    if booking.payment is None or reader.may_read(_parties(gateway, booking.payment)):
        return booking
    return msgspec.structs.replace(booking, payment=None)


ROUTES = (list_agents, list_readers, look_up_aliases, ask_paid, find_payments, list_payments, show_statement)
