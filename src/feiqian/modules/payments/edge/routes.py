"""The HTTP routes of payments: agents and directory for members, payments and statements for their parties."""

import time
from typing import Annotated
from uuid import UUID

import msgspec
import sqlalchemy as sa
from litestar import get, post
from litestar.params import Parameter

from feiqian.api.access import Access, Parties, Reader
from feiqian.api.edge import Notes
from feiqian.api.gateway import Gateway
from feiqian.api.problems import BadParameter, NotAllowed, NotFound, TooBusy
from feiqian.api.routes.accounts import Time, account_for
from feiqian.api.routes.parameters import V1, AddressText, Asker, Cursor, Here, Limit
from feiqian.api.shapes import DEFAULT_PAGE, Page, read_cursor, write_cursor
from feiqian.api.threads import on_thread
from feiqian.core import addresses
from feiqian.modules.payments.edge import reading, rejections
from feiqian.modules.payments.edge.shapes import (
    MAX_BOOKINGS,
    AgentBody,
    AliasBody,
    BookingBody,
    LookUpBody,
    PaidBody,
    PaymentBody,
    ReaderBody,
    RejectedBody,
    RejectedPayment,
    RejectionBody,
    StatementBody,
)

MAX_SAME_UETR = 100
NOTES = Notes("payments", rejections.METADATA)
NO_UETR = "a UETR is a UUID such as eb6305c9-1f7f-49de-aed0-16487c27b42d"
SETTLED_MS = 60_000
"""No block that is still to come has a time so long ago, however idle the ledger is."""

UetrText = Annotated[str, Parameter(min_length=36, max_length=36, description="A UETR, as a UUID is written")]
Asset = Annotated[str, Parameter(max_length=48, description="An asset's code")]
PageEntries = Annotated[int, Parameter(ge=1, le=MAX_BOOKINGS, description="Entries on a page")]
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
        raise BadParameter(NO_UETR) from None
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


@post(f"{V1}/payments/rejected", opt={"access": Access.PARTY}, status_code=204)
async def file_rejected(data: RejectedBody, gateway: Here, reader: Asker) -> None:
    """File what a payment file was told is rejected, for the payments page; an import does so by itself.

    By the account that the file was sent for, or its member's administration account. Kept for 90 days, 50,000 of an
    account at most, for who may read that account, or the debtor's where the sender speaks for that one too.
    """
    address = addresses.from_text(data.account)
    account = account_for(gateway, address, reader)
    if not reader.reads_for(address, account.member):
        raise NotAllowed("only who speaks for the account files what was rejected for it")
    now_ms = time.time_ns() // 1_000_000
    filed = [(_own_debtor(gateway, each, reader), _rejection(data.file, each, now_ms)) for each in data.rejected]
    try:
        await on_thread(rejections.file_rejections, _notes(gateway), address, account.member, filed, now_ms)
    except rejections.DayUsedUp:
        raise TooBusy(f"at most {rejections.MEMBER_DAY} a member and day", retry_after_s=3600) from None


@get(f"{V1}/payments/rejected", opt={"access": Access.PARTY})
async def list_rejected(
    gateway: Here, reader: Asker, account: AccountQuery, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE
) -> Page[RejectionBody]:
    """List the payments that were rejected of files sent for an account, or that it was to pay, newest first."""
    address = addresses.from_text(account)
    account_for(gateway, address, reader)
    before = read_cursor(cursor, int, int)
    now_ms = time.time_ns() // 1_000_000
    rows = await on_thread(rejections.rejections_of, _notes(gateway), address, before, limit, now_ms)
    more = write_cursor(rows[-1][1].rejected_at_ms, rows[-1][0]) if len(rows) == limit else None
    return Page([rejection_body(rejection) for _, rejection in rows], more)


async def find_rejected(gateway: Gateway, reader: Reader, uetr: bytes) -> list[RejectionBody]:
    """Return the rejections of payments with a UETR that this reader may read, newest first."""
    rows = await on_thread(rejections.rejections_by_uetr, _notes(gateway), uetr, MAX_SAME_UETR)
    own = [found for accounts, found in rows if reader.may_read(gateway.ledger.parties(accounts))]
    return [rejection_body(found) for found in own]


def rejection_body(found: rejections.Rejection) -> RejectionBody:
    """Return the JSON form of a rejection."""
    return RejectionBody(
        rejected_at_ms=found.rejected_at_ms,
        file=found.file,
        uetr=str(UUID(bytes=found.uetr)) if found.uetr else None,
        payments=found.payments,
        amount=found.amount or None,
        currency=found.currency or None,
        reason=found.reason,
        codespace=found.codespace or None,
        number=found.rule or None,
        tx_id=None if found.tx_id is None else found.tx_id.hex(),
    )


def _rejection(file: str, rejected: RejectedPayment, now_ms: int) -> rejections.Rejection:
    try:
        uetr = b"" if rejected.uetr is None else UUID(rejected.uetr).bytes
    except ValueError:
        raise BadParameter(NO_UETR) from None
    return rejections.Rejection(
        rejected_at_ms=now_ms,
        file=file,
        uetr=uetr,
        payments=rejected.payments,
        amount=rejected.amount,
        currency=rejected.currency,
        reason=rejected.reason,
        codespace=rejected.codespace,
        rule=rejected.number,
        tx_id=None if rejected.tx_id is None else bytes.fromhex(rejected.tx_id),
    )


def _own_debtor(gateway: Gateway, rejected: RejectedPayment, reader: Reader) -> bytes | None:
    """Return the debtor's account where the sender speaks for it: nobody writes onto another's page."""
    if rejected.debtor_account is None:
        return None
    address = addresses.from_text(rejected.debtor_account)
    return address if reader.reads_for(address, gateway.ledger.member_of(address)) else None


def _notes(gateway: Gateway) -> sa.Engine:
    return gateway.notes[NOTES.name]


@get(f"{V1}/payments/statement/{{address:str}}", opt={"access": Access.PARTY})
async def show_statement(
    address: AddressText,
    gateway: Here,
    reader: Asker,
    asset: Asset,
    from_ms: Time = None,
    until_ms: Time = None,
    cursor: Cursor = None,
    limit: PageEntries = MAX_BOOKINGS,
) -> StatementBody:
    """Show an account's entries in one asset with the payments behind them, and the balances before and after.

    Page by page, oldest first: ask for the next with `next_cursor`, and with `from_ms` and `until_ms` as the first page
    has them.
    """
    raw = addresses.from_text(address)
    account = account_for(gateway, raw, reader)
    definition = gateway.ledger.asset(asset)
    if definition is None:
        raise NotFound("no asset has this code")
    after = read_cursor(cursor, int, int)
    start_ms = 0 if from_ms is None else from_ms
    # As of before the index is asked: it then has all that the ledger had.
    settled_ms = max(gateway.ledger.store.head.time_ms + 1, time.time_ns() // 1_000_000 - SETTLED_MS)
    end_ms = max(start_ms, settled_ms if until_ms is None else min(until_ms, settled_ms))
    indexed = await gateway.indexed_height()
    found = await on_thread(reading.bookings, gateway.index.engine, raw, asset, start_ms, end_ms, after, limit)
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
        sequence=found.sequence,
        opening_minor=found.opening_minor,
        closing_minor=found.closing_minor,
        bookings=[_for_reader(gateway, booking, reader) for booking in found.entries],
        next_cursor=None if found.last is None else write_cursor(*found.last),
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


ROUTES = (
    list_agents,
    list_readers,
    look_up_aliases,
    ask_paid,
    find_payments,
    list_payments,
    file_rejected,
    list_rejected,
    show_statement,
)
