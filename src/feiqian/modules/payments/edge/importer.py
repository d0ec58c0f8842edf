"""Carries out a payment file: check everything, seal what is private, sign, submit in batches, report on each payment.

It runs where the debtor's keys are; a gateway never signs. Sending the same file again pays what is not paid yet.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from msgspec.structs import replace

from feiqian.core.amounts import from_decimal_text
from feiqian.core.encoding import MAX_SUPPLY_MINOR, Record, encode
from feiqian.core.errors import AmountOutOfRange
from feiqian.ledger.documents import DocumentReference
from feiqian.ledger.errors import NotAuthorised
from feiqian.modules.payments.edge import pain001, pain002
from feiqian.modules.payments.edge.directory import instruction_id, uetr_of
from feiqian.modules.payments.edge.errors import FileRefused
from feiqian.modules.payments.edge.instructions import Instruction, PaymentFile
from feiqian.modules.payments.edge.pain002 import PENDING, REJECTED, SETTLED, Outcome, Refusal
from feiqian.modules.payments.edge.particulars import encode_particulars
from feiqian.modules.payments.edge.reasons import reason_of
from feiqian.modules.payments.edge.resolution import (
    MAX_LOOK_UP,
    AgentEntry,
    Directory,
    Found,
    Side,
    Unresolved,
    aliases_of,
    look_up_all,
    resolve_creditor,
    resolve_debtor,
)
from feiqian.modules.payments.handlers import DAY_MS, is_today
from feiqian.modules.payments.messages import CreditTransfer
from feiqian.vault.documents import seal
from feiqian.wallet.keys import SigningKey
from feiqian.wallet.signing import build_transaction, leave_unsigned, sign_transaction

BATCH_TRANSACTIONS = 200
CHECKED = "ACTC"
"""AcceptedTechnicalValidation: a dry run's word for what would be settled; nothing was."""
EXPIRY_MS = 120_000
RETENTION_MS = 10 * 366 * DAY_MS
"""How long a payment's particulars are kept: ten years (§ 257 HGB); under 会计档案管理办法, raise it to thirty."""
_PURPOSE = re.compile("[A-Z0-9]{1,4}")
_DAY_ZERO = date(1970, 1, 1).toordinal()


class SubmitOutcome(Protocol):
    """What became of one submitted transaction, as `feiqian.client.Outcome` has it."""

    @property
    def tx_id(self) -> str:
        """Its id in hex, empty where the bytes are no transaction."""
        ...

    @property
    def status(self) -> str:
        """One of refused, later, accepted, dropped, committed, provable."""
        ...

    @property
    def error(self) -> dict[str, Any] | None:
        """The broken rule (`codespace`, `number`, `message`), None where none was."""
        ...


class Ledger(Protocol):
    """Where signed transactions go, and the vault beside it; `feiqian.client.Client` is one."""

    def submit_all(self, transactions: Sequence[bytes], *, wait: str | None = "committed") -> Sequence[SubmitOutcome]:
        """Submit signed transactions, again while there is no room, until each has an outcome."""
        ...

    def dry_run(self, transactions: Sequence[bytes]) -> Sequence[SubmitOutcome]:
        """Say what submitting unsigned transactions, one after another, would be answered with."""
        ...

    def vault_put(self, commitment: bytes, envelope: bytes) -> None:
        """Put a sealed document into the vault."""
        ...


class Proposal(Protocol):
    """Makes the message that puts an encoded message up for a colleague's approval."""

    def __call__(self, account: bytes, message: bytes) -> Record:
        """Return the proposal, made for `account`."""
        ...


class Terms(NamedTuple):
    """What an import works with. `keys` sign every payment; `now_ms` is the wall clock in ms since 1970.

    On a dry run nothing is signed, submitted or kept.
    """

    chain_id: str
    keys: tuple[SigningKey, ...]
    directory: Directory
    ledger: Ledger
    propose: Proposal
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    is_dry_run: bool = False


