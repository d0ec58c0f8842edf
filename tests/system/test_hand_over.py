"""A solo ledger with payments becomes a network of four real validators, and proves its old payments."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from feiqian.client import Client
from feiqian.consensus.genesis_file import load_genesis
from feiqian.core.transactions import decode_signed, transaction_id
from feiqian.execution.errors import WrongChain
from feiqian.execution.registry import discover
from feiqian.node.comet.testnet import Made, endpoints_here
from feiqian.node.configuration import Layout
from feiqian.testing.comet_binary import require_cometbft
from feiqian.testing.ledgers import ASSET, SampleLedger, key_of
from feiqian.testing.loads import audit
from feiqian.testing.ports import free_ports
from feiqian.testing.processes import NodeProcess
from feiqian.testing.validators import PORTS_EACH, Network, await_that, four_banks


def feiqian(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "feiqian.cli.main", *map(str, arguments), "--json"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def run_solo(ledger: SampleLedger, *payments: bytes) -> None:
    """Run the ledger until each payment stands in a block of its own, and stop it."""
    with NodeProcess(ledger.directory).await_ready() as node:
        with node.connect() as channel:
            for number, signed in enumerate(payments, 1):
                (verdict,) = channel.submit([signed])
                assert not verdict.number, verdict
                # Block 1 is empty, and so is the one after each payment.
                await_that("it is provable", lambda height=1 + 2 * number: channel.status().height >= height)
        assert node.terminate() == 0


def made_by(printed: dict[str, Any], port: int) -> list[Made]:
    endpoints = endpoints_here(len(printed["validators"]), port)
    return [
        Made(each["member"], Path(each["directory"]), "", each["node"].partition("@")[0], reached)
        for each, reached in zip(printed["validators"], endpoints, strict=True)
    ]


@pytest.mark.campaign
def test_a_network_goes_on_with_a_solo_ledger_and_proves_its_past(tmp_path: Path) -> None:
    require_cometbft()
    registry = discover()
    solo = SampleLedger(tmp_path / "solo", registry, four_banks())
    payment = solo.transfer("treasury", "south", 700)
    run_solo(solo, solo.issue("treasury", 1_000), payment)
    old_genesis = Layout(solo.directory).genesis
    old_id = transaction_id(decode_signed(payment).body)

    port = free_ports(4 * PORTS_EACH)
    printed = feiqian("testnet", tmp_path / "net", "--validators", 4, "--from", solo.directory, "--base-port", port)
    assert printed["chain_id"] == "sample-2"
    made = made_by(printed, port)
    new_genesis = Layout(made[0].directory).genesis
    with Network.made(load_genesis(new_genesis), made, registry) as network:
        network.start()
        south = network.ledger.addresses["south"]
        with Client(network.validators[1].gateway_url, timeout_s=60) as client:
            # The same order, signed for the former chain, is none of this one's.
            (refused,) = client.submit([solo.transfer("treasury", "south", 1)])
            error = refused.error or {}
            assert (error.get("codespace"), error.get("number")) == (WrongChain.codespace, WrongChain.number)
            (outcome,) = client.submit_all([network.ledger.transfer("treasury", "south", 50)])
            outcome.raise_if_refused()
            assert outcome.height > network.genesis.initial_height - 1
            client.sign_in(south, key_of("south"))
            # The past of the ledger is told of and proved by the member's own gateway.
            assert client.transaction(old_id.hex())["height"] < network.genesis.initial_height
            (tmp_path / "old.json").write_bytes(client.prove_transaction(old_id.hex()))
            await_that("it is provable", lambda: client.status()["provable_height"] >= outcome.height)
            (tmp_path / "new.json").write_bytes(client.prove_balance(south, ASSET))
            (tmp_path / "paid.json").write_bytes(client.prove_transaction(outcome.tx_id))
        for genesis in (old_genesis, new_genesis):
            old, new, paid = (
                feiqian("verify", tmp_path / f"{name}.json", "--genesis", genesis) for name in ("old", "new", "paid")
            )
            assert (old["chain_id"], old["proved"]["tx_id"]) == ("sample-1", old_id.hex())
            assert (new["chain_id"], new["proved"]["posted_minor"]) == ("sample-2", 750)
            assert paid["proved"]["tx_id"] == outcome.tx_id
        assert (
            len(
                {
                    validator.rpc("commit", height=str(outcome.height))["signed_header"]["header"]["app_hash"]
                    for validator in network.validators
                }
            )
            == 1
        )
        for validator in network.validators:
            validator.await_height(outcome.height + 1)
            audit(validator.layout.directory)
        audit(network.validators[0].layout.origin)
    command = [sys.executable, "-m", "feiqian.node", str(solo.directory)]
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (again.returncode, "was handed over to a network" in again.stderr) == (2, True)
