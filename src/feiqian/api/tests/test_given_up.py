"""Blocks that the node gave up: each way of asking for one says so, and an index is built from the segment files."""

import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from feiqian.core.addresses import to_text
from feiqian.index.database import open_engine
from feiqian.index.tables import METADATA
from feiqian.node.configuration import Layout
from feiqian.node.restore import Source, restore
from feiqian.state.segment_folder import FolderWriter
from feiqian.state.segments import append_from
from feiqian.state.store import Store
from feiqian.testing.gateways import SIGN_IN, GatewayProcess, watched_consortium
from feiqian.testing.ledgers import ASSET, SampleLedger, make_ledger
from feiqian.testing.processes import ANSWER_S, NodeProcess


@dataclass
class Past:
    """A ledger in which south-bank was paid in block 4, and whose blocks before the last few lie in segment files."""

    ledger: SampleLedger
    paid: str
    first_block: int
    snapshot: Path
    """Taken before the blocks were given up."""


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Past:
    ledger = make_ledger(tmp_path / "ledger", watched_consortium())
    with NodeProcess(ledger.directory).await_ready() as node, GatewayProcess(ledger.directory) as gateway:
        gateway.await_ready().await_indexed()
        gateway.submit(ledger.issue("treasury", 1_000), wait="provable")
        (paid,) = gateway.submit(ledger.transfer("treasury", "south", 250), wait="provable")
        for _ in range(3):
            gateway.submit(ledger.transfer("treasury", "south", 1), wait="provable")
        gateway.await_indexed()
        await_index(gateway)
        assert (gateway.terminate(), node.terminate()) == (0, 0)
    snapshot_of(Layout(ledger.directory), tmp_path / "snapshot")
    # As if ten minutes had passed.
    monkeypatch.setattr("feiqian.state.writing.MAX_REPLAY_WINDOW_MS", 0)
    store = Store.open(Layout(ledger.directory).ledger)
    writer = FolderWriter(Layout(ledger.directory).segments, store.chain_id, 1)
    append_from(store, writer, store.height - 2)
    writer.close()
    while store.prune(store.height - 2, 1_000) or store.prune_blocks(store.height - 2, 100):
        pass
    first_block = store.head.first_block
    assert 4 < first_block < store.height
    store.close()
    return Past(ledger, paid["tx_id"], first_block, tmp_path / "snapshot")


@pytest.fixture
def serve() -> Iterator[Callable[[SampleLedger], GatewayProcess]]:
    """Give a function that runs node and gateway on a ledger; the gateway may have no index."""
    running: list[Any] = []

    def start(ledger: SampleLedger) -> GatewayProcess:
        running.append(NodeProcess(ledger.directory).await_ready())
        running.append(GatewayProcess(ledger.directory).await_ready())
        return running[-1]

    yield start
    for process in reversed(running):
        process.__exit__()


def await_true(is_so: Callable[[], Any]) -> None:
    deadline = time.monotonic() + ANSWER_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def indexed(gateway: GatewayProcess) -> int | None:
    with gateway.client() as client:
        return client.get("/api/v1/status").json()["indexed_height"]


def await_index(gateway: GatewayProcess) -> None:
    """Return when the index is at the node's height."""
    with gateway.client() as client:
        await_true(lambda: indexed(gateway) == client.get("/api/v1/status").json()["height"])


def await_event(gateway: GatewayProcess, event: str) -> list[dict[str, Any]]:
    """Return the lines of a log that tell of an event once there is one."""
    await_true(lambda: event in [line["event"] for line in gateway.log_lines()])
    return [line for line in gateway.log_lines() if line["event"] == event]


def is_begun(ledger: SampleLedger) -> bool:
    """Say whether the index has a marker that begins with the genesis: it goes away while it is built anew."""
    engine = open_engine(f"sqlite:///{Layout(ledger.directory).data / 'index.db'}")
    try:
        with engine.connect() as connection:
            return connection.execute(sa.text("SELECT base_height FROM index_marker")).scalar() == 0
    except OperationalError:
        return False
    finally:
        engine.dispose()


def count(dumped: dict[str, list[Any]]) -> int:
    """Return how many transactions an index counts in its blocks."""
    return sum(row[3] for row in dumped["blocks"])


def dump(ledger: SampleLedger) -> dict[str, list[Any]]:
    engine = open_engine(f"sqlite:///{Layout(ledger.directory).data / 'index.db'}")
    with engine.connect() as connection:
        found = {
            table.name: sorted((tuple(row) for row in connection.execute(sa.select(table))), key=repr)
            for table in METADATA.sorted_tables
        }
    engine.dispose()
    return found


