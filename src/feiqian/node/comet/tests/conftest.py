"""Fixtures of the network engine's tests: one node's engine over a real store, committer and checking processes."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from feiqian.core.wire import Committed, Drop
from feiqian.execution.registry import Registry, discover
from feiqian.ledger.balances import BALANCES, balance_key
from feiqian.node.comet.committer import NetworkCommitter
from feiqian.node.comet.engine import NetworkEngine
from feiqian.node.configuration import Layout
from feiqian.node.initialise import plain_tables, prepare_ledger
from feiqian.node.intake import Intake
from feiqian.node.mempool import Mempool
from feiqian.node.metrics import Metrics
from feiqian.node.process import clock_ms
from feiqian.node.proposals import Proposals
from feiqian.node.verifier import Verifiers
from feiqian.state.store import Store
from feiqian.state.tables import BlockState
from feiqian.testing.ledgers import ASSET, SampleLedger

ROOM_BYTES = 4 * 2**20


class Member:
    """One member's node, without CometBFT: its engine, pool and store, and what it told gateways."""

    def __init__(self, ledger: SampleLedger, registry: Registry) -> None:
        self.ledger = ledger
        self.registry = registry
        self.layout = Layout(ledger.directory)
        self.layout.data.mkdir(exist_ok=True)
        self.genesis = prepare_ledger(self.layout, registry, clock_ms)
        self.committed: list[Committed] = []
        self.drops: list[Drop] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Member"]:
        committer = NetworkCommitter(self.layout, plain_tables(self.registry), 1_000, 0)
        await committer.start()
        self.store = Store.open(self.layout.ledger, read_only=True)
        self.pool = Mempool(10_000, 2**26)
        metrics, verifiers = Metrics(), Verifiers()
        await verifiers.start(1, self.layout.ledger)
        proposals = Proposals(self.pool, metrics, self.genesis.initial_height, clock_ms, self.drops.extend)
        self.engine = NetworkEngine(
            self.registry,
            self.store,
            self.genesis,
            committer,
            self.pool,
            proposals,
            verifiers,
            metrics,
            clock_ms=clock_ms,
            committed=self.committed.append,
        )
        self.intake = Intake(
            self.registry, self.genesis.chain_id, self.pool, verifiers, metrics, self.engine, _never_behind
        )
        try:
            yield self
        finally:
            self.engine.stop()
            await verifiers.stop()
            await committer.stop()
            self.store.close()

    async def submit(self, *signed: bytes) -> None:
        """Take transactions into the pool."""
        for verdict in await self.intake.submit(signed):
            assert not verdict.number, verdict

    async def decide(self, *signed: bytes) -> None:
        """Make a block of the pool and of these."""
        await self.submit(*signed)
        height = self.engine.stored_height + 1
        time_ms = self.genesis.time_ms if height == self.genesis.initial_height else clock_ms()
        proposed = await self.engine.propose(height, time_ms, ROOM_BYTES, ())
        await self.engine.judge(proposed)
        await self.engine.finalise(proposed)
        assert (await self.engine.commit()).height == height

    def posted(self, account: str) -> int:
        """Return what an account has by the store."""
        balance = BALANCES.get(BlockState(self.store), balance_key(self.ledger.addresses[account], ASSET))
        return 0 if balance is None else balance.posted_minor


async def _never_behind(height: int) -> None:
    raise AssertionError(f"a network's store is never behind, and {height} was waited for")


@pytest.fixture(scope="session")
def registry() -> Registry:
    return discover()


RunMember = Callable[[Callable[[Member], Coroutine[Any, Any, None]]], None]
RunMembers = Callable[[Callable[[Sequence[Member]], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def run_member(tmp_path: Path, registry: Registry) -> RunMember:
    """Give a function that runs a test with a member whose first block, and a second that issues 1,000, are decided."""

    def run(test: Callable[[Member], Coroutine[Any, Any, None]]) -> None:
        async def go() -> None:
            member = Member(SampleLedger(tmp_path / "ledger", registry), registry)
            async with member.running():
                await member.decide()
                await member.decide(member.ledger.issue("treasury", 1_000))
                await test(member)

        asyncio.run(go())

    return run


@pytest.fixture
def run_members(tmp_path: Path, registry: Registry) -> RunMembers:
    """Give a function that runs a test with two members of one ledger."""

    def run(test: Callable[[Sequence[Member]], Coroutine[Any, Any, None]]) -> None:
        async def go() -> None:
            first = Member(SampleLedger(tmp_path / "first", registry), registry)
            shutil.copytree(tmp_path / "first", tmp_path / "second")
            second = Member(SampleLedger.reopen(tmp_path / "second", registry), registry)
            async with first.running(), second.running():
                await test([first, second])

        asyncio.run(go())

    return run
