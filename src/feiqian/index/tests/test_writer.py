"""The index as a function of the blocks: entries by hand, the same however it is built, whole or not at all."""

import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from feiqian.core.errors import Fault
from feiqian.core.wire import Stored
from feiqian.index.database import migrate, open_engine
from feiqian.index.projection import CommittedEvent, Projection, Rows
from feiqian.index.reading import IndexReader, Scope
from feiqian.index.tables import ACCOUNTS, BLOCKS, ENTRIES, HOLDERS, METADATA, RESULTS, position
from feiqian.index.writer import IndexWriter
from feiqian.ledger.events import Posted
from feiqian.testing.ledgers import ASSET

SUMS = sa.MetaData()
VOLUME = sa.Table(
    "test_volume", SUMS, sa.Column("position", sa.BigInteger, primary_key=True), sa.Column("legs", sa.Integer)
)


def count_legs(rows: Rows, committed: CommittedEvent) -> None:
    assert isinstance(committed.event, Posted)
    rows.insert(VOLUME, position=committed.position, legs=len(committed.event.legs))


PROJECTION = Projection("test", SUMS, {Posted: count_legs})


def begin(engine: sa.Engine, recorded: Any, projections: Sequence[Projection] = (PROJECTION,)) -> IndexWriter:
    migrate(engine)
    writer = IndexWriter(engine, recorded.registry, projections)
    writer.begin(recorded.base)
    return writer


def apply_all(writer: IndexWriter, blocks: list[Stored], sizes: Sequence[int]) -> None:
    start = 0
    for size in sizes:
        batch = blocks[start : start + size]
        if batch:
            writer.apply(batch, batch[0].height - 1)
        start += size


def dump(engine: sa.Engine) -> dict[str, list[tuple[Any, ...]]]:
    tables = [*METADATA.sorted_tables, *SUMS.sorted_tables]
    with engine.connect() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(sa.select(table))), key=repr)
            for table in tables
        }


def select(engine: sa.Engine, question: Any) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(question)]


def test_the_migrations_make_exactly_the_tables_of_this_release(engine: sa.Engine) -> None:
    migrate(engine)
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), METADATA)
    assert differences == []


def test_entries_and_balances_by_hand(engine: sa.Engine, recorded: Any) -> None:
    writer = begin(engine, recorded)
    apply_all(writer, recorded.blocks, [len(recorded.blocks)])
    address = recorded.ledger.addresses
    # issue 1000; 250 to south; 100 to lantern; 251 from south refused; 30 back from lantern.
    balances = {
        address["issuance"]: (-1_000, 1),
        address["treasury"]: (680, 4),
        address["south"]: (250, 1),
        address["lantern"]: (70, 2),
    }
    last_first = sa.select(ENTRIES.c.account, ENTRIES.c.posted_minor, ENTRIES.c.sequence).order_by(ENTRIES.c.position)
    assert {row[0]: row[1:] for row in select(engine, last_first)} == balances
    assert set(select(engine, sa.select(HOLDERS.c.asset, HOLDERS.c.account))) == {(ASSET, each) for each in balances}
    entries = select(
        engine,
        sa.select(ENTRIES.c.sequence, ENTRIES.c.amount_minor, ENTRIES.c.posted_minor)
        .where(ENTRIES.c.account == address["treasury"], ENTRIES.c.asset == ASSET)
        .order_by(ENTRIES.c.position),
    )
    assert entries == [(1, 1_000, 1_000), (2, -250, 750), (3, -100, 650), (4, 30, 680)]
    assert sum(row[1] for row in select(engine, sa.select(ENTRIES.c.account, ENTRIES.c.amount_minor))) == 0


def test_it_gives_way_between_small_pieces_of_the_work(sqlite_engine: sa.Engine, recorded: Any) -> None:
    begin(sqlite_engine, recorded)
    pauses: list[None] = []
    give_way = partial(pauses.append, None)
    IndexWriter(sqlite_engine, recorded.registry, (PROJECTION,), give_way).apply(recorded.blocks, 0)
    results = select(sqlite_engine, sa.select(RESULTS.c.id))
    entries = select(sqlite_engine, sa.select(ENTRIES.c.account))
    # At each result twice, when it is taken apart and when its events are written, and at each account looked up.
    assert len(pauses) >= 2 * len(results) + len({row[0] for row in entries})


def test_results_transactions_and_accounts(engine: sa.Engine, recorded: Any) -> None:
    writer = begin(engine, recorded)
    apply_all(writer, recorded.blocks, [1] * len(recorded.blocks))
    results = dict(select(engine, sa.select(RESULTS.c.id, RESULTS.c.number)))
    assert {name: results[tx_id] == 0 for name, tx_id in recorded.ids.items()} == {
        "issue": True,
        "first": True,
        "second": True,
        "too much": False,
        "back": True,
    }
    kinds = dict(select(engine, sa.select(RESULTS.c.id, RESULTS.c.kinds)))
    assert kinds[recorded.ids["issue"]] == "assets.Issue"
    assert kinds[recorded.ids["back"]] == "assets.Transfer"
    accounts = dict(select(engine, sa.select(ACCOUNTS.c.address, ACCOUNTS.c.member)))
    assert accounts == {recorded.ledger.addresses[name]: member for name, member in recorded.ledger.members.items()}
    heights = [row[0] for row in select(engine, sa.select(BLOCKS.c.height).order_by(BLOCKS.c.height))]
    assert heights == list(range(1, len(recorded.blocks) + 1))


