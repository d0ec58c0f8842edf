"""Whom an instruction means: agents, account numbers, names; and the digests and lists behind it."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feiqian.core.addresses import to_text
from feiqian.modules.payments.edge import onboarding
from feiqian.modules.payments.edge.directory import (
    alias_digest,
    instruction_id,
    name_digest,
    normalised_name,
    uetr_of,
)
from feiqian.modules.payments.edge.importer import Order, Terms, check_all
from feiqian.modules.payments.edge.instructions import (
    AccountNumber,
    AgentNumber,
    Batch,
    Instruction,
    Party,
    PaymentFile,
)
from feiqian.modules.payments.edge.pain002 import Outcome
from feiqian.modules.payments.edge.resolution import AgentEntry, AliasEntry

NOON_MS = 1_767_268_800_000
DE, LU = "DE58999999010000000001", "LU759990000000000001"


def agent(asset: str, currency: str = "EUR", bic: str | None = None, cnaps: str | None = None) -> AgentEntry:
    system = None if cnaps is None else "CNAPS"
    return AgentEntry(asset, asset.partition(".")[2], asset, currency, 2, bic, system, cnaps, 10**9, None)


HARBOUR = agent("EUR.harbour-bank", bic="HRBKDEF0XXX")
LOTUS = agent("EUR.lotus-bank", bic="LTBKLUL0XXX")
QILIN = agent("CNY.qilin-bank", "CNY", "QLNBCNB0XXX", "999100000017")


class Book:
    """A directory held in memory, by the protocol that importers ask."""

    def __init__(self, *agents: AgentEntry) -> None:
        self._agents = agents
        self._aliases: dict[tuple[str, bytes], AliasEntry] = {}
        self.paid_keys: set[bytes] = set()

    def enter(self, agent: AgentEntry, kind: str, number: str, name: str, *, is_closed: bool = False) -> bytes:
        asset = agent.deposit_asset
        account = alias_digest(asset, "account of", number)
        entry = AliasEntry(account, name_digest(asset, kind, number, name), is_closed, agent.member, None)
        self._aliases[(asset, alias_digest(asset, kind, number))] = entry
        return account

    def agents(self):
        return self._agents

    def look_up(self, aliases):
        return [self._aliases.get(alias) for alias in aliases]

    def paid(self, keys):
        return [key in self.paid_keys for key in keys]

    def required_readers(self):
        return {}


@pytest.fixture
def book() -> Book:
    book = Book(HARBOUR, LOTUS, QILIN)
    book.enter(HARBOUR, "iban", DE, "Ada Works")
    book.enter(LOTUS, "iban", LU, "Bo & Söhne")
    book.enter(QILIN, "local", "7001", "李雷")
    return book


def an_instruction(**fields) -> Instruction:
    values = {
        "message_id": "M-1",
        "batch_id": "B-1",
        "end_to_end_id": "E-1",
        "ordinal": 0,
        "currency": "EUR",
        "amount_text": "125.50",
        "requested_date": "2026-01-01",
        "charge_bearer": "SLEV",
        "debtor": Party("Ada Works"),
        "debtor_account": AccountNumber("iban", DE),
        "debtor_agent": AgentNumber("HRBKDEF0XXX"),
        "creditor": Party("Bo & Söhne"),
        "creditor_account": AccountNumber("iban", LU),
        "creditor_agent": AgentNumber("LTBKLUL0XXX"),
    } | fields
    return Instruction(**values)


def decide(book: Book, *instructions: Instruction) -> list[Order | Outcome]:
    file = PaymentFile("pain.001.001.09", "M-1", "", "Ada", 1, None, (Batch("B-1", 1, None, instructions),))
    return check_all(file, Terms("c", (), book, None, None, lambda: NOON_MS))  # type: ignore[arg-type]


def reason(book: Book, **fields) -> str | None:
    (decided,) = decide(book, an_instruction(**fields))
    return decided.reason if isinstance(decided, Outcome) else None


def test_a_good_instruction_becomes_an_order(book):
    (order,) = decide(book, an_instruction())
    assert isinstance(order, Order)
    message = order.message
    assert (message.debtor_asset, message.creditor_asset) == ("EUR.harbour-bank", "EUR.lotus-bank")
    assert (message.amount_minor, message.currency, message.requested_day) == (125_50, "EUR", 20_454)
    assert message.creditor_account == book.enter(LOTUS, "iban", LU, "Bo & Söhne")
    assert message.uetr == uetr_of(message.instruction_id)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"creditor_agent": AgentNumber("LTBKLUL0")}, None),
        ({"creditor_agent": AgentNumber("LTBKLUL0ABC")}, None),
        ({"creditor_agent": AgentNumber()}, None),
        ({"creditor_agent": AgentNumber("NOWHDEF0XXX")}, "AGNT"),
        ({"creditor_agent": AgentNumber("HRBKDEF0XXX")}, "AC03"),
        ({"creditor_agent": AgentNumber("QLNBCNB0XXX")}, "AM03"),
        ({"creditor_agent": AgentNumber("LTBKLUL0XXX", "CNAPS", "999100000017")}, "AGNT"),
        ({"creditor_account": AccountNumber("local", "7001"), "creditor_agent": AgentNumber()}, "AGNT"),
        ({"creditor_account": None}, "AC03"),
        ({"creditor_account": AccountNumber("iban", DE)}, "AC03"),
        ({"debtor_account": AccountNumber("iban", LU)}, "AC02"),
        ({"creditor": Party()}, "BE22"),
        ({"creditor": Party("Bo")}, "BE01"),
        ({"creditor": Party("BO + SOEHNE")}, "BE01"),
        ({"creditor": Party("  bo &  SÖHNE. ")}, None),
        ({"currency": "USD"}, "AM03"),
        ({"currency": "USD", "debtor_agent": AgentNumber()}, "AGNT"),
        ({"amount_text": "0.00"}, "AM01"),
        ({"amount_text": "1.005"}, "AM12"),
        ({"amount_text": "1.500"}, None),
        ({"amount_text": "+1."}, None),
        ({"amount_text": ".5"}, None),
        ({"amount_text": "-0"}, "AM12"),
        ({"amount_text": "46116860184273879.05"}, "AM02"),
        ({"requested_date": "2025-12-31"}, "DT01"),
        ({"requested_date": "2026-01-03"}, "DT01"),
        ({"requested_date": "12026-01-0"}, "DT01"),
        ({"purpose": "sala"}, "FF07"),
        ({"purpose": "SALA"}, None),
        ({"obstacle": ("RR07", "a creditor reference fails its check digits")}, "RR07"),
    ],
)
def test_each_thing_that_is_wrong_has_its_reason(book, fields, expected):
    assert reason(book, **fields) == expected


def test_a_bank_is_found_by_its_clearing_number(book):
    cny = {
        "currency": "CNY",
        "debtor_account": AccountNumber("local", "7001"),
        "debtor_agent": AgentNumber(None, "CNAPS", "999100000017"),
        "creditor_account": AccountNumber("local", "7001"),
        "creditor": Party("李雷"),
    }
    assert reason(book, **cny, creditor_agent=AgentNumber("QLNBCNB0XXX")) is None
    assert reason(book, **cny, creditor_agent=AgentNumber(None, None, "999100000017")) is None
    assert reason(book, **cny, creditor_agent=AgentNumber(None, "USABA", "999100000017")) == "AGNT"


def test_a_closed_number_says_so(book):
    book.enter(LOTUS, "iban", LU, "Bo & Söhne", is_closed=True)
    assert reason(book) == "AC04"


def test_a_bank_that_enters_anothers_iban_receives_nothing(book):
    """Harbour-bank enters lotus-bank's IBAN under the right name: with the BIC lotus is paid, without it nobody."""
    book.enter(HARBOUR, "iban", LU, "Bo & Söhne")
    assert reason(book) is None
    assert reason(book, creditor_agent=AgentNumber()) == "AC03"


