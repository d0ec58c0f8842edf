"""Fixtures of the gateway's tests: one real ledger, node and gateway for all, and a way to start others."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from feiqian.core.addresses import to_text
from feiqian.testing.gateways import SIGN_IN, GatewayProcess, watched_consortium
from feiqian.testing.ledgers import SampleLedger, make_ledger
from feiqian.testing.processes import NodeProcess


@dataclass
class World:
    """A running ledger in which north-bank has 1000 issued, 250 of it paid to south-bank: `paid` is that payment's id.

    `lantern-works` is a member that has no part in it, `branch` an account of north-bank that has none. The
    administration account of north-bank is `issuance`.
    """

    ledger: SampleLedger
    node: NodeProcess
    gateway: GatewayProcess
    paid: str
    tokens: dict[str, str | None]

    def client(self, reader: str = "anonymous") -> httpx.Client:
        """Return a client for one of the readers: anonymous, or of `SIGN_IN`."""
        return self.gateway.client(self.tokens[reader])

    def address(self, account: str) -> str:
        """Return an account's address as text."""
        return to_text(self.ledger.addresses[account])


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    ledger = make_ledger(tmp_path_factory.mktemp("api") / "ledger", watched_consortium())
    with NodeProcess(ledger.directory).await_ready() as node, GatewayProcess(ledger.directory) as gateway:
        gateway.await_ready().await_indexed()
        (issued,) = gateway.submit(ledger.issue("treasury", 1_000))
        assert issued["status"] == "committed"
        (paid,) = gateway.submit(ledger.transfer("treasury", "south", 250), wait="provable")
        tokens: dict[str, str | None] = {"anonymous": None}
        tokens |= {reader: gateway.sign_in(ledger, account) for reader, account in SIGN_IN.items()}
        yield World(ledger, node, gateway, paid["tx_id"], tokens)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., GatewayProcess]]:
    """Give a function that starts a node and a gateway with these settings over a fresh ledger, or the one given."""
    with ExitStack() as stack:

        def start_gateway(ledger: SampleLedger | None = None, **settings: object) -> GatewayProcess:
            if ledger is None:
                ledger = make_ledger(tmp_path / "ledger", watched_consortium())
                stack.enter_context(NodeProcess(ledger.directory).await_ready())
            return stack.enter_context(GatewayProcess(ledger.directory, **settings)).await_ready().await_indexed()

        yield start_gateway


@pytest.fixture
def fresh_ledger(tmp_path: Path) -> SampleLedger:
    return make_ledger(tmp_path / "ledger", watched_consortium())
