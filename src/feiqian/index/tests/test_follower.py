"""The follower against a real node: it catches up, goes on after crashes on either side, and knows a strange index."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from feiqian.index.database import migrate, open_engine
from feiqian.index.follower import ensure_begun
from feiqian.index.reading import IndexReader
from feiqian.index.tables import METADATA
from feiqian.index.writer import IndexWriter
from feiqian.testing.gateways import watched_consortium
from feiqian.testing.ledgers import make_ledger
from feiqian.testing.processes import ANSWER_S, NodeProcess

KILLS = 6


def start_indexer(directory: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "feiqian.api.indexer", str(directory)], stderr=subprocess.DEVNULL)


def await_true(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ANSWER_S
    while not is_so():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def dump(engine: sa.Engine) -> dict[str, list[tuple[Any, ...]]]:
    with engine.connect() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(sa.select(table))), key=repr)
            for table in METADATA.sorted_tables
            if table.name != "index_marker"
        }


def test_killed_at_any_moment_it_ends_up_like_one_built_at_once(tmp_path: Path, base_and_blocks: Any) -> None:
    ledger = make_ledger(tmp_path / "ledger", watched_consortium())
    engine = open_engine(f"sqlite:///{ledger.directory / 'data' / 'index.db'}")
    reader = IndexReader(engine)
    with NodeProcess(ledger.directory).await_ready() as node, node.connect() as channel:
        channel.submit([ledger.issue("treasury", 100_000)])
        for round_ in range(KILLS):
            indexer = start_indexer(ledger.directory)
            await_true(lambda: (reader.height() or 0) > 0)
            for _ in range(10):
                verdicts = channel.submit([ledger.transfer("treasury", "south", 1) for _ in range(20)])
                assert {verdict.number for verdict in verdicts} == {0}
            if round_ % 2:
                await_true(lambda: reader.height() == channel.status().height)
                assert os.sched_getscheduler(indexer.pid) == os.SCHED_IDLE
            indexer.send_signal(signal.SIGKILL)
            indexer.wait(ANSWER_S)
        await_true(lambda: channel.status().pool_transactions == 0)
        indexer = start_indexer(ledger.directory)
        try:
            await_true(lambda: reader.height() == channel.status().height)
        finally:
            indexer.kill()
            indexer.wait(ANSWER_S)
        node.terminate()
    base, blocks = base_and_blocks(ledger)
    fresh = open_engine(f"sqlite:///{tmp_path / 'fresh.db'}")
    migrate(fresh)
    writer = IndexWriter(fresh, ledger.registry, [])
    writer.begin(base)
    writer.apply(blocks, 0)
    assert dump(engine) == dump(fresh)
    assert sum(row[3] for row in dump(fresh)["blocks"]) == 1 + KILLS * 200
    engine.dispose()
    fresh.dispose()


def test_an_index_of_another_ledger_or_release_is_built_anew(recorded: Any, sqlite_engine: sa.Engine) -> None:
    writer = IndexWriter(sqlite_engine, recorded.registry, [])
    marker = ensure_begun(sqlite_engine, writer, lambda: recorded.base, lambda marker: True)
    assert marker.height == 0
    writer.apply(recorded.blocks, 0)
    assert ensure_begun(sqlite_engine, writer, lambda: recorded.base, lambda marker: True).height == len(
        recorded.blocks
    )
    assert ensure_begun(sqlite_engine, writer, lambda: recorded.base, lambda marker: False).height == 0
    with sqlite_engine.begin() as connection:
        connection.execute(sa.text("UPDATE index_marker SET schema_digest = 'older'"))
        connection.execute(sa.text("CREATE TABLE of_an_older_module (id integer)"))
    assert ensure_begun(sqlite_engine, writer, lambda: recorded.base, lambda marker: True).height == 0
    assert "of_an_older_module" not in sa.inspect(sqlite_engine).get_table_names()
