"""The SDK against a running ledger: both clients submit, read, prove and follow, and say why they cannot."""

import asyncio
import socket
import threading
from itertools import islice

import httpx
import pytest

from feiqian.client import AsyncClient, Client, Refused, Unreachable
from feiqian.consensus.genesis_file import read_genesis
from feiqian.consensus.proof_file import verify
from feiqian.core.transactions import decode_signed, transaction_id
from feiqian.ledger.errors import InsufficientAvailable
from feiqian.ledger.records import Balance
from feiqian.testing.ledgers import ASSET, key_of
from feiqian.wallet.keys import Ed25519Key


def signed_in(running, account: str) -> Client:
    client = running.client()
    client.sign_in(running.sample.addresses[account], key_of(account))
    return client


def id_of(signed: bytes) -> str:
    return transaction_id(decode_signed(signed).body).hex()


def test_what_is_submitted_is_committed_and_read_back(running) -> None:
    sample = running.sample
    signed = sample.issue("south", 700)
    with signed_in(running, "south") as client:
        before = {balance["asset"]: balance["posted_minor"] for balance in client.balances(sample.addresses["south"])}
        outcome = client.submit([signed], wait="provable")[0]
        assert (outcome.status, outcome.error, outcome.tx_id) == ("provable", None, id_of(signed))
        after = {balance["asset"]: balance["posted_minor"] for balance in client.balances(sample.addresses["south"])}
        assert after[ASSET] - before.get(ASSET, 0) == 700
        entry = next(client.entries(sample.addresses["south"], asset=ASSET))
        assert (entry["amount_minor"], entry["posted_minor"], entry["tx_id"]) == (700, after[ASSET], outcome.tx_id)
        found = client.transaction(outcome.tx_id)
        assert found["height"] == outcome.height
        assert client.block(outcome.height)["height"] == outcome.height


def test_sending_again_reports_what_stands_already(running) -> None:
    signed = running.sample.issue("south", 1)
    with running.client() as client:
        first = client.submit_all([signed])[0]
        again = client.submit_all([signed, signed])
        assert [outcome.height for outcome in again] == [first.height, first.height]
        assert all(outcome.is_done for outcome in again)


def test_a_broken_rule_comes_back_with_its_number(running) -> None:
    signed = running.sample.transfer("lantern", "south", 10**9)
    with running.client() as client:
        outcome = client.submit([signed])[0]
        assert not outcome.is_done
        with pytest.raises(Refused) as caught:
            outcome.raise_if_refused()
        assert (caught.value.codespace, caught.value.number) == ("ledger", InsufficientAvailable.number)
        junk = client.submit([b"junk"])[0]
        assert (junk.status, junk.error and junk.error["codespace"]) == ("refused", "core")


def test_thousands_are_sent_in_several_requests(running) -> None:
    signed = [running.sample.issue("south", 1) for _ in range(2_500)]
    with running.client() as client:
        outcomes = client.submit_all(signed)
    assert all(outcome.is_done for outcome in outcomes)
    assert [outcome.tx_id for outcome in outcomes] == [id_of(each) for each in signed]


def test_proofs_verify_offline_against_the_genesis(running) -> None:
    sample = running.sample
    tables = sample.registry.tables
    with signed_in(running, "south") as client:
        outcome = client.submit([sample.issue("south", 5)], wait="provable")[0]
        genesis = read_genesis(client.genesis())
        address = sample.addresses["south"]
        balance = verify(client.prove_balance(address, ASSET), genesis, tables)
        posted = client.balances(address)[0]["posted_minor"]
        assert isinstance(balance.record, Balance)
        assert balance.record.posted_minor == posted
        assert verify(client.prove_transaction(outcome.tx_id), genesis, tables).key.hex() == outcome.tx_id
        assert verify(client.prove_balance(address, "NONE.such"), genesis, tables).kind == "absence"


def test_signing_in_takes_a_key_of_the_policy(running) -> None:
    address = running.sample.addresses["south"]
    with running.client() as client:
        with pytest.raises(Refused) as caught:
            client.balances(address)
        assert caught.value.status == 401
        with pytest.raises(Refused):
            client.sign_in(address, Ed25519Key(b"\x07" * 32))
        opened = client.sign_in(address, key_of("south"))
        assert opened["member"] == "south-bank"
        with pytest.raises(Refused) as caught:
            client.balances(running.sample.addresses["lantern"])
        assert caught.value.status in (403, 404)


def test_events_are_followed_and_resumed(running) -> None:
    sample = running.sample
    with signed_in(running, "south") as client, signed_in(running, "south") as sender:
        stream = client.events()
        started = threading.Event()

        def send() -> None:
            started.wait()
            sender.submit([sample.issue("south", 11), sample.issue("south", 12)], wait="provable")

        thread = threading.Thread(target=send)
        thread.start()
        started.set()
        seen = list(islice((event for event in stream if event.id), 2))
        thread.join()
        assert len({event.id for event in seen}) == 2
    with signed_in(running, "south") as client:
        resumed = next(event for event in client.events(last_event_id=seen[0].id) if event.id)
        assert resumed.id == seen[1].id


def test_the_asynchronous_client_does_the_same(running) -> None:
    sample = running.sample

    async def day() -> None:
        async with AsyncClient(running.address) as client:
            signed = [sample.issue("south", amount) for amount in (1, 2, 3)]
            outcomes = await client.submit_all(signed, wait="provable")
            assert all(outcome.is_done for outcome in outcomes)
            await client.sign_in(sample.addresses["south"], key_of("south"))
            balances = await client.balances(sample.addresses["south"])
            assert balances[0]["asset"] == ASSET
            found = await client.transaction(outcomes[0].tx_id)
            assert found["id"] == outcomes[0].tx_id
            proof = await client.prove_balance(sample.addresses["south"], ASSET)
            assert verify(proof, read_genesis(running.client().genesis()), sample.registry.tables).kind == "record"
            assert (await client.status())["chain_id"] == sample.genesis.chain_id
            with pytest.raises(Refused):
                await client.transaction("00" * 32)

    asyncio.run(day())


def test_a_gateway_that_is_not_there_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with Client(address) as client, pytest.raises(Unreachable, match=address):
        client.status()


def test_a_read_waits_for_a_gateway_that_is_not_ready_and_a_submission_does_not() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        if len(asked) < 3:
            problem = {"codespace": "api", "number": 12, "detail": "the index is not there now"}
            return httpx.Response(503, json=problem, headers={"Retry-After": "1"})
        return httpx.Response(200, json={"height": 7})

    with Client("http://gateway.example", transport=httpx.MockTransport(answer)) as client:
        assert client.status() == {"height": 7}
        assert asked == ["GET", "GET", "GET"]
        asked.clear()
        with pytest.raises(Refused) as caught:
            client.submit([b"bytes"])
        assert (caught.value.is_busy, asked) == (True, ["POST"])