class Order(NamedTuple):
    """An instruction that passed every check: what to sign, for whom, and what to seal."""

    instruction: Instruction
    message: CreditTransfer
    debtor: Side
    creditor: Side
    is_paid: bool


class ImportResult(NamedTuple):
    """What became of a file: one outcome for each instruction in order, or why all of it was refused."""

    file: PaymentFile
    outcomes: tuple[Outcome, ...]
    refusal: Refusal | None


def import_file(
    data: bytes, terms: Terms, *, is_dry_run: bool = False, told: Callable[[int], None] = lambda count: None
) -> ImportResult:
    """Carry out a pain.001 file; `told` is called with how many payments more are decided.

    A dry run submits nothing. It reports what the import would, as the ledger stands: the gateway runs the payments one
    after another and keeps nothing. What would be settled is reported as `ACTC`.

    Raises:
        FileRefused: the file is no readable message, so that no report can answer it.
    """
    file = pain001.read(data)
    try:
        pain001.check(file)
    except FileRefused as refused:
        reason = refused.reason
        assert reason is not None, "what a readable file breaks has an ISO reason"
        return ImportResult(file, (), Refusal(reason, refused.message, refused.codespace, refused.number))
    terms = terms._replace(is_dry_run=is_dry_run)
    decided = check_all(file, terms)
    outcomes: dict[int, Outcome] = {place: item for place, item in enumerate(decided) if isinstance(item, Outcome)}
    told(len(outcomes))
    orders = [(place, item) for place, item in enumerate(decided) if isinstance(item, Order)]
    # A dry run is one run: what a payment leaves is what the next one has.
    size = max(1, len(orders)) if is_dry_run else BATCH_TRANSACTIONS
    for start in range(0, len(orders), size):
        part = orders[start : start + size]
        results = _carry_out(file, [order for _, order in part], terms)
        outcomes.update(zip((place for place, _ in part), results, strict=True))
        told(len(part))
    return ImportResult(file, tuple(outcomes[place] for place in range(len(decided))), None)


def report(result: ImportResult, report_id: str, created_at: str) -> bytes:
    """Return the pain.002 that answers an imported file."""
    if result.refusal is not None:
        return pain002.write_refusal(result.file, result.refusal, report_id, created_at)
    return pain002.write_report(result.file, result.outcomes, report_id, created_at)


def check_all(file: PaymentFile, terms: Terms) -> list[Order | Outcome]:
    """Return for each instruction the order to sign, or why it is rejected."""
    agents = list(terms.directory.agents())
    found = look_up_all(terms.directory, aliases_of(file.instructions, agents))
    now_ms = terms.now_ms()
    decided = [_check(file, instruction, agents, found, now_ms) for instruction in file.instructions]
    return list(_mark_paid(list(_refuse_repeated(decided)), terms.directory))


def _check(
    file: PaymentFile, instruction: Instruction, agents: Sequence[AgentEntry], found: Found, now_ms: int
) -> Order | Outcome:
    reference = instruction_id(
        file.initiating_party,
        file.message_id,
        instruction.batch_id,
        instruction.end_to_end_id,
        instruction.ordinal,
    )
    uetr = uetr_of(reference) if instruction.uetr is None else UUID(instruction.uetr).bytes
    debtor: Side | None = None
    try:
        if instruction.obstacle is not None:
            raise Unresolved(*instruction.obstacle)
        if instruction.purpose is not None and not _PURPOSE.fullmatch(instruction.purpose):
            raise Unresolved("FF07", "the purpose is no code of ISO's external list")
        debtor = resolve_debtor(instruction, agents, found)
        amount_minor = _amount_minor(instruction, debtor.agent)
        day = _day(instruction.requested_date, now_ms)
        creditor = resolve_creditor(instruction, agents, found)
    except Unresolved as unresolved:
        return Outcome(
            instruction,
            REJECTED,
            unresolved.reason,
            unresolved.words,
            uetr=str(UUID(bytes=uetr)),
            debtor_account=None if debtor is None else debtor.alias.account,
        )
    message = CreditTransfer(
        debtor_account=debtor.alias.account,
        debtor_asset=debtor.agent.deposit_asset,
        creditor_account=creditor.alias.account,
        creditor_asset=creditor.agent.deposit_asset,
        currency=instruction.currency,
        amount_minor=amount_minor,
        uetr=uetr,
        instruction_id=reference,
        charge_bearer=instruction.charge_bearer,
        purpose=instruction.purpose,
        requested_day=day,
        particulars=None,
    )
    return Order(instruction, message, debtor, creditor, is_paid=False)


