"""What CometBFT must keep: blocks that evidence may be of, by blocks and by time, also after a restart and pruning."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from feiqian.consensus.genesis_file import ConsensusParams
from feiqian.node.comet.retention import Retention, evidence_age
from feiqian.node.pruning import Pruner
from feiqian.state.archive import ArchiveRow
from feiqian.state.store import HeightWrites, Store

MINUTE_MS = 60_000
BLOCKS = 200


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store of 200 blocks, each a minute after the one before, the first at 1 min; few of them are still held."""
    made = Store.create(tmp_path / "l", "c", 1, {b"t/a": b"1"}, 0, reserve_bytes=0)
    for height in range(1, BLOCKS + 1):
        row = ArchiveRow(height, b"header", b"commit", b"validators")
        made.commit(made.stage(HeightWrites(height, height * MINUTE_MS, b"b", (), {}, (), row)))
    yield made
    made.close()


def retention(store: Store, params: ConsensusParams, *, archived: int = BLOCKS, snapshot: int | None = None) -> int:
    return Retention(store, params, 10, lambda: archived, lambda: snapshot).height()


def params(blocks: int, minutes: float) -> ConsensusParams:
    return ConsensusParams(10**6, evidence_max_age_blocks=blocks, evidence_max_age_ns=int(minutes * 60 * 10**9))


# CometBFT's IsEvidenceExpired (evidence/verify.go): older than both. At 200, of age 50 blocks and 100 minutes, blocks
# up to 99 are; of 150 blocks and 100 minutes those up to 49.
@pytest.mark.parametrize(("blocks", "minutes", "first"), [(50, 100, 100), (150, 100, 50), (5, 5, 191), (500, 500, 1)])
def test_evidence_counts_until_it_is_too_old_in_blocks_and_in_time(
    store: Store, blocks: int, minutes: int, first: int
) -> None:
    assert retention(store, params(blocks, minutes)) == first


def test_a_time_between_two_milliseconds_is_rounded_to_the_longer(store: Store) -> None:
    # Block 99 is 101 minutes old, as far as milliseconds tell: perhaps half a millisecond less.
    assert retention(store, params(50, 101)._replace(evidence_max_age_ns=101 * 60 * 10**9 - 500_000)) == 99


def test_snapshots_and_the_archive_hold_blocks_back(store: Store) -> None:
    assert retention(store, params(5, 5), snapshot=120) == 120
    assert retention(store, params(5, 5), archived=80) == 80


@pytest.mark.parametrize(("blocks", "minutes", "first"), [(50, 100, 100), (150, 100, 50)])
def test_it_is_the_same_when_the_ledger_itself_has_given_the_blocks_up(
    store: Store, tmp_path: Path, blocks: int, minutes: int, first: int
) -> None:
    given = params(blocks, minutes)
    pruner = Pruner(store, 10, 10, tmp_path / "segments", evidence_age(given))
    for _ in range(60):
        pruner.step()
    pruner.close()
    assert store.head.first_block > 180
    assert retention(store, given) == first
    # What no evidence can be of is not kept either.
    with store.view() as view:
        assert (view.block_time_ms(first - 1), view.block_time_ms(first)) == (None, first * MINUTE_MS)
