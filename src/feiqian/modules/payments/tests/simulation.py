"""How payments takes part in the simulation: agents, their directories, and customers' credit transfers."""

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from feiqian.ledger.context import Message
from feiqian.ledger.documents import DocumentReference
from feiqian.modules.payments.messages import (
    ClearingNumber,
    CreditTransfer,
    RegisterAgent,
    RegisterAlias,
    RemoveAgent,
    RemoveAlias,
)
from feiqian.modules.payments.state import Agent, Alias, Customer, Payment, Reference, Settings
from feiqian.testing.simulation import Simulation
from feiqian.testing.simulation.model import (
    DAY_MS,
    Model,
    Rule,
    Run,
    account_of,
    active_member,
    asset_of,
    post,
    refuse,
)
from feiqian.testing.simulation.picking import Pick

HOUR_MS = 3_600_000
UETRS = (
    *(bytes.fromhex(f"eb6305c91f7f4{number:03x}aed016487c27b42d") for number in range(4)),
    bytes.fromhex("eb6305c91f7f49deaed016487c27b42d"),
    bytes.fromhex("eb6305c91f7f19deaed016487c27b42d"),
    bytes.fromhex("eb6305c91f7f49de2ed016487c27b42d"),
)
"""Version 4 UUIDs; the last two are of version 1 and of another variant."""

GENESIS = {
    "required_readers": ["watch"],
    "agents": [
        {
            "deposit_asset": "EUR.north",
            "issuance_account": "@north",
            "settlement_asset": "EUR.cb",
            "settlement_account": "@north-settling",
            "directory_account": "@north",
            "limit_minor": 5_000,
            "clearing": {"system": "CNAPS", "member": "102100099996"},
        }
    ],
}


def found(model: Model, names: Mapping[str, bytes]) -> None:
    """Write the agent of `GENESIS`."""
    number = ClearingNumber("CNAPS", "102100099996")
    model.table("payments.agents")["EUR.north"] = Agent(
        "north", "EUR", names["north"], "EUR.cb", names["north-settling"], names["north"], 5_000, number
    )


def opening(names: Mapping[str, bytes]) -> list[Message]:
    """Return account numbers of North's customers and South's entry with two of its own."""
    north, south = names["north"], names["south"]
    return [
        RegisterAlias(north, "EUR.north", digest("number 0"), names["mill"], digest("holder")),
        RegisterAlias(north, "EUR.north", digest("number 1"), names["mill-board"], digest("holder")),
        RegisterAgent("EUR.south", south, "EUR.cb", south, south, 1_000, None),
    ]


class Directory(NamedTuple):
    """The module's tables in the model."""

    agents: dict[str, Agent]
    aliases: dict[tuple[str, bytes], Alias]
    payments: dict[tuple[bytes, bytes], Payment]
    uetrs: dict[tuple[bytes, bytes], bytes]


def tables(model: Model) -> Directory:
    return Directory(*(model.table(f"payments.{name}") for name in Directory._fields))


def customers(model: Model) -> dict[tuple[str, bytes], int]:
    """Count the open account numbers of each (agent, account)."""
    counts: dict[tuple[str, bytes], int] = {}
    for (asset, _), alias in tables(model).aliases.items():
        if not alias.is_closed:
            counts[asset, alias.account] = counts.get((asset, alias.account), 0) + 1
    return counts


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


# --- agents ---


def draw_register_agent(pick: Pick) -> RegisterAgent:
    asset = pick.some(("EUR.south", "EUR.north"), pick.asset())
    bank = pick.model.assets[asset].issuer if asset in pick.model.assets else "south"
    own = pick.names.get(bank, pick.names["south"])
    settling = pick.names["north-settling"] if bank == "north" else own
    return RegisterAgent(
        asset,
        own if not pick.rarely() else pick.account(),
        "EUR.cb" if not pick.rarely(2) else pick.asset(),
        settling if not pick.rarely() else pick.account(),
        own,
        pick.one((1_000, 50, 5_000)),
        pick.one((None, ClearingNumber("CNAPS", "1"))),
    )


