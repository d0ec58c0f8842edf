"""Dry runs over HTTP against a real node: the answers are the ledger's, and nothing is left behind."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from feiqian.client import Client
from feiqian.core.transactions import decode_signed, encode_signed
from feiqian.modules.assets.messages import Transfer
from feiqian.testing.gateways import watched_consortium
from feiqian.testing.ledgers import ASSET, CHAIN_ID, SampleLedger, key_of, make_ledger
from feiqian.testing.processes import NodeProcess
from feiqian.wallet.signing import build_transaction, leave_unsigned, sign_transaction

URL = "/api/v1/transactions/dry-run"
MSGPACK = {"content-type": "application/msgpack"}


def order(
    ledger: SampleLedger, payer: str, payee: str, amount_minor: int, *, keys: Sequence[str] = (), signed: bool = False
) -> bytes:
    message = Transfer(ledger.addresses[payer], ledger.addresses[payee], ASSET, amount_minor, b"")
    expires_at_ms = time.time_ns() // 1_000_000 + 60_000
    transaction = build_transaction(CHAIN_ID, ledger.members[payer], [message], expires_at_ms)
    if signed:
        return sign_transaction(transaction, [key_of(payer)])
    return leave_unsigned(transaction, [key_of(name).public for name in (keys or [payer])])


def ask(world: Any, reader: str, *orders: bytes) -> Any:
    with world.client(reader) as client:
        return client.post(URL, content=msgspec.msgpack.encode(list(orders)), headers=MSGPACK)


def rules(outcomes: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [
        (outcome["status"], 0 if outcome.get("error") is None else outcome["error"]["number"]) for outcome in outcomes
    ]


def test_it_says_what_the_ledger_then_says_and_leaves_nothing(world: Any) -> None:
    world.gateway.submit(world.ledger.issue("lantern", 100))
    with world.client("other") as client:
        path = f"/api/v1/accounts/{world.address('lantern')}/balances"
        (before,) = client.get(path).json()["items"]
        height = client.get("/api/v1/status").json()["height"]
        funds = before["available_minor"]
        # The second leaves too little for the third; the fourth fits again. The last has a key that may not sign.
        amounts = [funds - 50, 40, 20, 10]
        rehearsed = [order(world.ledger, "lantern", "south", amount) for amount in amounts]
        rehearsed.append(order(world.ledger, "lantern", "south", 1, keys=["south"]))
        answer = client.post(URL, content=msgspec.msgpack.encode(rehearsed), headers=MSGPACK)
        assert answer.status_code == 200, answer.text
        # 19: not enough available; 10: the account's policy is not met.
        expected = [("committed", 0), ("committed", 0), ("committed", 19), ("committed", 0), ("refused", 10)]
        assert rules(answer.json()) == expected
        assert {outcome.get("height") for outcome in answer.json()} == {None}
        assert client.get(path).json()["items"] == [before]
        assert client.get("/api/v1/status").json()["height"] == height
    real = [order(world.ledger, "lantern", "south", amount, signed=True) for amount in amounts]
    outcomes = [world.gateway.submit(each)[0] for each in real]
    assert rules(outcomes) == expected[:4]


def test_nothing_signed_is_taken(world: Any) -> None:
    answer = ask(world, "other", order(world.ledger, "lantern", "south", 1, signed=True))
    assert (answer.status_code, answer.json()["number"]) == (400, 4)
    assert "64 zero bytes" in answer.json()["detail"]


def test_what_was_asked_in_a_dry_run_cannot_be_submitted(world: Any) -> None:
    (outcome,) = world.gateway.submit(order(world.ledger, "lantern", "south", 1))
    assert (outcome["status"], outcome["error"]["codespace"], outcome["error"]["number"]) == ("refused", "execution", 3)


def test_it_acts_for_accounts_alone_that_its_sender_reads(world: Any) -> None:
    wanted = order(world.ledger, "treasury", "south", 1)
    answers = {reader: ask(world, reader, wanted).status_code for reader in world.tokens}
    assert answers == {
        "anonymous": 401,
        "other": 403,
        "sibling": 403,
        "party": 200,
        "administration": 200,
        "regulator": 200,
    }
    stranger = leave_unsigned(
        build_transaction(CHAIN_ID, "oak", [Transfer(bytes(32), bytes(32), ASSET, 1, b"")], 2**50),
        [key_of("lantern").public],
    )
    assert ask(world, "other", stranger).status_code == 403


def test_what_is_no_transaction_is_refused_beside_the_others(world: Any) -> None:
    good = order(world.ledger, "lantern", "south", 1)
    unnamed = encode_signed(decode_signed(good).body, ())
    answer = ask(world, "other", b"\xc1", unnamed, good)
    assert answer.status_code == 200
    errors = [outcome.get("error") for outcome in answer.json()]
    assert [outcome["status"] for outcome in answer.json()][:2] == ["refused", "refused"]
    assert (errors[0]["codespace"], errors[1]["codespace"], errors[1]["number"]) == ("core", "execution", 5)


@pytest.mark.parametrize(
    ("content", "status", "number"),
    [
        (b"\x90", 400, 4),
        (b"{}", 400, 4),
        (msgspec.msgpack.encode([b"x"] * 20_001), 413, 6),
        (msgspec.msgpack.encode([bytes(128 * 1024 + 1)]), 413, 6),
    ],
)
def test_bodies_that_are_no_batch(world: Any, content: bytes, status: int, number: int) -> None:
    with world.client("other") as client:
        answer = client.post(URL, content=content, headers=MSGPACK)
    assert (answer.status_code, answer.json()["codespace"], answer.json()["number"]) == (status, "api", number)


def test_more_than_a_block_holds_runs_on_in_the_next_ones(tmp_path: Any, start: Any) -> None:
    """As one after another: of 2,400 payments of 1 from 2,000 the first 2,000 hold, over every limit of a block."""
    limits = "[parameters]\nmax_block_work = 1000000\nsponsor_block_work = 500000\n"
    ledger = make_ledger(tmp_path / "ledger", watched_consortium().replace("[parameters]\n", limits))
    with NodeProcess(ledger.directory).await_ready():
        gateway = start(ledger)
        gateway.submit(ledger.issue("lantern", 2_000))
        with Client(gateway.url) as client:
            client.sign_in(ledger.addresses["lantern"], key_of("lantern"))
            outcomes = client.dry_run([order(ledger, "lantern", "south", 1) for _ in range(2_400)])
            numbers = [0 if outcome.error is None else outcome.error["number"] for outcome in outcomes]
            assert {outcome.status for outcome in outcomes} == {"committed"}
            assert numbers == [0] * 2_000 + [19] * 400


def test_one_at_a_time_and_the_sdk_waits_its_turn(world: Any) -> None:
    def run(_: int) -> list[str]:
        with Client(world.gateway.url) as client:
            client.sign_in(world.ledger.addresses["lantern"], key_of("lantern"))
            return [outcome.status for outcome in client.dry_run([order(world.ledger, "lantern", "south", 1)])]

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(run, range(6))) == [["committed"]] * 6
