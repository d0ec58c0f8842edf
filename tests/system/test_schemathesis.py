"""schemathesis against a running API: whatever the description allows, and much that it does not, makes no 5xx."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import booleans
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error

from feiqian.core.addresses import to_text
from feiqian.testing.gateways import REGULATOR_ACCOUNT, GatewayProcess, watched_consortium
from feiqian.testing.ledgers import ASSET, make_ledger
from feiqian.testing.processes import NodeProcess

EXAMPLES = 15
ANSWER_S = 60


class Served(NamedTuple):
    """A running gateway, a regulator's token, and the names of things that are there."""

    gateway: GatewayProcess
    token: str
    known: dict[str, str]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A ledger with a payment in it, served; a regulator asks, to whom every route is open."""
    ledger = make_ledger(tmp_path_factory.mktemp("schemathesis") / "ledger", watched_consortium())
    with NodeProcess(ledger.directory).await_ready(), GatewayProcess(ledger.directory) as gateway:
        gateway.await_ready().await_indexed()
        gateway.submit(ledger.issue("treasury", 1_000))
        (paid,) = gateway.submit(ledger.transfer("treasury", "south", 250), wait="provable")
        known = {
            "address": to_text(ledger.addresses["treasury"]),
            "account": to_text(ledger.addresses["treasury"]),
            "asset": ASSET,
            "code": ASSET,
            "tx_id": paid["tx_id"],
            "member_id": "north-bank",
            "table": "ledger.accounts",
            "height": str(paid["height"]),
        }
        yield Served(gateway, gateway.sign_in(ledger, REGULATOR_ACCOUNT), known)


@pytest.fixture(scope="session")
def description(served: Served) -> Any:
    schema = schemathesis.openapi.from_url(f"{served.gateway.url}/schema/openapi.json")
    # The stream of events never ends, and signing out would end the session that the others use.
    return schema.exclude(path="/api/v1/events").exclude(path="/api/v1/session", method="DELETE")


def test_no_request_makes_the_gateway_fail(description: Any, served: Served) -> None:
    operations = [result.ok() for result in description.get_all_operations()]
    assert len(operations) > 25
    failures: list[str] = []
    for operation in operations:
        try:
            _try_operation(operation, {"Authorization": f"Bearer {served.token}"}, served.known)
        except Exception as failure:  # noqa: BLE001 - each operation is tried, and all that failed are told
            failures.append(f"{operation.label}: {failure}")
    assert not failures, "\n".join(failures)


def _try_operation(operation: Any, headers: dict[str, str], known: dict[str, str]) -> None:
    modes = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]
    strategy = operation.as_strategy(generation_mode=modes[0]) | operation.as_strategy(generation_mode=modes[1])

    @given(case=strategy, is_known=booleans())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    def attempt(case: Any, is_known: bool) -> None:
        # What is made up is seldom there: half of the requests ask for something that is.
        for given_parameters in (case.path_parameters, case.query) if is_known else ():
            for name in known.keys() & (given_parameters or {}).keys():
                given_parameters[name] = known[name]
        case.call_and_validate(headers=headers, checks=[not_a_server_error], timeout=ANSWER_S)

    attempt()
