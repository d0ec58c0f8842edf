"""Every message of payments: what success does, whole, and each refusal by number."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from feiqian.core.errors import InvalidTransaction, Undecodable
from feiqian.ledger.accounts import set_frozen
from feiqian.ledger.context import Claim
from feiqian.ledger.documents import DocumentCommitted, DocumentReference, ReadersOutOfOrder, ReaderUnknown
from feiqian.ledger.errors import AccountFrozen, MemberSuspended
from feiqian.ledger.events import Posted
from feiqian.ledger.members import require_member, set_member
from feiqian.ledger.postings import set_limit
from feiqian.ledger.records import Leg
from feiqian.modules.payments import MODULE, errors, events, messages
from feiqian.modules.payments.genesis import genesis
from feiqian.modules.payments.handlers import is_today
from feiqian.modules.payments.state import AGENTS, ALIASES, CUSTOMERS, PAYMENTS, UETRS, entry_key

NOW_MS = 1_767_268_800_000
BOTH = ("harbour-bank", "lotus-bank")


def must(found):
    assert found is not None
    return found


def refuse(world, error, message):
    """Run a message that must break `error`, by type and so by number, and change nothing."""
    before = dict(world.state.written)
    with pytest.raises(InvalidTransaction) as caught:
        world.run(message)
    assert type(caught.value) is error, caught.value
    assert world.state.written == before


def test_a_payment_between_banks_moves_both_liabilities_and_the_settlement_asset(world):
    """
    Ada has 2,000.00 at harbour-bank, harbour-bank 1,000.00 at the central bank. She pays Bo at lotus-bank 125.50.
    """
    message = world.transfer()
    happened = world.run(message)
    assert world.position() == {
        "ada": 1_874_50,
        "harbour liability": 1_874_50,
        "harbour settlement": 874_50,
        "lotus settlement": 125_50,
        "lotus liability": 125_50,
        "bo": 125_50,
        "central": 1_000_00,
    }
    accounts = world.accounts
    assert happened == [
        Posted(
            (
                Leg(accounts["ada"], "EUR.harbour-bank", -125_50),
                Leg(accounts["harbour"], "EUR.harbour-bank", 125_50),
                Leg(accounts["harbour"], "EUR.central", -125_50),
                Leg(accounts["lotus"], "EUR.central", 125_50),
                Leg(accounts["lotus"], "EUR.lotus-bank", -125_50),
                Leg(accounts["bo"], "EUR.lotus-bank", 125_50),
            )
        ),
        events.CreditTransferSettled(
            status="ACSC",
            debtor_agent="harbour-bank",
            debtor_account=accounts["ada"],
            debtor_asset="EUR.harbour-bank",
            creditor_agent="lotus-bank",
            creditor_account=accounts["bo"],
            creditor_asset="EUR.lotus-bank",
            currency="EUR",
            amount_minor=125_50,
            uetr=message.uetr,
            instruction_id=message.instruction_id,
            charge_bearer="SLEV",
            purpose="SUPP",
            commitment=None,
        ),
    ]
    settled = happened[1]
    assert settled.accounts() == (accounts["ada"], accounts["bo"])
    assert settled.members() == BOTH
    payment = must(PAYMENTS.get(world.state, accounts["ada"] + message.instruction_id))
    assert (payment.status, payment.amount_minor, payment.settled_at_ms) == ("ACSC", 125_50, NOW_MS)
    assert (payment.debtor_account, payment.creditor_account) == (accounts["ada"], accounts["bo"])
    assert (payment.uetr, payment.charge_bearer, payment.purpose) == (message.uetr, "SLEV", "SUPP")
    assert must(UETRS.get(world.state, message.uetr + accounts["ada"])).instruction_id == message.instruction_id


def test_a_payment_on_us_moves_the_two_customers_only(world):
    before = world.position()
    message = world.transfer(creditor_account=world.accounts["alf"], creditor_asset="EUR.harbour-bank")
    happened = world.run(message)
    assert happened[0] == Posted(
        (
            Leg(world.accounts["ada"], "EUR.harbour-bank", -125_50),
            Leg(world.accounts["alf"], "EUR.harbour-bank", 125_50),
        )
    )
    assert world.position() == before | {"ada": 1_874_50}
    assert world.balance("alf", "EUR.harbour-bank") == 125_50


def test_an_account_at_two_banks_may_move_its_own_money(world):
    world.run(world.alias("EUR.lotus-bank", "lotus", "FR9", "ada"))
    world.run(world.transfer(creditor_account=world.accounts["ada"]))
    assert world.balance("ada", "EUR.harbour-bank") == 1_874_50
    assert world.balance("ada", "EUR.lotus-bank") == 125_50


def test_a_bank_with_a_credit_line_sends_without_settlement_asset(world):
    """lotus-bank holds no EUR.central; a line of 50.00 lets Bo send 50.00 and not a cent more."""
    world.issue("EUR.lotus-bank", "lotus", "bo", 300_00)
    back = {
        "debtor_account": world.accounts["bo"],
        "debtor_asset": "EUR.lotus-bank",
        "creditor_account": world.accounts["ada"],
        "creditor_asset": "EUR.harbour-bank",
    }
    refuse(world, errors.InsufficientSettlement, world.transfer(**back, amount_minor=1))
    world.do(set_limit, world.accounts["lotus"], "EUR.central", 50_00)
    refuse(world, errors.InsufficientSettlement, world.transfer(**back, amount_minor=50_01))
    world.run(world.transfer(**back, amount_minor=50_00))
    assert world.position()["lotus settlement"] == -50_00
    assert world.position()["harbour settlement"] == 1_050_00
    assert world.position()["lotus liability"] == 250_00
    assert world.position()["harbour liability"] == 2_050_00


def test_particulars_are_committed_to_for_both_agents_and_the_regulator(world):
    world.do(genesis, {"required_readers": ["regulator"]})
    reference = DocumentReference(bytes(range(32)), (*BOTH, "regulator"), NOW_MS + 1)
    happened = world.run(world.transfer(particulars=reference))
    assert happened[1].commitment == bytes(range(32))
    assert happened[2] == DocumentCommitted(reference)
    assert happened[2].members() == (*BOTH, "regulator")
    without = DocumentReference(bytes(32), BOTH, NOW_MS + 1)
    second = {"instruction_id": bytes(32), "uetr": bytes.fromhex("00000000000040008000000000000001")}
    refuse(world, errors.ReaderMissing, world.transfer(**second, particulars=without))


def test_particulars_with_wrong_readers_are_refused(world):
    def with_readers(*readers):
        return world.transfer(particulars=DocumentReference(bytes(32), readers, NOW_MS))

    refuse(world, errors.ReaderMissing, with_readers("harbour-bank"))
    refuse(world, errors.ReaderMissing, with_readers("lotus-bank"))
    refuse(world, ReadersOutOfOrder, with_readers("lotus-bank", "harbour-bank"))
    refuse(world, ReadersOutOfOrder, with_readers("harbour-bank", "harbour-bank", "lotus-bank"))
    refuse(world, ReaderUnknown, with_readers("harbour-bank", "lotus-bank", "nobody"))


def test_the_same_instruction_pays_once(world):
    world.run(world.transfer())
    refuse(world, errors.DuplicateInstruction, world.transfer())
    refuse(world, errors.DuplicateInstruction, world.transfer(requested_day=None))
    assert world.balance("bo", "EUR.lotus-bank") == 125_50


@pytest.mark.parametrize(
    "change",
    [
        {"amount_minor": 125_51},
        {"charge_bearer": "SHAR"},
        {"purpose": None},
        {"uetr": bytes.fromhex("00000000000040008000000000000001")},
        {"creditor_asset": "EUR.harbour-bank"},
    ],
)
def test_an_altered_resend_is_refused_as_such(world, change):
    world.run(world.transfer())
    refuse(world, errors.AlteredInstruction, world.transfer(**change))


def test_a_uetr_belongs_to_one_instruction_of_a_debtor(world):
    world.run(world.transfer())
    refuse(world, errors.DuplicateUetr, world.transfer(instruction_id=bytes(32)))


def test_a_stranger_cannot_use_up_an_instruction_or_uetr(world):
    """Alf sends first under Ada's instruction id and UETR, which he saw in the mempool; Ada's payment still goes."""
    world.issue("EUR.harbour-bank", "harbour", "alf", 1_00)
    world.run(world.transfer(debtor_account=world.accounts["alf"], amount_minor=1))
    world.run(world.transfer())
    assert world.balance("bo", "EUR.lotus-bank") == 125_51


def test_refusals_of_a_transfer(world):
    accounts = world.accounts
    refuse(world, errors.UetrMalformed, world.transfer(uetr=bytes(16)))
    refuse(world, errors.UetrMalformed, world.transfer(uetr=bytes.fromhex("00000000000010008000000000000001")))
    refuse(world, errors.UetrMalformed, world.transfer(uetr=bytes.fromhex("0000000000004000c000000000000001")))
    same = {"creditor_account": accounts["ada"], "creditor_asset": "EUR.harbour-bank"}
    refuse(world, errors.SameAccount, world.transfer(**same))
    refuse(world, errors.AgentUnknown, world.transfer(creditor_asset="EUR.central"))
    refuse(world, errors.AgentUnknown, world.transfer(debtor_asset="EUR.nobody"))
    refuse(world, errors.CurrencyMismatch, world.transfer(currency="USD"))
    refuse(world, errors.LimitExceeded, world.transfer(amount_minor=5_000_01))
    refuse(world, errors.InsufficientFunds, world.transfer(amount_minor=2_000_01))
    refuse(world, errors.InsufficientSettlement, world.transfer(amount_minor=1_000_01))
    refuse(world, errors.CreditorNotCustomer, world.transfer(creditor_account=accounts["cy"]))
    refuse(world, errors.CreditorNotCustomer, world.transfer(creditor_account=bytes(32)))
    refuse(world, errors.DebtorNotCustomer, world.transfer(debtor_account=accounts["bo"]))
    island = {"creditor_account": accounts["cy"], "creditor_asset": "EUR.island-bank"}
    refuse(world, errors.NoSettlementPath, world.transfer(**island))


def test_the_limit_binds_on_us_too(world):
    on_us = {"creditor_account": world.accounts["alf"], "creditor_asset": "EUR.harbour-bank"}
    refuse(world, errors.LimitExceeded, world.transfer(**on_us, amount_minor=5_000_01))


def test_two_currencies_do_not_mix(world):
    world.account("harbour-usd", "harbour-bank")
    world.asset("USD.central", "central-bank", "central", "USD")
    world.asset("USD.harbour-bank", "harbour-bank", "harbour-usd", "USD")
    account = world.accounts["harbour-usd"]
    world.run(messages.RegisterAgent("USD.harbour-bank", account, "USD.central", account, account, 1, None))
    world.run(messages.RegisterAlias(account, "USD.harbour-bank", bytes(32), world.accounts["ada"], bytes(32)))
    refuse(world, errors.CurrencyMismatch, world.transfer(debtor_asset="USD.harbour-bank"))
    refuse(world, errors.CurrencyMismatch, world.transfer(debtor_asset="USD.harbour-bank", currency="USD"))


@pytest.mark.parametrize(
    ("day", "time_ms", "expected"),
    [
        # 2026-01-01T12:00Z: in Kiritimati (UTC+14) it is already the 2nd, on Baker Island (UTC-12) still the 1st.
        (20_454, NOW_MS, True),
        (20_455, NOW_MS, True),
        (20_453, NOW_MS, False),
        (20_456, NOW_MS, False),
        # 2026-01-01T09:59:59.999Z: not yet the 2nd anywhere; the 31st goes on until 12:00Z.
        (20_455, NOW_MS - 7_200_001, False),
        (20_453, NOW_MS - 1, True),
    ],
)
def test_today_is_today_somewhere(day, time_ms, expected):
    assert is_today(day, time_ms) is expected


def test_another_day_is_refused_and_none_is_today(world):
    refuse(world, errors.WrongDay, world.transfer(requested_day=20_453))
    refuse(world, errors.WrongDay, world.transfer(requested_day=20_456))
    refuse(world, errors.WrongDay, world.transfer(requested_day=0))
    world.run(world.transfer(requested_day=None))


@pytest.mark.parametrize("frozen", ["ada", "harbour", "lotus", "bo"])
def test_nothing_passes_a_frozen_account(world, frozen):
    world.do(set_frozen, world.accounts[frozen], True, "regulator", "court order")
    refuse(world, AccountFrozen, world.transfer())


@pytest.mark.parametrize("suspended", BOTH)
def test_a_suspended_agent_takes_no_part(world, suspended):
    member = require_member(world.state, suspended)
    world.do(set_member, suspended, replace(member, is_suspended=True))
    refuse(world, MemberSuspended, world.transfer())


def test_an_agent_registers_once_and_takes_its_authority_back(world):
    refuse(world, errors.AgentKnown, world.registration("EUR.lotus-bank", "lotus"))
    refuse(world, errors.NotAgentsAccount, messages.RemoveAgent("EUR.lotus-bank", world.accounts["harbour"]))
    happened = world.run(messages.RemoveAgent("EUR.lotus-bank", world.accounts["lotus"]))
    assert happened == [events.AgentRemoved("lotus-bank", "EUR.lotus-bank")]
    assert AGENTS.get(world.state, b"EUR.lotus-bank") is None
    refuse(world, errors.AgentUnknown, world.transfer())
    refuse(world, errors.AgentUnknown, messages.RemoveAgent("EUR.lotus-bank", world.accounts["lotus"]))
    world.register("EUR.lotus-bank", "lotus")
    world.run(world.transfer())


def test_registering_an_agent_records_all_of_it(world):
    world.run(messages.RemoveAgent("EUR.lotus-bank", world.accounts["lotus"]))
    world.account("lotus-settles", "lotus-bank")
    world.account("lotus-desk", "lotus-bank")
    lotus, settles, desk = (world.accounts[name] for name in ("lotus", "lotus-settles", "lotus-desk"))
    clearing = messages.ClearingNumber("CNAPS", "999100000017")
    message = messages.RegisterAgent("EUR.lotus-bank", lotus, "EUR.central", settles, desk, 7, clearing)
    assert [claim.account for claim in message.claims()] == [lotus, settles, desk]
    happened = world.run(message)
    assert happened == [
        events.AgentRegistered("lotus-bank", "EUR.lotus-bank", "EUR", lotus, "EUR.central", settles, desk, 7, clearing)
    ]
    agent = must(AGENTS.get(world.state, b"EUR.lotus-bank"))
    assert (agent.member, agent.currency, agent.settlement_account, agent.clearing) == (
        "lotus-bank",
        "EUR",
        settles,
        clearing,
    )
    world.run(world.transfer(amount_minor=7))
    assert world.balance("lotus-settles", "EUR.central") == 7


def test_refusals_of_an_agent(world):
    world.run(messages.RemoveAgent("EUR.lotus-bank", world.accounts["lotus"]))
    lotus, harbour = world.accounts["lotus"], world.accounts["harbour"]
    world.asset("EUR.token", "ada-works", "ada")
    world.asset("USD.central", "central-bank", "central", "USD")
    world.asset("EUR.mill", "central-bank", "central", scale=3)

    def agent(asset, issuance, settlement_asset, settlement, directory):
        return messages.RegisterAgent(asset, issuance, settlement_asset, settlement, directory, 1, None)

    ada = world.accounts["ada"]
    refuse(world, errors.NotABank, agent("EUR.token", ada, "EUR.central", ada, ada))
    for accounts in [(harbour, lotus, lotus), (lotus, harbour, lotus), (lotus, lotus, harbour)]:
        refuse(
            world,
            errors.NotAgentsAccount,
            agent("EUR.lotus-bank", accounts[0], "EUR.central", accounts[1], accounts[2]),
        )
    refuse(world, errors.CurrencyMismatch, agent("EUR.lotus-bank", lotus, "USD.central", lotus, lotus))
    refuse(world, errors.CurrencyMismatch, agent("EUR.lotus-bank", lotus, "EUR.mill", lotus, lotus))


def test_the_directory_says_what_a_number_means(world):
    world.account("new", "bo-trade")
    message = world.alias("EUR.lotus-bank", "lotus", "FR2", "new")
    assert message.claims() == (Claim(world.accounts["lotus"], "EUR.lotus-bank"),)
    happened = world.run(message)
    new = world.accounts["new"]
    assert happened == [events.AliasRegistered("lotus-bank", "EUR.lotus-bank", message.alias, new, message.holder_name)]
    record = must(ALIASES.get(world.state, entry_key("EUR.lotus-bank", message.alias)))
    assert (record.account, record.holder_name, record.is_closed) == (new, message.holder_name, False)
    world.run(world.transfer(creditor_account=new))
    assert world.balance("new", "EUR.lotus-bank") == 125_50


def test_a_closed_number_stays_known_and_may_be_given_out_again(world):
    message = world.alias("EUR.lotus-bank", "lotus", "FR1", "bo")
    refuse(world, errors.AliasKnown, message)
    removal = messages.RemoveAlias(world.accounts["lotus"], "EUR.lotus-bank", message.alias)
    assert world.run(removal) == [
        events.AliasRemoved("lotus-bank", "EUR.lotus-bank", message.alias, world.accounts["bo"])
    ]
    assert must(ALIASES.get(world.state, entry_key("EUR.lotus-bank", message.alias))).is_closed
    assert CUSTOMERS.get(world.state, entry_key("EUR.lotus-bank", world.accounts["bo"])) is None
    refuse(world, errors.AliasUnknown, removal)
    refuse(world, errors.CreditorNotCustomer, world.transfer())
    world.run(message)
    world.run(world.transfer())


def test_an_account_with_two_numbers_stays_a_customer_until_both_are_closed(world):
    world.run(world.alias("EUR.lotus-bank", "lotus", "FR2", "bo"))
    first = world.alias("EUR.lotus-bank", "lotus", "FR1", "bo").alias
    world.run(messages.RemoveAlias(world.accounts["lotus"], "EUR.lotus-bank", first))
    world.run(world.transfer())


def test_refusals_of_an_alias(world):
    lotus, harbour = world.accounts["lotus"], world.accounts["harbour"]
    bo = world.accounts["bo"]
    desk = world.accounts["harbour-desk"]

    def alias(directory, asset, account):
        return messages.RegisterAlias(directory, asset, bytes(32), account, bytes(32))

    refuse(world, errors.AgentUnknown, alias(lotus, "EUR.central", bo))
    refuse(world, errors.NotAgentsAccount, alias(harbour, "EUR.lotus-bank", bo))
    # Another account of the same bank, as a customer's might be, is not enough.
    refuse(world, errors.NotAgentsAccount, alias(desk, "EUR.harbour-bank", bo))
    refuse(world, errors.NotForCustomers, alias(lotus, "EUR.lotus-bank", lotus))
    refuse(world, errors.AliasUnknown, messages.RemoveAlias(lotus, "EUR.lotus-bank", bytes(32)))
    refuse(world, errors.NotAgentsAccount, messages.RemoveAlias(harbour, "EUR.lotus-bank", bytes(32)))
    with pytest.raises(InvalidTransaction, match="no account is open"):
        world.run(alias(lotus, "EUR.lotus-bank", bytes(32)))


def test_a_transfer_claims_the_debtors_account_for_asset_and_amount(world):
    claims = world.transfer().claims()
    assert claims == (Claim(world.accounts["ada"], "EUR.harbour-bank", 125_50),)


def test_genesis_registers_agents_and_checks_their_fields(new_world):
    world = new_world()
    world.run(messages.RemoveAgent("EUR.lotus-bank", world.accounts["lotus"]))
    lotus = world.accounts["lotus"]
    agent = {
        "deposit_asset": "EUR.lotus-bank",
        "issuance_account": lotus,
        "settlement_asset": "EUR.central",
        "settlement_account": lotus,
        "directory_account": lotus,
        "limit_minor": 100,
        "clearing": {"system": "CNAPS", "member": "999100000017"},
    }
    with pytest.raises(Undecodable):
        world.do(genesis, {"agents": [agent | {"limit_minor": 0}]})
    with pytest.raises(ReaderUnknown):
        world.do(genesis, {"required_readers": ["nobody"]})
    world.do(genesis, {"agents": [agent], "required_readers": ["regulator"]})
    record = must(AGENTS.get(world.state, b"EUR.lotus-bank"))
    assert (record.limit_minor, must(record.clearing).member) == (100, "999100000017")


def test_every_error_has_its_own_number():
    numbers = [error.number for error in MODULE.errors]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {error.codespace for error in MODULE.errors} == {"payments"}


PARTIES = ["ada", "alf", "bo", "cy", "lotus", "island"]
BANKS = ["EUR.harbour-bank", "EUR.lotus-bank", "EUR.island-bank", "EUR.central"]


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(PARTIES),
            st.sampled_from(BANKS),
            st.sampled_from(PARTIES),
            st.sampled_from(BANKS),
            st.integers(1, 900_00),
        ),
        max_size=25,
    )
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_payments_conserve_every_asset_and_every_banks_book(new_world, steps):
    """What a bank owes customers falls and rises exactly with its settlement asset; refused payments change nothing."""
    world = new_world()
    paid = 0
    for place, (debtor, debtor_asset, creditor, creditor_asset, amount_minor) in enumerate(steps):
        before = dict(world.state.written)
        liabilities = {bank: world.balance(bank, f"EUR.{bank}-bank") for bank in ("harbour", "lotus", "island")}
        reserves = {bank: world.balance(bank, "EUR.central") for bank in ("harbour", "lotus", "island")}
        message = world.transfer(
            debtor_account=world.accounts[debtor],
            debtor_asset=debtor_asset,
            creditor_account=world.accounts[creditor],
            creditor_asset=creditor_asset,
            amount_minor=amount_minor,
            instruction_id=place.to_bytes(32, "big"),
            uetr=bytes.fromhex("000000000000400080000000") + place.to_bytes(4, "big"),
        )
        try:
            world.run(message)
        except InvalidTransaction:
            is_unchanged = world.state.written == before
            assert is_unchanged
        else:
            paid += 1
        for bank in ("harbour", "lotus", "island"):
            liability_change = world.balance(bank, f"EUR.{bank}-bank") - liabilities[bank]
            reserve_change = world.balance(bank, "EUR.central") - reserves[bank]
            # The issuance balance is minus the liability: it rises as reserves fall.
            assert liability_change == -reserve_change
    for asset in BANKS:
        assert sum(world.balance(name, asset) for name in world.accounts) == 0
    assert len(list(PAYMENTS.scan(world.state))) == paid
