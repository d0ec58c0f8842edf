"""The engine over a real ledger and store, with a clock that the test holds."""

import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from feiqian.consensus import headers
from feiqian.consensus.comet_json import CommitJson, HeaderJson, parse, read_commit, read_header
from feiqian.core.encoding import encode
from feiqian.core.errors import Fault
from feiqian.core.signatures import ED25519, PublicKey, verify
from feiqian.core.transactions import decode_signed, encode_signed, transaction_id
from feiqian.core.wire import Committed, Drop, Gone, Stored
from feiqian.execution.admission import encode_bundle, prepare
from feiqian.execution.blocks import BLOCK, BUNDLE, MAX_BUNDLE_BYTES, RESULT, RESULTS_CODEC, Block
from feiqian.execution.errors import WrongRelease
from feiqian.execution.registry import Registry
from feiqian.ledger.authority import single_key_policy
from feiqian.ledger.balances import BALANCES, balance_key
from feiqian.modules.accounts.messages import ChangePolicy
from feiqian.modules.assets.messages import BatchLeg, BatchTransfer, PlaceHold
from feiqian.node import engine, faults
from feiqian.node.committer import CommitterProcess
from feiqian.node.configuration import Layout
from feiqian.node.engine import SoloEngine
from feiqian.node.initialise import plain_tables, prepare_ledger
from feiqian.node.mempool import Mempool
from feiqian.node.metrics import Metrics
from feiqian.node.recovery import recover
from feiqian.state.block_log import MAX_BEYOND, BlockLog
from feiqian.state.store import Store
from feiqian.testing.ledgers import ASSET, SampleLedger, consortium_text, key_of

MakeLedger = Callable[..., SampleLedger]
ANSWER_S = 60


class Solo:
    """An engine on a ledger; blocks that the store has come out of `next`."""

    def __init__(self, ledger: SampleLedger, registry: Registry, now_ms: int, past_heights: int) -> None:
        self.now_ms = now_ms
        self.is_running = True
        self.ledger = ledger
        self.registry = registry
        self.pool = Mempool(100_000, 2**30)
        layout = Layout(ledger.directory)
        layout.data.mkdir(exist_ok=True)
        self.genesis = prepare_ledger(layout, registry, lambda: self.now_ms)
        self.committer = CommitterProcess(layout, plain_tables(registry), past_heights)
        self.store = Store.open(layout.ledger, read_only=True)
        self.log = recover(layout.block_log, registry, self.genesis, self.store, self.committer)
        self.committed: dict[int, list[bytes]] = {}
        self.blocks: queue.SimpleQueue[Stored] = queue.SimpleQueue()
        self.dropped: list[Drop] = []
        self.hold_back = threading.Event()
        self.hold_back.set()
        self.engine = SoloEngine(
            registry,
            self.store,
            self.genesis,
            self.log,
            self.committer,
            self.pool,
            Metrics(),
            block_interval_ms=1,
            clock_ms=lambda: self.now_ms,
            committed=self._committed,
            stored=self._stored,
            dropped=self.dropped.extend,
        )

    def add(self, *signed: bytes) -> None:
        """Put transactions into the pool, their signatures checked."""
        for each in signed:
            assert self.pool.add(prepare(self.registry, self.genesis.chain_id, each)) is None
        self.engine.wake()

    def next(self) -> Stored:
        return self.blocks.get(timeout=ANSWER_S)

    def run(self, *signed: bytes) -> list[Stored]:
        """Commit these transactions and return the blocks up to the empty one that proves the last of them."""
        self.add(*signed)
        return self.until(len(signed))

    def until(self, count: int) -> list[Stored]:
        """Return the next blocks up to the one that proves the last of `count` transactions."""
        blocks = [self.next()]
        while (count := count - len(transactions_in(blocks[-1]))) or results_in(blocks[-1]):
            blocks.append(self.next())
        return blocks

    def balance(self, account: str) -> tuple[int, int]:
        """Return what is posted and what is held on an account."""
        data = self.store.get(BALANCES.prefix + balance_key(self.ledger.addresses[account], ASSET))
        balance = BALANCES.codec.decode(data or b"")
        return balance.posted_minor, balance.held_minor

    def stop(self) -> None:
        """Stop the engine and its process; may be called twice."""
        if self.is_running:
            self.is_running = False
            self.hold_back.set()
            self.engine.stop()
            self.store.close()

    def await_committed(self, signed: bytes) -> None:
        """Return when the block of a transaction was told of."""
        deadline = time.monotonic() + ANSWER_S
        while not any(id_of(signed) in ids for ids in list(self.committed.values())):
            assert time.monotonic() < deadline, "nobody is told of it"
            time.sleep(0.005)

    def _committed(self, frame: Committed) -> None:
        self.committed[frame.height] = [entry.id for entry in RESULTS_CODEC.decode(frame.results)]

    def _stored(self, frame: Stored) -> None:
        self.blocks.put(frame)
        assert self.hold_back.wait(ANSWER_S)


