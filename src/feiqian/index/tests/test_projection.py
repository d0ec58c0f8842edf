"""Rows: what a module's projection writes reaches the database in the order it was asked for, or not at all."""

import pytest
import sqlalchemy as sa

from feiqian.index.database import migrate
from feiqian.index.projection import Rows
from feiqian.index.reading import IndexAway, IndexReader
from feiqian.index.tables import MARKER

METADATA = sa.MetaData()
ORDERS = sa.Table(
    "test_orders",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("note", sa.Text),
)
SEEN = sa.Table("test_seen", METADATA, sa.Column("name", sa.Text, primary_key=True))


def rows_of(engine: sa.Engine, table: sa.Table) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(sa.select(table).order_by(*table.primary_key.columns))]


@pytest.fixture(autouse=True)
def tables(engine: sa.Engine):
    migrate(engine)
    METADATA.create_all(engine)
    yield
    METADATA.drop_all(engine)


def test_writes_to_a_table_keep_their_order(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        rows = Rows(connection)
        rows.insert(ORDERS, id=1, state="new", note=None)
        rows.insert(ORDERS, id=2, state="new", note="n")
        rows.update(ORDERS, ("id",), id=1, state="paid")
        rows.upsert(ORDERS, ("id",), id=1, state="returned")
        rows.upsert(ORDERS, ("id",), id=3, state="new")
        rows.upsert(SEEN, ("name",), name="a")
        rows.upsert(SEEN, ("name",), name="a")
        rows.flush()
    assert rows_of(engine, ORDERS) == [(1, "returned", None), (2, "new", "n"), (3, "new", None)]
    assert rows_of(engine, SEEN) == [("a",)]


def test_a_statement_sees_what_came_before_and_nothing_later(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        rows = Rows(connection)
        rows.insert(ORDERS, id=1, state="new", note=None)
        rows.execute(sa.update(ORDERS).values(state="closed"))
        rows.insert(ORDERS, id=2, state="new", note=None)
        rows.flush()
    assert rows_of(engine, ORDERS) == [(1, "closed", None), (2, "new", None)]


def test_a_zero_character_does_not_stop_the_index(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        rows = Rows(connection)
        rows.insert(ORDERS, id=1, state="a\x00b", note=None)
        rows.flush()
    assert rows_of(engine, ORDERS) == [(1, "a\ufffdb", None)]


def test_nothing_is_written_before_the_flush(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        Rows(connection).insert(ORDERS, id=1, state="new", note=None)
    assert rows_of(engine, ORDERS) == []


def test_a_question_is_answered_only_by_an_index_that_has_come_so_far(engine: sa.Engine) -> None:
    reader, question = IndexReader(engine), sa.select(SEEN)
    marker = {"chain_id": "c", "base_height": 0, "height": 7, "time_ms": 0, "app_hash": b"", "schema_digest": ""}
    assert reader.rows_as_of(0, question) is None
    with engine.begin() as connection:
        connection.execute(sa.insert(MARKER).values(id=1, **marker))
        connection.execute(sa.insert(SEEN).values(name="a"))
    try:
        found = reader.rows_as_of(7, question)
        assert found is not None
        assert (found.base_height, found.first_time_ms, [tuple(row) for row in found.rows]) == (0, None, [("a",)])
        assert reader.rows_as_of(8, question) is None
    finally:
        with engine.begin() as connection:
            connection.execute(sa.delete(MARKER))
    METADATA.drop_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.insert(MARKER).values(id=1, **marker))
    with pytest.raises(IndexAway):
        reader.rows_as_of(7, question)