def claims_of_agent(message: RegisterAgent):
    return (
        (message.issuance_account, message.deposit_asset, None),
        (message.settlement_account, message.settlement_asset, None),
        (message.directory_account, message.deposit_asset, None),
    )


def register_agent(run: Run, message: RegisterAgent) -> None:
    model = run.model
    refuse(message.deposit_asset in tables(model).agents, "payments", 6)
    deposit = asset_of(model, message.deposit_asset)
    settlement = asset_of(model, message.settlement_asset)
    refuse("bank" not in active_member(model, deposit.issuer).roles, "payments", 17)
    refuse(deposit.issuance_account != message.issuance_account, "payments", 16)
    for account in (message.issuance_account, message.settlement_account, message.directory_account):
        refuse(account_of(model, account).member != deposit.issuer, "payments", 16)
    is_same = (deposit.currency, deposit.scale) == (settlement.currency, settlement.scale)
    refuse(deposit.currency is None or not is_same, "payments", 7)
    assert deposit.currency is not None
    tables(model).agents[message.deposit_asset] = Agent(
        deposit.issuer,
        deposit.currency,
        message.issuance_account,
        message.settlement_asset,
        message.settlement_account,
        message.directory_account,
        message.limit_minor,
        message.clearing,
    )


def an_agent(pick: Pick) -> tuple[str, Agent | None]:
    """Return an agent by its deposit asset, rarely none."""
    agents = tables(pick.model).agents
    asset = pick.some(sorted(agents), pick.asset())
    return asset, agents.get(asset)


def draw_remove_agent(pick: Pick) -> RemoveAgent:
    asset, agent = an_agent(pick)
    # Rarely right: without agents nothing is paid.
    return RemoveAgent(asset, agent.settlement_account if agent is not None and pick.rarely(3) else pick.account())


def remove_agent(run: Run, message: RemoveAgent) -> None:
    agent = agent_of(run, message.deposit_asset)
    refuse(agent.settlement_account != message.settlement_account, "payments", 16)
    del tables(run.model).agents[message.deposit_asset]


def agent_of(run: Run, asset: str) -> Agent:
    refuse(asset not in tables(run.model).agents, "payments", 5)
    return tables(run.model).agents[asset]


# --- directory ---


def draw_register_alias(pick: Pick) -> RegisterAlias:
    asset, agent = an_agent(pick)
    keeper = pick.account() if agent is None or pick.rarely() else agent.directory_account
    account = pick.named("mill", "shop", "mill-board", "shop-2", "north")
    return RegisterAlias(keeper, asset, digest(f"number {pick.integer(0, 7)}"), account, digest("holder"))


def register_alias(run: Run, message: RegisterAlias) -> None:
    agent = directory_of(run, message)
    key = (message.deposit_asset, message.alias)
    known = tables(run.model).aliases.get(key)
    refuse(known is not None and not known.is_closed, "payments", 19)
    account_of(run.model, message.account)
    refuse(message.account in (agent.issuance_account, agent.settlement_account), "payments", 20)
    tables(run.model).aliases[key] = Alias(message.account, message.holder_name, False)


def draw_remove_alias(pick: Pick) -> RemoveAlias:
    asset, agent = an_agent(pick)
    keeper = pick.account() if agent is None or pick.rarely() else agent.directory_account
    known = sorted(alias for of, alias in tables(pick.model).aliases if of == asset)
    return RemoveAlias(keeper, asset, pick.some(known, digest("number 9")))


def remove_alias(run: Run, message: RemoveAlias) -> None:
    directory_of(run, message)
    key = (message.deposit_asset, message.alias)
    alias = tables(run.model).aliases.get(key)
    refuse(alias is None or alias.is_closed, "payments", 18)
    assert alias is not None
    tables(run.model).aliases[key] = Alias(alias.account, alias.holder_name, True)


