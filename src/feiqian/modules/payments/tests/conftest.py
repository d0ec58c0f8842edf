"""A small consortium in memory: two euro banks, a third that settles elsewhere, their customers, a regulator."""

import hashlib
from typing import Any

import pytest

from feiqian.core.signatures import PublicKey
from feiqian.ledger.accounts import open_account
from feiqian.ledger.assets import define_asset
from feiqian.ledger.authority import single_key_policy
from feiqian.ledger.balances import get_balance
from feiqian.ledger.context import BlockInfo, Context
from feiqian.ledger.invariants import Scope
from feiqian.ledger.members import add_member
from feiqian.ledger.postings import post
from feiqian.ledger.records import Asset, Leg, Member
from feiqian.modules.payments import MODULE, messages
from feiqian.modules.payments.invariants import INVARIANTS
from feiqian.state.tables import BlockState, Overlay
from feiqian.wallet.keys import Ed25519Key

NOW_MS = 1_767_268_800_000
"""2026-01-01 12:00 UTC, day 20454 since 1970-01-01."""
TODAY = 20_454


class EmptyStore:
    """Committed state before there is any."""

    def get(self, key: bytes, /) -> None:
        return None

    def scan(self, prefix: bytes, after: bytes = b""):
        return iter(())


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


class World:
    """State with helpers; `run` executes one message and keeps it or raises, changing nothing."""

    def __init__(self) -> None:
        self.state = BlockState(EmptyStore())
        self.runs = 0
        self.accounts: dict[str, bytes] = {}

    def context(self) -> Context:
        self.runs += 1
        block = BlockInfo("test-1", 1, NOW_MS)
        return Context(Overlay(self.state), block, digest(f"run {self.runs}"), None, frozenset(), _NoDispatch())

    def run(self, message):
        ctx = self.context()
        MODULE.handlers[type(message)](ctx, message)
        touched = Scope(Overlay(self.state), ctx.state, ctx.state.written)
        for invariant in INVARIANTS:
            assert list(invariant(touched)) == []
        ctx.state.keep()
        for invariant in INVARIANTS:
            assert list(invariant(Scope(self.state, self.state, None))) == []
        return ctx.events

    def do(self, function, *arguments, **options):
        ctx = self.context()
        result = function(ctx, *arguments, **options)
        ctx.state.keep()
        return result

    def member(self, member_id: str, *roles: str, bic: str | None = None) -> None:
        record = Member(member_id.title(), None, None, bic, tuple(sorted(roles)), None, False)
        self.do(add_member, member_id, record)

    def account(self, name: str, member: str) -> bytes:
        self.accounts[name] = self.do(open_account, member, single_key_policy(key_of(name).public), digest(name)[:16])
        return self.accounts[name]

    def asset(self, code: str, issuer: str, account: str, currency: str = "EUR", scale: int = 2, **fields) -> None:
        values = {
            "scale": scale,
            "issuer": issuer,
            "issuance_account": self.accounts[account],
            "supply_cap_minor": 10**12,
            "is_freezable": False,
            "is_allow_listed": False,
            "transfer_limit_minor": None,
            "daily_limit_minor": None,
            "controller": None,
            "name": code,
            "currency": currency,
        } | fields
        self.do(define_asset, code, Asset(**values))

    def issue(self, asset: str, issuance: str, holder: str, amount_minor: int) -> None:
        legs = (
            Leg(self.accounts[issuance], asset, -amount_minor),
            Leg(self.accounts[holder], asset, amount_minor),
        )
        self.do(post, legs)

    def balance(self, name: str, asset: str) -> int:
        return get_balance(self.state, self.accounts[name], asset).posted_minor

    def position(self) -> dict[str, int]:
        """Every balance that a payment from Ada (harbour-bank) to Bo (lotus-bank) may touch."""
        return {
            "ada": self.balance("ada", "EUR.harbour-bank"),
            "harbour liability": -self.balance("harbour", "EUR.harbour-bank"),
            "harbour settlement": self.balance("harbour", "EUR.central"),
            "lotus settlement": self.balance("lotus", "EUR.central"),
            "lotus liability": -self.balance("lotus", "EUR.lotus-bank"),
            "bo": self.balance("bo", "EUR.lotus-bank"),
            "central": -self.balance("central", "EUR.central"),
        }

    def register(self, asset: str, bank: str, settlement: str = "EUR.central", limit_minor: int = 5_000_00):
        return self.run(self.registration(asset, bank, settlement, limit_minor))

    def registration(self, asset: str, bank: str, settlement: str = "EUR.central", limit_minor: int = 5_000_00):
        account = self.accounts[bank]
        return messages.RegisterAgent(asset, account, settlement, account, account, limit_minor, None)

    def alias(self, asset: str, bank: str, number: str, holder: str):
        name = digest(f"name of {holder}")
        return messages.RegisterAlias(self.accounts[bank], asset, digest(number), self.accounts[holder], name)

    def transfer(self, **changes) -> messages.CreditTransfer:
        """Ada pays Bo 125.50, unless `changes` say otherwise."""
        values = {
            "debtor_account": self.accounts["ada"],
            "debtor_asset": "EUR.harbour-bank",
            "creditor_account": self.accounts["bo"],
            "creditor_asset": "EUR.lotus-bank",
            "currency": "EUR",
            "amount_minor": 125_50,
            "uetr": bytes.fromhex("eb6305c91f7f49de aed016487c27b42d"),
            "instruction_id": digest("invoice 1"),
            "charge_bearer": "SLEV",
            "purpose": "SUPP",
            "requested_day": TODAY,
            "particulars": None,
        } | changes
        return messages.CreditTransfer(**values)