def test_who_may_read_what(engine: sa.Engine, recorded: Any) -> None:
    writer = begin(engine, recorded)
    apply_all(writer, recorded.blocks, [len(recorded.blocks)])
    reader = IndexReader(engine)
    ids = recorded.ids
    address = recorded.ledger.addresses

    def seen(member: str | None, account: str | None = None) -> set[str]:
        scope = None if member is None else Scope(member, None if account is None else address[account])
        rows = reader.transactions(scope, None, 100)
        return {name for name, tx_id in ids.items() if tx_id in {row.id for row in rows}}

    assert seen(None) == set(ids)
    assert seen("north-bank") == {"issue", "first", "second", "back"}
    assert seen("south-bank") == {"first", "too much"}
    assert seen("lantern-works") == {"second", "back"}
    assert seen("watchful-authority") == set()
    assert seen("north-bank", "issuance") == {"issue"}
    assert seen("north-bank", "treasury") == {"issue", "first", "second", "back"}
    assert seen("north-bank", "branch") == set()
    assert seen("south-bank", "south") == {"first", "too much"}
    genesis = position(recorded.base.height + 1, 0) - 1
    everything = reader.events(None, genesis, 1_000)
    assert [row.tag for row in everything].count("ledger.Posted") == 4
    for of_south in (Scope("south-bank"), Scope("south-bank", address["south"])):
        events = reader.events(of_south, genesis, 1_000)
        assert {row.id for row in events} == {ids["first"]}
        assert reader.events(of_south, events[-1].position, 1_000) == []
    issuance = reader.events(Scope("north-bank", address["issuance"]), genesis, 1_000)
    assert [row.tag for row in issuance] == ["ledger.Posted", "assets.Issued"]
    assert reader.events(Scope("north-bank", address["branch"]), genesis, 1_000) == []
    of_branch = reader.events(Scope("north-bank", address["branch"]), 0, 1_000)
    assert [row.tag for row in of_branch] == ["ledger.AccountOpened"]
    listed = {scope: [row[0] for row in reader.accounts_of(scope, b"", 9)] for scope in (Scope("north-bank"), None)}
    assert [len(rows) for rows in listed.values()] == [3, 6]
    assert reader.accounts_of(Scope("north-bank", address["branch"]), b"", 9) == [(address["branch"], "north-bank")]


def test_built_at_once_in_steps_or_on_another_database_it_is_the_same(
    recorded: Any, sqlite_engine: sa.Engine, postgresql_engine: sa.Engine, tmp_path: Path
) -> None:
    count = len(recorded.blocks)
    writer = begin(sqlite_engine, recorded)
    apply_all(writer, recorded.blocks, [count])
    whole = dump(sqlite_engine)
    assert len(whole["events"]) > 8
    apply_all(begin(postgresql_engine, recorded), recorded.blocks, [1] * count)
    assert dump(postgresql_engine) == whole
    source = random.Random(20261122)
    for round_ in range(5):
        engine = open_engine(f"sqlite:///{tmp_path / f'steps-{round_}.db'}")
        apply_all(begin(engine, recorded), recorded.blocks, [source.randint(1, 4) for _ in range(count)])
        assert dump(engine) == whole
        engine.dispose()
    writer.clear()
    writer = begin(sqlite_engine, recorded)
    apply_all(writer, recorded.blocks, [2] * count)
    assert dump(sqlite_engine) == whole


def test_a_batch_that_fails_leaves_nothing_and_is_written_once_when_it_succeeds(
    engine: sa.Engine, recorded: Any
) -> None:
    fails = [True]

    def fail_late(rows: Rows, committed: CommittedEvent) -> None:
        count_legs(rows, committed)
        if fails[0] and committed.tx_id == recorded.ids["back"]:
            raise RuntimeError("as a crash in the middle of a batch")

    writer = begin(engine, recorded, [Projection("test", SUMS, {Posted: fail_late})])
    blocks = recorded.blocks
    writer.apply(blocks[:2], 0)
    before = dump(engine)
    with pytest.raises(RuntimeError):
        writer.apply(blocks[2:], 2)
    assert dump(engine) == before
    fails[0] = False
    writer.apply(blocks[2:], 2)
    assert len(dump(engine)["test_volume"]) == 4
    marker = writer.marker()
    assert marker is not None
    assert marker.height == len(blocks)


def test_blocks_out_of_turn_and_second_writers_are_refused(engine: sa.Engine, recorded: Any) -> None:
    writer = begin(engine, recorded)
    with pytest.raises(Fault, match="at height 0 and was sent block 2"):
        writer.apply(recorded.blocks[1:], 0)
    writer.apply(recorded.blocks[:2], 0)
    with pytest.raises(Fault, match="another process writes it"):
        writer.apply(recorded.blocks[:2], 0)
    assert len(dump(engine)["blocks"]) == 2


def test_clearing_drops_only_what_is_the_index_s(postgresql_engine: sa.Engine, recorded: Any) -> None:
    writer = begin(postgresql_engine, recorded)
    with postgresql_engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE public.bystander (id integer)"))
    writer.clear()
    with postgresql_engine.begin() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM public.bystander")).scalar_one() == 0
        connection.execute(sa.text("DROP TABLE public.bystander"))
        assert sa.inspect(connection).get_table_names(schema="feiqian_index") == []