@pytest.fixture
def run_solo(registry: Registry) -> Iterator[Callable[..., Solo]]:
    """Give a function that opens an engine on a ledger; it is not started yet."""
    running: list[Solo] = []

    def run(ledger: SampleLedger, now_ms: int | None = None, past_heights: int = 1000) -> Solo:
        now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
        running.append(Solo(ledger, registry, now_ms, past_heights))
        return running[-1]

    yield run
    for solo in running:
        solo.stop()


@pytest.fixture
def solo(run_solo: Callable[..., Solo], ledger: SampleLedger) -> Solo:
    return run_solo(ledger)


def id_of(signed: bytes) -> bytes:
    return transaction_id(decode_signed(signed).body)


def results_in(block: Stored) -> list[tuple[bytes, int]]:
    return [(entry.id, RESULT.decode(entry.result).number) for entry in RESULTS_CODEC.decode(block.results)]


def transactions_in(block: Stored) -> list[bytes]:
    return [signed for bundle in BLOCK.decode(block.block).bundles for signed in BUNDLE.decode(bundle)]


def all_transactions(blocks: Sequence[Stored]) -> list[bytes]:
    return [signed for block in blocks for signed in transactions_in(block)]


def test_an_empty_first_block_then_only_what_is_needed(solo: Solo) -> None:
    solo.engine.start()
    first = solo.next()
    assert (first.height, first.time_ms, results_in(first)) == (1, solo.genesis.time_ms, [])
    issue = solo.ledger.issue("treasury", 10)
    paid, proof = solo.run(issue)
    assert transactions_in(paid) == [issue]
    assert results_in(proof) == []
    # The clock stands still and block time goes on all the same.
    assert [first.time_ms, paid.time_ms, proof.time_ms] == [solo.now_ms + each for each in range(3)]
    assert first.app_hash != paid.app_hash == proof.app_hash
    solo.engine.stop()
    assert solo.store.height == 3
    assert solo.blocks.empty()


def test_headers_and_commits_are_cometbfts_and_chain(solo: Solo) -> None:
    solo.engine.start()
    solo.run(solo.ledger.issue("treasury", 10))
    solo.run(solo.ledger.issue("treasury", 20), solo.ledger.transfer("treasury", "lantern", 99))
    key = PublicKey(ED25519, solo.genesis.validators[0].public_key)
    app_hash, previous = solo.store.app_hash_at(0), None
    for height in range(1, solo.store.height + 1):
        row, block = solo.store.archive_row(height), solo.store.block(height)
        assert row is not None
        assert block is not None
        header = read_header(parse(row.header, HeaderJson, "header"))
        commit = read_commit(parse(row.commit, CommitJson, "commit"))
        assert (header.height, header.app_hash) == (height, app_hash)
        assert header.data_hash == headers.data_hash(BLOCK.decode(block.block).bundles)
        assert commit.block_id.hash == header.hash()
        if previous is not None:
            assert header.last_block_id == previous.block_id
        signature = commit.signatures[0]
        message = headers.vote_sign_bytes(header.chain_id, height, 0, commit.block_id, signature.timestamp_ns)
        assert verify(key, message, signature.signature)
        app_hash, previous = solo.store.app_hash_at(height), commit


