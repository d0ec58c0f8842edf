"""A validator's key run twice, on real processes: the chain proves it, the ledger records it and removes the validator.

The second copy is a standby, registered like any node, whose operator copied the key without the record of what it
signed last.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feiqian.client import Client
from feiqian.consensus.comet.gossip import NodeKey
from feiqian.core.plain import to_plain
from feiqian.execution.blocks import RESULT, RESULTS_CODEC
from feiqian.execution.registry import discover
from feiqian.modules.governance.messages import RegisterNode
from feiqian.node.comet.testnet import NOTHING_SIGNED, endpoints_here
from feiqian.node.configuration import Layout
from feiqian.state.store import Store
from feiqian.testing.assemblies import PROPOSER, enact, governed_banks
from feiqian.testing.comet_binary import require_cometbft
from feiqian.testing.ledgers import key_of
from feiqian.testing.loads import Known, Load, audit, fund
from feiqian.testing.ports import free_ports
from feiqian.testing.validators import PORTS_EACH, Network, Validator, await_that

MEMBERS = ("north-bank", "south-bank", "lantern-works", "west-bank")


@pytest.fixture
def network(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Network]:
    require_cometbft()
    text = governed_banks()
    for member, power in zip(MEMBERS, request.param, strict=False):
        text += f'\n[[validators]]\nmember = "{member}"\npower = {power}\n'
    with Network(tmp_path / "n", discover(), len(request.param), text=text) as network:
        yield network.start()


def start_twin(network: Network, known: Known, twice: Validator) -> Validator:
    """Start a second node with a validator's key, and no record of what that key has signed."""
    layout = Layout(twice.layout.directory.with_name("standby"))
    layout.sign_state.parent.mkdir(parents=True)
    layout.sign_state.write_bytes(NOTHING_SIGNED)
    shutil.copy(twice.layout.genesis, layout.genesis)
    shutil.copy(twice.layout.validator_key, layout.validator_key)
    node = NodeKey.create(layout.node_key)
    (endpoints,) = endpoints_here(1, free_ports(PORTS_EACH))
    peers = ",".join(f"{each.made.node_id}@{each.made.endpoints.p2p}" for each in network.validators)
    layout.settings.write_text(
        f'[node]\nengine = "comet"\n[comet]\npersistent_peers = "{peers}"\nrpc_port = {endpoints.rpc_port}\n'
        f'p2p_listen = "tcp://{endpoints.p2p}"\n[gateway]\nport = {endpoints.gateway_port}\n',
        "utf-8",
    )
    enact(network, known, RegisterNode(node.public_key, twice.name, "standby"))
    made = twice.made._replace(directory=layout.directory, node_id=node.node_id, endpoints=endpoints)
    return Validator(made, 0, None, {}).start()


def proved(network: Network) -> list[dict[str, Any]]:
    """Return what the ledger has recorded of validators that broke their rules."""
    with Client(network.validators[0].gateway_url, timeout_s=60) as client:
        client.sign_in(network.ledger.addresses[PROPOSER], key_of(PROPOSER))
        return client.get("/governance/network")["misbehaviour"]


def events_at(network: Network, height: int) -> list[dict[str, Any]]:
    """Return the events of what no transaction asked for in a block."""
    store = Store.open(network.validators[0].layout.ledger, read_only=True)
    block = store.block(height)
    store.close()
    assert block is not None
    results = [RESULT.decode(entry.result) for entry in RESULTS_CODEC.decode(block.results)]
    return [to_plain(network.registry.event_codec.decode(event)) for result in results for event in result.events]


@pytest.mark.campaign
@pytest.mark.parametrize("network", [(10, 10, 10, 10)], indirect=True)
def test_a_validator_that_signs_twice_is_recorded_and_removed(network: Network) -> None:
    known = Known()
    fund(network, known)
    twice = network.validators[-1]
    with Load(network, known) as load:
        load.await_more()
        twin = start_twin(network, known, twice)
        try:
            await_that("the double signature is recorded", lambda: bool(proved(network)))
            load.await_more()
        finally:
            twin.kill()
    record, *_ = proved(network)
    assert record["address"].lower() == twice.made.validator_address
    assert (record["kind"], record["member"], record["outcome"]) == ("duplicate-vote", twice.name, "removed")
    found = {event["type"]: event for event in events_at(network, record["recorded_at_height"])}
    misbehaved, changed = found["governance.ValidatorMisbehaved"], found["ledger.ValidatorSet"]
    assert (misbehaved["height"], misbehaved["power"]) == (record["height"], 10)
    assert (changed["member"], changed["power_before"], changed["power"]) == (twice.name, 10, 0)
    decide = [each["address"].lower() for each in network.validators[0].rpc("validators")["validators"]]
    assert sorted(decide) == sorted(each.made.validator_address for each in network.validators[:-1])
    for validator in network.validators:
        audit(validator.layout.directory)


@pytest.mark.campaign
@pytest.mark.parametrize("network", [(15, 10)], indirect=True)
def test_one_that_the_rest_cannot_do_without_is_put_to_the_governors(network: Network) -> None:
    # Without its 10 of 25 less than two thirds would stay: 15 * 3 < 25 * 2.
    known = Known()
    fund(network, known)
    twice = network.validators[-1]
    with Load(network, known) as load:
        load.await_more()
        twin = start_twin(network, known, twice)
        try:
            await_that("the double signature is recorded", lambda: bool(proved(network)))
        finally:
            twin.kill()
        load.await_more()
    record = min(proved(network), key=lambda each: each["recorded_at_height"])
    assert (record["address"].lower(), record["outcome"]) == (twice.made.validator_address, "left in place")
    found = {event["type"]: event for event in events_at(network, record["recorded_at_height"])}
    left, proposed = found["governance.ValidatorLeftInPlace"], found["governance.Proposed"]
    assert (left["member"], left["power"]) == (twice.name, 10)
    assert "would keep 15 of 25" in left["rule"]
    assert (proposed["proposal"], proposed["proposer"]) == (left["proposal"], None)
    assert proposed["action"]["type"] == "governance.RemoveValidator"
    decide = {each["address"].lower() for each in network.validators[0].rpc("validators")["validators"]}
    assert twice.made.validator_address in decide
    for validator in network.validators:
        audit(validator.layout.directory)
