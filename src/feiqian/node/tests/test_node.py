"""The node as its users meet it: a real process, its real socket, a real disk."""

import os
import resource
import signal
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from feiqian.consensus import proof_file
from feiqian.consensus.genesis_file import load_genesis
from feiqian.consensus.proving import prove_record, prove_result
from feiqian.core.encoding import Codec
from feiqian.core.transactions import decode_signed, encode_signed, transaction_id
from feiqian.core.wire import MAX_FRAME_BYTES, Committed, Dropped, FollowDropped, Stored, Submit, Verdict
from feiqian.execution.blocks import BLOCK, RESULT, RESULTS_CODEC
from feiqian.execution.registry import Registry
from feiqian.ledger.balances import BALANCES, balance_key
from feiqian.modules.assets.messages import BatchLeg, BatchTransfer
from feiqian.node.configuration import Layout
from feiqian.node.initialise import LedgerExists, initialise
from feiqian.state.store import Store
from feiqian.testing.ledgers import ASSET, SampleLedger, consortium_text, forge_sm2
from feiqian.testing.processes import Channel, NodeProcess

StartNode = Callable[..., NodeProcess]
MakeLedger = Callable[..., SampleLedger]

ACCEPTED = ("", 0)
STRINGS: Codec[tuple[bytes, ...]] = Codec(tuple[bytes, ...], "bundle")


def rule(verdict: Verdict) -> tuple[str, int]:
    return verdict.codespace, verdict.number


def id_of(signed: bytes) -> bytes:
    return transaction_id(decode_signed(signed).body)


def await_transactions(channel: Channel, *wanted: bytes) -> list[Stored]:
    """Return the blocks of a subscription up to the one that holds the last of these signed transactions."""
    missing = {id_of(signed) for signed in wanted}
    blocks: list[Stored] = []
    while missing:
        blocks.append(channel.next_stored())
        missing -= set(ids_in(blocks[-1]))
    return blocks


def ids_in(block: Stored | Committed) -> list[bytes]:
    return [entry.id for entry in RESULTS_CODEC.decode(block.results)]


def numbers_in(block: Stored) -> list[int]:
    return [RESULT.decode(entry.result).number for entry in RESULTS_CODEC.decode(block.results)]


def balance_in(store: Store, ledger: SampleLedger, account: str) -> int:
    data = store.get(BALANCES.prefix + balance_key(ledger.addresses[account], ASSET))
    return 0 if data is None else BALANCES.codec.decode(data).posted_minor


def test_a_payment_is_committed_and_then_provable_offline(
    ledger: SampleLedger, registry: Registry, start: StartNode
) -> None:
    node = start(ledger)
    issue, payment = ledger.issue("treasury", 1000), ledger.transfer("treasury", "lantern", 250)
    with node.connect() as channel:
        channel.subscribe()
        assert [rule(verdict) for verdict in channel.submit([issue])] == [ACCEPTED]
        await_transactions(channel, issue)
        verdicts = channel.submit([payment])
        assert [(rule(verdict), verdict.tx_id) for verdict in verdicts] == [(ACCEPTED, id_of(payment))]
        committed = await_transactions(channel, payment)[-1]
        assert numbers_in(committed) == [0]
        proving = channel.next_stored()
        assert proving.height == committed.height + 1
        assert BLOCK.decode(proving.block).bundles == ()
        assert proving.app_hash == committed.app_hash
        assert channel.status().height == proving.height
    assert node.terminate() == 0
    genesis = load_genesis(Layout(ledger.directory).genesis)
    store = Store.open(Layout(ledger.directory).ledger, read_only=True)
    balance = prove_record(store, genesis, BALANCES, balance_key(ledger.addresses["lantern"], ASSET))
    proved = proof_file.verify(balance, genesis, registry.tables)
    assert (proved.kind, proved.height) == ("record", committed.height)
    assert proved.record == BALANCES.codec.decode(store.get(BALANCES.prefix + proved.key) or b"")
    assert [balance_in(store, ledger, name) for name in ("issuance", "treasury", "lantern")] == [-1000, 750, 250]
    result = prove_result(store, genesis, id_of(payment))
    assert proof_file.verify(result, genesis, registry.tables).block_height == committed.height
    store.close()


