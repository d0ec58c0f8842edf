"""What a client learns of a transaction that was accepted and then dropped: who waits, who follows, who asks later."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from feiqian.api.access import Parties
from feiqian.api.drops import KEPT_DROPS, KEPT_S, Drops
from feiqian.client import Client
from feiqian.client.events import EventParser, ServerEvent
from feiqian.core.addresses import to_text
from feiqian.core.transactions import decode_signed, transaction_id
from feiqian.core.wire import Drop
from feiqian.modules.assets.messages import BatchLeg, BatchTransfer
from feiqian.testing.gateways import GatewayProcess, watched_consortium
from feiqian.testing.ledgers import ASSET, SampleLedger, key_of, make_ledger
from feiqian.testing.processes import NodeProcess
from feiqian.wallet import files

URL = "/api/v1/transactions"
DAY_BYTES = 2**17
LONG_S = 60


class Bounded:
    """A ledger on which a sponsor's day holds one large batch: a second one is accepted, and dropped by the engine."""

    def __init__(self, ledger: SampleLedger, gateway: GatewayProcess) -> None:
        self.ledger = ledger
        self.gateway = gateway
        (outcome,) = gateway.submit(self.batch())
        assert outcome["status"] == "committed"

    def batch(self) -> bytes:
        legs = tuple([BatchLeg(self.ledger.addresses["lantern"], 1, bytes(64)) for _ in range(1000)])
        return self.ledger.sign("south", [BatchTransfer(self.ledger.addresses["south"], ASSET, legs)])

    def client(self, account: str | None) -> httpx.Client:
        return self.gateway.client(None if account is None else self.gateway.sign_in(self.ledger, account))


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bounded]:
    text = watched_consortium().replace("[parameters]\n", f"[parameters]\nsponsor_day_bytes = {DAY_BYTES}\n")
    ledger = make_ledger(tmp_path_factory.mktemp("bounded") / "ledger", text)
    with NodeProcess(ledger.directory).await_ready(), GatewayProcess(ledger.directory) as gateway:
        yield Bounded(ledger, gateway.await_ready().await_indexed())


def id_of(signed: bytes) -> str:
    return transaction_id(decode_signed(signed).body).hex()


@contextmanager
def follow(client: httpx.Client) -> Iterator[Iterator[ServerEvent]]:
    with client.stream("GET", "/api/v1/events") as answer:
        assert answer.status_code == 200, answer.read()
        parser = EventParser()
        yield (event for line in answer.iter_lines() if (event := parser.feed(line)) is not None)


def test_who_waits_is_answered_at_once_with_the_rule(bounded: Bounded) -> None:
    orders = [bounded.batch() for _ in range(3)]
    for wait in ("committed", "provable"):
        # Well within the time that it would have waited: the answer is not the timeout's, which says `accepted`.
        outcomes = bounded.gateway.submit(*orders, wait=wait, timeout_s=LONG_S)
        assert [outcome["tx_id"] for outcome in outcomes] == [id_of(order) for order in orders]
        assert {outcome["status"] for outcome in outcomes} == {"dropped"}
        assert {(outcome["error"]["codespace"], outcome["error"]["number"]) for outcome in outcomes} == {("ledger", 41)}
        assert f"at most {DAY_BYTES}" in outcomes[0]["error"]["message"]


def test_dropped_ones_stand_beside_committed_ones_and_the_status_is_200(bounded: Bounded) -> None:
    small, large = bounded.ledger.transfer("lantern", "south", 1), bounded.batch()
    with bounded.gateway.client() as client:
        content = msgspec.msgpack.encode([small, large, small])
        answer = client.post(
            URL,
            params={"wait": "committed", "timeout_s": LONG_S},
            content=content,
            headers={"content-type": "application/msgpack"},
        )
    assert answer.status_code == 200
    assert [outcome["status"] for outcome in answer.json()] == ["committed", "dropped", "committed"]


def test_many_who_wait_for_the_same_are_all_answered(bounded: Bounded) -> None:
    order = bounded.batch()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(bounded.gateway.submit, order, timeout_s=LONG_S) for _ in range(8)]
        assert {each.result()[0]["status"] for each in waiting} == {"dropped"}


def test_the_sdk_gives_it_as_an_outcome_and_sends_no_more(bounded: Bounded) -> None:
    order = bounded.batch()
    with Client(bounded.gateway.url) as client:
        (outcome,) = client.submit_all([order])
    assert (outcome.status, outcome.is_done) == ("dropped", False)
    assert outcome.error is not None
    assert (outcome.error["codespace"], outcome.error["number"]) == ("ledger", 41)


