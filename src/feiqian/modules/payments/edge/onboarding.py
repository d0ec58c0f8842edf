"""Reads a bank's list of customers and makes the messages that open their accounts and enter them in its directory."""

import csv
import io
from collections.abc import Callable, Mapping
from typing import NamedTuple

from stdnum import iban

from feiqian.core.addresses import from_text
from feiqian.core.encoding import Record
from feiqian.core.errors import InvalidTransaction
from feiqian.core.hashing import Domain
from feiqian.ledger.accounts import address_of
from feiqian.ledger.records import Policy
from feiqian.modules.payments.edge.directory import IBAN, LOCAL, alias_digest, compact_number, name_digest
from feiqian.modules.payments.messages import RegisterAlias

COLUMNS = ("kind", "number", "holder", "account")
MAX_LIST_BYTES = 4 * 1024 * 1024
MAX_CUSTOMERS = 20_000
_SALT = Domain("feiqian/payments-customer-account/v1")
NEW = "new"
"""In column `account`: the bank opens one for this customer."""


class CustomerListRefused(InvalidTransaction):
    """A customer list that is not of its form."""

    codespace = "payments.files"
    number = 20


class Customer(NamedTuple):
    """One line. `account` is None where the bank opens one; `salt` makes its address, the same each time."""

    kind: str
    number: str
    holder: str
    account: bytes | None
    salt: bytes


class Desk(NamedTuple):
    """The bank that enters customers. Accounts it opens for them are its own, under `policy`.

    `open_account` makes the message by which `directory_account` opens one.
    """

    deposit_asset: str
    directory_account: bytes
    member: str
    policy: Policy
    open_account: Callable[[bytes, Policy, bytes], Record]


def read_customers(data: bytes, names: Mapping[str, bytes]) -> list[Customer]:
    """Return the lines of a customer list: CSV in UTF-8, columns `kind,number,holder,account`.

    `kind` is `iban` or `local`; `account` is `fq1…`, `@name` of a consortium account, or `new`.

    Raises:
        CustomerListRefused: naming line and reason; personal data is not repeated.
    """
    if len(data) > MAX_LIST_BYTES:
        raise CustomerListRefused(f"list of {len(data)} bytes; at most {MAX_LIST_BYTES} are read")
    try:
        text = data.decode("utf-8-sig")
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise CustomerListRefused(f"not CSV in UTF-8: {error}") from None
    if not lines or tuple(lines[0]) != COLUMNS:
        raise CustomerListRefused(f"the first line must be {','.join(COLUMNS)}")
    if len(lines) > MAX_CUSTOMERS + 1:
        raise CustomerListRefused(f"{len(lines) - 1} customers; at most {MAX_CUSTOMERS} in one list")
    return [_customer(place, line, names) for place, line in enumerate(lines[1:], start=2)]


def messages_of(customer: Customer, desk: Desk) -> list[Record]:
    """Return the messages that enter one customer, a new account opened first."""
    opening: list[Record] = []
    account = customer.account
    if account is None:
        account = address_of(desk.member, desk.policy, customer.salt)
        opening.append(desk.open_account(desk.directory_account, desk.policy, customer.salt))
    deposit_asset = desk.deposit_asset
    alias = RegisterAlias(
        directory_account=desk.directory_account,
        deposit_asset=deposit_asset,
        alias=alias_digest(deposit_asset, customer.kind, customer.number),
        account=account,
        holder_name=name_digest(deposit_asset, customer.kind, customer.number, customer.holder),
    )
    return [*opening, alias]


def _customer(place: int, line: list[str], names: Mapping[str, bytes]) -> Customer:
    if len(line) != len(COLUMNS):
        raise CustomerListRefused(f"line {place} has {len(line)} fields; {len(COLUMNS)} are expected")
    kind, number, holder, account = (field.strip() for field in line)
    if kind not in (IBAN, LOCAL):
        raise CustomerListRefused(f"line {place}: kind is iban or local")
    if kind == IBAN and not iban.is_valid(number):
        raise CustomerListRefused(f"line {place}: the IBAN fails its check digits or its country's form")
    if not number or not holder:
        raise CustomerListRefused(f"line {place}: number and holder are needed")
    salt = _SALT.hash(f"{kind}/{compact_number(number)}".encode())[:16]
    return Customer(kind, compact_number(number), holder, _account(place, account, names), salt)


def _account(place: int, text: str, names: Mapping[str, bytes]) -> bytes | None:
    if text == NEW:
        return None
    if text.startswith("@"):
        if text[1:] not in names:
            raise CustomerListRefused(f"line {place}: {text[:80]!r} names no account of the consortium")
        return names[text[1:]]
    return from_text(text)
