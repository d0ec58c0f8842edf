"""Who may call what: every route by every kind of reader, and refusal of whatever does not say."""

from pathlib import Path
from typing import Any

import pytest
from litestar import get

from feiqian.api.access import Access
from feiqian.api.app import create_app
from feiqian.api.edge import discover_edges
from feiqian.api.routes_table import FILE, render_table, rows_of
from feiqian.core.errors import Fault
from feiqian.testing.gateways import SIGN_IN
from feiqian.testing.ledgers import ASSET

ROOT = Path(__file__).parents[4]
READERS = ("anonymous", "other", "sibling", "party", "administration", "regulator")
EMPTY_BATCH: dict[str, Any] = {"json": {"transactions": []}}

TABLE: dict[tuple[str, str], tuple[int, int, int, int, int, int]] = {
    # route: status for anonymous, another member, another account of the party's member, the party, the administration
    # account of its member, the regulator
    ("POST", "/api/v1/transactions"): (400, 400, 400, 400, 400, 400),  # open to all; an empty batch is refused as such
    ("POST", "/api/v1/transactions/dry-run"): (401, 400, 400, 400, 400, 400),  # an empty batch again
    ("GET", "/api/v1/transactions"): (401, 200, 200, 200, 200, 200),
    ("GET", "/api/v1/transactions/{tx_id:str}"): (401, 404, 404, 200, 200, 200),
    ("GET", "/api/v1/status"): (200, 200, 200, 200, 200, 200),
    ("GET", "/api/v1/genesis"): (200, 200, 200, 200, 200, 200),
    ("GET", "/api/v1/blocks"): (200, 200, 200, 200, 200, 200),
    ("GET", "/api/v1/blocks/{height:int}"): (200, 200, 200, 200, 200, 200),
    ("GET", "/api/v1/assets"): (200, 200, 200, 200, 200, 200),
    ("GET", "/api/v1/assets/{code:str}"): (200, 200, 200, 200, 200, 200),
    ("GET", "/api/v1/members"): (200, 200, 200, 200, 200, 200),
    ("GET", "/api/v1/members/{member_id:str}"): (200, 200, 200, 200, 200, 200),
    ("GET", "/api/v1/accounts"): (401, 200, 200, 200, 200, 200),
    ("GET", "/api/v1/accounts/{address:str}"): (401, 404, 404, 200, 200, 200),
    ("GET", "/api/v1/accounts/{address:str}/balances"): (401, 404, 404, 200, 200, 200),
    ("GET", "/api/v1/accounts/{address:str}/entries"): (401, 404, 404, 200, 200, 200),
    ("GET", "/api/v1/proofs/balance"): (401, 404, 404, 200, 200, 200),
    ("GET", "/api/v1/proofs/transaction/{tx_id:str}"): (401, 404, 404, 200, 200, 200),
    ("GET", "/api/v1/proofs/record"): (401, 403, 403, 200, 200, 200),
    ("POST", "/api/v1/session/challenge"): (200, 200, 200, 200, 200, 200),
    ("POST", "/api/v1/session"): (401, 401, 401, 401, 401, 401),  # open to all; what is sent is no challenge
    ("GET", "/api/v1/session"): (401, 200, 200, 200, 200, 200),
    ("DELETE", "/api/v1/session"): (401, 204, 204, 204, 204, 204),
    ("GET", "/api/v1/events"): (200, 200, 200, 200, 200, 200),
    ("POST", "/comet"): (400, 400, 400, 400, 400, 400),  # open to all; no call is in it
    ("GET", "/health"): (200, 200, 200, 200, 200, 200),
    ("GET", "/ready"): (200, 200, 200, 200, 200, 200),
    ("GET", "/metrics"): (200, 200, 200, 200, 200, 200),
    ("GET", "/schema"): (200, 200, 200, 200, 200, 200),
    ("GET", "/schema/openapi.json"): (200, 200, 200, 200, 200, 200),
    ("GET", "/schema/{path:str}"): (404, 404, 404, 404, 404, 404),
}


def core_routes() -> list[tuple[str, str]]:
    return [(method, path) for method, path, _, _ in rows_of(create_app(None, []))]


def test_the_table_names_every_core_route() -> None:
    assert sorted(TABLE) == sorted(core_routes())


@pytest.mark.parametrize(("method", "path"), sorted(TABLE))
@pytest.mark.parametrize("place", range(6), ids=READERS)
def test_each_cell(world: Any, method: str, path: str, place: int) -> None:
    reader = READERS[place]
    account = world.address("treasury")
    parts = {
        "{tx_id:str}": world.paid,
        "{height:int}": "1",
        "{code:str}": ASSET,
        "{member_id:str}": "north-bank",
        "{address:str}": account,
        "{path:str}": "nothing",
    }
    url = path
    for name, value in parts.items():
        url = url.replace(name, value)
    sent: dict[str, Any] = {}
    if path in ("/api/v1/transactions", "/api/v1/transactions/dry-run") and method == "POST":
        sent = EMPTY_BATCH
    elif path == "/api/v1/session/challenge":
        sent = {"json": {"account": account}}
    elif path == "/api/v1/session" and method == "POST":
        sent = {"json": {"challenge": "AAAA", "scheme": 1, "key": "00" * 32, "signature": "00" * 64}}
    elif path == "/api/v1/proofs/balance":
        sent = {"params": {"address": account, "asset": ASSET}}
    elif path == "/api/v1/proofs/record":
        sent = {"params": {"table": "ledger.accounts", "key": world.ledger.addresses["treasury"].hex()}}
    token = world.tokens[reader]
    if method == "DELETE" and token is not None:
        # A session of its own: signing out ends it.
        token = world.gateway.sign_in(world.ledger, SIGN_IN[reader])
    with world.gateway.client(token) as client, client.stream(method, url, **sent) as answer:
        assert answer.status_code == TABLE[(method, path)][place]
        if answer.status_code >= 400 and path != "/schema/{path:str}":
            answer.read()
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["number"] > 0