def directory_of(run: Run, message: RegisterAlias | RemoveAlias) -> Agent:
    agent = agent_of(run, message.deposit_asset)
    refuse(agent.directory_account != message.directory_account, "payments", 16)
    active_member(run.model, agent.member)
    return agent


# --- credit transfers ---


def draw_transfer(pick: Pick) -> CreditTransfer:
    model = pick.model
    known = sorted(customers(model))
    paid = sorted(tables(model).payments)
    if paid and pick.rarely():
        return again(pick, *pick.one(paid))
    fallback = ("EUR.north", pick.account())
    debtor_asset, debtor = pick.some([key for key in known if model.free(key[1], key[0]) > 0] or known, fallback)
    others = [key for key in known if key != (debtor_asset, debtor)]
    creditor_asset, creditor = pick.some(others, pick.one([*known, fallback]))
    readers = tuple(sorted({"north", "south", "watch", "mill"}))
    documents = (
        None,
        DocumentReference(digest("sealed"), readers, 0),
        DocumentReference(digest("sealed"), readers[:-1], 0),
        DocumentReference(digest("sealed"), readers[::-1], 0),
        DocumentReference(digest("sealed"), ("nobody", "north"), 0),
    )
    today = pick.time_ms // DAY_MS
    return CreditTransfer(
        debtor_account=debtor,
        debtor_asset=debtor_asset,
        creditor_account=creditor,
        creditor_asset=creditor_asset,
        currency="EUR" if not pick.rarely() else "USD",
        amount_minor=pick.amount(min(model.free(debtor, debtor_asset), 6_000)),
        uetr=random_uetr(pick) if not pick.rarely(3) else pick.one(UETRS),
        instruction_id=digest(f"order {pick.integer(0, 400)}"),
        charge_bearer=pick.one(("SLEV", "SHAR")),
        purpose=pick.one((None, "SALA")),
        requested_day=None if not pick.rarely(4) else today + pick.integer(-2, 2),
        particulars=None if not pick.rarely(4) else pick.one(documents),
    )


def again(pick: Pick, debtor: bytes, instruction: bytes) -> CreditTransfer:
    """Return a payment that was made before, as it was or altered."""
    paid = tables(pick.model).payments[debtor, instruction]
    amount = paid.amount_minor if pick.flag() else pick.amount()
    return CreditTransfer(
        debtor,
        paid.debtor_asset,
        paid.creditor_account,
        paid.creditor_asset,
        paid.currency,
        amount,
        paid.uetr,
        instruction if not pick.rarely() else digest("another order"),
        paid.charge_bearer,
        paid.purpose,
        None,
        None,
    )


def random_uetr(pick: Pick) -> bytes:
    data = bytearray(digest(f"uetr {pick.integer(0, 10**6)}")[:16])
    data[6], data[8] = 0x40 | data[6] & 15, 0x80 | data[8] & 63
    return bytes(data)


def claims_of_transfer(message: CreditTransfer):
    return ((message.debtor_account, message.debtor_asset, message.amount_minor),)


