"""A bank, two companies and a court in memory: one asset that a court controls, one with a list of holders."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from feiqian.core.errors import InvalidTransaction
from feiqian.ledger import INVARIANTS as LEDGER_INVARIANTS
from feiqian.ledger import TRIGGERS as LEDGER_TRIGGERS
from feiqian.ledger.accounts import open_account, require_account
from feiqian.ledger.authority import single_key_policy
from feiqian.ledger.balances import get_balance
from feiqian.ledger.context import BlockInfo, Context, Event, Message
from feiqian.ledger.invariants import Scope
from feiqian.ledger.members import add_member
from feiqian.ledger.records import Balance, Member, Policy
from feiqian.modules.assets import MODULE
from feiqian.modules.assets.messages import AllowHolder, Define, Issue
from feiqian.state.tables import BlockState, Overlay
from feiqian.wallet.keys import Ed25519Key

NOW_MS = 1_767_268_800_000
"""2026-01-01 12:00 UTC."""
EUR = "EUR.harbour-bank"
OIL = "OIL.harbour-bank"
MEMBERS = (("harbour-bank", "bank"), ("ada-works", "company"), ("bo-trade", "company"), ("court", "regulator"))
ACCOUNTS = (
    ("administration", "harbour-bank"),
    ("vault", "harbour-bank"),
    ("harbour", "harbour-bank"),
    ("ada", "ada-works"),
    ("bo", "bo-trade"),
    ("cy", "bo-trade"),
    ("court", "court"),
)


class EmptyStore:
    """Committed state before there is any."""

    def get(self, key: bytes, /) -> None:
        return None

    def scan(self, prefix: bytes, after: bytes = b""):
        return iter(())


class World:
    """State with helpers: `run` executes one message and keeps what it wrote, or raises and keeps nothing."""

    def __init__(self) -> None:
        self.state = BlockState(EmptyStore())
        self.time_ms = NOW_MS
        self.height = 1
        self.runs = 0
        self.accounts: dict[str, bytes] = {}

    def __getitem__(self, name: str) -> bytes:
        return self.accounts[name]

    def context(self) -> Context:
        self.runs += 1
        block = BlockInfo("test-1", self.height, self.time_ms)
        origin = hashlib.sha256(str(self.runs).encode()).digest()
        return Context(Overlay(self.state), block, origin, None, frozenset(), NoDispatch())

    def do(self, function: Callable[..., Any], *arguments: Any) -> list[Event]:
        """Run a function on a context of its own and hold every invariant, over what it touched and over all."""
        ctx = self.context()
        function(ctx, *arguments)
        touched = Scope(Overlay(self.state), ctx.state, ctx.state.written)
        for invariant in (*LEDGER_INVARIANTS, *MODULE.invariants):
            assert list(invariant(touched)) == []
        ctx.state.keep()
        for invariant in (*LEDGER_INVARIANTS, *MODULE.invariants):
            assert list(invariant(Scope(self.state, self.state, None))) == []
        return ctx.events

    def run(self, message: Message) -> list[Event]:
        return self.do(MODULE.handlers[type(message)], message)

    def expire(self, trigger: Any) -> list[Event]:
        return self.do(LEDGER_TRIGGERS[type(trigger)], trigger)

    def refuse(self, message: Message) -> tuple[str, int]:
        """Run a message that must be refused and return the rule; nothing may have changed."""
        before = dict(self.state.written)
        with pytest.raises(InvalidTransaction) as refusal:
            self.run(message)
        assert self.state.written == before
        return refusal.value.codespace, refusal.value.number

    def balance(self, name: str, asset: str = EUR) -> Balance:
        return get_balance(self.state, self[name], asset)

    def posted(self, *names: str, asset: str = EUR) -> list[int]:
        return [self.balance(name, asset).posted_minor for name in names]

    def policy(self, account: bytes) -> Policy:
        return require_account(self.state, account).policy

    def definition(self, **changes: Any) -> Define:
        values: dict[str, Any] = {
            "account": self["administration"],
            "code": EUR,
            "name": "Harbour euro",
            "currency": "EUR",
            "scale": 2,
            "issuance_account": self["vault"],
            "supply_cap_minor": 1_000_000,
            "is_freezable": True,
            "is_allow_listed": False,
            "transfer_limit_minor": None,
            "daily_limit_minor": None,
            "controller": self["court"],
        }
        return Define(**(values | changes))


class NoDispatch:
    """No message of this module is kept for later."""

    def decode(self, messages: tuple[bytes, ...]) -> tuple[Message, ...]:
        raise AssertionError("nothing is dispatched here")

    def __call__(self, ctx: Context, messages: tuple[bytes, ...]) -> None:
        raise AssertionError("nothing is dispatched here")


def make_bare_world() -> World:
    """Members and accounts, no asset."""
    world = World()
    for member, role in (
        ("harbour-bank", "bank"),
        ("ada-works", "company"),
        ("bo-trade", "company"),
        ("court", "regulator"),
    ):
        world.do(add_member, member, Member(member.title(), None, None, None, (role,), None, False))
    for name, member in ACCOUNTS:
        seed = hashlib.sha256(name.encode()).digest()
        events = world.do(open_account, member, single_key_policy(Ed25519Key(seed).public), seed[:16])
        world.accounts[name] = events[0].accounts()[0]
    return world


def make_world() -> World:
    """EUR: Ada has 500.00 of 10,000.00 at most; OIL, with a list: Ada, listed, has 50."""
    world = make_bare_world()
    world.run(world.definition())
    world.run(Issue(world["vault"], world["ada"], EUR, 500_00, b""))
    oil = world.definition(code=OIL, name="Oil", currency=None, scale=0, is_allow_listed=True, is_freezable=False)
    world.run(oil)
    world.run(AllowHolder(world["vault"], world["ada"], OIL))
    world.run(Issue(world["vault"], world["ada"], OIL, 50, b""))
    return world


@pytest.fixture
def bare_world() -> World:
    return make_bare_world()


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture(scope="session")
def new_bare_world() -> Callable[[], World]:
    return make_bare_world