def test_a_party_is_whoever_an_event_names_and_no_one_else(world: Any) -> None:
    south = world.gateway.sign_in(world.ledger, "south")
    with world.gateway.client(south) as client:
        assert client.get(f"/api/v1/transactions/{world.paid}").status_code == 200
        assert world.paid in [item["id"] for item in client.get("/api/v1/transactions").json()["items"]]
        assert client.get(f"/api/v1/accounts/{world.address('treasury')}").status_code == 404
        block = client.get("/api/v1/blocks/2").json()
        assert block["transactions"] == []
    with world.client("other") as client:
        assert world.paid not in [item["id"] for item in client.get("/api/v1/transactions").json()["items"]]
        own = client.get("/api/v1/accounts").json()["items"]
        assert own == [{"address": world.address("lantern"), "member": "lantern-works"}]
    with world.client("regulator") as client:
        assert len(client.get("/api/v1/transactions").json()["items"]) >= 2
        assert len(client.get("/api/v1/accounts").json()["items"]) == 6


@pytest.mark.parametrize("reader", ["other", "sibling"])
def test_what_is_missing_looks_like_what_is_another_s(world: Any, reader: str) -> None:
    with world.client(reader) as client:
        hidden = client.get(f"/api/v1/transactions/{world.paid}").json()
        missing = client.get(f"/api/v1/transactions/{'ab' * 32}").json()
    assert hidden == missing


def test_a_key_of_another_account_reads_its_own_and_the_administration_account_all_of_the_member_s(world: Any) -> None:
    own = {"sibling": {"branch"}, "party": {"treasury"}, "administration": {"branch", "issuance", "treasury"}}
    with world.client("regulator") as client:
        height = client.get(f"/api/v1/transactions/{world.paid}").json()["height"]
    for reader, accounts in own.items():
        with world.client(reader) as client:
            listed = client.get("/api/v1/accounts").json()["items"]
            assert {item["address"] for item in listed} == {world.address(account) for account in accounts}
            paid = [item["id"] for item in client.get("/api/v1/transactions").json()["items"]]
            assert (world.paid in paid) == ("treasury" in accounts)
            in_block = [item["id"] for item in client.get(f"/api/v1/blocks/{height}").json()["transactions"]]
            assert (world.paid in in_block) == ("treasury" in accounts)
            for account in ("branch", "issuance", "treasury"):
                url = f"/api/v1/accounts/{world.address(account)}"
                key = world.ledger.addresses[account].hex()
                allowed = account in accounts
                for path in (url, f"{url}/balances", f"{url}/entries", f"{url}/holds", f"{url}/pending"):
                    assert client.get(path).status_code == (200 if allowed else 404), (reader, path)
                record = client.get("/api/v1/proofs/record", params={"table": "ledger.accounts", "key": key})
                assert record.status_code == (200 if allowed else 403)


def test_whom_a_refused_transaction_acted_for_reads_it_though_it_has_no_events(world: Any) -> None:
    (refused,) = world.gateway.submit(world.ledger.transfer("branch", "south", 1))
    assert refused["error"] is not None
    seen = {"other": False, "sibling": True, "party": False, "administration": True, "regulator": True}
    for reader, is_shown in seen.items():
        with world.client(reader) as client:
            listed = [item["id"] for item in client.get("/api/v1/transactions").json()["items"]]
            assert (refused["tx_id"] in listed) == is_shown
            status = client.get(f"/api/v1/transactions/{refused['tx_id']}").status_code
            assert status == (200 if is_shown else 404)


def test_who_holds_an_asset_is_told_to_its_issuance_account_and_no_other_of_its_issuer_s(world: Any) -> None:
    statuses = {"other": 404, "sibling": 404, "party": 404, "administration": 200, "regulator": 200}
    for reader, status in statuses.items():
        with world.client(reader) as client:
            for part in ("holders", "issues", "controls"):
                assert client.get(f"/api/v1/assets/{ASSET}/{part}").status_code == status, (reader, part)


def test_no_route_of_any_module_is_open_by_oversight(world: Any) -> None:
    with world.client() as client:
        for method, path, access, _ in rows_of(create_app(None, discover_edges())):
            if access is Access.PUBLIC:
                continue
            url = path
            while "{" in url:
                url = url[: url.index("{")] + "1" + url[url.index("}") + 1 :]
            answer = client.request(method, url)
            # A console page may send to the sign-in page instead.
            assert answer.status_code in (401, 302, 303), f"{method} {path}: {answer.status_code}"


def test_an_app_with_an_undeclared_route_does_not_start() -> None:
    @get("/open")
    async def oversight() -> str:
        return "everything"

    with pytest.raises(Fault, match="/open does not declare its access"):
        create_app(None, [], more=[oversight])


def test_options_and_unknown_methods_tell_nothing(world: Any) -> None:
    with world.client() as client:
        assert client.options("/api/v1/accounts").status_code == 403
        assert client.put("/api/v1/status").status_code == 405
        nowhere = client.get("/api/v1/nowhere")
    assert (nowhere.status_code, nowhere.json()["number"]) == (404, 3)


def test_the_page_of_routes_is_current() -> None:
    written = (ROOT / FILE).read_text("utf-8")
    assert written == render_table(create_app(None, discover_edges())), "run `python -m feiqian.api.routes_table`"
