"""The rules of payments: who may act as agent, what an account number means, how a credit transfer settles."""

from feiqian.ledger.accounts import require_account
from feiqian.ledger.assets import require_asset
from feiqian.ledger.balances import get_balance
from feiqian.ledger.context import Context
from feiqian.ledger.documents import check_document, commit_document
from feiqian.ledger.members import require_active
from feiqian.ledger.postings import available_minor, post
from feiqian.ledger.records import Asset, Leg
from feiqian.modules.payments import errors, events, messages
from feiqian.modules.payments.state import (
    AGENTS,
    ALIASES,
    CUSTOMERS,
    PAYMENTS,
    SETTLED,
    UETRS,
    Agent,
    Alias,
    Customer,
    Payment,
    Reference,
    entry_key,
    required_readers,
)
from feiqian.state.tables import Overlay

DAY_MS = 86_400_000
EARLIEST_ZONE_MS = 14 * 3_600_000
"""A day starts first in UTC+14 and ends last in UTC-12."""
LATEST_ZONE_MS = 12 * 3_600_000


def register_agent(ctx: Context, message: messages.RegisterAgent) -> None:
    """State a bank's standing authority for its deposit asset.

    Raises:
        AgentKnown, NotABank, NotAgentsAccount, CurrencyMismatch: see each.
    """
    state = ctx.state
    if AGENTS.get(state, message.deposit_asset.encode()) is not None:
        raise errors.AgentKnown(f"{message.deposit_asset} has an agent already; remove it first")
    deposit = require_asset(state, message.deposit_asset)
    settlement = require_asset(state, message.settlement_asset)
    if "bank" not in require_active(state, deposit.issuer).roles:
        raise errors.NotABank(f"{deposit.issuer} issues {message.deposit_asset} but has no role 'bank'")
    _check_agents_accounts(state, message, deposit)
    if deposit.currency is None or (deposit.currency, deposit.scale) != (settlement.currency, settlement.scale):
        raise errors.CurrencyMismatch(
            f"{message.deposit_asset} counts {deposit.currency} at scale {deposit.scale}, "
            f"{message.settlement_asset} counts {settlement.currency} at scale {settlement.scale}; both must be equal"
        )
    agent = Agent(
        member=deposit.issuer,
        currency=deposit.currency,
        issuance_account=message.issuance_account,
        settlement_asset=message.settlement_asset,
        settlement_account=message.settlement_account,
        directory_account=message.directory_account,
        limit_minor=message.limit_minor,
        clearing=message.clearing,
    )
    AGENTS.put(state, message.deposit_asset.encode(), agent)
    ctx.emit(
        events.AgentRegistered(
            member=agent.member,
            deposit_asset=message.deposit_asset,
            currency=agent.currency,
            issuance_account=agent.issuance_account,
            settlement_asset=agent.settlement_asset,
            settlement_account=agent.settlement_account,
            directory_account=agent.directory_account,
            limit_minor=agent.limit_minor,
            clearing=agent.clearing,
        )
    )


def remove_agent(ctx: Context, message: messages.RemoveAgent) -> None:
    """Take a bank's standing authority back; its directory stays as it is.

    Raises:
        AgentUnknown, NotAgentsAccount: see each.
    """
    agent = _require_agent(ctx.state, message.deposit_asset)
    if message.settlement_account != agent.settlement_account:
        raise errors.NotAgentsAccount(f"{message.deposit_asset}: the agent settles from another account")
    AGENTS.delete(ctx.state, message.deposit_asset.encode())
    ctx.emit(events.AgentRemoved(member=agent.member, deposit_asset=message.deposit_asset))


