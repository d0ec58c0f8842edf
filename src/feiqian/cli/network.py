"""`feiqian testnet` and `join`: the directories of a network of validators, and of a node that joins one."""

import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from feiqian.cli.arguments import Count, GivenFolder
from feiqian.cli.ledger import key_resolver
from feiqian.cli.output import EXIT_USAGE, Output, fail
from feiqian.cli.proving import known_block
from feiqian.core.addresses import to_text
from feiqian.execution.genesis import account_names
from feiqian.execution.registry import discover
from feiqian.node.comet.hand_over import hand_over_ledger
from feiqian.node.comet.newcomer import make_newcomer
from feiqian.node.comet.testnet import FIRST_PORT, endpoints_here, endpoints_on, make_testnet


def make_network(
    directory: Path,
    *,
    validators: Count,
    consortium: Annotated[Path, Parameter(name=["--from", "--consortium"])],
    keys: Path | None = None,
    members: str | None = None,
    base_port: Annotated[int, Parameter(validator=Number(gte=1, lte=65_535))] = FIRST_PORT,
    hosts: str | None = None,
    json: bool = False,
) -> None:
    """Make the directories of a network below DIRECTORY: one a validator, named after the member that runs it.

    Each institution runs one validator: those that [[validators]] of the consortium file lists (member, and if wanted
    name and power; no keys, which are made here), else the first members with the role operator, bank or governor.
    Each directory is started by `feiqian start`: all on this machine, or each copied to the one it is to run on.

    Given the directory of a ledger that one node ran, and that is stopped, the network goes on with that ledger: with
    the block after its last, under a chain id of the next revision (NAME-1 becomes NAME-2), with all accounts, balances
    and whatever was under way. The ledger's validator signs this, and its node starts no more. Its blocks go along.

    Args:
        directory: an empty or new directory.
        validators: how many.
        consortium: the consortium.toml that names members, accounts, assets and parameters, or a ledger's directory.
        keys: where the key files lie that the consortium file names as "key:NAME" (NAME.json below this directory).
        members: who runs the validators of a ledger that is handed over, MEMBER,MEMBER,…; else the first of those
            roles in the order of their ids.
        base_port: on one machine: the first validator's ports are this one and the next three (peers, CometBFT's RPC
            and metrics, gateway), and each further validator's are ten higher.
        hosts: the validators' machines, HOST,HOST,…, as many as validators; each then has the standard ports.
        json: print one JSON value.
    """
    machines = None if hosts is None else [host.strip() for host in hosts.split(",")]
    if machines is not None and len(machines) != validators:
        fail(f"--hosts names {len(machines)} machines for {validators} validators", EXIT_USAGE)
    endpoints = endpoints_here(validators, base_port) if machines is None else endpoints_on(machines)
    now_ms = time.time_ns() // 1_000_000
    if consortium.is_dir():
        if keys is not None:
            fail("--keys names the keys of a consortium file; a ledger that is handed over has its own", EXIT_USAGE)
        named = [] if members is None else _listed(members)
        network = hand_over_ledger(directory, consortium, discover(), endpoints, now_ms, named)
    else:
        if members is not None:
            fail("--members is for a ledger that is handed over; a consortium file has [[validators]]", EXIT_USAGE)
        network = make_testnet(directory, consortium, discover(), endpoints, now_ms, key_resolver(keys))
    names = {name: to_text(address) for name, address in account_names(network.genesis.app_state).items()}
    made = [
        {
            "member": each.member,
            "directory": str(each.directory),
            "node": f"{each.node_id}@{each.endpoints.p2p}",
            "gateway": f"http://{each.endpoints.host}:{each.endpoints.gateway_port}",
        }
        for each in network.validators
    ]
    out = Output(is_json=json)
    if json:
        out.value({"chain_id": network.genesis.chain_id, "validators": made, "accounts": names})
    else:
        out.rows(("member", "directory", "node", "gateway"), made)


def join(
    directory: Path,
    *,
    genesis: GivenFolder,
    peers: str,
    gateways: str,
    trusted: str,
    base_port: Annotated[int, Parameter(validator=Number(gte=1, lte=65_535))] = FIRST_PORT,
    host: str | None = None,
    json: bool = False,
) -> None:
    """Make the directory of a node that joins a running network, with fresh keys; print what governance registers.

    Governors register the node by vote (governance.RegisterNode); then `feiqian start` begins with a snapshot of peers.
    Once it follows the ledger they may let its vote count (governance.SetValidator).

    Args:
        directory: an empty or new directory; its name is the node's name among its peers.
        genesis: the network's genesis.json, which is the same for all members.
        peers: nodes that this one dials, ID@HOST:PORT,ID@HOST:PORT,…
        gateways: the gateways of two members or more, http://HOST:PORT,https://HOST,…; one is checked by the other.
        trusted: HEIGHT:HASH of a block that you know to be the ledger's, from a member that you trust.
        base_port: on one machine with others: its ports are this one and the next three, as with `feiqian testnet`.
        host: the name or address by which peers dial this machine; the node then has the standard ports.
        json: print one JSON value.
    """
    (endpoints,) = endpoints_here(1, base_port) if host is None else endpoints_on([host])
    made = make_newcomer(directory, genesis, endpoints, _listed(peers), _listed(gateways), known_block(trusted))
    Output(is_json=json).value(
        {
            "directory": str(directory),
            "chain_id": made.chain_id,
            "validator_key": made.keys.validator.public_key.hex(),
            "validator_address": made.keys.validator.address.hex(),
            "node_key": made.keys.node.public_key.hex(),
            "node": made.address,
            "gateway": f"http://{endpoints.host}:{endpoints.gateway_port}",
        }
    )


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
