"""The committer's two threads: a height's tree is worked out while the one before it goes to disk."""

import threading
from collections.abc import Callable, Iterator

import pytest

from feiqian.consensus.comet_json import HeaderJson, parse, read_header
from feiqian.consensus.genesis_file import Genesis
from feiqian.consensus.solo import SoloSigner
from feiqian.core.encoding import encode
from feiqian.core.errors import Fault
from feiqian.execution.blocks import Block
from feiqian.execution.registry import Registry
from feiqian.node.committer import Committer, Executed, Kept, Made, SoloArchiver
from feiqian.node.configuration import Layout
from feiqian.node.initialise import plain_tables, prepare_ledger
from feiqian.node.pruning import Pruner
from feiqian.state.staging import Staged
from feiqian.state.store import Store
from feiqian.testing.ledgers import SampleLedger

ANSWER_S = 60


class Disk:
    """A store whose next commit waits, all rows handed over, until the test lets it sync."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.is_waiting = threading.Event()
        self.may_sync = threading.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    def commit(self, staged: Staged, written: Callable[[], None]) -> None:
        def handed_over() -> None:
            written()
            self.is_waiting.set()
            assert self.may_sync.wait(ANSWER_S)

        self.store.commit(staged, handed_over)


@pytest.fixture
def genesis(registry: Registry, ledger: SampleLedger) -> Genesis:
    layout = Layout(ledger.directory)
    layout.data.mkdir(exist_ok=True)
    return prepare_ledger(layout, registry, lambda: 1_000_000)


@pytest.fixture
def disk(registry: Registry, ledger: SampleLedger, genesis: Genesis) -> Iterator[Disk]:
    store = Store.open(Layout(ledger.directory).ledger, plain_tables=plain_tables(registry))
    yield Disk(store)
    store.close()


def open_committer(disk: Disk, ledger: SampleLedger, genesis: Genesis) -> Committer:
    layout = Layout(ledger.directory)
    pruner = Pruner(disk.store, 1000, 0, layout.segments)
    archiver = SoloArchiver(disk.store, genesis, SoloSigner.load(layout.validator_key))
    return Committer(disk, pruner, archiver)  # type: ignore[arg-type]


def executed(genesis: Genesis, height: int, record: bytes, result: bytes) -> Executed:
    time_ms = genesis.time_ms + height
    block = encode(Block(height, time_ms, (), ()))
    return Executed(height, time_ms, 1, block, (result,), (), ((b"test.table/key", record),), ())


def test_a_height_is_staged_while_the_one_before_it_goes_to_disk(disk: Disk, ledger: SampleLedger, genesis: Genesis):
    committer = open_committer(disk, ledger, genesis)
    first = committer.stage(executed(genesis, 1, b"one", b"\x01" * 32))
    kept: list[Kept] = []
    writer = threading.Thread(target=lambda: kept.append(committer.write(first)))
    writer.start()
    assert disk.is_waiting.wait(ANSWER_S)
    second = committer.stage(executed(genesis, 2, b"two", b"\x02" * 32), first.staged)
    assert (disk.store.height, kept) == (0, [])
    disk.may_sync.set()
    writer.join()
    assert (disk.store.height, kept[0].height) == (1, 1)
    assert committer.write(second).height == disk.store.height == 2
    assert disk.store.get(b"test.table/key") == b"two"
    assert [disk.store.app_hash_at(1), disk.store.app_hash] == [kept[0].app_hash, second.staged.app_hash]


def test_a_header_follows_a_parent_that_is_not_on_disk(disk: Disk, ledger: SampleLedger, genesis: Genesis):
    committer = open_committer(disk, ledger, genesis)
    made: list[Made] = []
    for height in (1, 2, 3):
        base = made[-1].staged if made else None
        made.append(committer.stage(executed(genesis, height, b"%d" % height, b""), base))
    rows = [each.staged.writes.archive for each in made]
    parsed = [read_header(parse(row.header, HeaderJson, "header")) for row in rows if row is not None]
    assert [header.height for header in parsed] == [1, 2, 3]
    for before, height, header in zip(made, parsed, parsed[1:], strict=False):
        assert header.app_hash == before.staged.app_hash
        assert header.last_block_id.hash == height.hash()


def test_a_height_that_does_not_follow_is_a_fault(disk: Disk, ledger: SampleLedger, genesis: Genesis):
    committer = open_committer(disk, ledger, genesis)
    first = committer.stage(executed(genesis, 1, b"one", b""))
    with pytest.raises(Fault, match="block 3 was given the archive row of block 1"):
        committer.stage(executed(genesis, 3, b"three", b""), first.staged)