def test_what_is_paid_is_known_before_it_is_sent(book):
    (order,) = decide(book, an_instruction())
    assert isinstance(order, Order)
    assert not order.is_paid
    book.paid_keys.add(order.message.debtor_account + order.message.instruction_id)
    (again,) = decide(book, an_instruction())
    assert isinstance(again, Order)
    assert again.is_paid


def test_the_same_reference_twice_in_a_file_is_paid_once(book):
    first, second, third = decide(
        book,
        an_instruction(),
        an_instruction(amount_text="7.00"),
        an_instruction(end_to_end_id="NOTPROVIDED", ordinal=1),
    )
    assert isinstance(first, Order)
    assert isinstance(second, Outcome)
    assert (second.status, second.reason) == ("RJCT", "DU04")
    assert isinstance(third, Order)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Müller & Söhne GmbH", "MULLER + SOHNE GMBH"),
        ("  Bo   Trade ", "bo-trade"),
        ("Straße 1", "STRASSE 1"),
        ("ＡＢＣ株式会社", "ABC株式会社"),
        ("O’Neill", "o'neill"),
    ],
)
def test_names_are_compared_without_what_typing_changes(one, other):
    assert normalised_name(one) == normalised_name(other)


@pytest.mark.parametrize(("one", "other"), [("Bo Trade", "Trade Bo"), ("Bo", "Bob"), ("李雷", "李磊"), ("A1", "A2")])
def test_different_names_stay_different(one, other):
    assert normalised_name(one) != normalised_name(other)