def register_alias(ctx: Context, message: messages.RegisterAlias) -> None:
    """Let an account number at an agent mean an account; a closed number may be given out again.

    Raises:
        AgentUnknown, NotAgentsAccount, AliasKnown, NotForCustomers: see each.
    """
    agent = _require_directory(ctx.state, message.deposit_asset, message.directory_account)
    key = entry_key(message.deposit_asset, message.alias)
    known = ALIASES.get(ctx.state, key)
    if known is not None and not known.is_closed:
        raise errors.AliasKnown(f"{message.deposit_asset}: alias {message.alias.hex()} is open already")
    require_account(ctx.state, message.account)
    if message.account in (agent.issuance_account, agent.settlement_account):
        raise errors.NotForCustomers("an account number cannot mean the account that the agent issues or settles from")
    ALIASES.put(ctx.state, key, Alias(message.account, message.holder_name, is_closed=False))
    _count_alias(ctx.state, message.deposit_asset, message.account, 1)
    ctx.emit(
        events.AliasRegistered(
            agent=agent.member,
            deposit_asset=message.deposit_asset,
            alias=message.alias,
            account=message.account,
            holder_name=message.holder_name,
        )
    )


def remove_alias(ctx: Context, message: messages.RemoveAlias) -> None:
    """Close an account number.

    Raises:
        AgentUnknown, NotAgentsAccount, AliasUnknown: see each.
    """
    agent = _require_directory(ctx.state, message.deposit_asset, message.directory_account)
    key = entry_key(message.deposit_asset, message.alias)
    alias = ALIASES.get(ctx.state, key)
    if alias is None or alias.is_closed:
        raise errors.AliasUnknown(f"{message.deposit_asset}: no open alias {message.alias.hex()}")
    ALIASES.put(ctx.state, key, Alias(alias.account, alias.holder_name, is_closed=True))
    _count_alias(ctx.state, message.deposit_asset, alias.account, -1)
    ctx.emit(
        events.AliasRemoved(
            agent=agent.member, deposit_asset=message.deposit_asset, alias=message.alias, account=alias.account
        )
    )


def credit_transfer(ctx: Context, message: messages.CreditTransfer) -> None:
    """Settle a payment at once: deposits and settlement asset move in one posting, or nothing does.

    Raises:
        InvalidTransaction: the first rule broken, in the order of the checks below; and what `post` refuses.
    """
    _check_instruction(ctx.state, message)
    _check_day(message.requested_day, ctx.block.time_ms)
    debtor_agent = _require_agent(ctx.state, message.debtor_asset)
    creditor_agent = _require_agent(ctx.state, message.creditor_asset)
    _check_agents(ctx.state, message, debtor_agent, creditor_agent)
    _check_customers(ctx.state, message)
    _check_particulars(ctx, message, debtor_agent, creditor_agent)
    _check_cover(ctx.state, message, debtor_agent)
    post(ctx, settlement_legs(message, debtor_agent, creditor_agent))
    _record(ctx, message, debtor_agent, creditor_agent)


def settlement_legs(message: messages.CreditTransfer, debtor_agent: Agent, creditor_agent: Agent) -> tuple[Leg, ...]:
    """Return the legs of a payment; on us two, between banks six: both liabilities and the settlement asset move."""
    amount = message.amount_minor
    debit = Leg(message.debtor_account, message.debtor_asset, -amount)
    credit = Leg(message.creditor_account, message.creditor_asset, amount)
    if message.debtor_asset == message.creditor_asset:
        return (debit, credit)
    return (
        debit,
        Leg(debtor_agent.issuance_account, message.debtor_asset, amount),
        Leg(debtor_agent.settlement_account, debtor_agent.settlement_asset, -amount),
        Leg(creditor_agent.settlement_account, creditor_agent.settlement_asset, amount),
        Leg(creditor_agent.issuance_account, message.creditor_asset, -amount),
        credit,
    )


def is_today(day: int, now_ms: int) -> bool:
    """Say whether `day` (days since 1970-01-01) is today in some time zone at `now_ms`."""
    return day * DAY_MS - EARLIEST_ZONE_MS <= now_ms < (day + 1) * DAY_MS + LATEST_ZONE_MS