def test_a_sponsor_that_floods_does_not_hold_up_another(solo: Solo) -> None:
    flood = [solo.ledger.issue("treasury", 1) for _ in range(12_000)]
    one = solo.ledger.transfer("south", "lantern", 1)
    solo.add(*flood, one)
    solo.engine.start()
    assert results_in(solo.next()) == []
    second = transactions_in(solo.next())
    assert one in second
    assert len(second) < len(flood)


def test_what_expired_while_it_waited_stands_in_no_block(solo: Solo) -> None:
    short, long = solo.ledger.issue("treasury", 1, lifetime_ms=60_000), solo.ledger.issue("treasury", 2)
    solo.add(short, long)
    # Orders expire by the real clock; this one is a minute and a moment later.
    solo.now_ms = time.time_ns() // 1_000_000 + 61_000
    solo.engine.start()
    solo.next()
    assert transactions_in(solo.next()) == [long]
    solo.next()
    assert solo.pool.size == (0, 0)
    (drop,) = solo.dropped
    assert (drop.tx_id, drop.codespace, drop.number) == (id_of(short), "ledger", 38)
    # Issuing is asked by the issuance account, at its member's cost; who is paid need not learn of it.
    assert (drop.sponsor, drop.accounts) == ("north-bank", (solo.ledger.addresses["issuance"],))


def test_what_its_account_allows_no_more_is_dropped_and_told_of(solo: Solo) -> None:
    solo.engine.start()
    order = solo.ledger.transfer("treasury", "lantern", 1)
    change = ChangePolicy(solo.ledger.addresses["treasury"], single_key_policy(key_of("another").public))
    solo.run(solo.ledger.sign("treasury", [change]))
    other = solo.ledger.issue("treasury", 1)
    solo.add(order, other)
    blocks = solo.until(1)
    assert all_transactions(blocks) == [other]
    solo.engine.stop()
    assert [(drop.tx_id, drop.codespace, drop.number) for drop in solo.dropped] == [(id_of(order), "ledger", 10)]
    assert solo.dropped[0].accounts == (solo.ledger.addresses["treasury"],)
    assert solo.pool.size == (0, 0)


def test_two_sets_of_valid_signatures_pay_once(run_solo: Callable[..., Solo], make_ledger: MakeLedger) -> None:
    text = consortium_text(two_keys=["treasury"])
    text = text.replace(', { role = "checker", weight = 1 }', "").replace('role = "checker"', 'role = "owner"')
    solo = run_solo(make_ledger(text))
    solo.engine.start()
    solo.run(solo.ledger.issue("treasury", 10))
    both = solo.ledger.transfer("treasury", "lantern", 4, signers=["treasury", "treasury checker"])
    envelope = decode_signed(both)
    each_alone = [encode_signed(envelope.body, (signature,)) for signature in envelope.signatures]
    solo.add(both, *each_alone)
    blocks = [solo.next(), solo.next()]
    assert len(all_transactions(blocks)) == 1
    assert [number for block in blocks for _, number in results_in(block)] == [0]
    solo.engine.stop()
    assert solo.balance("lantern") == (4, 0)
    assert solo.pool.size == (0, 0)
    # Copies with other signatures of what is on the ledger are not told of: it was not dropped.
    assert solo.dropped == []


def test_blocks_keep_to_the_limit_of_work_and_nothing_is_lost(
    run_solo: Callable[..., Solo], make_ledger: MakeLedger
) -> None:
    solo = run_solo(make_ledger(consortium_text({"max_block_work": 1_000_000, "sponsor_block_work": 1_000_000})))
    orders = [solo.ledger.issue("treasury", 1) for _ in range(1500)]
    solo.add(*orders)
    solo.engine.start()
    blocks = solo.until(len(orders))
    assert all_transactions(blocks) == orders
    for block in blocks:
        works = [RESULT.decode(entry.result).work for entry in RESULTS_CODEC.decode(block.results)]
        # The one that reaches the limit still runs.
        assert sum(works[:-1]) < 1_000_000
    assert len([block for block in blocks if transactions_in(block)]) >= 3


