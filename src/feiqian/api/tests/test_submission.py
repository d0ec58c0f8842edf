"""Submission over HTTP against a real node: forms, waits, repetition, refusals, and a node that goes away."""

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from feiqian.core.transactions import decode_signed, transaction_id
from feiqian.testing.gateways import GatewayProcess
from feiqian.testing.ledgers import ASSET, SampleLedger
from feiqian.testing.processes import NodeProcess

URL = "/api/v1/transactions"
MSGPACK = {"content-type": "application/msgpack"}


def id_of(signed: bytes) -> str:
    return transaction_id(decode_signed(signed).body).hex()


def posted(world: Any, account: str) -> int:
    with world.client("regulator") as client:
        items = client.get(f"/api/v1/accounts/{world.address(account)}/balances").json()["items"]
    return {item["asset"]: item["posted_minor"] for item in items}.get(ASSET, 0)


def test_a_batch_as_messagepack_is_answered_in_order(world: Any) -> None:
    before = posted(world, "lantern")
    batch = [world.ledger.transfer("treasury", "lantern", 1) for _ in range(5)]
    with world.client() as client:
        answer = client.post(URL, params={"wait": "committed"}, content=msgspec.msgpack.encode(batch), headers=MSGPACK)
        packed = client.post(
            URL, content=msgspec.msgpack.encode(batch), headers=MSGPACK | {"accept": "application/msgpack"}
        )
    assert answer.status_code == 200
    assert [outcome["tx_id"] for outcome in answer.json()] == [id_of(signed) for signed in batch]
    assert {outcome["status"] for outcome in answer.json()} == {"committed"}
    assert posted(world, "lantern") == before + 5
    assert [outcome["tx_id"] for outcome in msgspec.msgpack.decode(packed.content)] == [id_of(each) for each in batch]


def test_without_waiting_it_is_accepted_and_later_committed(world: Any) -> None:
    signed = world.ledger.transfer("treasury", "lantern", 1)
    body = {"transactions": [base64.b64encode(signed).decode()]}
    with world.client() as client:
        answer = client.post(URL, json=body)
        assert (answer.status_code, answer.json()) == (202, [{"tx_id": id_of(signed), "status": "accepted"}])
        (outcome,) = world.gateway.submit(signed, wait="provable")
    assert outcome["status"] == "provable"


def test_sent_again_it_pays_once_and_is_answered_the_same(world: Any) -> None:
    before = posted(world, "lantern")
    signed = world.ledger.transfer("treasury", "lantern", 7)
    first = world.gateway.submit(signed)
    again = world.gateway.submit(signed)
    twice = world.gateway.submit(signed, signed)
    assert again == first
    assert twice == first * 2
    assert posted(world, "lantern") == before + 7


def test_sent_by_many_at_once_it_pays_once(world: Any) -> None:
    before = posted(world, "lantern")
    signed = world.ledger.transfer("treasury", "lantern", 3)
    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(lambda _: world.gateway.submit(signed), range(32)))
    assert {(each[0]["status"], each[0]["height"]) for each in outcomes} == {("committed", outcomes[0][0]["height"])}
    assert posted(world, "lantern") == before + 3


def test_many_waits_at_once_each_get_their_own(world: Any) -> None:
    batches = [[world.ledger.transfer("treasury", "lantern", 1) for _ in range(2)] for _ in range(24)]
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda batch: world.gateway.submit(*batch, wait="provable"), batches))
    for batch, outcomes in zip(batches, answers, strict=True):
        assert [outcome["tx_id"] for outcome in outcomes] == [id_of(signed) for signed in batch]
        assert {outcome["status"] for outcome in outcomes} == {"provable"}


def test_refusals_stand_beside_successes_with_their_rule(world: Any) -> None:
    good = world.ledger.transfer("treasury", "lantern", 1)
    stripped = decode_signed(world.ledger.transfer("treasury", "lantern", 1))
    bad = msgspec.msgpack.encode([stripped.body, []])
    wrong_signer = world.ledger.transfer("treasury", "lantern", 1, signers=["lantern"])
    too_much = world.ledger.transfer("lantern", "treasury", 10**12)
    outcomes = world.gateway.submit(bad, good, b"\xc1", wrong_signer, too_much)
    assert [outcome["status"] for outcome in outcomes] == ["refused", "committed", "refused", "refused", "committed"]
    assert [outcome.get("error", {}).get("codespace") for outcome in outcomes] == [
        "execution",
        None,
        "core",
        "ledger",
        "ledger",
    ]
    assert outcomes[4]["error"]["number"] > 0
    # What an observer strips or signs anew does not stand in the way of the true one.
    assert outcomes[2]["tx_id"] == ""


