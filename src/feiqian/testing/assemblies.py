"""Governors of a real network of validators, who change it by vote through its gateways."""

from typing import Any

from feiqian.client import Client
from feiqian.core.encoding import Record
from feiqian.modules.governance.messages import Action, Propose, Vote
from feiqian.testing.ledgers import key_of
from feiqian.testing.loads import Known
from feiqian.testing.validators import Network, Validator, four_banks

PROPOSER, SECOND = "issuance", "south"
"""Administration accounts of north-bank and south-bank: two of three governors decide."""


def governed_banks() -> str:
    """Return the consortium of four banks; its first three members govern."""
    return four_banks().replace('roles = ["bank"]', 'roles = ["bank", "governor"]', 3)


def enact(network: Network, known: Known, action: Action) -> list[dict[str, Any]]:
    """Have one governor propose an action and a second approve it, each by a gateway; return the vote's events."""
    first, second = network.running[:2]
    addresses = network.ledger.addresses
    (proposed, *_) = _send(network, known, first, PROPOSER, Propose(addresses[PROPOSER], action, "as agreed"))
    proposal = bytes.fromhex(proposed["proposal"])
    return _send(network, known, second, SECOND, Vote(addresses[SECOND], proposal, True))


def _send(network: Network, known: Known, to: Validator, account: str, message: Record) -> list[dict[str, Any]]:
    signed = network.ledger.sign(account, [message])
    known.send(signed)
    with Client(to.gateway_url, timeout_s=60) as client:
        (outcome,) = client.submit_all([signed])
        outcome.raise_if_refused()
        known.acknowledge(outcome.tx_id, outcome.height)
        client.sign_in(network.ledger.addresses[account], key_of(account))
        return client.transaction(outcome.tx_id)["events"]