def _check_agents_accounts(state: Overlay, message: messages.RegisterAgent, deposit: Asset) -> None:
    if deposit.issuance_account != message.issuance_account:
        raise errors.NotAgentsAccount(f"{message.deposit_asset} is issued from another account")
    for account in (message.issuance_account, message.settlement_account, message.directory_account):
        owner = require_account(state, account).member
        if owner != deposit.issuer:
            raise errors.NotAgentsAccount(f"an account named for {deposit.issuer} belongs to {owner}")


def _require_agent(state: Overlay, deposit_asset: str) -> Agent:
    agent = AGENTS.get(state, deposit_asset.encode())
    if agent is None:
        raise errors.AgentUnknown(f"no bank takes part in payments with deposit asset {deposit_asset}")
    return agent


def _require_directory(state: Overlay, deposit_asset: str, directory_account: bytes) -> Agent:
    agent = _require_agent(state, deposit_asset)
    if agent.directory_account != directory_account:
        raise errors.NotAgentsAccount(f"{deposit_asset}: the directory is kept by another account")
    require_active(state, agent.member)
    return agent


def _count_alias(state: Overlay, deposit_asset: str, account: bytes, change: int) -> None:
    key = entry_key(deposit_asset, account)
    customer = CUSTOMERS.get(state, key)
    count = change if customer is None else customer.open_aliases + change
    if count:
        CUSTOMERS.put(state, key, Customer(count))
    else:
        CUSTOMERS.delete(state, key)


def _check_instruction(state: Overlay, message: messages.CreditTransfer) -> None:
    if message.uetr[6] >> 4 != 4 or message.uetr[8] >> 6 != 2:
        raise errors.UetrMalformed(f"UETR {message.uetr.hex()} is no version 4 UUID (RFC 9562)")
    paid = PAYMENTS.get(state, message.debtor_account + message.instruction_id)
    if paid is not None:
        if _is_same_order(paid, message):
            raise errors.DuplicateInstruction(f"instruction {message.instruction_id.hex()} is paid already")
        raise errors.AlteredInstruction(
            f"instruction {message.instruction_id.hex()} is paid already with other contents; give a new one its own id"
        )
    if UETRS.get(state, message.uetr + message.debtor_account) is not None:
        raise errors.DuplicateUetr(f"UETR {message.uetr.hex()} belongs to another instruction of this debtor")
    if message.debtor_account == message.creditor_account and message.debtor_asset == message.creditor_asset:
        raise errors.SameAccount("debtor and creditor are the same account at the same agent")


def _is_same_order(paid: Payment, message: messages.CreditTransfer) -> bool:
    # The commitment is left out: sealing the same particulars again gives another one, their keys being fresh.
    return (
        paid.debtor_asset,
        paid.creditor_account,
        paid.creditor_asset,
        paid.currency,
        paid.amount_minor,
        paid.uetr,
        paid.charge_bearer,
        paid.purpose,
    ) == (
        message.debtor_asset,
        message.creditor_account,
        message.creditor_asset,
        message.currency,
        message.amount_minor,
        message.uetr,
        message.charge_bearer,
        message.purpose,
    )


def _check_day(requested_day: int | None, now_ms: int) -> None:
    if requested_day is not None and not is_today(requested_day, now_ms):
        raise errors.WrongDay(
            f"requested day {requested_day}; today is {now_ms // DAY_MS} (days since 1970-01-01, UTC)"
        )


def _check_agents(state: Overlay, message: messages.CreditTransfer, debtor_agent: Agent, creditor_agent: Agent) -> None:
    for agent, asset in ((debtor_agent, message.debtor_asset), (creditor_agent, message.creditor_asset)):
        if agent.currency != message.currency:
            raise errors.CurrencyMismatch(f"payment in {message.currency}; {asset} counts {agent.currency}")
        require_active(state, agent.member)
    if message.debtor_asset == message.creditor_asset:
        return _check_limit(message, debtor_agent)
    if debtor_agent.settlement_asset != creditor_agent.settlement_asset:
        raise errors.NoSettlementPath(
            f"{debtor_agent.member} settles in {debtor_agent.settlement_asset}, "
            f"{creditor_agent.member} in {creditor_agent.settlement_asset}"
        )
    return _check_limit(message, debtor_agent)