def key_of(name: str) -> Ed25519Key:
    return Ed25519Key(digest(f"key of {name}"))


def public_key_of(name: str) -> PublicKey:
    return key_of(name).public


class _NoDispatch:
    def __call__(self, ctx: Context, messages: tuple[bytes, ...]) -> None:
        raise AssertionError("nothing is dispatched here")

    def decode(self, messages: tuple[bytes, ...]) -> Any:
        raise AssertionError("nothing is decoded here")


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
def new_world():
    return make_world


def make_world() -> World:
    """Ada and Alf bank with harbour-bank, Bo with lotus-bank, Cy with island-bank, which settles in EUR.island."""
    world = World()
    world.member("central-bank", "issuer")
    world.member("harbour-bank", "bank", bic="HRBKDEF0XXX")
    world.member("lotus-bank", "bank", bic="LTBKFRP0XXX")
    world.member("island-bank", "bank")
    world.member("regulator", "regulator")
    world.member("ada-works", "company")
    world.member("bo-trade", "company")
    for name, member in [
        ("central", "central-bank"),
        ("harbour", "harbour-bank"),
        ("harbour-desk", "harbour-bank"),
        ("lotus", "lotus-bank"),
        ("island", "island-bank"),
        ("ada", "ada-works"),
        ("alf", "ada-works"),
        ("bo", "bo-trade"),
        ("cy", "bo-trade"),
    ]:
        world.account(name, member)
    world.asset("EUR.central", "central-bank", "central")
    world.asset("EUR.island", "island-bank", "island")
    for bank in ("harbour", "lotus", "island"):
        world.asset(f"EUR.{bank}-bank", f"{bank}-bank", bank)
    world.register("EUR.harbour-bank", "harbour")
    world.register("EUR.lotus-bank", "lotus")
    world.register("EUR.island-bank", "island", settlement="EUR.island")
    world.run(world.alias("EUR.harbour-bank", "harbour", "DE1", "ada"))
    world.run(world.alias("EUR.harbour-bank", "harbour", "DE2", "alf"))
    world.run(world.alias("EUR.lotus-bank", "lotus", "FR1", "bo"))
    world.run(world.alias("EUR.island-bank", "island", "MT1", "cy"))
    world.issue("EUR.central", "central", "harbour", 1_000_00)
    world.issue("EUR.harbour-bank", "harbour", "ada", 2_000_00)
    return world
