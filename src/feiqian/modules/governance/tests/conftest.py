"""Three governors (two banks and a regulator) and a company in memory; two of the three decide."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from feiqian.core.errors import InvalidTransaction
from feiqian.ledger import INVARIANTS as LEDGER_INVARIANTS
from feiqian.ledger.accounts import open_account
from feiqian.ledger.authority import single_key_policy
from feiqian.ledger.context import BlockInfo, Context, Event, Message
from feiqian.ledger.invariants import Scope, validators_can_decide
from feiqian.ledger.members import add_member, require_member
from feiqian.ledger.records import Member, Policy
from feiqian.modules.governance import MODULE
from feiqian.modules.governance.genesis import genesis
from feiqian.modules.governance.messages import Identity, Propose, Vote, Withdraw
from feiqian.modules.governance.state import PROPOSALS, Proposal
from feiqian.state.tables import BlockState, Overlay
from feiqian.testing import MemoryReader
from feiqian.wallet.keys import Ed25519Key

NOW_MS = 1_767_268_800_000
"""2026-01-01 12:00 UTC."""
MEMBERS = {
    "harbour-bank": ("bank", "governor"),
    "lotus-bank": ("bank", "governor"),
    "regulator": ("governor", "regulator"),
    "ada-works": ("company",),
}


class NoDispatch:
    """No message of this module is kept for later here."""

    def decode(self, messages: tuple[bytes, ...]) -> tuple[Message, ...]:
        raise AssertionError("nothing is dispatched here")

    def __call__(self, ctx: Context, messages: tuple[bytes, ...]) -> None:
        raise AssertionError("nothing is dispatched here")


class World:
    """State with helpers: `run` executes one message and keeps what it wrote, or raises and keeps nothing."""

    def __init__(self) -> None:
        self.store = MemoryReader()
        self.state = BlockState(self.store)
        self.time_ms = NOW_MS
        self.height = 100
        self.runs = 0
        self.accounts: dict[str, bytes] = {}

    def __getitem__(self, name: str) -> bytes:
        return self.accounts[name]

    def do(self, function: Callable[..., Any], *arguments: Any, is_founding: bool = False) -> list[Event]:
        """Run a function on a context of its own and hold every invariant, over what it touched and over all."""
        self.runs += 1
        block = BlockInfo("test-1", self.height, self.time_ms)
        origin = hashlib.sha256(str(self.runs).encode()).digest()
        ctx = Context(Overlay(self.state), block, origin, None, frozenset(), NoDispatch())
        function(ctx, *arguments)
        invariants = () if is_founding else (*LEDGER_INVARIANTS, *MODULE.invariants)
        touched = Scope(Overlay(self.state), ctx.state, ctx.state.written)
        for invariant in invariants:
            # Of validators a block is one step, whatever its messages did one after another.
            assert invariant is validators_can_decide or list(invariant(touched)) == []
        ctx.state.keep()
        assert list(validators_can_decide(Scope(self.state.start(), self.state, self.state.written))) == []
        for invariant in invariants:
            assert list(invariant(Scope(self.state, self.state, None))) == []
        return ctx.events

    def next_block(self) -> None:
        """Commit what was done: from here on it is the state that a block starts from."""
        self.store.commit(self.state.changes())
        self.state = BlockState(self.store)
        self.height += 1

    def run(self, message: Any) -> list[Event]:
        handler = MODULE.handlers.get(type(message)) or MODULE.triggers[type(message)]
        return self.do(handler, message)

    def refuse(self, message: Any) -> tuple[str, int]:
        """Run a message that must be refused and return the rule; nothing may have changed."""
        before = dict(self.state.written)
        with pytest.raises(InvalidTransaction) as refusal:
            self.run(message)
        assert self.state.written == before
        return refusal.value.codespace, refusal.value.number

    def propose(self, by: str, action: Any) -> bytes:
        """Let a member propose, and return the proposal's id."""
        return self.run(Propose(self[by], action, "as agreed"))[0].proposal  # type: ignore[attr-defined]

    def vote(self, by: str, proposal: bytes, is_approval: bool = True) -> list[Event]:
        return self.run(Vote(self[by], proposal, is_approval))

    def withdraw(self, by: str, proposal: bytes) -> list[Event]:
        return self.run(Withdraw(self[by], proposal))

    def enact(self, action: Any) -> list[Event]:
        """Have harbour-bank propose and lotus-bank approve; return what the deciding vote did."""
        return self.vote("lotus-bank", self.propose("harbour-bank", action))

    def proposal(self, proposal: bytes) -> Proposal:
        found = PROPOSALS.get(self.state, proposal)
        assert found is not None
        return found

    def member(self, member: str) -> Member:
        return require_member(self.state, member)

    def open(self, name: str, member: str, *, is_founding: bool = False) -> bytes:
        events = self.do(open_account, member, policy_of(name), salt_of(name), is_founding=is_founding)
        self.accounts[name] = events[0].accounts()[0]
        return self.accounts[name]


def policy_of(name: str) -> Policy:
    return single_key_policy(Ed25519Key(hashlib.sha256(name.encode()).digest()).public)


def salt_of(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()[:16]


def identity_of(*roles: str, name: str = "New Member plc") -> Identity:
    return Identity(name, None, None, None, roles, None)


def make_founded() -> World:
    """Members and one account each, before `[governance]` of the consortium file is read."""
    world = World()
    for member, roles in MEMBERS.items():
        record = Member(member.title(), None, None, None, roles, None, False)
        world.do(add_member, member, record, is_founding=True)
        world.open(member, member, is_founding=True)
    return world


def make_world() -> World:
    world = make_founded()
    world.do(genesis, {"approvals_needed": 2, "voting_days": 7})
    return world


@pytest.fixture
def founded() -> World:
    return make_founded()


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture(scope="session")
def new_world() -> Callable[[], World]:
    return make_world


@pytest.fixture
def identity() -> Callable[..., Identity]:
    return identity_of


@pytest.fixture
def policy() -> Callable[[str], Policy]:
    return policy_of


@pytest.fixture
def salt() -> Callable[[str], bytes]:
    return salt_of
