"""Six of the faults that a network survives; `make faults` plays them all.

Four real validators under load. After each fault nothing acknowledged is lost, nothing was applied twice, all have the
same state roots, and each validator's audit is clean.
"""

from collections.abc import Iterator

import pytest

from feiqian.execution.registry import discover
from feiqian.testing.comet_binary import require_cometbft
from feiqian.testing.loads import BATCH, Known, fund
from feiqian.testing.network_faults import ENVIRONMENT, play
from feiqian.testing.validators import Network

CASES = ("kill-one", "kill-two", "kill-all", "killed-inside-commit", "kill-cometbft", "stranger")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Network, Known]]:
    require_cometbft()
    with Network(tmp_path_factory.mktemp("n"), discover(), environment=ENVIRONMENT) as network:
        known = Known()
        fund(network.start(), known)
        yield network, known


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_network_survives(network: tuple[Network, Known], case: str) -> None:
    running, known = network
    running.start()
    before = max((validator.height for validator in running.running), default=0)
    played = play(running, known, case)
    assert played.height > before
    # The load's before the fault, and after it.
    assert played.acknowledged >= 4 * BATCH
