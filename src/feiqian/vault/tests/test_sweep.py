"""The sweep: what is cleared and when, by a clock of the test's own, over a real vault and a real index."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from nacl.public import PrivateKey

from feiqian.index.database import migrate, open_engine
from feiqian.index.documents import METADATA, REFERENCES
from feiqian.index.reading import IndexAway, IndexReader
from feiqian.index.tables import BLOCKS, MARKER, position
from feiqian.vault import sweep
from feiqian.vault.documents import seal
from feiqian.vault.store import DocumentErased, open_vault
from feiqian.vault.sweep import Sweeper, Swept

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
GRACE_MS = 2 * DAY_MS
APPROVAL_MS = 30 * DAY_MS
BEGIN_MS = 1_790_000_000_000
"""When every document of these tests is put: 2026-09-21 14:13:20 UTC."""

KEY = PrivateKey(bytes([1]) * 32)


class Cellar:
    """A vault, an index that stands at `height`, and the hands of the clock."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.vault = open_vault(directory / "vault.db")
        self.engine = open_engine(f"sqlite:///{directory / 'index.db'}")
        self.height = 7
        self.now_ms = BEGIN_MS
        self.sweeper = Sweeper(
            self.vault,
            IndexReader(self.engine),
            genesis_height=0,
            grace_ms=GRACE_MS,
            longest_approval_ms=lambda: APPROVAL_MS,
            clock_ms=lambda: self.now_ms,
        )

    def build_index(self, base_height: int = 0, first_time_ms: int = BEGIN_MS) -> None:
        migrate(self.engine)
        METADATA.create_all(self.engine)
        marker = {
            "id": 1,
            "chain_id": "c",
            "base_height": base_height,
            "height": 7,
            "time_ms": 0,
            "app_hash": b"",
            "schema_digest": "",
        }
        with self.engine.begin() as connection:
            connection.execute(sa.insert(MARKER).values(marker))
            connection.execute(
                sa.insert(BLOCKS).values(
                    height=base_height + 1,
                    time_ms=first_time_ms,
                    app_hash=b"",
                    transaction_count=0,
                    result_count=0,
                    event_count=0,
                    size_bytes=0,
                )
            )

    def put(self, content: bytes, *readers: str) -> bytes:
        sealed = seal(content, {reader: bytes(KEY.public_key) for reader in readers or ("oak", "elm")})
        return self.vault.put(sealed.envelope, "oak", BEGIN_MS)

    def name(self, commitment: bytes, readers: str, retain_until_ms: int, height: int = 3) -> None:
        with self.engine.begin() as connection:
            connection.execute(
                sa.insert(REFERENCES).values(
                    commitment=commitment,
                    position=position(height, 0),
                    readers=readers,
                    retain_until_ms=retain_until_ms,
                )
            )

    def sweep(self, at_ms: int) -> Swept:
        self.now_ms = at_ms
        swept = self.sweeper.step(self.height)
        assert swept is not None
        return swept


@pytest.fixture
def cellar(tmp_path: Path) -> Iterator[Cellar]:
    cellar = Cellar(tmp_path)
    cellar.build_index()
    yield cellar
    cellar.engine.dispose()


def test_what_no_message_named_goes_when_none_can_name_it_any_more(cellar: Cellar):
    commitment = cellar.put(b"never sent")
    until_ms = BEGIN_MS + APPROVAL_MS + GRACE_MS
    assert cellar.sweep(until_ms) == (0, 0, True)
    assert cellar.vault.get(commitment) is not None
    assert cellar.sweep(until_ms + 1) == (1, 0, True)
    assert cellar.vault.get(commitment) is None
    assert cellar.sweep(until_ms + 2) == (0, 0, True)


def test_what_was_never_named_may_be_put_again(cellar: Cellar):
    sealed = seal(b"late", {"oak": bytes(KEY.public_key)})
    cellar.vault.put(sealed.envelope, "oak", BEGIN_MS)
    again_ms = BEGIN_MS + APPROVAL_MS + GRACE_MS + 1
    cellar.sweep(again_ms)
    assert cellar.vault.put(sealed.envelope, "oak", again_ms) == sealed.commitment
    # Its time begins anew.
    assert cellar.sweep(again_ms + 1) == (0, 0, True)


def test_a_named_document_is_erased_after_its_retention_and_the_grace(cellar: Cellar):
    sealed = seal(bytes(range(256)) * 8, {"oak": bytes(KEY.public_key)})
    cellar.vault.put(sealed.envelope, "oak", BEGIN_MS)
    retain_until_ms = BEGIN_MS + 3650 * DAY_MS
    cellar.name(sealed.commitment, "oak", retain_until_ms)
    assert cellar.sweep(retain_until_ms + GRACE_MS) == (0, 0, True)
    erased_ms = retain_until_ms + GRACE_MS + 1
    assert cellar.sweep(erased_ms) == (0, 1, True)
    # Keys, salt and ciphertext are in no file any more; the tombstone keeps the document from coming back.
    markers = [sealed.envelope[start : start + 24] for start in range(0, len(sealed.envelope) - 24, 100)]
    files = [path.read_bytes() for path in cellar.directory.glob("vault.db*")]
    assert [marker for marker in markers if any(marker in data for data in files)] == []
    assert cellar.vault.get(sealed.commitment) == (sealed.commitment, None, None, "oak", BEGIN_MS, erased_ms)
    with pytest.raises(DocumentErased):
        cellar.vault.put(sealed.envelope, "oak", erased_ms)
    assert cellar.sweep(erased_ms + 1) == (0, 0, True)


