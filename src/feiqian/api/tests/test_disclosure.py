"""What each party reads over HTTP of a batch, a joint transaction, a hold: its part, and nothing of the others'."""

import base64
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx
import pytest

from feiqian.client.events import EventParser
from feiqian.core.addresses import to_text
from feiqian.modules.assets.messages import BatchLeg, BatchTransfer, PlaceHold, Transfer, VoidHold
from feiqian.testing.ledgers import ASSET

READERS = {
    "payer": "treasury",
    "payee": "south",
    "other payee": "lantern",
    "payer's branch": "branch",
    "payer's administration": "issuance",
    "regulator": "watch",
}


class Sent(NamedTuple):
    """A committed transaction: its id, its height, the bytes that were signed."""

    tx_id: str
    height: int
    signed: bytes


class Office:
    """Signs for the sample ledger's accounts and reads as any of the readers."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.addresses: dict[str, bytes] = world.ledger.addresses
        self.tokens = {name: world.gateway.sign_in(world.ledger, account) for name, account in READERS.items()}

    def send(self, *messages: Any, by: tuple[str, ...] = ("treasury",)) -> Sent:
        signed = self.world.ledger.sign(by[0], messages, signers=by)
        (outcome,) = self.world.gateway.submit(signed, wait="provable")
        assert outcome.get("error") is None, outcome
        return Sent(outcome["tx_id"], outcome["height"], signed)

    def client(self, reader: str) -> httpx.Client:
        return self.world.gateway.client(self.tokens[reader])

    def transaction(self, reader: str, sent: Sent) -> dict[str, Any]:
        with self.client(reader) as client:
            answer = client.get(f"/api/v1/transactions/{sent.tx_id}")
            assert answer.status_code == 200, answer.text
            return answer.json()

    def proof(self, reader: str, sent: Sent) -> int:
        with self.client(reader) as client:
            return client.get(f"/api/v1/proofs/transaction/{sent.tx_id}").status_code

    def streamed(self, reader: str, sent: Sent) -> dict[str, dict[str, Any]]:
        """Return the events of a transaction as the reader's stream has them, by kind, its own fields alone."""
        found: dict[str, dict[str, Any]] = {}
        parser = EventParser()
        headers = {"Last-Event-ID": str(sent.height - 1)}
        with self.client(reader) as client, client.stream("GET", "/api/v1/events", headers=headers) as answer:
            for line in answer.iter_lines():
                event = parser.feed(line)
                if event is None:
                    continue
                if event.kind == "block":
                    break
                if event.data["tx_id"] == sent.tx_id:
                    left_out = ("height", "time_ms", "tx_id", "kind", "type")
                    found[event.kind] = {key: value for key, value in event.data.items() if key not in left_out}
        return found

    def leg(self, account: str, amount_minor: int) -> dict[str, Any]:
        return {"account": to_text(self.addresses[account]), "asset": ASSET, "amount_minor": amount_minor}


@pytest.fixture(scope="module")
def office(world: Any) -> Office:
    return Office(world)


@pytest.fixture(scope="module")
def batch(office: Office) -> Sent:
    """Treasury pays 11 and 2 to south, 7 to lantern."""
    paid = (("south", 11, b"salary-s"), ("lantern", 7, b"salary-l"), ("south", 2, b"bonus-s"))
    legs = tuple(BatchLeg(office.addresses[payee], amount, reference) for payee, amount, reference in paid)
    return office.send(BatchTransfer(office.addresses["treasury"], ASSET, legs))