def test_equal_names_and_numbers_do_not_look_equal_at_two_banks():
    assert alias_digest("EUR.a", "iban", DE) != alias_digest("EUR.b", "iban", DE)
    assert alias_digest("EUR.a", "iban", DE) != alias_digest("EUR.a", "local", DE)
    assert name_digest("EUR.a", "iban", DE, "Ada") != name_digest("EUR.a", "iban", LU, "Ada")
    assert alias_digest("EUR.a", "iban", "de58 9999 9901 0000 0000 01") == alias_digest("EUR.a", "iban", DE)


word = st.text(max_size=5)
references = st.tuples(word, word, word, word)


@given(references, references)
def test_instructions_with_other_references_have_other_ids(one, other):
    same = one == other
    assert (instruction_id(*one, ordinal=0) == instruction_id(*other, ordinal=0)) is same
    assert instruction_id(*one, ordinal=0) != instruction_id(*one, ordinal=1)


@given(st.binary(min_size=32, max_size=32))
def test_a_made_uetr_is_a_version_4_uuid(instruction):
    made = uuid.UUID(bytes=uetr_of(instruction))
    assert (made.version, made.variant) == (4, uuid.RFC_4122)
    assert uetr_of(instruction) == made.bytes


ADDRESS = to_text(bytes(range(32)))


def test_a_customer_list_is_read():
    lines = [
        "kind,number,holder,account",
        "iban,DE58 9999 9901 0000 0000 01,Ada Works,@ada",
        "local,7001,李雷,new",
        f"iban,{LU},Bo,{ADDRESS}",
    ]
    data = "\n".join(lines)
    first, second, third = onboarding.read_customers(b"\xef\xbb\xbf" + data.encode(), {"ada": bytes(32)})
    assert (first.kind, first.number, first.holder, first.account) == ("iban", DE, "Ada Works", bytes(32))
    assert (second.kind, second.account) == ("local", None)
    assert third.account == bytes(range(32))
    assert len({first.salt, second.salt, third.salt}) == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kind,number,holder\n",
        "kind,number,holder,account\niban,DE58999999010000000002,Ada,new\n",
        "kind,number,holder,account\nbban,1,Ada,new\n",
        "kind,number,holder,account\nlocal,,Ada,new\n",
        "kind,number,holder,account\nlocal,1,,new\n",
        "kind,number,holder,account\nlocal,1,Ada\n",
        "kind,number,holder,account\nlocal,1,Ada,@nobody\n",
        'kind,number,holder,account\nlocal,1,"Ada,new\n',
        "kind,number,holder,account\nlocal,1,\x00,new\n"[:-1] + "\udcff",
    ],
)
def test_a_customer_list_of_another_form_is_refused(text):
    with pytest.raises(onboarding.CustomerListRefused):
        onboarding.read_customers(text.encode("utf-8", "surrogateescape"), {})
