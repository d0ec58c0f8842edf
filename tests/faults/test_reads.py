"""Who was told that a payment is committed reads it, however far the store is behind; or is told to ask again."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from feiqian.core.addresses import to_text
from feiqian.ledger.authority import single_key_policy
from feiqian.modules.accounts.messages import ChangePolicy
from feiqian.testing.gateways import REGULATOR_ACCOUNT, GatewayProcess, watched_consortium
from feiqian.testing.ledgers import ASSET, SampleLedger, key_of, make_ledger
from feiqian.testing.processes import NodeProcess


@pytest.fixture
def ledger(tmp_path: Path) -> SampleLedger:
    return make_ledger(tmp_path / "ledger", watched_consortium())


@pytest.fixture
def gateway(library: Path, ledger: SampleLedger, gate: Any) -> Iterator[GatewayProcess]:
    """A gateway of a node whose store's syncs pass the gate."""
    held = {"LD_PRELOAD": str(library), "DISK_FILE": "data.mdb", "DISK_GATE": str(gate.directory)}
    with NodeProcess(ledger.directory, held).await_ready(), GatewayProcess(ledger.directory) as gateway:
        yield gateway.await_ready().await_indexed()


@pytest.fixture
def read(gateway: GatewayProcess, ledger: SampleLedger) -> Callable[[], tuple[int, Any]]:
    """Give a function that asks for the treasury's balances."""
    token = gateway.sign_in(ledger, REGULATOR_ACCOUNT)
    path = f"/api/v1/accounts/{to_text(ledger.addresses['treasury'])}/balances"

    def ask() -> tuple[int, Any]:
        with gateway.client(token) as client:
            answer = client.get(path, timeout=60)
        return answer.status_code, answer.json()

    return ask


def posted(balances: Any) -> int:
    return {item["asset"]: item["posted_minor"] for item in balances["items"]}[ASSET]


def test_a_read_waits_until_the_store_has_what_was_told(
    gateway: GatewayProcess, ledger: SampleLedger, gate: Any, read: Callable[[], tuple[int, Any]]
) -> None:
    gateway.submit(ledger.issue("treasury", 100))
    assert posted(read()[1]) == 100
    gate.close()
    (outcome,) = gateway.submit(ledger.issue("treasury", 11))
    assert outcome["status"] == "committed"
    gate.await_sync()
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(read)
        with gateway.client() as client:
            assert client.get("/health").status_code == 200
            # More may be sent meanwhile, and is committed.
            assert gateway.submit(ledger.issue("treasury", 1))[0]["status"] == "committed"
        time.sleep(0.5)
        assert not answer.done()
        gate.let_through()
        assert posted(answer.result()[1]) in (111, 112)
    assert posted(read()[1]) == 112


def test_who_was_told_of_a_new_key_signs_with_it_at_once(
    gateway: GatewayProcess, ledger: SampleLedger, gate: Any
) -> None:
    gateway.submit(ledger.issue("treasury", 100), wait="provable")
    gate.close()
    change = ChangePolicy(ledger.addresses["treasury"], single_key_policy(key_of("another").public))
    (changed,) = gateway.submit(ledger.sign("treasury", [change]))
    assert changed["status"] == "committed"
    gate.await_sync()
    with ThreadPoolExecutor() as threads:
        paid = threads.submit(gateway.submit, ledger.transfer("treasury", "lantern", 5, signers=["another"]))
        wrong = threads.submit(gateway.submit, ledger.transfer("treasury", "lantern", 5, signers=["stranger"]))
        time.sleep(0.5)
        assert not paid.done()
        gate.let_through()
        assert paid.result()[0]["status"] == "committed"
        assert "error" not in paid.result()[0]
        assert (wrong.result()[0]["status"], wrong.result()[0]["error"]["codespace"]) == ("refused", "ledger")


def test_a_store_that_does_not_catch_up_is_named_and_nothing_old_is_shown(
    gateway: GatewayProcess, ledger: SampleLedger, gate: Any, read: Callable[[], tuple[int, Any]]
) -> None:
    gate.close()
    (outcome,) = gateway.submit(ledger.issue("treasury", 11), wait="provable", timeout_s=1)
    assert outcome["status"] == "committed"
    gate.await_sync()
    status, problem = read()
    assert (status, problem["codespace"]) == (503, "api")
    assert "try again" in problem["detail"]
    gate.let_through()
    assert posted(read()[1]) == 11
