"""What a real CometBFT calls from each start to each end, in which order: its published grammar holds."""

from collections.abc import Iterator

import pytest

from feiqian.client import Client
from feiqian.execution.registry import discover
from feiqian.testing.comet_binary import require_cometbft
from feiqian.testing.faulty_node import CALLS_SUFFIX
from feiqian.testing.grammar import ANY_TIME, find_violation
from feiqian.testing.network_faults import state_sync_from, wipe
from feiqian.testing.validators import Network, Validator, await_that

pytestmark = pytest.mark.campaign

SNAPSHOTS = {"FEIQIAN_COMET_SNAPSHOT_BLOCKS": "5", "FEIQIAN_COMET_SNAPSHOT_KEEP": "1000"}
"""Soon one, and none is given up while it is fetched: CometBFT then asks for it again and again."""

BLOCKS = 4


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    require_cometbft()
    with Network(tmp_path_factory.mktemp("calls") / "n", discover(), 4, environment=SNAPSHOTS) as network:
        for validator in network.validators[:2]:
            validator.start(fault="records")
        yield network.start()


def pay(network: Network, through: Validator) -> None:
    """Have a block with a transaction, and some more."""
    with Client(through.gateway_url) as client:
        (outcome,) = client.submit_all([network.ledger.issue("south", 1)])
    outcome.raise_if_refused()
    through.await_height(outcome.height + BLOCKS)


def calls_of(validator: Validator) -> list[str]:
    """Return what was written down so far."""
    return validator.layout.abci_socket.with_suffix(CALLS_SUFFIX).read_text().split()


def lives(calls: list[str]) -> list[list[str]]:
    """Part the calls where a CometBFT begins: it first asks how the ledger stands, or offers a snapshot before."""
    parted: list[list[str]] = [[]]
    for call in calls:
        is_begun = any(each not in {"offer_snapshot", "apply_snapshot_chunk", *ANY_TIME} for each in parted[-1])
        if call == "info" and is_begun:
            parted.append([])
        parted[-1].append(call)
    return parted


def test_each_life_of_a_cometbft_that_is_killed_again_and_again(network: Network) -> None:
    validator = network.validators[0]
    pay(network, validator)
    validator.kill_part("cometbft")
    await_that("another CometBFT runs", lambda: len(lives(calls_of(validator))) == 2)
    validator.await_gateway()
    pay(network, validator)
    validator.kill_part("node")
    validator.await_exit()
    validator.start(fault="records").await_gateway()
    pay(network, validator)
    validator.kill()
    validator.start(fault="records").await_gateway()
    pay(network, validator)
    first, *others = parted = lives(calls_of(validator))
    # Each begins as often as a CometBFT began: one that asked again in the middle would be one more.
    assert len(parted) == 4
    for life in parted:
        assert find_violation(life) is None, life
        assert {"process_proposal", "finalize_block", "commit"} <= set(life)
    assert first[:2] == ["info", "init_chain"]
    assert [("init_chain" in life) for life in others] == [False, False, False]
    assert any("prepare_proposal" in life for life in parted)


def test_the_life_of_a_cometbft_that_begins_with_a_snapshot(network: Network) -> None:
    validator, peers = network.validators[1], [network.validators[0], network.validators[2]]
    await_that("two peers have a snapshot", lambda: all(any(each.layout.snapshots.glob("*")) for each in peers))
    (before,) = lives(calls_of(validator))
    assert find_violation(before) is None
    assert validator.stop() == 0
    wipe(validator)
    validator.start(fault="records", environment=state_sync_from(peers)).await_gateway()
    pay(network, validator)
    (life,) = lives(calls_of(validator))
    assert find_violation(life) is None, life
    begun = [call for call in life if call not in ANY_TIME]
    assert begun[:2] == ["offer_snapshot", "apply_snapshot_chunk"]
    assert "init_chain" not in life
    assert {"finalize_block", "commit"} <= set(life)
    # Nor is a peer that was asked for snapshots asked for anything out of order.
    assert [find_violation(each) for each in lives(calls_of(peers[0]))][-1] is None


def test_a_record_with_a_call_left_out_or_twice_is_noticed(network: Network) -> None:
    (life, *_) = lives(calls_of(network.validators[0]))
    at = life.index("commit")
    assert find_violation([*life[:at], *life[at + 1 :]]) is not None
    assert find_violation([*life[:at], "commit", *life[at:]]) is not None
