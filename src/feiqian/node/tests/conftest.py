"""Fixtures of the node's tests: a fresh sample ledger, and node processes that are gone when the test ends."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from feiqian.execution.registry import Registry, discover
from feiqian.testing.ledgers import SampleLedger
from feiqian.testing.processes import NodeProcess


@pytest.fixture(scope="session")
def registry() -> Registry:
    return discover()


@pytest.fixture
def make_ledger(tmp_path: Path, registry: Registry) -> Callable[..., SampleLedger]:
    """Give a function that makes a sample ledger; its argument is another consortium file's text."""

    def make(text: str | None = None) -> SampleLedger:
        return SampleLedger(tmp_path / "ledger", registry, text)

    return make


@pytest.fixture
def ledger(make_ledger: Callable[..., SampleLedger]) -> SampleLedger:
    return make_ledger()


@pytest.fixture
def start() -> Iterator[Callable[..., NodeProcess]]:
    """Give a function that starts the node of a ledger and waits until it serves; keywords become its settings."""
    with ExitStack() as stack:

        def start_node(ledger: SampleLedger, **settings: object) -> NodeProcess:
            environment = {f"FEIQIAN_NODE_{name.upper()}": str(value) for name, value in settings.items()}
            return stack.enter_context(NodeProcess(ledger.directory, environment)).await_ready()

        yield start_node