def test_blocks_keep_to_the_limit_of_bytes_and_bundles_to_theirs(
    run_solo: Callable[..., Solo], make_ledger: MakeLedger
) -> None:
    limit_bytes = 512 * 1024
    solo = run_solo(make_ledger(consortium_text({"max_block_bytes": limit_bytes, "sponsor_block_bytes": limit_bytes})))
    solo.engine.start()
    solo.run(solo.ledger.issue("treasury", 10**6))
    legs = tuple([BatchLeg(solo.ledger.addresses["lantern"], 1, bytes(64)) for _ in range(1000)])
    batch = BatchTransfer(solo.ledger.addresses["treasury"], ASSET, legs)
    orders = [solo.ledger.sign("treasury", [batch]) for _ in range(12)]
    assert len(orders[0]) > 100_000
    blocks = solo.run(*orders)
    assert all_transactions(blocks) == orders
    for block in blocks:
        bundles = BLOCK.decode(block.block).bundles
        assert len(block.block) <= limit_bytes
        assert all(len(bundle) <= MAX_BUNDLE_BYTES for bundle in bundles)
    assert solo.balance("lantern") == (12_000, 0)


def test_what_is_over_its_sponsors_share_of_a_block_waits_for_the_next(
    run_solo: Callable[..., Solo], make_ledger: MakeLedger
) -> None:
    limits = {"max_block_work": 10_000_000, "sponsor_block_work": 500_000}
    solo = run_solo(make_ledger(consortium_text(limits)))
    mine = [solo.ledger.issue("treasury", 1) for _ in range(900)]
    theirs = [solo.ledger.transfer("south", "lantern", 1) for _ in range(10)]
    solo.add(*mine, *theirs)
    solo.engine.start()
    blocks = solo.until(len(mine) + len(theirs))
    assert sorted(all_transactions(blocks)) == sorted(mine + theirs)
    assert [signed for signed in all_transactions(blocks) if signed in set(mine)] == mine
    assert set(theirs) <= set(transactions_in(blocks[1]))
    assert len([block for block in blocks if transactions_in(block)]) >= 3


def test_a_trigger_makes_a_block_when_it_falls_due(solo: Solo) -> None:
    solo.engine.start()
    solo.run(solo.ledger.issue("treasury", 10))
    due_ms = solo.now_ms + 60_000
    addresses = solo.ledger.addresses
    hold = PlaceHold(addresses["treasury"], addresses["lantern"], ASSET, 6, due_ms, b"")
    solo.run(solo.ledger.sign("treasury", [hold]))
    assert solo.balance("treasury") == (10, 6)
    solo.now_ms = due_ms
    solo.engine.wake()
    released, proof = solo.next(), solo.next()
    assert released.time_ms == due_ms
    assert transactions_in(released) == []
    assert [number for _, number in results_in(released)] == [0]
    assert results_in(proof) == []
    assert solo.balance("treasury") == (10, 0)


def test_the_next_blocks_execute_while_one_goes_to_disk(solo: Solo) -> None:
    solo.engine.start()
    solo.run(solo.ledger.issue("treasury", 100))
    solo.hold_back.clear()
    solo.add(solo.ledger.transfer("treasury", "lantern", 60))
    height = solo.next().height
    # The store has this one, and whoever is told of it holds up the thread.
    solo.add(solo.ledger.transfer("treasury", "south", 30))
    deadline = time.monotonic() + ANSWER_S
    while solo.engine.next_block().height < height + 3:
        assert time.monotonic() < deadline, "nothing is executed ahead"
    solo.add(solo.ledger.transfer("treasury", "south", 30), solo.ledger.transfer("south", "lantern", 30))
    solo.hold_back.set()
    results: list[int] = []
    while len(results) < 3:
        results += [number for _, number in results_in(solo.next())]
    # 100 - 60 - 30 leaves 10: the second 30 is refused by the ledger's rule on available balances, number 19.
    assert results == [0, 19, 0]
    solo.engine.stop()
    assert [solo.balance(name)[0] for name in ("treasury", "lantern", "south")] == [10, 90, 0]