def test_only_the_first_mention_with_exactly_its_readers_counts(cellar: Cellar):
    """Whoever sees a commitment on the ledger could name it again, for less time or for ever."""
    commitment = cellar.put(b"contract", "oak", "elm")
    retain_until_ms = BEGIN_MS + 100 * DAY_MS
    cellar.name(commitment, "elm oak stranger", 1, height=2)
    cellar.name(commitment, "elm oak", retain_until_ms, height=3)
    cellar.name(commitment, "elm oak", 1, height=4)
    cellar.name(commitment, "elm oak", 2**52, height=5)
    assert cellar.sweep(retain_until_ms + GRACE_MS) == (0, 0, True)
    assert cellar.sweep(retain_until_ms + GRACE_MS + 1) == (0, 1, True)


def test_a_mention_for_other_readers_keeps_nothing(cellar: Cellar):
    commitment = cellar.put(b"note", "oak")
    cellar.name(commitment, "stranger", 2**52)
    assert cellar.sweep(BEGIN_MS + APPROVAL_MS + GRACE_MS + 1) == (1, 0, True)


def test_while_the_index_is_behind_or_away_nothing_is_cleared(cellar: Cellar, tmp_path: Path):
    commitment = cellar.put(b"named in a block that is not indexed yet")
    cellar.now_ms = BEGIN_MS + 10 * (APPROVAL_MS + GRACE_MS)
    assert cellar.sweeper.step(8) is None
    assert cellar.vault.get(commitment) is not None
    (tmp_path / "away").mkdir()
    away = Cellar(tmp_path / "away")
    commitment = away.put(b"its index is being built")
    away.now_ms = cellar.now_ms
    with pytest.raises(IndexAway):
        away.sweeper.step(7)
    assert away.vault.get(commitment) is not None
    away.engine.dispose()


def test_what_is_older_than_an_index_made_from_a_snapshot_is_left_alone(tmp_path: Path):
    """That index knows no mention from before: a later one by a stranger must not count as the first."""
    begun_ms = BEGIN_MS - sweep.BEGIN_MARGIN_MS
    for place, (first_time_ms, expected) in enumerate([(begun_ms + 1, (0, 0, True)), (begun_ms, (1, 1, True))]):
        (tmp_path / str(place)).mkdir()
        cellar = Cellar(tmp_path / str(place))
        cellar.build_index(base_height=5, first_time_ms=first_time_ms)
        cellar.put(b"named before the snapshot, or never")
        cellar.name(cellar.put(b"named anew by a stranger, or for the first time"), "elm oak", 1, height=7)
        assert cellar.sweep(BEGIN_MS + APPROVAL_MS + GRACE_MS + 1) == expected
        cellar.engine.dispose()


def test_an_index_without_any_block_clears_nothing(cellar: Cellar):
    cellar.put(b"put before the ledger began")
    with cellar.engine.begin() as connection:
        connection.execute(sa.delete(BLOCKS))
    assert cellar.sweep(BEGIN_MS + 10 * (APPROVAL_MS + GRACE_MS)) == (0, 0, True)


def test_a_large_vault_is_swept_in_bounded_batches_and_all_of_it(cellar: Cellar, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sweep, "BATCH_DOCUMENTS", 4)
    old = [cellar.put(b"old %d" % number) for number in range(10)]
    kept = [cellar.put(b"kept %d" % number) for number in range(9)]
    for commitment in kept:
        cellar.name(commitment, "elm oak", 2**52)
    steps = []
    while not steps or not steps[-1].is_through:
        steps.append(cellar.sweep(BEGIN_MS + APPROVAL_MS + GRACE_MS + 1))
    # 19 documents, 4 a step.
    assert len(steps) == 5
    assert sum(step.unnamed for step in steps) == 10
    assert {commitment for commitment in old + kept if cellar.vault.get(commitment)} == set(kept)


def test_documents_are_listed_in_the_order_of_their_commitments_without_their_envelopes(cellar: Cellar):
    commitments = sorted(cellar.put(bytes([number]) * 1000) for number in range(3))
    assert cellar.vault.kept_after(b"", 10) == [(commitment, "elm oak", BEGIN_MS) for commitment in commitments]
    assert [row.commitment for row in cellar.vault.kept_after(commitments[0], 1)] == [commitments[1]]