def _amount_minor(instruction: Instruction, agent: AgentEntry) -> int:
    try:
        # xs:decimal also writes +1, 1. and .5; Decimal reads them and writes plain digits.
        amount_minor = from_decimal_text(format(Decimal(instruction.amount_text), "f"), agent.scale)
    except AmountOutOfRange:
        raise Unresolved("AM12", f"the amount is not one of {agent.currency} with {agent.scale} decimals") from None
    if not amount_minor:
        raise Unresolved("AM01", "the amount is zero")
    if amount_minor > MAX_SUPPLY_MINOR:
        raise Unresolved("AM02", "the amount is beyond what any account holds")
    return amount_minor


def _day(requested: str, now_ms: int) -> int:
    try:
        day = date.fromisoformat(requested[:10]).toordinal() - _DAY_ZERO
    except ValueError:
        # Years before 1 or after 9999 are valid xs:date.
        day = -1
    if not is_today(day, now_ms):
        raise Unresolved("DT01", "the requested execution date is not today; later or earlier ones are not carried out")
    return day


def _refuse_repeated(decided: list[Order | Outcome]) -> Iterator[Order | Outcome]:
    """Refuse all but the first of instructions with the same references: a block might put another first."""
    seen: set[bytes] = set()
    for item in decided:
        if isinstance(item, Order) and item.message.instruction_id in seen:
            words = "another payment of this file has the same EndToEndId"
            debtor_account = item.message.debtor_account
            yield Outcome(item.instruction, REJECTED, "DU04", words, uetr=_uetr(item), debtor_account=debtor_account)
            continue
        if isinstance(item, Order):
            seen.add(item.message.instruction_id)
        yield item


def _mark_paid(decided: list[Order | Outcome], directory: Directory) -> Iterator[Order | Outcome]:
    keys = [item.message.debtor_account + item.message.instruction_id for item in decided if isinstance(item, Order)]
    paid: dict[bytes, bool] = {}
    for start in range(0, len(keys), MAX_LOOK_UP):
        part = keys[start : start + MAX_LOOK_UP]
        paid.update(zip(part, directory.paid(part), strict=True))
    for item in decided:
        if isinstance(item, Order):
            yield item._replace(is_paid=paid[item.message.debtor_account + item.message.instruction_id])
        else:
            yield item


def _carry_out(file: PaymentFile, orders: list[Order], terms: Terms) -> list[Outcome]:
    sealed = [_with_particulars(file, order, terms) for order in orders]
    results = _submit([(order.debtor.alias.member, order.message) for order in sealed], terms)
    # What a colleague has to approve is put up for approval by whoever holds the maker's key.
    # A paid one is not: the checker approved it, and proposing it again would only fail later.
    waiting = [place for place, result in enumerate(results) if _needs_checker(result) and not sealed[place].is_paid]
    proposals = [(sealed[place].debtor.alias.member, _proposal(sealed[place], terms)) for place in waiting]
    proposed = dict(zip(waiting, _submit(proposals, terms), strict=True))
    outcomes = [
        _proposal_outcome(order, proposed[place], terms)
        if place in proposed
        else _outcome(order, results[place], terms)
        for place, order in enumerate(sealed)
    ]
    # The transactions of a dry run are none that anyone could ask after.
    return [
        replace(
            outcome,
            debtor_account=order.message.debtor_account,
            tx_id=None if terms.is_dry_run else outcome.tx_id,
        )
        for order, outcome in zip(sealed, outcomes, strict=True)
    ]