def test_a_block_is_told_of_while_the_store_has_others_before_it_to_take(solo: Solo) -> None:
    solo.engine.start()
    first = solo.next()
    solo.hold_back.clear()
    orders = [solo.ledger.issue("treasury", amount) for amount in (1, 2)]
    for order in orders:
        solo.add(order)
        # Whoever is told of what the store has holds up the thread; this comes all the same.
        solo.await_committed(order)
    assert solo.engine.next_block().height > first.height + 2
    # What is committed takes no room in the pool, and is not done again for being sent again.
    assert solo.pool.size == (0, 0)
    solo.add(*orders)
    solo.hold_back.set()
    blocks = solo.until(2)
    assert all_transactions(blocks) == orders
    for block in blocks:
        assert solo.committed[block.height] == [tx_id for tx_id, _ in results_in(block)]


def test_no_more_blocks_are_made_than_the_log_has_room_for(solo: Solo) -> None:
    solo.engine.start()
    solo.next()
    solo.hold_back.clear()
    solo.add(solo.ledger.issue("treasury", 1))
    held = solo.next().height
    for amount in range(2, 2 * MAX_BEYOND + 2):
        solo.add(solo.ledger.issue("treasury", amount))
        time.sleep(0.01)
    last = solo.ledger.issue("treasury", 1)
    solo.add(last)
    deadline = time.monotonic() + ANSWER_S
    while max(solo.committed) < held + MAX_BEYOND:
        assert time.monotonic() < deadline, "the log has room left"
    time.sleep(0.2)
    assert solo.engine.next_block().height == held + MAX_BEYOND + 1
    solo.hold_back.set()
    solo.await_committed(last)