def test_the_first_start_writes_the_genesis_time_and_an_empty_block(ledger: SampleLedger, start: StartNode) -> None:
    path = Layout(ledger.directory).genesis
    assert not load_genesis(path).is_started
    before_ms = time.time_ns() // 1_000_000
    node = start(ledger)
    written = path.read_bytes()
    genesis = load_genesis(path)
    with node.connect() as channel:
        channel.subscribe()
        first = channel.next_stored()
        assert (first.height, first.time_ms, BLOCK.decode(first.block).bundles) == (1, genesis.time_ms, ())
        assert before_ms <= genesis.time_ms <= time.time_ns() // 1_000_000
    assert node.terminate() == 0
    start(ledger)
    assert path.read_bytes() == written


def test_blocks_are_executed_and_committed_before_more_is_let_in(ledger: SampleLedger, start: StartNode) -> None:
    node = start(ledger)
    helpers = ("feiqian.node.committer", "feiqian.node.verifier")
    niceness = [os.getpriority(os.PRIO_PROCESS, pid) for pid in (node.process.pid, *map(node.helper, helpers))]
    assert niceness[0] == niceness[1] < niceness[2]


def test_init_writes_a_secret_key_and_refuses_a_directory_in_use(ledger: SampleLedger, registry: Registry) -> None:
    layout = Layout(ledger.directory)
    assert stat.S_IMODE(layout.validator_key.stat().st_mode) == 0o600
    before = {path.name: path.read_bytes() for path in ledger.directory.iterdir()}
    assert set(before) == {"genesis.json", "validator_key.json", "feiqian.toml"}
    with pytest.raises(LedgerExists, match=r"genesis\.json"):
        initialise(ledger.directory, ledger.directory.with_name("ledger-consortium.toml"), registry)
    assert {path.name: path.read_bytes() for path in ledger.directory.iterdir()} == before


def test_what_was_taken_is_refused_again_also_after_a_restart(ledger: SampleLedger, start: StartNode) -> None:
    node = start(ledger)
    issue = ledger.issue("treasury", 1000)
    with node.connect() as channel:
        channel.subscribe()
        # Twice in one batch and once more while it waits: the same transaction, so accepted, and taken once.
        assert [rule(verdict) for verdict in channel.submit([issue, issue])] == [ACCEPTED, ACCEPTED]
        await_transactions(channel, issue)
        assert [rule(verdict) for verdict in channel.submit([issue])] == [("ledger", 40)]
    assert node.terminate() == 0
    with start(ledger).connect() as channel:
        assert [rule(verdict) for verdict in channel.submit([issue])] == [("ledger", 40)]


def test_what_cannot_stand_in_a_block_is_refused_by_number(ledger: SampleLedger, start: StartNode) -> None:
    expired = ledger.issue("treasury", 1, lifetime_ms=-1)
    far = ledger.issue("treasury", 1, lifetime_ms=3_600_000)
    sound = ledger.issue("treasury", 1)
    cases = [
        (expired, ("ledger", 38)),
        (far, ("ledger", 39)),
        (b"", ("core", 1)),
        (sound[:-1], ("core", 1)),
        (sound + b"\x00", ("core", 1)),
        (bytes(200_000), ("core", 3)),
        (sound[:-1] + bytes([sound[-1] ^ 1]), ("execution", 3)),
        (ledger.sign("treasury", [], lifetime_ms=1000), ("core", 1)),
        (sound, ACCEPTED),
    ]
    with start(ledger).connect() as channel:
        channel.subscribe()
        verdicts = channel.submit([signed for signed, _ in cases])
        assert [rule(verdict) for verdict in verdicts] == [expected for _, expected in cases]
        blocks = await_transactions(channel, sound)
        assert [tx_id for block in blocks for tx_id in ids_in(block)] == [id_of(sound)]