@pytest.mark.parametrize(
    ("content", "content_type", "status", "number"),
    [
        (b"", "application/json", 400, 4),
        (b"{", "application/json", 400, 4),
        (b'{"transactions": "x"}', "application/json", 400, 4),
        (b'{"transactions": ["!"]}', "application/json", 400, 4),
        (b'{"transactions": ["AA=="], "more": 1}', "application/json", 400, 4),
        (b'{"transactions": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "application/json", 400, 4),
        (b'{"deep": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "application/json", 400, 4),
        (b"\xff\xfe", "application/json", 400, 4),
        (b"", "application/msgpack", 400, 4),
        (b"\x90", "application/msgpack", 400, 4),
        (b"\x91" * 100_000 + b"\x90", "application/msgpack", 400, 4),
        (b"\xdd\xff\xff\xff\xff", "application/msgpack", 400, 4),
        (b"\x91\xc6\xff\xff\xff\xff", "application/msgpack", 400, 4),
        (b"\x91\xa1x", "application/msgpack", 400, 4),
        (msgspec.msgpack.encode([b"x"] * 5_001), "application/msgpack", 413, 6),
        (msgspec.msgpack.encode([bytes(128 * 1024 + 1)]), "application/msgpack", 413, 6),
        (b"<xml/>", "application/xml", 415, 5),
        (b"x", "", 415, 5),
    ],
)
def test_bodies_that_are_no_batch(world: Any, content: bytes, content_type: str, status: int, number: int) -> None:
    with world.client() as client:
        answer = client.post(URL, content=content, headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["codespace"], answer.json()["number"]) == (status, "api", number)


def test_parameters_out_of_form(world: Any) -> None:
    with world.client() as client:
        for params in ({"wait": "forever"}, {"timeout_s": 0}, {"timeout_s": 61}, {"timeout_s": "x"}):
            answer = client.post(URL, params=params, json={"transactions": []})
            assert (answer.status_code, answer.json()["number"]) == (400, 4)


def test_a_full_pool_is_answered_429_with_a_time_to_come_again(fresh_ledger: SampleLedger, start: Any) -> None:
    # Two places only, and a block so late that they stay taken.
    environment = {"FEIQIAN_NODE_POOL_TRANSACTIONS": "2", "FEIQIAN_NODE_BLOCK_INTERVAL_MS": "60000"}
    with NodeProcess(fresh_ledger.directory, environment).await_ready():
        gateway: GatewayProcess = start(fresh_ledger)
        answers = [submit_raw(gateway, fresh_ledger.issue("treasury", 5)) for _ in range(7)]
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert answers[-1].json()["number"] == 10


def test_the_node_may_go_and_come_back_while_the_gateway_lives(
    fresh_ledger: SampleLedger, start: Callable[..., GatewayProcess]
) -> None:
    ledger = fresh_ledger
    with NodeProcess(ledger.directory).await_ready() as node:
        gateway = start(ledger)
        (issued,) = gateway.submit(ledger.issue("treasury", 100))
        assert issued["status"] == "committed"
        token = gateway.sign_in(ledger, "treasury")
        node.kill()
    with gateway.client(token) as client:
        away = submit_raw(gateway, ledger.transfer("treasury", "south", 1))
        assert (away.status_code, away.json()["number"]) == (503, 9)
        assert int(away.headers["retry-after"]) >= 1
        assert client.get("/ready").status_code == 503
        assert client.get("/health").status_code == 200
        # What is committed can be read all the same.
        assert client.get("/api/v1/status").json()["height"] >= issued["height"]
        assert len(client.get("/api/v1/accounts").json()["items"]) == 1
    with NodeProcess(ledger.directory).await_ready():
        signed = ledger.transfer("treasury", "south", 1)
        outcome = None
        while outcome is None:
            answer = submit_raw(gateway, signed, wait="provable")
            outcome = answer.json()[0] if answer.status_code == 200 else None
        assert outcome["status"] == "provable"
        assert outcome["height"] > issued["height"]


def test_who_waits_while_the_node_restarts_is_answered(
    fresh_ledger: SampleLedger, start: Callable[..., GatewayProcess]
) -> None:
    ledger = fresh_ledger
    with NodeProcess(ledger.directory).await_ready() as node, ThreadPoolExecutor(8) as pool:
        gateway = start(ledger)
        gateway.submit(ledger.issue("treasury", 1_000))
        orders = [ledger.transfer("treasury", "south", 1) for _ in range(8)]
        waiting = [pool.submit(submit_raw, gateway, order, wait="committed", timeout_s=30) for order in orders]
        node.terminate()
        with NodeProcess(ledger.directory).await_ready():
            answers = [each.result() for each in waiting]
            # Some were committed before the end, some found no node, some were lost from the pool: sending again tells.
            assert {answer.status_code for answer in answers} <= {200, 202, 503}
            gateway.await_indexed()
            outcomes = [gateway.submit(order)[0]["status"] for order in orders]
            assert outcomes == ["committed"] * 8
            with gateway.client(gateway.sign_in(ledger, "south")) as client:
                (account,) = client.get("/api/v1/accounts").json()["items"]
                balances = client.get(f"/api/v1/accounts/{account['address']}/balances").json()["items"]
            assert [balance["posted_minor"] for balance in balances] == [8]


def submit_raw(gateway: GatewayProcess, *signed: bytes, **params: Any) -> Any:
    with gateway.client() as client:
        return client.post(URL, params=params, content=msgspec.msgpack.encode(list(signed)), headers=MSGPACK)