def transfer(run: Run, message: CreditTransfer) -> None:
    model, amount = run.model, message.amount_minor
    check_instruction(run, message)
    if message.requested_day is not None:
        starts_ms, ends_ms = message.requested_day * DAY_MS - 14 * HOUR_MS, (message.requested_day + 1) * DAY_MS
        refuse(not starts_ms <= run.time_ms < ends_ms + 12 * HOUR_MS, "payments", 14)
    payer, payee = agent_of(run, message.debtor_asset), agent_of(run, message.creditor_asset)
    is_on_us = message.debtor_asset == message.creditor_asset
    for agent in (payer, payee):
        refuse(agent.currency != message.currency, "payments", 7)
        active_member(model, agent.member)
    refuse(not is_on_us and payer.settlement_asset != payee.settlement_asset, "payments", 11)
    refuse(amount > payer.limit_minor, "payments", 8)
    refuse((message.debtor_asset, message.debtor_account) not in customers(model), "payments", 9)
    refuse((message.creditor_asset, message.creditor_account) not in customers(model), "payments", 10)
    check_particulars(model, message, payer.member, payee.member)
    refuse(amount > model.free(message.debtor_account, message.debtor_asset), "payments", 12)
    legs = [(message.debtor_account, message.debtor_asset, -amount)]
    if not is_on_us:
        refuse(amount > model.free(payer.settlement_account, payer.settlement_asset), "payments", 13)
        legs.append((payer.issuance_account, message.debtor_asset, amount))
        legs.append((payer.settlement_account, payer.settlement_asset, -amount))
        legs.append((payee.settlement_account, payee.settlement_asset, amount))
        legs.append((payee.issuance_account, message.creditor_asset, -amount))
    legs.append((message.creditor_account, message.creditor_asset, amount))
    post(run, legs)
    tables(model).uetrs[message.uetr, message.debtor_account] = message.instruction_id
    tables(model).payments[message.debtor_account, message.instruction_id] = Payment(
        "ACSC",
        message.debtor_account,
        message.debtor_asset,
        message.creditor_account,
        message.creditor_asset,
        message.currency,
        amount,
        message.uetr,
        message.charge_bearer,
        message.purpose,
        None if message.particulars is None else message.particulars.commitment,
        run.time_ms,
    )


def check_instruction(run: Run, message: CreditTransfer) -> None:
    refuse(message.uetr[6] & 0xF0 != 0x40 or message.uetr[8] & 0xC0 != 0x80, "payments", 21)
    paid = tables(run.model).payments.get((message.debtor_account, message.instruction_id))
    if paid is not None:
        names = ("debtor_asset", "creditor_account", "creditor_asset", "currency", "amount_minor", "uetr")
        is_same = all(getattr(paid, name) == getattr(message, name) for name in (*names, "charge_bearer", "purpose"))
        refuse(True, "payments", 1 if is_same else 2)
    refuse((message.uetr, message.debtor_account) in tables(run.model).uetrs, "payments", 3)
    is_same_account = message.debtor_account == message.creditor_account
    refuse(is_same_account and message.debtor_asset == message.creditor_asset, "payments", 4)


def check_particulars(model: Model, message: CreditTransfer, *agents: str) -> None:
    if message.particulars is None:
        return
    readers = message.particulars.readers
    refuse(list(readers) != sorted(set(readers)), "documents", 1)
    refuse(any(reader not in model.members for reader in readers), "documents", 2)
    refuse(not {*agents, "watch"} <= set(readers), "payments", 15)


# --- records ---


def entry(asset: str, end: bytes) -> bytes:
    return asset.encode() + b"/" + end


def by_settlement(message: RemoveAgent):
    return ((message.settlement_account, None, None),)


def by_directory(message: RegisterAlias | RemoveAlias):
    return ((message.directory_account, message.deposit_asset, None),)


# --- golden blocks ---