def test_the_command_line_says_that_it_was_dropped_and_ends_with_status_1(bounded: Bounded, tmp_path: Path) -> None:
    south, lantern = (to_text(bounded.ledger.addresses[name]) for name in ("south", "lantern"))
    leg = {"payee": lantern, "amount_minor": 1, "reference": "00" * 64}
    message = {"type": "assets.BatchTransfer", "payer": south, "asset": ASSET, "legs": [leg] * 1000}
    (tmp_path / "batch.json").write_text(json.dumps({"sponsor": "south-bank", "messages": [message]}), "utf-8")
    files.store(tmp_path / "key.json", "ed25519", bytes(key_of("south")._key), b"for this test", is_quick=True)
    done = subprocess.run(
        [sys.executable, "-m", "feiqian.cli.main", "submit", "batch.json", "--key", "key.json", "--json"],
        cwd=tmp_path,
        env=os.environ | {"FEIQIAN_PASSPHRASE": "for this test", "FEIQIAN_URL": bounded.gateway.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["status"] == "dropped"
    assert "accepted and then dropped: sponsor 'south-bank' would have used" in done.stderr
    assert done.stderr.endswith("[ledger 41]\n")


def test_its_parties_alone_read_that_it_was_dropped_and_why(bounded: Bounded) -> None:
    order = bounded.batch()
    bounded.gateway.submit(order, timeout_s=LONG_S)
    shown = {}
    for account in ("south", "watch", "lantern", "treasury", None):
        with bounded.client(account) as client:
            answer = client.get(f"{URL}/{id_of(order)}")
            shown[account] = answer.status_code
            if answer.status_code == 200:
                body = answer.json()
                assert (body["id"], body["kind"], body["status"]) == (id_of(order), "transaction", "dropped")
                assert body["sponsor"] == "south-bank"
                assert (body["error"]["codespace"], body["error"]["number"]) == ("ledger", 41)
    # The payee of a transfer that never stood anywhere is no party to it: nobody has anything to tell it.
    assert shown == {"south": 200, "watch": 200, "lantern": 404, "treasury": 404, None: 401}


def test_a_stream_tells_its_parties_as_it_happens(bounded: Bounded) -> None:
    with (
        bounded.client("south") as mine,
        bounded.client("lantern") as theirs,
        follow(mine) as my_events,
        follow(theirs) as their_events,
    ):
        order = bounded.batch()
        bounded.gateway.submit(order, timeout_s=LONG_S)
        event = next(event for event in my_events if event.kind == "dropped")
        assert event.data["id"] == id_of(order)
        assert (event.data["status"], event.data["error"]["number"]) == ("dropped", 41)
        # Nothing of it goes to another, who hears of the next block.
        (paid,) = bounded.gateway.submit(bounded.ledger.transfer("lantern", "south", 1))
        heard = []
        for event in their_events:
            heard.append(event.kind)
            if event.kind == "block" and event.data["height"] >= paid["height"]:
                break
        assert "dropped" not in heard


def test_sent_again_and_accepted_again_it_is_dropped_no_more_until_it_is(bounded: Bounded) -> None:
    order = bounded.batch()
    first, second = (bounded.gateway.submit(order, timeout_s=LONG_S)[0] for _ in range(2))
    assert first["status"] == second["status"] == "dropped"


def test_a_gateway_that_comes_later_is_told_of_the_latest(bounded: Bounded) -> None:
    order = bounded.batch()
    bounded.gateway.submit(order, timeout_s=LONG_S)
    with GatewayProcess(bounded.ledger.directory) as another:
        another.await_ready().await_indexed()
        with another.client(another.sign_in(bounded.ledger, "south")) as client:
            deadline = time.monotonic() + LONG_S
            while client.get(f"{URL}/{id_of(order)}").status_code != 200:
                assert time.monotonic() < deadline
            assert client.get(f"{URL}/{id_of(order)}").json()["status"] == "dropped"


def test_the_console_says_why_in_the_reader_s_language(bounded: Bounded) -> None:
    order = bounded.batch()
    bounded.gateway.submit(order, timeout_s=LONG_S)
    token = bounded.gateway.sign_in(bounded.ledger, "south")
    for language, words in {"en": ("dropped", "Sponsor over its limit"), "zh": ("已丢弃", "发起机构超出限额")}.items():
        headers = {"accept": "text/html", "accept-language": language}
        with bounded.gateway.client(token) as client:
            page = client.get(f"/transactions/{id_of(order)}", headers=headers)
        assert page.status_code == 200
        for text in words:
            assert text in page.text


# --- what is kept, by a clock of the test's own ---------------------------------------------------------------------


def drop(number: int, at_ms: int = 1) -> Drop:
    return Drop(number.to_bytes(32, "big"), at_ms, "oak", (bytes(32),), "ledger", 10, "not any more")


def parties_of(accounts: Iterable[bytes], members: Iterable[str]) -> Parties:
    return Parties(frozenset(members), frozenset(accounts))


def test_drops_are_kept_for_ten_minutes() -> None:
    now_s = [1000.0]
    drops = Drops(parties_of, lambda: now_s[0])
    drops.add([drop(1)])
    now_s[0] += KEPT_S
    found = drops.find(drop(1).tx_id)
    assert found is not None
    assert found.drop == drop(1)
    assert found.parties == Parties(frozenset(["oak"]), frozenset([bytes(32)]))
    now_s[0] += 1
    assert drops.find(drop(1).tx_id) is None


def test_no_more_are_kept_than_the_bound() -> None:
    drops = Drops(parties_of)
    drops.add([drop(number) for number in range(KEPT_DROPS + 10)])
    is_gone = [drops.find(drop(number).tx_id) is None for number in (0, 9, 10, KEPT_DROPS + 9)]
    assert is_gone == [True, True, False, False]
    assert drops.count == KEPT_DROPS + 10


def test_each_reader_is_told_of_what_came_since_it_last_looked() -> None:
    drops = Drops(parties_of)
    drops.add([drop(1), drop(2)])
    assert [each.drop for each in drops.since(0)] == [drop(1), drop(2)]
    assert not drops.has_since(2)
    # A node that is connected to anew tells of the latest once more.
    drops.add([drop(1), drop(2)])
    assert drops.since(2) == []
    drops.add([drop(1, at_ms=2), drop(3)])
    assert [each.drop for each in drops.since(2)] == [drop(1, at_ms=2), drop(3)]


def test_what_was_accepted_again_is_forgotten_unless_it_was_dropped_since() -> None:
    drops = Drops(parties_of)
    drops.add([drop(1), drop(2)])
    handed_on = drops.count
    drops.add([drop(3)])
    drops.forget([each.tx_id for each in (drop(1), drop(3), drop(4))], handed_on)
    assert [drops.find(drop(number).tx_id) is not None for number in (1, 2, 3)] == [False, True, True]