def test_what_stood_in_a_block_given_up_is_refused_by_name_to_those_it_concerns(
    past: Past, serve: Callable[[SampleLedger], GatewayProcess]
) -> None:
    gateway = serve(past.ledger).await_indexed()
    south = to_text(past.ledger.addresses["south"])
    with gateway.client(gateway.sign_in(past.ledger, "south")) as client:
        status = client.get("/api/v1/status").json()
        assert status["first_block"] == past.first_block
        assert status["first_provable_height"] == past.first_block
        assert status["store_bytes"] > 0
        assert status["disk_free_bytes"] > 0
        operation = status["operation"]
        assert operation["blocks_held"] == status["height"] + 1 - past.first_block
        assert operation["index_bytes"] > 0
        assert (operation["segment_bytes"] > 0, operation["comet_bytes"], operation["network"]) == (True, 0, None)
        # Strangers are told nothing of it.
        assert "operation" not in gateway.client().get("/api/v1/status").json()
        assert refusal(client, "/api/v1/blocks/4") == (
            410, "api", 17, f"block 4 is no longer held here; blocks from {past.first_block} on are"
        )  # fmt: skip
        for path in (f"/api/v1/transactions/{past.paid}", f"/api/v1/proofs/transaction/{past.paid}"):
            assert refusal(client, path)[:3] == (410, "api", 17)
            assert "block 4, in which this transaction stands," in refusal(client, path)[3]
        balance = f"/api/v1/proofs/balance?address={south}&asset={ASSET}"
        assert client.get(balance).status_code == 200
        assert refusal(client, f"{balance}&height=4")[:3] == (410, "api", 13)
        assert refusal(client, f"{balance}&trusted=3")[:3] == (410, "api", 13)
        assert client.get(f"{balance}&trusted={past.first_block}").status_code == 200
        page = client.get(f"/transactions/{past.paid}", headers={"Accept": "text/html"})
        assert (page.status_code, "No longer held" in page.text) == (410, True)
        # Lists come from the index, and have it all.
        listed = client.get("/api/v1/transactions").json()["items"]
        assert past.paid in [item["id"] for item in listed]
        assert refusal(client, "/api/v1/blocks/9999")[:3] == (404, "api", 3)
    with gateway.client(gateway.sign_in(past.ledger, "lantern")) as client:
        assert refusal(client, f"/api/v1/transactions/{past.paid}")[:3] == (404, "api", 3)
    with gateway.client() as client:
        assert refusal(client, f"/api/v1/transactions/{past.paid}")[0] == 401


def refusal(client: Any, path: str) -> tuple[int, str, int, str]:
    answer = client.get(path)
    body = answer.json()
    return answer.status_code, body["codespace"], body["number"], body["detail"]


def test_an_index_is_built_anew_from_segment_files_and_node(
    past: Past, serve: Callable[[SampleLedger], GatewayProcess]
) -> None:
    before = dump(past.ledger)
    for path in Layout(past.ledger.directory).data.glob("index.db*"):
        path.unlink()
    await_index(serve(past.ledger))
    assert dump(past.ledger) == before


def test_an_index_that_lacks_blocks_names_them_and_goes_on_once_they_are_back(
    past: Past, serve: Callable[[SampleLedger], GatewayProcess], tmp_path: Path
) -> None:
    layout = Layout(past.ledger.directory)
    before = dump(past.ledger)
    for path in layout.data.glob("index.db*"):
        path.unlink()
    shutil.move(layout.segments, tmp_path / "elsewhere")
    gateway = serve(past.ledger)
    told = await_event(gateway, "blocks_missing")
    assert [(line["first"], line["last"], line["level"]) for line in told] == [(1, past.first_block - 1, "error")]
    await_true(lambda: indexed(gateway) == 0)
    shutil.move(tmp_path / "elsewhere", layout.segments)
    await_index(gateway)
    assert dump(past.ledger) == before


def test_an_index_made_before_goes_on_without_the_files(
    past: Past, serve: Callable[[SampleLedger], GatewayProcess], tmp_path: Path
) -> None:
    shutil.move(Layout(past.ledger.directory).segments, tmp_path / "elsewhere")
    gateway = serve(past.ledger)
    gateway.submit(past.ledger.transfer("treasury", "south", 5), wait="provable")
    await_index(gateway)
    assert [line["event"] for line in gateway.log_lines() if line["event"] in ("index_rebuilt", "blocks_missing")] == []
    assert count(dump(past.ledger)) == 6


