"""schemathesis against a running API: whatever the description allows, and much that it does not, makes no 5xx."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from feiqian.testing.gateways import REGULATOR_ACCOUNT, GatewayProcess, watched_consortium
from feiqian.testing.ledgers import make_ledger
from feiqian.testing.processes import NodeProcess

EXAMPLES = 15
ANSWER_S = 60


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, str]]:
    """A running gateway over a ledger with a payment in it, and a regulator's token, to whom every route is open."""
    ledger = make_ledger(tmp_path_factory.mktemp("schemathesis") / "ledger", watched_consortium())
    with NodeProcess(ledger.directory).await_ready(), GatewayProcess(ledger.directory) as gateway:
        gateway.await_ready().await_indexed()
        gateway.submit(ledger.issue("treasury", 1_000), ledger.transfer("treasury", "south", 250))
        yield gateway, gateway.sign_in(ledger, REGULATOR_ACCOUNT)


@pytest.fixture(scope="session")
def description(served: tuple[GatewayProcess, str]) -> Any:
    gateway, _ = served
    schema = schemathesis.openapi.from_url(f"{gateway.url}/schema/openapi.json")
    # The stream of events never ends, and signing out would end the session that the others use.
    return schema.exclude(path="/api/v1/events").exclude(path="/api/v1/session", method="DELETE")


def test_no_request_makes_the_gateway_fail(description: Any, served: tuple[GatewayProcess, str]) -> None:
    _, token = served
    operations = [result.ok() for result in description.get_all_operations()]
    assert len(operations) > 25
    failures: list[str] = []
    for operation in operations:
        try:
            _try_operation(operation, {"Authorization": f"Bearer {token}"})
        except Exception as failure:  # noqa: BLE001 - each operation is tried, and all that failed are told
            failures.append(f"{operation.label}: {failure}")
    assert not failures, "\n".join(failures)


def _try_operation(operation: Any, headers: dict[str, str]) -> None:
    modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
    strategy = operation.as_strategy(generation_mode=modes[0]) | operation.as_strategy(generation_mode=modes[1])

    @given(case=strategy)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def attempt(case: Any) -> None:
        case.call_and_validate(headers=headers, checks=[not_a_server_error], timeout=ANSWER_S)

    attempt()
