"""Triggers, expiry and replay, metering: what depends on block time and on what a block may hold."""

import pytest

from feiqian.core.encoding import Hash32
from feiqian.core.errors import Fault
from feiqian.ledger import errors
from feiqian.ledger.context import BlockInfo, Trigger
from feiqian.ledger.metering import USAGE, Meter, admission_work
from feiqian.ledger.records import Parameters, Usage
from feiqian.ledger.replay import check_replay, check_window
from feiqian.ledger.triggers import SCHEDULED, cancel, due, due_at_ms, next_due_ms, remove, schedule
from feiqian.testing import TIME_MS, Bench, memory_state


class Ring(Trigger, tag="bells.Ring"):
    bell: Hash32


A, B, C = (Ring(letter * 32) for letter in (b"a", b"b", b"c"))


def test_triggers_fall_due_in_order() -> None:
    bench = Bench()
    ctx = bench.context()
    late = schedule(ctx, TIME_MS + 20, A)
    first = schedule(ctx, TIME_MS + 10, B)
    second = schedule(ctx, TIME_MS + 10, C)
    assert next_due_ms(bench.state) == TIME_MS + 10
    assert due_at_ms(late) == TIME_MS + 20
    assert due(bench.state, TIME_MS + 9, 10) == []
    assert [key for key, _ in due(bench.state, TIME_MS + 10, 10)] == [first, second]
    assert [key for key, _ in due(bench.state, TIME_MS + 99, 10)] == [first, second, late]
    assert [key for key, _ in due(bench.state, TIME_MS + 99, 2)] == [first, second]
    tag, data = due(bench.state, TIME_MS + 99, 3)[2][1].tag, due(bench.state, TIME_MS + 99, 3)[2][1].data
    assert (tag, data) == ("bells.Ring", b"\x92\xaabells.Ring\xc4\x20" + b"a" * 32)
    remove(bench.state, first)
    cancel(ctx, second)
    assert [key for key, _ in due(bench.state, TIME_MS + 99, 10)] == [late]
    with pytest.raises(Fault, match=second.hex()):
        cancel(ctx, second)


def test_nothing_scheduled_overtakes_what_is_due() -> None:
    bench = Bench()
    waiting = schedule(bench.context(), TIME_MS + 10, A)
    bench.time_ms = TIME_MS + 50
    for due_ms in (TIME_MS + 5, TIME_MS + 10, TIME_MS + 50):
        with pytest.raises(errors.TriggerNotAhead):
            schedule(bench.context(), due_ms, B)
    with pytest.raises(errors.TriggerNotAhead):
        schedule(bench.context(), 2**53 + 1, B)
    later = schedule(bench.context(), TIME_MS + 51, B)
    assert [key for key, _ in SCHEDULED.scan(bench.state)] == [waiting, later]
    assert next_due_ms(memory_state()) is None


def test_sequences_are_never_used_twice() -> None:
    bench = Bench()
    key = schedule(bench.context(), TIME_MS + 10, A)
    cancel(bench.context(), key)
    again = schedule(bench.context(), TIME_MS + 10, A)
    assert (key[8:], again[8:]) == (bytes(8), bytes(7) + b"\x01")


def test_the_window_takes_both_ends() -> None:
    check_window(TIME_MS, TIME_MS, 600_000)
    check_window(TIME_MS + 600_000, TIME_MS, 600_000)
    with pytest.raises(errors.TransactionExpired):
        check_window(TIME_MS - 1, TIME_MS, 600_000)
    with pytest.raises(errors.ExpiryTooFar):
        check_window(TIME_MS + 600_001, TIME_MS, 600_000)


def test_an_id_is_used_up_once() -> None:
    class Ids:
        def has_replay_id(self, expires_at_ms: int, tx_id: bytes) -> bool:
            return (expires_at_ms, tx_id) == (TIME_MS, b"t" * 32)

    check_replay(Ids(), TIME_MS, b"u" * 32)
    with pytest.raises(errors.TransactionReplayed, match="74" * 32):
        check_replay(Ids(), TIME_MS, b"t" * 32)


PARAMETERS = Parameters(
    sponsor_block_bytes=200_000, sponsor_block_work=1_000_000, sponsor_day_bytes=300_000, sponsor_day_work=1_500_000
)


def at(height: int, time_ms: int = TIME_MS) -> BlockInfo:
    return BlockInfo("ferry-test-1", height, time_ms)


def test_work_before_running() -> None:
    assert admission_work(219, 2) == 2 * 1_000 + 219


def test_bytes_and_work_are_counted_by_block_and_day() -> None:
    state = memory_state()
    meter = Meter(state, at(7), PARAMETERS)
    meter.charge("harbour", 150_000, 400_000)
    meter.charge("harbour", 50_000, 600_000)
    with pytest.raises(errors.SponsorOverLimit, match="200001 bytes in one block; at most 200000"):
        meter.charge("harbour", 1, 0)
    with pytest.raises(errors.SponsorOverLimit, match="work in one block"):
        meter.charge("harbour", 0, 1)
    meter.charge("ferry", 1, 1)
    meter.write()
    day = 20_717  # 2026-09-21, days since 1970-01-01
    assert USAGE.get(state, b"harbour") == Usage(7, 200_000, 1_000_000, day, 200_000, 1_000_000)
    assert USAGE.get(state, b"ferry") == Usage(7, 1, 1, day, 1, 1)
    meter = Meter(state, at(8), PARAMETERS)
    meter.charge("harbour", 100_000, 400_000)
    with pytest.raises(errors.SponsorOverLimit, match="bytes on one UTC day"):
        meter.charge("harbour", 1, 0)
    with pytest.raises(errors.SponsorOverLimit, match="work on one UTC day"):
        meter.charge("harbour", 0, 100_001)
    meter.write()
    assert USAGE.get(state, b"harbour") == Usage(8, 100_000, 400_000, day, 300_000, 1_400_000)


def test_a_new_day_begins_at_midnight_utc() -> None:
    state = memory_state()
    midnight_ms = 1_790_035_200_000  # 2026-09-22 00:00 UTC
    meter = Meter(state, at(7, midnight_ms - 1), PARAMETERS)
    meter.charge("harbour", 200_000, 0)
    meter.write()
    with pytest.raises(errors.SponsorOverLimit):
        Meter(state, at(8, midnight_ms - 1), PARAMETERS).charge("harbour", 150_000, 0)
    meter = Meter(state, at(8, midnight_ms), PARAMETERS)
    meter.charge("harbour", 150_000, 0)
    meter.write()
    assert USAGE.get(state, b"harbour") == Usage(8, 150_000, 0, 20_718, 150_000, 0)


def test_work_found_by_running_keeps_the_next_one_out() -> None:
    state = memory_state()
    meter = Meter(state, at(7), PARAMETERS)
    meter.charge("harbour", 100, 900_000)
    meter.add_work("harbour", 200_000)
    with pytest.raises(errors.SponsorOverLimit):
        meter.charge("harbour", 1, 1)
    meter.write()
    assert USAGE.get(state, b"harbour") == Usage(7, 100, 1_100_000, 20_717, 100, 1_100_000)