def named(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {event["type"]: {key: value for key, value in event.items() if key != "type"} for event in events}


Read = Callable[[Office, str, Sent], dict[str, dict[str, Any]]]


def by_page(office: Office, reader: str, sent: Sent) -> dict[str, dict[str, Any]]:
    return named(office.transaction(reader, sent)["events"])


def by_stream(office: Office, reader: str, sent: Sent) -> dict[str, dict[str, Any]]:
    return office.streamed(reader, sent)


@pytest.mark.parametrize("read", [by_page, by_stream])
def test_a_payee_reads_its_own_legs_of_a_batch(office: Office, batch: Sent, read: Read) -> None:
    payer, south, lantern = (to_text(office.addresses[name]) for name in ("treasury", "south", "lantern"))
    assert read(office, "payee", batch) == {
        "ledger.Posted": {"legs": [office.leg("south", 11), office.leg("south", 2)]},
        "assets.BatchTransferred": {
            "payer": payer,
            "asset": ASSET,
            "total_minor": 13,
            "legs": [
                {"payee": south, "amount_minor": 11, "reference": b"salary-s".hex()},
                {"payee": south, "amount_minor": 2, "reference": b"bonus-s".hex()},
            ],
        },
    }
    assert read(office, "other payee", batch) == {
        "ledger.Posted": {"legs": [office.leg("lantern", 7)]},
        "assets.BatchTransferred": {
            "payer": payer,
            "asset": ASSET,
            "total_minor": 7,
            "legs": [{"payee": lantern, "amount_minor": 7, "reference": b"salary-l".hex()}],
        },
    }


@pytest.mark.parametrize("read", [by_page, by_stream])
def test_of_two_accounts_of_a_member_each_reads_its_own_legs_and_the_administration_account_both(
    office: Office, read: Read
) -> None:
    """South pays 9 to branch and 6 to treasury, both of north-bank, whose administration account has no part in it."""
    office.send(BatchTransfer(office.addresses["treasury"], ASSET, (BatchLeg(office.addresses["south"], 40, b""),)))
    paid = (("branch", 9, b"rent-b"), ("treasury", 6, b"rent-t"))
    legs = tuple(BatchLeg(office.addresses[payee], amount, reference) for payee, amount, reference in paid)
    sent = office.send(BatchTransfer(office.addresses["south"], ASSET, legs), by=("south",))
    own = {"payer's branch": paid[:1], "payer": paid[1:], "payer's administration": paid}
    for reader, shown in own.items():
        events = read(office, reader, sent)
        assert events["ledger.Posted"]["legs"] == [office.leg(payee, amount) for payee, amount, _ in shown]
        assert events["assets.BatchTransferred"]["total_minor"] == sum(amount for _, amount, _ in shown)
        told = events["assets.BatchTransferred"]["legs"]
        assert [leg["reference"] for leg in told] == [reference.hex() for _, _, reference in shown]
        # The administration account reads all that was paid, and who paid it: the proof tells it no more.
        assert office.proof(reader, sent) == (200 if shown == paid else 403)


def test_another_account_of_the_payer_s_member_reads_nothing_of_it(office: Office, batch: Sent) -> None:
    with office.client("payer's branch") as client:
        for path in ("transactions", "proofs/transaction"):
            assert client.get(f"/api/v1/{path}/{batch.tx_id}").status_code == 404
    assert office.streamed("payer's branch", batch) == {}
    assert len(office.transaction("payer's administration", batch)["events"][0]["legs"]) == 4
    assert office.proof("payer's administration", batch) == 200


def test_nothing_that_a_payee_is_sent_tells_of_another(office: Office, batch: Sent) -> None:
    body = office.transaction("payee", batch)
    assert body["messages"] == [{"type": "assets.BatchTransfer"}]
    assert body["signed"] is None
    sent = json.dumps([body, office.streamed("payee", batch)])
    for secret in (to_text(office.addresses["lantern"]), b"salary-l".hex()):
        assert secret not in sent
    assert office.proof("payee", batch) == 403
    with office.client("payee") as client:
        page = client.get(f"/proof/transaction/{batch.tx_id}")
        assert page.status_code in (403, 404)
        address = to_text(office.addresses["south"])
        assert client.get("/api/v1/proofs/balance", params={"address": address, "asset": ASSET}).status_code == 200


def test_payer_and_regulator_read_the_whole_batch(office: Office, batch: Sent) -> None:
    legs = [office.leg(*leg) for leg in (("treasury", -20), ("south", 11), ("lantern", 7), ("south", 2))]
    for reader in ("payer", "regulator"):
        body = office.transaction(reader, batch)
        events = named(body["events"])
        assert events["ledger.Posted"]["legs"] == legs
        assert events["assets.BatchTransferred"]["total_minor"] == 20
        assert len(events["assets.BatchTransferred"]["legs"]) == 3
        assert [message["type"] for message in body["messages"]] == ["assets.BatchTransfer"]
        assert len(body["messages"][0]["legs"]) == 3
        assert base64.b64decode(body["signed"]) == batch.signed
        assert office.proof(reader, batch) == 200
    assert office.streamed("regulator", batch)["ledger.Posted"]["legs"] == legs
    assert office.streamed("payer", batch)["ledger.Posted"]["legs"] == legs[:1]
    assert len(office.streamed("payer", batch)["assets.BatchTransferred"]["legs"]) == 3


def test_both_sides_of_a_plain_transfer_have_it_proved(office: Office) -> None:
    addresses = office.addresses
    sent = office.send(Transfer(addresses["treasury"], addresses["south"], ASSET, 3, b"invoice"))
    body = office.transaction("payee", sent)
    assert body["messages"] == [{"type": "assets.Transfer"}]
    assert named(body["events"])["ledger.Posted"]["legs"] == [office.leg("south", 3)]
    assert named(body["events"])["assets.Transferred"]["reference"] == b"invoice".hex()
    assert [office.proof(reader, sent) for reader in ("payer", "payee", "regulator")] == [200, 200, 200]


def test_of_a_joint_transaction_each_reads_its_own_message(office: Office) -> None:
    addresses = office.addresses
    to_lantern = Transfer(addresses["treasury"], addresses["lantern"], ASSET, 5, b"")
    from_south = Transfer(addresses["south"], addresses["treasury"], ASSET, 4, b"")
    sent = office.send(to_lantern, from_south, by=("treasury", "south"))
    south = office.transaction("payee", sent)
    assert [len(message) > 1 for message in south["messages"]] == [False, True]
    assert south["signed"] is None
    assert [event["type"] for event in south["events"]] == ["ledger.Posted", "assets.Transferred"]
    assert south["events"][0]["legs"] == [office.leg("south", -4)]
    treasury = office.transaction("payer", sent)
    assert [len(message) > 1 for message in treasury["messages"]] == [True, False]
    assert len(treasury["events"]) == 4
    assert treasury["signed"] is None
    # Treasury is named in every event and so reads all of it; south and lantern are not.
    assert [office.proof(reader, sent) for reader in ("payer", "payee", "other payee")] == [200, 403, 403]


def test_the_beneficiary_sees_what_becomes_of_its_hold(office: Office) -> None:
    addresses = office.addresses
    with office.world.client() as client:
        now_ms = client.get("/api/v1/status").json()["time_ms"]
    placing = PlaceHold(addresses["treasury"], addresses["south"], ASSET, 6, now_ms + 3_600_000, b"order")
    placed = office.send(placing)
    south = to_text(addresses["south"])
    seen = office.streamed("payee", placed)
    assert seen["ledger.HoldPlaced"]["beneficiary"] == south
    hold = seen["ledger.HoldPlaced"]["hold"]
    voided = office.send(VoidHold(bytes.fromhex(hold), addresses["south"]), by=("south",))
    for reader in ("payer", "payee"):
        event = office.streamed(reader, voided)["ledger.HoldVoided"]
        assert (event["hold"], event["beneficiary"], event["amount_minor"]) == (hold, south, 6)
    assert office.streamed("other payee", voided) == {}
