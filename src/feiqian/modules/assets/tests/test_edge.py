"""The assets tables of a real SQL index, written from events, and what the routes read from them."""

import pytest

from feiqian.core.addresses import to_text
from feiqian.execution.registry import discover
from feiqian.index.database import migrate, open_engine
from feiqian.index.writer import Base, IndexWriter
from feiqian.ledger.events import AccountOpened
from feiqian.ledger.holds import ExpireHold
from feiqian.modules.assets.edge import reading
from feiqian.modules.assets.edge.projections import PROJECTION
from feiqian.modules.assets.edge.shapes import ControlBody, HoldBody, HolderBody, IssueBody
from feiqian.modules.assets.messages import (
    AllowHolder,
    ForcedTransfer,
    ForcedVoidHold,
    Freeze,
    Issue,
    PlaceHold,
    PostHold,
    Redeem,
    Release,
    Transfer,
    VoidHold,
)

EUR = "EUR.harbour-bank"
OIL = "OIL.harbour-bank"
OWNERS = {"vault": "harbour-bank", "ada": "ada-works", "bo": "bo-trade", "court": "court"}


@pytest.fixture
def indexed(tmp_path, bare_world):
    """Return a function that indexes the given events, after the opening of the world's accounts."""

    def index(events):
        engine = open_engine(f"sqlite:///{tmp_path / 'index.db'}")
        migrate(engine)
        writer = IndexWriter(engine, discover(), [PROJECTION])
        account = next(iter(bare_world.accounts.values()))
        policy = bare_world.policy(account)
        opened = [AccountOpened(bare_world[name], member, policy) for name, member in OWNERS.items()]
        writer.begin(Base("test-1", 7, bare_world.time_ms, bytes(32), [*opened, *events]))
        return engine

    return index


def hold(world, amount_minor, beneficiary="bo"):
    expires_at_ms = world.time_ms + 1000
    return PlaceHold(world["ada"], world[beneficiary], EUR, amount_minor, expires_at_ms, b"order")


def text(world, name):
    return to_text(world[name])


def test_issues_and_holders(bare_world, indexed):
    world = bare_world
    events = [*world.run(world.definition()), *world.run(world.definition(code=OIL, is_allow_listed=True))]
    events += world.run(Issue(world["vault"], world["ada"], EUR, 500, b"deposit"))
    events += world.run(Redeem(world["ada"], EUR, 120, b"payout"))
    events += world.run(Transfer(world["ada"], world["bo"], EUR, 80, b""))
    events += world.run(Freeze(world["court"], world["bo"], EUR, "FRAUD"))
    events += world.run(AllowHolder(world["vault"], world["ada"], OIL))
    events += world.run(Issue(world["vault"], world["ada"], OIL, 3, b""))
    engine = indexed(events)
    time_ms = world.time_ms
    found = reading.issues(engine, EUR, None, 10)
    assert [body for _, body in found] == [
        IssueBody(time_ms, 7, None, text(world, "ada"), -120, b"payout".hex()),
        IssueBody(time_ms, 7, None, text(world, "ada"), 500, b"deposit".hex()),
    ]
    assert reading.issues(engine, EUR, found[0][0], 10) == found[1:]
    expected = [
        HolderBody(text(world, "ada"), "ada-works", 300, False, False, None),
        HolderBody(text(world, "bo"), "bo-trade", 80, True, False, "FRAUD"),
    ]
    order = sorted(("ada", "bo"), key=lambda name: world[name])
    assert reading.holders(engine, EUR, world["vault"], b"", 10) == sorted(
        expected, key=lambda body: [text(world, name) for name in order].index(body.account)
    )
    assert len(reading.holders(engine, EUR, world["vault"], world[order[0]], 10)) == 1
    assert reading.holders(engine, OIL, world["vault"], b"", 10) == [
        HolderBody(text(world, "ada"), "ada-works", 3, False, True, None)
    ]


def test_controls(bare_world, indexed):
    world = bare_world
    events = world.run(world.definition())
    events += world.run(Issue(world["vault"], world["ada"], EUR, 500, b""))
    events += world.run(hold(world, 200))
    reserved = events[-1].hold
    events += world.run(Freeze(world["court"], world["ada"], EUR, "COURT_ORDER"))
    events += world.run(ForcedVoidHold(world["court"], reserved, EUR, "INSOLVENCY"))
    events += world.run(ForcedTransfer(world["court"], world["ada"], world["bo"], EUR, 450, "LOST_KEY", b""))
    events += world.run(Release(world["court"], world["ada"], EUR, "ORDER_LIFTED"))
    court, ada, bo = (text(world, name) for name in ("court", "ada", "bo"))
    engine = indexed(events)
    at = (world.time_ms, 7, None)
    assert [body for _, body in reading.controls(engine, EUR, None, 10)] == [
        ControlBody(*at, "released", court, ada, None, None, "ORDER_LIFTED"),
        ControlBody(*at, "transfer-forced", court, ada, bo, 450, "LOST_KEY"),
        ControlBody(*at, "hold-voided", court, ada, bo, 200, "INSOLVENCY"),
        ControlBody(*at, "frozen", court, ada, None, None, "COURT_ORDER"),
    ]
    standing = reading.holders(engine, EUR, world["vault"], b"", 10)
    assert HolderBody(ada, "ada-works", 50, False, False, "ORDER_LIFTED") in standing


def test_holds(bare_world, indexed):
    world = bare_world
    events = world.run(world.definition())
    events += world.run(Issue(world["vault"], world["ada"], EUR, 500, b""))
    ids = []
    for amount_minor in (10, 20, 30, 40):
        events += world.run(hold(world, amount_minor))
        ids.append(events[-1].hold)
    events += world.run(PostHold(ids[0], world["bo"], EUR, 4, False))
    events += world.run(PostHold(ids[1], world["bo"], EUR, 15, True))
    events += world.run(VoidHold(ids[2], world["bo"]))
    placed_at_ms = world.time_ms
    world.time_ms += 1000
    events += world.expire(ExpireHold(ids[3]))
    world.time_ms = placed_at_ms
    engine = indexed(events)

    def body(place, amount_minor, remaining_minor, status):
        accounts = (text(world, "ada"), text(world, "bo"))
        ends = (placed_at_ms + 1000, b"order".hex())
        return HoldBody(ids[place].hex(), placed_at_ms, 7, *accounts, EUR, amount_minor, remaining_minor, status, *ends)

    expected = [
        body(3, 40, 0, "expired"),
        body(2, 30, 0, "voided"),
        body(1, 20, 0, "posted"),
        body(0, 10, 6, "open"),
    ]
    for name in ("ada", "bo"):
        assert [found for _, found in reading.holds(engine, world[name], None, 10)] == expected
    assert reading.holds(engine, world["court"], None, 10) == []
