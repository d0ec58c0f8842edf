"""Four real validators under load: a fifth institution joins by vote and state sync, and another leaves."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feiqian.client import Client
from feiqian.execution.registry import discover
from feiqian.ledger.authority import single_key_policy
from feiqian.modules.governance.messages import (
    AdmitMember,
    Identity,
    RegisterNode,
    RemoveMember,
    RemoveValidator,
    SetValidator,
)
from feiqian.node.comet.testnet import Made, endpoints_here
from feiqian.state.store import Store
from feiqian.testing.assemblies import enact, governed_banks
from feiqian.testing.comet_binary import require_cometbft
from feiqian.testing.ledgers import ASSET, key_of
from feiqian.testing.loads import Known, Load, audit, check, fund
from feiqian.testing.ports import free_ports
from feiqian.testing.validators import PORTS_EACH, Network, Validator, await_that

SNAPSHOTS = {"FEIQIAN_COMET_SNAPSHOT_BLOCKS": "20", "FEIQIAN_COMET_SNAPSHOT_KEEP": "20"}
"""As often as a short test needs them; the one that is fetched is not given up meanwhile."""

NEWCOMER = "east-bank"
POWER = 10


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    require_cometbft()
    with Network(tmp_path / "n", discover(), environment=SNAPSHOTS, text=governed_banks()) as network:
        yield network.start()


def feiqian(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "feiqian.cli.main", *map(str, arguments), "--json"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def prove(network: Network, path: Path) -> Path:
    """Write the proof of what the treasury holds now."""
    with Client(network.running[0].gateway_url, timeout_s=60) as client:
        client.sign_in(network.ledger.addresses["treasury"], key_of("treasury"))
        path.write_bytes(client.prove_balance(network.ledger.addresses["treasury"], ASSET))
    return path


def join(network: Network, directory: Path) -> tuple[dict[str, Any], Validator]:
    """Make the directory of a node that joins, as its operator would, from what two members tell."""
    first, second = network.validators[:2]
    with Client(first.gateway_url) as client:
        height = client.status()["provable_height"]
        block = client.block(height)
    port = free_ports(PORTS_EACH)
    made = feiqian(
        *("join", directory, "--genesis", first.layout.genesis, "--base-port", port),
        *("--peers", ",".join(f"{each.made.node_id}@{each.made.endpoints.p2p}" for each in network.validators)),
        *("--gateways", f"{first.gateway_url},{second.gateway_url}"),
        *("--trusted", f"{height}:{block['commit']['block_id']['hash']}"),
    )
    node_id = made["node"].partition("@")[0]
    described = Made(directory.name, directory, made["validator_address"], node_id, endpoints_here(1, port)[0])
    return made, Validator(described, len(network.validators), None, SNAPSHOTS)


def signers(seen_from: Validator) -> set[str]:
    """Return the addresses of the validators whose votes stand in the last block's commit that is final."""
    commit = seen_from.rpc("commit", height=str(seen_from.height - 1))["signed_header"]["commit"]
    return {each["validator_address"].lower() for each in commit["signatures"] if each["signature"]}


def deciders(seen_from: Validator) -> dict[str, int]:
    """Return the power of each validator that decides the next block, by its address."""
    found = seen_from.rpc("validators")["validators"]
    return {each["address"].lower(): int(each["voting_power"]) for each in found}


@pytest.mark.campaign
def test_a_fifth_institution_joins_and_another_leaves(network: Network, tmp_path: Path) -> None:
    known = Known()
    fund(network, known)
    first, *_, leaving = network.validators
    identity = Identity("East Bank of Nowhere", None, None, None, ("bank",), None)
    policy = single_key_policy(key_of(NEWCOMER).public)
    with Load(network, known, network.validators[:3]) as load:
        load.await_more()
        old_proof = prove(network, tmp_path / "old.json")

        enact(network, known, AdmitMember(NEWCOMER, identity, policy, bytes(16)))
        made, joining = join(network, tmp_path / "n" / "net" / NEWCOMER)
        enact(network, known, RegisterNode(bytes.fromhex(made["node_key"]), NEWCOMER, NEWCOMER))
        with_snapshot = [each for each in network.validators if each is not leaving]
        await_that(
            "two have a snapshot", lambda: sum(any(each.layout.snapshots.glob("*")) for each in with_snapshot) > 1
        )
        network.validators.append(joining.start())
        joining.await_gateway()
        store = Store.open(joining.layout.ledger, read_only=True)
        assert store.head.first_block > 1, "it has run every block instead"
        store.close()

        added = SetValidator(bytes.fromhex(made["validator_key"]), NEWCOMER, NEWCOMER, POWER)
        kinds = [event["type"] for event in enact(network, known, added)]
        assert "ledger.ValidatorSet" in kinds
        await_that("it votes", lambda: made["validator_address"] in signers(first))
        assert sorted(deciders(first).values()) == [POWER] * 5

        (leaver,) = [each.public_key for each in network.genesis.validators if each.name == leaving.name]
        enact(network, known, RemoveValidator(leaver))
        await_that("it decides no more", lambda: leaving.made.validator_address not in deciders(first))
        enact(network, known, RemoveMember(leaving.name))
        assert leaving.stop() == 0
        load.await_more()
        assert leaving.made.validator_address not in signers(first)
        assert made["validator_address"] in signers(first)

    new_proof = prove(network, tmp_path / "new.json")
    for proof in (old_proof, new_proof):
        assert feiqian("verify", proof, "--genesis", first.layout.genesis)["verified"]
    check(network, known)
    audit(leaving.layout.directory)