def test_a_transaction_whose_signatures_were_stripped_or_altered_first_still_goes_through(
    make_ledger: MakeLedger, start: StartNode
) -> None:
    ledger = make_ledger(consortium_text(two_keys=["treasury"]))
    true = ledger.transfer("treasury", "lantern", 7, signers=["treasury", "treasury checker"])
    envelope = decode_signed(true)
    stripped = encode_signed(envelope.body, envelope.signatures[:1])
    other = envelope.signatures[1]
    broken = type(other)(other.key, other.signature[:-1] + bytes([other.signature[-1] ^ 1]))
    altered = encode_signed(envelope.body, (envelope.signatures[0], broken))
    assert id_of(stripped) == id_of(altered) == id_of(true)
    with start(ledger).connect() as channel:
        channel.subscribe()
        issue = ledger.issue("treasury", 100)
        assert [rule(verdict) for verdict in channel.submit([issue])] == [ACCEPTED]
        await_transactions(channel, issue)
        verdicts = channel.submit([stripped, altered, true])
        assert [rule(verdict) for verdict in verdicts] == [("ledger", 10), ("execution", 3), ACCEPTED]
        blocks = await_transactions(channel, true)
        assert ids_in(blocks[-1]) == [id_of(true)]
        assert numbers_in(blocks[-1]) == [0]


def test_a_full_pool_says_later_and_takes_more_when_there_is_room(make_ledger: MakeLedger, start: StartNode) -> None:
    ledger = make_ledger()
    orders = [ledger.issue("treasury", amount) for amount in range(1, 9)]
    node = start(ledger, pool_transactions=10, block_interval_ms=60_000)
    with node.connect() as channel:
        verdicts = channel.submit(orders)
        assert [rule(verdict) for verdict in verdicts] == [ACCEPTED] * 5 + [("node", 2)] * 3
        assert all(verdict.retry_after_ms > 0 for verdict in verdicts[5:])
        assert channel.status().pool_transactions == 5
        south = ledger.transfer("south", "lantern", 1)
        assert [rule(verdict) for verdict in channel.submit([south])] == [ACCEPTED]
    # What was accepted and not committed is lost with the process, and safe to send again.
    assert node.terminate() == 0
    with start(ledger, pool_transactions=1000).connect() as channel:
        channel.subscribe()
        assert [rule(verdict) for verdict in channel.submit(orders)] == [ACCEPTED] * 8
        await_transactions(channel, *orders)


def test_a_clean_stop_keeps_every_acknowledged_block_and_starts_where_it_ended(
    ledger: SampleLedger, start: StartNode
) -> None:
    node = start(ledger, block_interval_ms=1)
    with node.connect() as channel, node.connect() as follower:
        follower.follow_committed()
        channel.submit([ledger.issue("treasury", 10_000)])
        channel.submit([ledger.transfer("treasury", "lantern", 1) for _ in range(300)])
        assert node.terminate() == 0
        last = None
        while isinstance(frame := follower.read(), Committed):
            last = frame
    assert last is not None
    store = Store.open(Layout(ledger.directory).ledger, read_only=True)
    stopped_at, root = store.height, store.app_hash
    store.close()
    assert stopped_at >= last.height
    with start(ledger).connect() as channel:
        channel.subscribe(stopped_at)
        again = channel.next_stored()
        assert (again.height, again.app_hash) == (stopped_at, root)
    assert "fault" not in node.log_text()


def test_after_a_kill_everything_acknowledged_is_there_once(ledger: SampleLedger, start: StartNode) -> None:
    node = start(ledger, block_interval_ms=1)
    orders = [ledger.issue("treasury", 10) for _ in range(200)]
    with node.connect() as channel, node.connect() as follower:
        follower.follow_committed()
        channel.send(Submit(1, tuple(orders)))
        acknowledged: dict[bytes, int] = {}
        while len(acknowledged) < 100:
            block = follower.next_committed()
            acknowledged |= dict.fromkeys(ids_in(block), block.height)
        node.kill()
    start(ledger).terminate()
    store = Store.open(Layout(ledger.directory).ledger, read_only=True)
    for tx_id, height in acknowledged.items():
        found = store.result(tx_id)
        assert found is not None
        assert found[0] == height
    assert balance_in(store, ledger, "treasury") == 10 * sum(store.result(id_of(each)) is not None for each in orders)
    store.close()
    # All of them again: what was taken is refused, the rest goes in, and each pays once.
    with start(ledger).connect() as channel:
        channel.subscribe()
        verdicts = channel.submit(orders)
        assert {rule(verdict) for verdict in verdicts} <= {ACCEPTED, ("ledger", 40)}
        assert all(rule(verdict) == ("ledger", 40) for verdict in verdicts if verdict.tx_id in acknowledged)
        await_transactions(channel, *orders)
        store = Store.open(Layout(ledger.directory).ledger, read_only=True)
        assert balance_in(store, ledger, "treasury") == 10 * 200
        store.close()