def test_while_the_store_lacks_a_block_the_next_waits_to_grow(solo: Solo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BEHIND_INTERVAL_MS", 3_600_000)
    solo.engine.start()
    solo.next()
    solo.hold_back.clear()
    solo.add(solo.ledger.issue("treasury", 1))
    height = solo.next().height  # whoever hears of it holds up the thread, which hears of no later one then
    deadline = time.monotonic() + ANSWER_S
    while solo.engine.next_block().height < height + 2:
        assert time.monotonic() < deadline, "no block proves the first"
    orders = [solo.ledger.issue("treasury", amount) for amount in (2, 3)]
    for order in orders:
        solo.add(order)
        time.sleep(0.2)
    assert solo.pool.size.transactions == 2
    solo.hold_back.set()
    assert transactions_in(solo.next()) == []
    assert transactions_in(solo.next()) == orders


def test_while_the_store_lacks_a_block_the_next_waits_for_what_is_being_checked(solo: Solo) -> None:
    solo.engine.start()
    solo.next()
    solo.hold_back.clear()
    solo.add(solo.ledger.issue("treasury", 1))
    height = solo.next().height  # whoever hears of it holds up the thread, which hears of no later one then
    deadline = time.monotonic() + ANSWER_S
    while solo.engine.next_block().height < height + 2:
        assert time.monotonic() < deadline, "no block proves the first"
    orders = [solo.ledger.issue("treasury", amount) for amount in (2, 3)]
    with solo.pool.expect(2):
        solo.add(orders[0])
        time.sleep(3 * engine.BEHIND_INTERVAL_MS / 1000)
        assert solo.pool.size.transactions == 1
    solo.engine.wake()
    solo.await_committed(orders[0])
    with solo.pool.expect(2):
        solo.add(orders[1])
        time.sleep(3 * engine.BEHIND_INTERVAL_MS / 1000)
        assert solo.pool.size.transactions == 1
        solo.hold_back.set()
        solo.await_committed(orders[1])


def test_what_the_log_holds_beyond_the_store_is_run_again(
    run_solo: Callable[..., Solo], ledger: SampleLedger, tmp_path: Path
) -> None:
    first = run_solo(ledger)
    first.engine.start()
    first.next()
    first.stop()
    shutil.copytree(ledger.directory, tmp_path / "behind")
    whole = run_solo(ledger)
    whole.engine.start()
    blocks = whole.run(ledger.issue("treasury", 10), ledger.transfer("treasury", "lantern", 99))
    whole.stop()
    # As a crash leaves it: the store at the first block, the log at the last.
    behind = SampleLedger.reopen(tmp_path / "behind", ledger.registry)
    log = Layout(ledger.directory).block_log
    shutil.copytree(log, Layout(behind.directory).block_log, dirs_exist_ok=True)
    solo = run_solo(behind)
    store = Store.open(Layout(ledger.directory).ledger, read_only=True)
    assert solo.store.height == store.height == blocks[-1].height
    for height in range(1, store.height + 1):
        assert solo.store.block(height) == store.block(height)
        assert solo.store.archive_row(height) == store.archive_row(height)
    store.close()
    solo.engine.start()
    assert [number for _, number in results_in(solo.run(ledger.issue("treasury", 1))[0])] == [0]


@pytest.mark.parametrize("wrong", ["results", "transaction"])
def test_a_log_whose_blocks_run_otherwise_than_they_did_is_a_fault(
    run_solo: Callable[..., Solo], ledger: SampleLedger, wrong: str
) -> None:
    solo = run_solo(ledger)
    solo.engine.start()
    solo.next()
    solo.stop()
    layout = Layout(ledger.directory)
    store = Store.open(layout.ledger, read_only=True)
    log = BlockLog(layout.block_log, store)
    signed = ledger.issue("treasury", 1) if wrong == "results" else b"no transaction"
    bundle = encode_bundle((signed,))
    log.put(store.height + 1, encode(Block(store.height + 1, solo.now_ms + 5, (bundle,), ())), b"other results")
    log.close()
    store.close()
    said = {"results": "gives other results than it gave at first", "transaction": "holds what no block may"}[wrong]
    with pytest.raises(Fault, match=f"block log: .*{said}"):
        run_solo(ledger)


def test_the_store_is_brought_up_before_a_release_ends_whose_time_is_over(
    solo: Solo, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
    monkeypatch.setattr(faults, "stop_loudly", lambda where, error: stopped.put(error))
    solo.engine.start()
    solo.next()
    solo.hold_back.clear()
    issue = solo.ledger.issue("treasury", 1)
    solo.add(issue)
    solo.await_committed(issue)
    deadline = time.monotonic() + ANSWER_S
    while solo.committed[committed := max(solo.committed)]:
        assert time.monotonic() < deadline, "no block comes to prove it"

    def refuse(*_: object, **__: object) -> None:
        raise WrongRelease("another release's rules hold from here")

    monkeypatch.setattr(engine, "execute_block", refuse)
    solo.add(solo.ledger.issue("treasury", 2))
    time.sleep(0.2)
    assert stopped.empty()
    solo.hold_back.set()
    assert isinstance(stopped.get(timeout=ANSWER_S), WrongRelease)
    assert solo.store.height >= committed
    # The thread that would have closed it is gone, and here the process is not.
    solo.committer.close()


def test_pruning_keeps_the_last_heights_provable(run_solo: Callable[..., Solo], ledger: SampleLedger) -> None:
    solo = run_solo(ledger, past_heights=20)
    solo.engine.start()
    solo.next()
    for _ in range(60):
        solo.run(solo.ledger.issue("treasury", 1))
    solo.engine.stop()
    first = solo.store.head.first_provable
    assert solo.store.height - 20 - 64 <= first <= solo.store.height - 20
    key = BALANCES.prefix + balance_key(ledger.addresses["treasury"], ASSET)
    assert BALANCES.codec.decode(solo.store.get_at(first, key) or b"").posted_minor > 0


def test_blocks_no_longer_held_are_named_to_a_subscriber(
    run_solo: Callable[..., Solo], ledger: SampleLedger, start: Callable[..., object]
) -> None:
    now_ms = time.time_ns() // 1_000_000
    solo = run_solo(ledger, now_ms - 3_600_000)
    solo.engine.start()
    solo.next()
    solo.now_ms = now_ms
    solo.run(ledger.issue("treasury", 10))
    solo.stop()
    store = Store.open(Layout(ledger.directory).ledger)
    store.prune(store.height, 10_000)
    while store.prune_blocks(2, 10):
        continue
    assert store.head.first_block == 2
    store.close()
    with start(ledger).connect() as channel:  # type: ignore[attr-defined]
        channel.subscribe(1)
        assert channel.read() == Gone(2)
        assert channel.read() is None
