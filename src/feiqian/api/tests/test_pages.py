"""Lists and lookups: what they hold, page by page, and cursors that someone has tampered with."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from feiqian.consensus import proof_file
from feiqian.consensus.genesis_file import load_genesis, read_genesis
from feiqian.ledger.balances import BALANCES
from feiqian.testing.ledgers import ASSET

TAMPERED = [
    "x",
    "é",
    "====",
    "A" * 399,
    base64.urlsafe_b64encode(b"[]").decode(),
    base64.urlsafe_b64encode(b"[1,2,3]").decode(),
    base64.urlsafe_b64encode(b'["a","b"]').decode(),
    base64.urlsafe_b64encode(b"[1.5]").decode(),
    base64.urlsafe_b64encode(b"[true]").decode(),
    base64.urlsafe_b64encode(b"[null]").decode(),
    base64.urlsafe_b64encode(b"{}").decode(),
    base64.urlsafe_b64encode(b"[99999999999999999999999]").decode(),
    base64.urlsafe_b64encode(b"[" * 200).decode(),
]


def pages(client: Any, url: str, **params: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor = None
    while True:
        given = params if cursor is None else {**params, "cursor": cursor}
        page = client.get(url, params=given).json()
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return items


@pytest.mark.parametrize(
    "path", ["blocks", "transactions", "accounts", "assets", "members", "accounts/{}/entries", "accounts/{}/balances"]
)
def test_any_page_size_gives_the_same_list(world: Any, path: str) -> None:
    url = "/api/v1/" + path.format(world.address("treasury"))
    with world.client("regulator") as client:
        whole = client.get(url, params={"limit": 500}).json()["items"]
        assert whole
        for limit in (1, 2, 3):
            assert pages(client, url, limit=limit) == whole
        for limit in (0, 501, -1, "x"):
            assert client.get(url, params={"limit": limit}).status_code == 400


@pytest.mark.parametrize("path", ["blocks", "transactions", "accounts", "assets", "members", "accounts/{}/entries"])
@pytest.mark.parametrize("cursor", TAMPERED)
def test_tampered_cursors_are_refused(world: Any, path: str, cursor: str) -> None:
    with world.client("party") as client:
        answer = client.get("/api/v1/" + path.format(world.address("treasury")), params={"cursor": cursor})
    # Some are well-formed for one list: then the list starts elsewhere, within the reader's own rights.
    assert answer.status_code in (200, 400)
    if answer.status_code == 400:
        assert answer.json()["codespace"] in ("api", "core")


def test_another_reader_s_cursor_shows_no_more_than_one_s_own(world: Any) -> None:
    with world.client("regulator") as regulator, world.client("other") as other:
        cursor = regulator.get("/api/v1/transactions", params={"limit": 1}).json()["next_cursor"]
        mine = {item["id"] for item in pages(other, "/api/v1/transactions")}
        seen = {item["id"] for item in other.get("/api/v1/transactions", params={"cursor": cursor}).json()["items"]}
    assert seen <= mine
    assert world.paid not in seen


def test_entries_carry_the_running_balance(world: Any) -> None:
    url = f"/api/v1/accounts/{world.address('treasury')}/entries"
    with world.client("party") as client:
        entries = pages(client, url, asset=ASSET, limit=2)
        balance = client.get(f"/api/v1/accounts/{world.address('treasury')}/balances").json()["items"][0]
        times = [entry["time_ms"] for entry in entries]
        later = pages(client, url, from_ms=times[-1] + 1)
        assert client.get(url, params={"asset": "NONE"}).json()["items"] == []
    assert [entry["sequence"] for entry in entries] == list(range(len(entries), 0, -1))
    assert entries[-1] | {"height": 0, "time_ms": 0, "tx_id": ""} == {
        "asset": ASSET,
        "sequence": 1,
        "amount_minor": 1_000,
        "posted_minor": 1_000,
        "height": 0,
        "time_ms": 0,
        "tx_id": "",
        "kind": "transaction",
    }
    running = 0
    for entry in reversed(entries):
        running += entry["amount_minor"]
        assert entry["posted_minor"] == running
    assert balance["posted_minor"] == running
    assert later == [entry for entry in entries if entry["time_ms"] > times[-1]]


def test_the_genesis_is_the_node_s_own(world: Any) -> None:
    with world.client() as client:
        served = client.get("/api/v1/genesis").content
    assert read_genesis(served) == load_genesis(world.ledger.directory / "genesis.json")


def test_proofs_verify_against_the_served_genesis(world: Any, tmp_path: Path) -> None:
    account = world.address("treasury")
    with world.client("party") as client:
        genesis = read_genesis(client.get("/api/v1/genesis").content)
        present = client.get("/api/v1/proofs/balance", params={"address": account, "asset": ASSET})
        absent = client.get("/api/v1/proofs/balance", params={"address": account, "asset": "NONE"})
        result = client.get(f"/api/v1/proofs/transaction/{world.paid}")
        transaction = client.get(f"/api/v1/transactions/{world.paid}").json()
        past = client.get(
            "/api/v1/proofs/balance", params={"address": account, "asset": ASSET, "height": transaction["height"]}
        )
    tables = {BALANCES.name: BALANCES}
    proved = proof_file.verify(past.content, genesis, tables)
    assert (proved.kind, proved.height) == ("record", transaction["height"])
    assert proved.record is not None
    assert proved.record.posted_minor == 750  # type: ignore[attr-defined]
    assert proof_file.verify(present.content, genesis, tables).kind == "record"
    assert proof_file.verify(absent.content, genesis, tables).kind == "absence"
    verified = proof_file.verify(result.content, genesis, tables)
    assert (verified.kind, verified.key.hex()) == ("result", world.paid)


def test_proofs_that_cannot_be_given(world: Any) -> None:
    account = world.address("treasury")
    with world.client("regulator") as client:
        asked = {"address": account, "asset": ASSET}
        future = client.get("/api/v1/proofs/balance", params={**asked, "height": 10**9})
        assert (future.status_code, future.json()["number"]) == (409, 14)
        backwards = client.get("/api/v1/proofs/balance", params={**asked, "height": 2, "trusted": 10**6})
        assert backwards.status_code in (400, 409)
        for params in ({"table": "ledger.accounts", "key": "zz"}, {"table": "ledger.accounts", "key": ""}):
            answer = client.get("/api/v1/proofs/record", params=params)
            assert (answer.status_code, answer.json()["number"]) == (400, 4)
        assert client.get("/api/v1/proofs/record", params={"table": "nothing", "key": "00"}).status_code == 404


def test_members_and_assets_are_public(world: Any) -> None:
    with world.client() as client:
        asset = client.get(f"/api/v1/assets/{ASSET}").json()
        member = client.get("/api/v1/members/watchful-authority").json()
        assert client.get("/api/v1/assets/NONE").status_code == 404
        assert client.get("/api/v1/members/none").status_code == 404
    with world.client("regulator") as client:
        (issued,) = client.get(f"/api/v1/accounts/{world.address('issuance')}/balances").json()["items"]
    assert asset["supply_minor"] == -issued["posted_minor"] >= 1_000
    assert asset["asset"]["scale"] == 2
    assert member["member"]["roles"] == ["regulator"]


def test_errors_show_no_path_and_no_key(world: Any) -> None:
    with world.client() as client:
        answers = [
            client.get("/api/v1/nowhere"),
            client.get("/api/v1/assets/..%2f..%2fetc%2fpasswd"),
            client.get("/api/v1/blocks/99999999"),
            client.post("/api/v1/session", json={"challenge": "!", "scheme": 9, "key": "", "signature": ""}),
            client.post("/api/v1/session", json={"challenge": 1}),
        ]
    for answer in answers:
        assert 400 <= answer.status_code < 500
        body = json.dumps(answer.json())
        assert str(world.ledger.directory) not in body
        assert "Traceback" not in body
        assert "/work" not in body