def test_the_index_of_a_ledger_made_from_a_snapshot_begins_with_what_stands_in_it(
    past: Past, serve: Callable[[SampleLedger], GatewayProcess], tmp_path: Path
) -> None:
    old = Layout(past.ledger.directory)
    directory = tmp_path / "two"
    source = Source(past.snapshot, None, None)
    restored = restore(directory, source, old.genesis, old.validator_key, past.ledger.registry)
    ledger = SampleLedger.reopen(directory, past.ledger.registry)
    gateway = serve(ledger)
    await_index(gateway)
    south = to_text(ledger.addresses["south"])
    with gateway.client(gateway.sign_in(ledger, "south")) as client:
        entries = client.get(f"/api/v1/accounts/{south}/entries").json()["items"]
        assert [(entry["amount_minor"], entry["posted_minor"], entry["tx_id"]) for entry in entries] == [
            (253, 253, None)
        ]
        gateway.submit(ledger.transfer("treasury", "south", 7), wait="provable")
        await_index(gateway)
        entries = client.get(f"/api/v1/accounts/{south}/entries").json()["items"]
        assert [entry["posted_minor"] for entry in entries] == [260, 253]
    with gateway.client(gateway.sign_in(ledger, SIGN_IN["regulator"])) as client:
        accounts = client.get("/api/v1/accounts").json()["items"]
        assert {item["address"] for item in accounts} == {to_text(address) for address in ledger.addresses.values()}
        assert refusal(client, "/api/v1/blocks/4")[:3] == (410, "api", 17)
        assert client.get(f"/api/v1/blocks/{restored.first_block}").status_code == 200
    # With every file put into its place the index is whole.
    gateway.terminate()
    shutil.copytree(old.segments, Layout(directory).segments)
    store = Store.open(old.ledger, read_only=True)
    writer = FolderWriter(Layout(directory).segments, store.chain_id, 1)
    append_from(store, writer, store.height)
    writer.close()
    store.close()
    with GatewayProcess(directory).await_ready() as again:
        await_event(again, "index_rebuilt")
        await_true(lambda: is_begun(ledger) and count(dump(ledger)) == 6)
    assert set(dump(past.ledger)["results"]) < set(dump(ledger)["results"])


def test_earlier_blocks_are_imported_from_another_member_and_the_index_says_from_where_it_is_whole(
    past: Past, tmp_path: Path
) -> None:
    old, files = Layout(past.ledger.directory), tmp_path / "files"
    archived = feiqian("archive", old.directory, "--out", files)
    assert archived.returncode == 0, archived.stderr
    directory = tmp_path / "two"
    source = Source(past.snapshot, None, None)
    restored = restore(directory, source, old.genesis, old.validator_key, past.ledger.registry)
    ledger = SampleLedger.reopen(directory, past.ledger.registry)
    first = restored.first_block
    with NodeProcess(directory).await_ready() as node, GatewayProcess(directory).await_ready() as gateway:
        await_index(gateway)
        await_true(lambda: status_of(gateway)["indexed_from"] == first > 4)
        # What the node holds open is not changed under it.
        refused = feiqian("import", directory, files)
        assert (refused.returncode, "stop it first" in refused.stderr) == (2, True)
        assert (gateway.terminate(), node.terminate()) == (0, 0)
    broken = tmp_path / "broken"
    shutil.copytree(files, broken)
    (name,) = broken.iterdir()
    data = bytearray(name.read_bytes())
    data[len(data) // 3] ^= 1
    name.write_bytes(data)
    assert feiqian("import", directory, broken).returncode == 1
    assert not Layout(directory).segments.exists()
    imported = feiqian("import", directory, files, "--json")
    assert (imported.returncode, imported.stdout) == (0, f'{{"first_height":1,"last_height":{first - 1}}}\n')
    refused = feiqian("import", directory, files)
    assert (refused.returncode, "holds every block already" in refused.stderr) == (2, True)
    with NodeProcess(directory).await_ready(), GatewayProcess(directory).await_ready() as gateway:
        await_event(gateway, "index_rebuilt")
        await_true(lambda: is_begun(ledger) and indexed(gateway) == status_of(gateway)["height"])
        # What status says of the index is as old as the gateway's last look at it.
        await_true(lambda: status_of(gateway)["indexed_from"] == 1)
        with gateway.client(gateway.sign_in(ledger, "south")) as client:
            listed = client.get("/api/v1/transactions").json()["items"]
            assert past.paid in [item["id"] for item in listed]
    assert set(dump(past.ledger)["results"]) <= set(dump(ledger)["results"])
    audited = feiqian("audit", directory, "--json")
    assert audited.returncode == 0, audited.stdout
    assert '"first_height":1,' in audited.stdout


def status_of(gateway: GatewayProcess) -> dict[str, Any]:
    with gateway.client() as client:
        return client.get("/api/v1/status").json()


def feiqian(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "feiqian.cli.main", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def snapshot_of(layout: Layout, path: Path) -> None:
    command = ["snapshot", str(layout.directory), "--out", str(path)]
    subprocess.run([sys.executable, "-m", "feiqian.cli.main", *command], check=True, capture_output=True)


def test_only_its_own_user_may_read_what_the_index_process_makes(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path / "ledger")
    data = Layout(ledger.directory).data
    with NodeProcess(ledger.directory).await_ready():
        command = [sys.executable, "-m", "feiqian.api.indexer", str(ledger.directory)]
        with subprocess.Popen(command, umask=0o022, stderr=subprocess.DEVNULL) as indexer:
            deadline = time.monotonic() + ANSWER_S
            while not (data / "index.db-wal").exists():
                assert time.monotonic() < deadline
                time.sleep(0.02)
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in data.glob("index.db*")}
            indexer.kill()
    assert set(modes.values()) == {0o600}, modes