@pytest.mark.parametrize(
    "garbage",
    [
        struct.pack(">I", 0),
        struct.pack(">I", MAX_FRAME_BYTES + 1),
        struct.pack(">I", 3) + b"\xc1\xc1\xc1",
        struct.pack(">I", 4) + b"\x93\xa6sub",
        struct.pack(">I", 600) + b"\x91" * 600,
        struct.pack(">I", 8) + b"\xa6submit\x00",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
    ids=["empty", "too large", "not MessagePack", "cut short", "too deep", "no request", "HTTP"],
)
def test_a_malformed_frame_closes_that_connection_and_no_other(
    ledger: SampleLedger, start: StartNode, garbage: bytes
) -> None:
    node = start(ledger)
    with node.connect() as sound, node.connect() as broken:
        assert sound.status().is_ready
        broken.socket.sendall(garbage)
        assert broken.read() is None
        assert sound.status().is_ready
    assert node.terminate() == 0


def test_a_frame_that_is_never_finished_closes_its_connection(ledger: SampleLedger, start: StartNode) -> None:
    node = start(ledger, stalled_ms=50)
    with node.connect() as sound, node.connect() as broken:
        broken.socket.sendall(struct.pack(">I", 100) + b"\x92")
        assert broken.read() is None
        assert sound.status().is_ready


def test_who_asks_is_told_of_what_was_dropped_also_what_was_before(make_ledger: MakeLedger, start: StartNode) -> None:
    ledger = make_ledger(consortium_text({"sponsor_day_bytes": 2**17}))
    legs = tuple([BatchLeg(ledger.addresses["south"], 1, bytes(64)) for _ in range(1000)])
    message = BatchTransfer(ledger.addresses["lantern"], ASSET, legs)
    # Two of these are more than the sponsor's day: the first stands on the ledger, refused for want of funds.
    orders = [ledger.sign("lantern", [message]) for _ in range(2)]
    node = start(ledger)
    with node.connect() as channel:
        channel.send(FollowDropped())
        assert [rule(verdict) for verdict in channel.submit(orders)] == [ACCEPTED, ACCEPTED]
        dropped = channel.receive(Dropped)
        (drop,) = dropped.drops
        assert (drop.tx_id, drop.sponsor, drop.accounts) == (
            id_of(orders[1]),
            "lantern-works",
            (ledger.addresses["lantern"],),
        )
        assert (drop.codespace, drop.number) == ("ledger", 41)
        assert "bytes on one UTC day; at most 131072" in drop.message
        assert channel.metrics()["feiqian_left_out_total"] == 1
        with node.connect() as later:
            later.send(FollowDropped())
            assert later.receive(Dropped) == dropped
        channel.send(FollowDropped())
        assert channel.read() is None


def test_a_subscriber_that_stops_reading_is_dropped_and_the_ledger_goes_on(
    ledger: SampleLedger, start: StartNode
) -> None:
    node = start(ledger, stalled_ms=3000, block_interval_ms=1)
    with node.connect() as lazy, node.connect() as channel:
        channel.subscribe()
        issue = ledger.issue("treasury", 100_000)
        channel.submit([issue])
        await_transactions(channel, issue)
        orders = [ledger.transfer("treasury", "lantern", 1, reference=bytes(64)) for _ in range(6000)]
        channel.submit(orders)
        await_transactions(channel, *orders)
        # Megabytes of blocks from here on, and nobody reads them.
        lazy.subscribe(1)
        for count in (2, 1):
            while channel.metrics()["feiqian_subscribers"] != count:
                continue
        more = ledger.transfer("treasury", "lantern", 1)
        channel.submit([more])
        await_transactions(channel, more)
        frames = 0
        while lazy.read() is not None:
            frames += 1
        assert frames < channel.status().height


def test_nothing_that_a_stranger_sends_writes_a_line_of_its_own_into_the_log(
    ledger: SampleLedger, start: StartNode
) -> None:
    node = start(ledger)
    with node.connect() as channel, node.connect() as broken:
        verdicts = channel.submit(forge_sm2(ledger.issue("treasury", 1)))
        assert [rule(verdict) for verdict in verdicts] == [("execution", 3)] * 2
        broken.socket.sendall(b"GET /\n{}\n HTTP/1.1\r\n\r\n")
        assert broken.read() is None
    assert node.terminate() == 0
    assert [line["event"] for line in node.log_lines()] == [
        "opened",
        "ready",
        "connection_closed",
        "stopping",
        "stopped",
    ]


def test_a_connection_over_the_limit_is_closed(ledger: SampleLedger, start: StartNode) -> None:
    node = start(ledger, connections=1)
    with node.connect() as first:
        assert first.status().is_ready
        with node.connect() as second:
            assert second.read() is None
        assert first.status().is_ready


def test_a_second_node_in_one_directory_is_refused(ledger: SampleLedger, start: StartNode) -> None:
    first = start(ledger)
    second = subprocess.run(
        [sys.executable, "-m", "feiqian.node", str(ledger.directory)], capture_output=True, check=False, timeout=60
    )
    assert second.returncode == 2
    assert b"runs in" in second.stderr
    with first.connect() as channel:
        assert channel.status().is_ready


def test_no_ledger_and_wrong_settings_exit_with_wrong_usage(ledger: SampleLedger, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    (ledger.directory / "feiqian.toml").write_text("[node]\nspeed = 9\n", "utf-8")
    for directory, said in ((tmp_path / "nothing", b"feiqian init"), (ledger.directory, b"'speed'")):
        ended = subprocess.run(
            [sys.executable, "-m", "feiqian.node", str(directory)], capture_output=True, check=False, timeout=60
        )
        assert ended.returncode == 2
        assert said in ended.stderr


def test_a_full_disk_stops_the_node_before_it_acknowledges(ledger: SampleLedger, start: StartNode) -> None:
    start(ledger).terminate()
    data = Layout(ledger.directory).ledger / "data.mdb"
    store = Store.open(Layout(ledger.directory).ledger, read_only=True)
    height = store.height
    store.close()
    node = start(ledger)
    # Writes beyond this size fail as they do on a full disk; what is on it already may still be written.
    resource.prlimit(
        node.helper("feiqian.node.committer"), resource.RLIMIT_FSIZE, (data.stat().st_size, resource.RLIM_INFINITY)
    )
    orders = [ledger.issue("treasury", 10, reference=bytes(64)) for _ in range(500)]
    acknowledged: list[bytes] = []
    with node.connect() as channel:
        channel.follow_committed(height + 1)
        channel.send(Submit(1, tuple(orders)))
        while (frame := channel.read()) is not None:
            if isinstance(frame, Committed):
                acknowledged += ids_in(frame)
    assert node.await_exit() == 3
    assert '"event": "fault"' in node.log_text()
    store = Store.open(Layout(ledger.directory).ledger, read_only=True)
    paid = sum(store.result(id_of(each)) is not None for each in orders)
    assert balance_in(store, ledger, "treasury") == 10 * paid
    assert paid < len(orders)
    store.close()
    # With room again it starts with all that it acknowledged, and takes what it could not keep.
    with start(ledger).connect() as channel:
        store = Store.open(Layout(ledger.directory).ledger, read_only=True)
        assert all(store.result(tx_id) is not None for tx_id in acknowledged)
        paid = sum(store.result(id_of(each)) is not None for each in orders)
        store.close()
        channel.subscribe()
        verdicts = channel.submit(orders)
        assert [rule(verdict) for verdict in verdicts].count(ACCEPTED) == len(orders) - paid
        await_transactions(channel, *orders)


@pytest.mark.parametrize("module", ["feiqian.node.committer", "feiqian.node.verifier"])
def test_when_a_helper_process_dies_the_node_stops_with_a_fault(
    ledger: SampleLedger, start: StartNode, module: str
) -> None:
    node = start(ledger)
    with node.connect() as channel:
        assert channel.status().is_ready
        os.kill(node.helper(module), signal.SIGKILL)
        assert channel.read() is None
    assert node.await_exit() == 3
    assert "has died" in node.log_text()
