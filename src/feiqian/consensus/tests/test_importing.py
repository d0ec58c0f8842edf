"""Another member's earlier blocks are taken only where each leads, by its header's hash, to a block held already."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from feiqian.consensus import light
from feiqian.consensus.importing import check_earlier
from feiqian.core.encoding import encode
from feiqian.execution.blocks import BLOCK, RESULT, RESULTS_CODEC, StoredResult
from feiqian.execution.registry import Registry
from feiqian.execution.tables import RESULTS
from feiqian.state.archive import ArchiveRow
from feiqian.state.errors import SegmentRefused
from feiqian.state.segments import SegmentRow, row_of
from feiqian.state.tables import Changes
from feiqian.testing.chains import NetworkChain

FIRST = 7
"""The first block that the ledger holds itself: its snapshot is of 6."""


@pytest.fixture
def chain(tmp_path: Path, registry: Registry) -> Iterator[NetworkChain]:
    chain = NetworkChain(tmp_path / "ledger", registry)
    chain.block()
    chain.block(chain.issue("treasury", 1_000))
    chain.block(powers={4: 10})
    chain.block(chain.pay("treasury", "south", 1), chain.pay("treasury", "south", 2), absent=[1])
    chain.block(powers={0: 0})
    chain.block(chain.pay("treasury", "south", 3))
    chain.block(chain.pay("treasury", "south", 4))
    chain.block()
    yield chain
    chain.close()


def rows_of(chain: NetworkChain) -> list[SegmentRow]:
    rows = [row_of(chain.store, height) for height in range(1, 9)]
    return [row for row in rows if row is not None]


def known_of(chain: NetworkChain) -> ArchiveRow:
    row = chain.store.archive_row(FIRST)
    assert row is not None
    return row


def state_of(chain: NetworkChain) -> Changes:
    """The records that the snapshot of the height before has."""
    return {key: chain.store.get_at(FIRST - 1, key) for key, _ in chain.store.scan(b"")}


def check(chain: NetworkChain, rows: list[SegmentRow], state: Changes | None = None) -> list[SegmentRow]:
    return list(check_earlier(rows, chain.genesis, known_of(chain), state_of(chain) if state is None else state))


def test_blocks_that_lead_to_the_first_that_is_held_are_taken_and_no_more(chain: NetworkChain) -> None:
    rows = rows_of(chain)
    assert check(chain, rows) == rows[: FIRST - 1]
    assert check(chain, rows[: FIRST - 1]) == rows[: FIRST - 1]


def test_blocks_that_are_missing_are_named(chain: NetworkChain) -> None:
    rows = rows_of(chain)
    for given, said in (
        ([], "block 1 is missing; blocks up to 6"),
        (rows[: FIRST - 2], "block 6 is missing"),
        (rows[1:], "block 1 should follow, and block 2 does"),
        ([*rows[:2], *rows[3:]], "block 3 should follow, and block 4 does"),
    ):
        with pytest.raises(SegmentRefused, match=said):
            check(chain, given)


def test_a_block_of_another_content_is_refused(chain: NetworkChain) -> None:
    rows = rows_of(chain)
    row, block = rows[3], BLOCK.decode(rows[3].block)
    entries = RESULTS_CODEC.decode(row.results)
    forged = encode(changed(RESULT.decode(entries[0].result), work=7))
    other = (StoredResult(entries[0].id, forged), *entries[1:])
    cases: list[tuple[SegmentRow, str]] = [
        (changed(row, block=b"\xc0"), "malformed"),
        (changed(row, results=b"\xc0"), "malformed"),
        (changed(row, block=encode(changed(block, height=5))), "height"),
        (changed(row, time_ms=row.time_ms + 1), "time"),
        (changed(row, block=encode(changed(block, time_ms=block.time_ms + 1))), "time"),
        (changed(row, block=rows[1].block), "height"),
        (changed(row, block=encode(changed(block, bundles=()))), "transactions"),
        (changed(row, app_hash=bytes(32)), "state root"),
        (changed(row, results=encode(other)), "results"),
        (changed(row, results=encode(entries[:1])), "fewer results than transactions"),
        (changed(row, archive=None), "header and commit are missing"),
        (changed(row, archive=rows[4].archive), "its header says 5"),
        (changed(row, archive=ArchiveRow(4, b"{}", b"{}", b"{}")), "header"),
    ]
    for wrong, said in cases:
        with pytest.raises(SegmentRefused, match=said):
            check(chain, [*rows[:3], wrong, *rows[4:]])


def test_what_no_transaction_caused_is_checked_by_the_state_as_far_back_as_it_goes(chain: NetworkChain) -> None:
    rows = rows_of(chain)
    entries = RESULTS_CODEC.decode(rows[3].results)
    unasked = StoredResult(b"\x07" * 32, entries[0].result)
    given = [*rows[:3], changed(rows[3], results=encode((unasked, *entries))), *rows[4:]]
    with pytest.raises(SegmentRefused, match="block 4: its results' root"):
        check(chain, given)
    older = {key: record for key, record in state_of(chain).items() if not key.startswith(RESULTS.prefix)}
    assert check(chain, given, older)[3] == given[3]


def test_another_chain_of_the_same_validators_is_refused(
    chain: NetworkChain, tmp_path: Path, registry: Registry
) -> None:
    """Whoever held enough validators' keys could sign another past; it does not lead to the block that is held."""
    fork = NetworkChain(tmp_path / "fork", registry)
    for height in range(1, 9):
        orders = [fork.issue("treasury", 9)] if height == 2 else []
        fork.block(*orders, powers={3: {4: 10}, 5: {0: 0}}.get(height))
    with pytest.raises(SegmentRefused, match="block 6: its header"):
        list(check_earlier(rows_of(fork), fork.genesis, known_of(chain), {}))
    fork.close()


def test_a_header_that_too_few_signed_is_refused(chain: NetworkChain) -> None:
    rows = rows_of(chain)
    assert rows[4].archive is not None
    block = light.light_block(rows[4].archive)
    commit = block.commit._replace(signatures=block.commit.signatures[:1])
    unsigned = changed(rows[4], archive=light.archive_row(block._replace(commit=commit)))
    with pytest.raises(SegmentRefused, match="signatures for"):
        check(chain, [*rows[:4], unsigned, *rows[5:]])
