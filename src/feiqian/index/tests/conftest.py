"""Fixtures of the index's tests: the blocks of a real ledger, and databases of both kinds."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import sqlalchemy as sa

from feiqian.consensus.genesis_file import load_genesis
from feiqian.core.wire import Stored
from feiqian.execution.genesis import genesis_events
from feiqian.execution.registry import Registry, discover
from feiqian.index.database import database_url, open_engine
from feiqian.index.writer import Base
from feiqian.node.configuration import Layout
from feiqian.state.store import Store
from feiqian.testing.gateways import watched_consortium
from feiqian.testing.ledgers import SampleLedger, make_ledger
from feiqian.testing.postgresql import postgresql
from feiqian.testing.processes import NodeProcess


class Recorded(NamedTuple):
    """A ledger that was run once: what it began with and every block it made."""

    ledger: SampleLedger
    registry: Registry
    base: Base
    blocks: list[Stored]
    ids: dict[str, bytes]


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Run a node through a few payments, one of them refused on the ledger, and keep its blocks."""
    ledger = make_ledger(tmp_path_factory.mktemp("index") / "ledger", watched_consortium())
    ids: dict[str, bytes] = {}
    with NodeProcess(ledger.directory).await_ready() as node, node.connect() as channel:
        channel.subscribe()
        steps = {
            "issue": ledger.issue("treasury", 1_000),
            "first": ledger.transfer("treasury", "south", 250),
            "second": ledger.transfer("treasury", "lantern", 100),
            "too much": ledger.transfer("south", "lantern", 251),
            "back": ledger.transfer("lantern", "treasury", 30),
        }
        for name, signed in steps.items():
            (verdict,) = channel.submit([signed])
            assert verdict.number == 0, verdict
            ids[name] = verdict.tx_id
            while verdict.tx_id not in channel.next_stored().results:
                pass
        node.terminate()
    return Recorded(ledger, discover(), base_of(ledger), stored_blocks(ledger.directory), ids)


def base_of(ledger: SampleLedger) -> Base:
    """Return what an index of this ledger begins from."""
    genesis = load_genesis(Layout(ledger.directory).genesis)
    height = genesis.initial_height - 1
    events = genesis_events(ledger.registry, genesis.app_state, genesis.time_ms, height)
    return Base(genesis.chain_id, height, genesis.time_ms, genesis.app_hash, events)


def stored_blocks(directory: Path) -> list[Stored]:
    """Return every block of a ledger as its node would stream it."""
    store = Store.open(Layout(directory).ledger, read_only=True)
    try:
        blocks = [store.block(height) for height in range(1, store.height + 1)]
    finally:
        store.close()
    return [Stored(*block) for block in blocks if block is not None]


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    with postgresql() as url:
        yield url


@pytest.fixture
def sqlite_engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'index.db'}")
    yield engine
    engine.dispose()


@pytest.fixture
def postgresql_engine(postgresql_url: str, tmp_path: Path) -> Iterator[sa.Engine]:
    engine = open_engine(database_url(postgresql_url, tmp_path))
    yield engine
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA IF EXISTS feiqian_index CASCADE"))
    engine.dispose()


@pytest.fixture(params=["sqlite_engine", "postgresql_engine"])
def engine(request: pytest.FixtureRequest) -> sa.Engine:
    """Either kind of database; each test runs on both."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def base_and_blocks() -> Callable[[SampleLedger], tuple[Base, list[Stored]]]:
    """Give a function that reads what a stopped ledger began with and every block it made."""
    return lambda ledger: (base_of(ledger), stored_blocks(ledger.directory))