def story(book) -> None:
    """South joins as an agent; customers get numbers and pay one another, on us and between banks."""
    names = book.names
    mint, mill, shop, north, south = (names[name] for name in ("mint", "mill", "shop", "north", "south"))
    settling, today = names["north-settling"], book.world.time_ms // DAY_MS
    from feiqian.modules.assets.messages import Issue

    joining = RegisterAgent("EUR.south", south, "EUR.cb", south, south, 1_000, None)
    book.block(
        book.done(Issue(mint, settling, "EUR.cb", 900, b"")),
        book.done(Issue(north, shop, "EUR.north", 5_500, b"")),
        book.done(joining),
        book.refused("payments", 6, joining),
        book.refused("payments", 7, RegisterAgent("BOND.north", north, "OIL", settling, north, 1, None)),
    )

    def number(keeper: bytes, asset: str, text: str, account: bytes) -> RegisterAlias:
        return RegisterAlias(keeper, asset, digest(text), account, digest("holder"))

    book.block(
        book.done(number(north, "EUR.north", "ES1", shop)),
        book.done(number(north, "EUR.north", "ES2", mill)),
        book.done(number(south, "EUR.south", "PT1", names["shop-2"])),
        book.refused("payments", 19, number(north, "EUR.north", "ES1", mill)),
        book.refused("payments", 16, number(south, "EUR.north", "ES3", mill)),
        book.refused("payments", 20, number(north, "EUR.north", "ES3", settling)),
    )

    def pay(order: str, creditor: bytes, asset: str, amount: int, **changes) -> CreditTransfer:
        uetr = bytearray(digest(order)[:16])
        uetr[6], uetr[8] = 0x40 | uetr[6] & 15, 0x80 | uetr[8] & 63
        readers = DocumentReference(digest("sealed"), ("north", "south", "watch"), today)
        fields = (shop, "EUR.north", creditor, asset, "EUR", amount, bytes(uetr), digest(order), "SLEV", "SUPP", today)
        return CreditTransfer(*fields, changes.get("particulars", readers))

    book.block(
        book.done(pay("on us", mill, "EUR.north", 125)),
        book.done(pay("between banks", names["shop-2"], "EUR.south", 800)),
        book.refused("payments", 1, pay("on us", mill, "EUR.north", 125)),
        book.refused("payments", 2, pay("on us", mill, "EUR.north", 126)),
        book.refused("payments", 13, pay("no cover", names["shop-2"], "EUR.south", 101)),
        book.refused("payments", 8, pay("too much", mill, "EUR.north", 5_001)),
        book.refused("payments", 12, pay("too poor", mill, "EUR.north", 4_900)),
        book.refused("payments", 10, pay("stranger", names["watch"], "EUR.north", 1)),
        book.refused("payments", 4, pay("to oneself", shop, "EUR.north", 1)),
        book.refused(
            "payments",
            15,
            pay("unread", mill, "EUR.north", 1, particulars=DocumentReference(bytes(32), ("north",), today)),
        ),
    )
    book.block(
        book.done(RemoveAlias(north, "EUR.north", digest("ES2"))),
        book.refused("payments", 18, RemoveAlias(north, "EUR.north", digest("ES2"))),
        book.refused("payments", 10, pay("closed", mill, "EUR.north", 1)),
        book.done(RemoveAgent("EUR.south", south)),
        book.refused("payments", 5, RemoveAgent("EUR.south", south)),
        book.refused("payments", 5, pay("gone", names["shop-2"], "EUR.south", 1)),
    )


SIMULATION = Simulation(
    rules={
        RegisterAgent: Rule(draw_register_agent, claims_of_agent, register_agent),
        RemoveAgent: Rule(draw_remove_agent, by_settlement, remove_agent),
        RegisterAlias: Rule(draw_register_alias, by_directory, register_alias),
        RemoveAlias: Rule(draw_remove_alias, by_directory, remove_alias),
        CreditTransfer: Rule(draw_transfer, claims_of_transfer, transfer),
    },
    records={
        "payments.agents": lambda model: {asset.encode(): agent for asset, agent in tables(model).agents.items()},
        "payments.aliases": lambda model: {entry(*key): alias for key, alias in tables(model).aliases.items()},
        "payments.customers": lambda model: {entry(*key): Customer(count) for key, count in customers(model).items()},
        "payments.payments": lambda model: {b"".join(key): paid for key, paid in tables(model).payments.items()},
        "payments.uetrs": lambda model: {b"".join(key): Reference(of) for key, of in tables(model).uetrs.items()},
        "payments.settings": lambda model: {b"current": Settings(("watch",))},
    },
    genesis=GENESIS,
    opening=opening,
    found=found,
    story=story,
)