def _check_limit(message: messages.CreditTransfer, agent: Agent) -> None:
    if message.amount_minor > agent.limit_minor:
        raise errors.LimitExceeded(
            f"amount {message.amount_minor}; {agent.member} lets one payment be at most {agent.limit_minor} minor units"
        )


def _check_customers(state: Overlay, message: messages.CreditTransfer) -> None:
    if CUSTOMERS.get(state, entry_key(message.debtor_asset, message.debtor_account)) is None:
        raise errors.DebtorNotCustomer(f"the debtor's account has no account number with {message.debtor_asset}")
    if CUSTOMERS.get(state, entry_key(message.creditor_asset, message.creditor_account)) is None:
        raise errors.CreditorNotCustomer(f"the creditor's account has no account number with {message.creditor_asset}")


def _check_particulars(
    ctx: Context, message: messages.CreditTransfer, debtor_agent: Agent, creditor_agent: Agent
) -> None:
    if message.particulars is None:
        return
    check_document(ctx, message.particulars)
    for needed in (debtor_agent.member, creditor_agent.member, *required_readers(ctx.state)):
        if needed not in message.particulars.readers:
            raise errors.ReaderMissing(f"the particulars are to be readable by {needed!r} too")


def _check_cover(state: Overlay, message: messages.CreditTransfer, debtor_agent: Agent) -> None:
    available = _available_minor(state, message.debtor_account, message.debtor_asset)
    if message.amount_minor > available:
        raise errors.InsufficientFunds(
            f"amount {message.amount_minor}; available to the debtor {available} minor units"
        )
    if message.debtor_asset == message.creditor_asset:
        return
    cover = _available_minor(state, debtor_agent.settlement_account, debtor_agent.settlement_asset)
    if message.amount_minor > cover:
        raise errors.InsufficientSettlement(
            f"{debtor_agent.member} cannot cover this payment in {debtor_agent.settlement_asset}"
        )


def _available_minor(state: Overlay, account: bytes, asset: str) -> int:
    balance = get_balance(state, account, asset)
    return available_minor(balance) + balance.limit_minor


def _record(ctx: Context, message: messages.CreditTransfer, debtor_agent: Agent, creditor_agent: Agent) -> None:
    commitment = None if message.particulars is None else message.particulars.commitment
    payment = Payment(
        status=SETTLED,
        debtor_account=message.debtor_account,
        debtor_asset=message.debtor_asset,
        creditor_account=message.creditor_account,
        creditor_asset=message.creditor_asset,
        currency=message.currency,
        amount_minor=message.amount_minor,
        uetr=message.uetr,
        charge_bearer=message.charge_bearer,
        purpose=message.purpose,
        commitment=commitment,
        settled_at_ms=ctx.block.time_ms,
    )
    PAYMENTS.put(ctx.state, message.debtor_account + message.instruction_id, payment)
    UETRS.put(ctx.state, message.uetr + message.debtor_account, Reference(message.instruction_id))
    ctx.emit(
        events.CreditTransferSettled(
            status=SETTLED,
            debtor_agent=debtor_agent.member,
            debtor_account=message.debtor_account,
            debtor_asset=message.debtor_asset,
            creditor_agent=creditor_agent.member,
            creditor_account=message.creditor_account,
            creditor_asset=message.creditor_asset,
            currency=message.currency,
            amount_minor=message.amount_minor,
            uetr=message.uetr,
            instruction_id=message.instruction_id,
            charge_bearer=message.charge_bearer,
            purpose=message.purpose,
            commitment=commitment,
        )
    )
    if message.particulars is not None:
        commit_document(ctx, message.particulars)


HANDLERS = {
    messages.RegisterAgent: register_agent,
    messages.RemoveAgent: remove_agent,
    messages.RegisterAlias: register_alias,
    messages.RemoveAlias: remove_alias,
    messages.CreditTransfer: credit_transfer,
}