def _proposal(order: Order, terms: Terms) -> Record:
    # Paid on the day it is approved: a requested day would be over by then.
    message = replace(order.message, requested_day=None)
    return terms.propose(message.debtor_account, encode(message))


def _with_particulars(file: PaymentFile, order: Order, terms: Terms) -> Order:
    if order.is_paid:
        # The ledger will refuse it, as duplicate or as altered; there is nothing to keep for it.
        return order
    keys = dict(terms.directory.required_readers())
    for member, key in (
        (order.debtor.agent.member, order.debtor.agent.vault_key),
        (order.creditor.agent.member, order.creditor.agent.vault_key),
        (order.debtor.alias.member, order.debtor.alias.vault_key),
        (order.creditor.alias.member, order.creditor.alias.vault_key),
    ):
        if key is not None:
            keys[member] = key
    content = encode_particulars(file.message, file.initiating_party, order.instruction)
    sealed = seal(content, keys)
    if not terms.is_dry_run:
        terms.ledger.vault_put(sealed.commitment, sealed.envelope)
    reference = DocumentReference(sealed.commitment, tuple(sorted(keys)), terms.now_ms() + RETENTION_MS)
    return order._replace(message=replace(order.message, particulars=reference))


def _submit(messages: Sequence[tuple[str, Record]], terms: Terms) -> list[SubmitOutcome]:
    """Sign each (sponsor, message) as a transaction of its own and submit them; on a dry run, do neither."""
    expires_at_ms = terms.now_ms() + EXPIRY_MS
    built = [build_transaction(terms.chain_id, sponsor, [message], expires_at_ms) for sponsor, message in messages]
    if not built:
        return []
    if terms.is_dry_run:
        keys = [key.public for key in terms.keys]
        return list(terms.ledger.dry_run([leave_unsigned(transaction, keys) for transaction in built]))
    signed = [sign_transaction(transaction, terms.keys) for transaction in built]
    return list(terms.ledger.submit_all(signed, wait="committed"))


def _needs_checker(result: SubmitOutcome) -> bool:
    error = result.error
    return error is not None and _rule(error) == (NotAuthorised.codespace, NotAuthorised.number)


def _outcome(order: Order, result: SubmitOutcome, terms: Terms) -> Outcome:
    error = result.error
    if error is not None and order.is_paid and _needs_checker(result):
        return Outcome(order.instruction, REJECTED, "AM05", "the instruction is paid already", uetr=_uetr(order))
    if error is not None:
        return _rejected(order, result, error)
    if result.status in ("committed", "provable"):
        status = CHECKED if terms.is_dry_run else SETTLED
        return Outcome(order.instruction, status, tx_id=bytes.fromhex(result.tx_id), uetr=_uetr(order))
    words = "sent, not yet decided; import the file again to learn what became of it"
    return Outcome(order.instruction, PENDING, None, words, tx_id=bytes.fromhex(result.tx_id), uetr=_uetr(order))


def _proposal_outcome(order: Order, result: SubmitOutcome, terms: Terms) -> Outcome:
    error = result.error
    if error is not None:
        return _rejected(order, result, error)
    return Outcome(
        order.instruction,
        PENDING,
        "DS0A",  # DataSignRequested: data signature is required
        "will wait for approval by a colleague" if terms.is_dry_run else "waits for approval by a colleague",
        tx_id=bytes.fromhex(result.tx_id),
        uetr=_uetr(order),
    )


def _rejected(order: Order, result: SubmitOutcome, error: dict[str, Any]) -> Outcome:
    codespace, number = _rule(error)
    return Outcome(
        order.instruction,
        REJECTED,
        reason_of(codespace, number),
        str(error["message"]),
        codespace=codespace,
        number=number,
        tx_id=bytes.fromhex(result.tx_id),
        uetr=_uetr(order),
    )


def _rule(error: dict[str, Any]) -> tuple[str, int]:
    return str(error["codespace"]), int(error["number"])


def _uetr(order: Order) -> str:
    return str(UUID(bytes=order.message.uetr))
