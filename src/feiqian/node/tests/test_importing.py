"""Another member's segment files become a ledger's own past: whole, in one chain with its own files, or not at all."""

import fcntl
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from feiqian.consensus.genesis_file import save_genesis
from feiqian.consensus.joining import Vouched, join
from feiqian.consensus.restoring import evidence_for
from feiqian.core.errors import Fault
from feiqian.core.settings import SettingsError
from feiqian.execution.blocks import RESULTS_CODEC
from feiqian.execution.registry import Registry
from feiqian.node.configuration import Layout
from feiqian.node.importing import import_earlier
from feiqian.node.pruning import open_segments
from feiqian.state.errors import SegmentRefused
from feiqian.state.history import History
from feiqian.state.segment_folder import FolderWriter, verify_folder
from feiqian.state.segments import append_from, row_of
from feiqian.state.snapshots import export
from feiqian.state.store import HeightWrites, Store
from feiqian.testing.chains import NetworkChain
from feiqian.testing.ledgers import CHAIN_ID

JOINED = 5


@pytest.fixture
def chain(tmp_path: Path, registry: Registry) -> Iterator[NetworkChain]:
    chain = NetworkChain(tmp_path / "ledger", registry)
    chain.block()
    chain.block(chain.issue("treasury", 1_000))
    for _ in range(8):
        chain.block(chain.pay("treasury", "south", 1))
    yield chain
    chain.close()


@pytest.fixture
def layout(tmp_path: Path, chain: NetworkChain) -> Layout:
    """A node that joined after block 5 and has no block of its own yet."""
    layout = Layout(tmp_path / "node")
    layout.data.mkdir(parents=True)
    save_genesis(layout.genesis, chain.genesis)
    export(chain.store, JOINED, layout.base_snapshot, evidence_for(chain.store, JOINED, chain.genesis))
    vouched = Vouched(JOINED, chain.store.app_hash_at(JOINED))
    join(layout.base_snapshot, chain.genesis, vouched, layout.ledger, map_bytes=1 << 28, reserve_bytes=1 << 20).close()
    return layout


def follow(layout: Layout, chain: NetworkChain, until: int) -> None:
    """Let the node have the chain's next blocks; what they wrote is left out, since nothing here reads it."""
    store = Store.open(layout.ledger)
    for height in range(store.height + 1, until + 1):
        row = row_of(chain.store, height)
        assert row is not None
        results = tuple([(entry.id, entry.result) for entry in RESULTS_CODEC.decode(row.results)])
        store.commit(store.stage(HeightWrites(height, row.time_ms, row.block, results, {}, (), row.archive)))
    store.close()


def file_away(store: Store, folder: Path, first: int, last: int) -> Path:
    writer = FolderWriter(folder, CHAIN_ID, first)
    append_from(store, writer, last)
    writer.close()
    return folder


def held(layout: Layout) -> list[int]:
    store = Store.open(layout.ledger, read_only=True)
    history = History(store, layout.segments)
    found = [height for height in range(store.height + 2) if history.block(height)]
    open_segments(store, layout.segments).close()
    store.close()
    return found


def test_the_past_is_whole_and_files_of_the_node_s_own_go_on(
    layout: Layout, chain: NetworkChain, tmp_path: Path
) -> None:
    follow(layout, chain, 9)
    store = Store.open(layout.ledger, read_only=True)
    file_away(store, layout.segments, 6, 7)
    store.close()
    told: list[tuple[int, int]] = []
    folder = file_away(chain.store, tmp_path / "files", 1, 10)
    imported = import_earlier(layout, folder, lambda done, total: told.append((done, total)))
    assert imported == (1, 5)
    assert told == [(done, 5) for done in range(1, 6)]
    assert held(layout) == [*range(1, 10)]
    (segment,) = verify_folder(layout.segments, CHAIN_ID)
    assert (segment.header.first_height, segment.next_height) == (1, 8)
    assert sorted(path.name for path in layout.data.glob("segments*")) == ["segments"]
    with pytest.raises(SettingsError, match="holds every block already"):
        import_earlier(layout, folder)


def test_files_on_another_disk_stay_there(layout: Layout, chain: NetworkChain, tmp_path: Path) -> None:
    follow(layout, chain, 9)
    elsewhere = tmp_path / "disk" / "segments"
    elsewhere.mkdir(parents=True)
    layout.segments.symlink_to(elsewhere)
    store = Store.open(layout.ledger, read_only=True)
    file_away(store, layout.segments, 6, 7)
    store.close()
    import_earlier(layout, file_away(chain.store, tmp_path / "files", 1, 10))
    assert layout.segments.is_symlink()
    assert [path.name for path in elsewhere.parent.iterdir()] == ["segments"]
    (segment,) = verify_folder(elsewhere, CHAIN_ID)
    assert (segment.header.first_height, segment.next_height) == (1, 8)
    assert held(layout) == [*range(1, 10)]


def test_without_a_block_of_its_own_there_is_nothing_to_check_by(
    layout: Layout, chain: NetworkChain, tmp_path: Path
) -> None:
    with pytest.raises(Fault, match="block 6 is not archived yet"):
        import_earlier(layout, file_away(chain.store, tmp_path / "files", 1, 10))


def test_a_running_node_is_left_alone(layout: Layout, chain: NetworkChain, tmp_path: Path) -> None:
    follow(layout, chain, 6)
    with layout.lock.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(SettingsError, match="stop it first"):
            import_earlier(layout, file_away(chain.store, tmp_path / "files", 1, 10))


@pytest.mark.parametrize(
    ("first", "last", "said"), [(1, 4, "block 5 is missing"), (2, 10, "block 1 is missing"), (1, 3, "block 4 is")]
)
def test_files_that_do_not_lead_there_change_nothing(
    layout: Layout, chain: NetworkChain, tmp_path: Path, first: int, last: int, said: str
) -> None:
    follow(layout, chain, 9)
    store = Store.open(layout.ledger, read_only=True)
    own = file_away(store, layout.segments, 6, 7)
    store.close()
    before = {path.name: path.read_bytes() for path in own.iterdir()}
    with pytest.raises(SegmentRefused, match=said):
        import_earlier(layout, file_away(chain.store, tmp_path / "files", first, last))
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before
    assert [path.name for path in layout.data.glob("segments*")] == ["segments"]


def test_an_import_that_was_cut_short_between_two_renames_is_made_again(
    layout: Layout, chain: NetworkChain, tmp_path: Path
) -> None:
    follow(layout, chain, 9)
    store = Store.open(layout.ledger, read_only=True)
    file_away(store, layout.segments, 6, 7)
    store.close()
    folder = file_away(chain.store, tmp_path / "files", 1, 10)
    layout.segments.rename(layout.data / "segments.former")
    shutil.copytree(folder, layout.data / "segments.importing")
    assert import_earlier(layout, folder) == (1, 5)
    assert held(layout) == [*range(1, 10)]
