"""Typed tables and overlays: what is written is read, kept or dropped whole, and scanned in key order."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from feiqian.core.encoding import Record, Uint32
from feiqian.core.errors import TooLarge
from feiqian.state.layered import Layered
from feiqian.state.tables import BlockState, Overlay, Table


class Count(Record):
    number: Uint32


class Blob(Record):
    data: bytes


COUNTS = Table("test.counts", Count)
BLOBS = Table("test.blobs", Blob)
# Sorts between the keys of the other two, and shares their beginning.
NEIGHBOURS = Table("test.count", Count)


class Committed:
    """Committed state as a plain dict."""

    def __init__(self, records: dict[bytes, bytes]) -> None:
        self.records = records
        self.asked: list[bytes] = []

    def get(self, key: bytes, /) -> bytes | None:
        self.asked.append(key)
        return self.records.get(key)

    def scan(self, prefix: bytes, after: bytes = b""):
        for key in sorted(self.records):
            if key.startswith(prefix) and key > after:
                yield key, self.records[key]

    def has_replay_id(self, expires_at_ms: int, tx_id: bytes) -> bool:
        return (expires_at_ms, tx_id) == (5, b"old")


def count(number: int) -> bytes:
    # MessagePack: fixarray of one, positive fixint.
    return bytes([0x91, number])


def test_a_record_is_read_through_once_and_encoded_as_it_is_written():
    committed = Committed({b"test.counts/a": count(1)})
    state = BlockState(committed)
    assert COUNTS.get(state, b"a") == Count(1)
    assert COUNTS.get(state, b"a") == Count(1)
    assert COUNTS.get(state, b"none") is None
    assert COUNTS.get(state, b"none") is None
    assert committed.asked == [b"test.counts/a", b"test.counts/none"]
    COUNTS.put(state, b"b", Count(2))
    COUNTS.delete(state, b"a")
    assert state.changes() == {b"test.counts/b": count(2), b"test.counts/a": None}
    assert COUNTS.get(state, b"a") is None


def test_an_overlay_is_kept_whole_or_dropped_whole():
    state = BlockState(Committed({b"test.counts/a": count(1)}))
    dropped = Overlay(state)
    COUNTS.put(dropped, b"a", Count(9))
    inner = Overlay(dropped)
    COUNTS.delete(inner, b"a")
    inner.keep()
    assert COUNTS.get(dropped, b"a") is None
    assert COUNTS.get(state, b"a") == Count(1)
    kept = Overlay(state)
    COUNTS.put(kept, b"b", Count(2))
    kept.keep()
    assert state.changes() == {b"test.counts/b": count(2)}
    assert kept.written == {}
    with pytest.raises(AssertionError):
        state.keep()


def test_the_start_of_a_block_shows_nothing_that_the_block_wrote_and_takes_no_writes():
    state = BlockState(Committed({b"test.counts/a": count(1)}))
    start = state.start()
    COUNTS.put(state, b"a", Count(2))
    COUNTS.put(state, b"b", Count(3))
    assert COUNTS.get(start, b"a") == Count(1)
    assert COUNTS.get(start, b"b") is None
    assert list(COUNTS.scan(start)) == [(b"a", Count(1))]
    with pytest.raises(TypeError):
        COUNTS.put(start, b"a", Count(4))
    with pytest.raises(TypeError):
        COUNTS.delete(start, b"a")
    with pytest.raises(AssertionError):
        start.keep()


def test_what_was_read_ahead_is_not_read_again_and_hides_no_write():
    committed = Committed({b"test.counts/a": count(1), b"test.counts/b": count(2)})
    state = BlockState(committed)
    COUNTS.put(state, b"a", Count(9))
    state.read_ahead(COUNTS, [b"a", b"b", b"none"])
    assert committed.asked == [b"test.counts/a", b"test.counts/b", b"test.counts/none"]
    assert [COUNTS.get(state, key) for key in (b"a", b"b", b"none")] == [Count(9), Count(2), None]
    assert [COUNTS.get(state.start(), key) for key in (b"a", b"b", b"none")] == [Count(1), Count(2), None]
    assert len(committed.asked) == 3
    assert state.changes() == {b"test.counts/a": count(9)}


def test_whether_a_record_is_there_is_said_without_decoding_it():
    state = BlockState(Committed({b"test.counts/a": b"no record", b"test.counts/b": b"none either"}))
    start, overlay = state.start(), Overlay(state)
    COUNTS.put(state, b"c", Count(1))
    COUNTS.delete(state, b"b")
    COUNTS.delete(overlay, b"c")
    seen = {name: [COUNTS.has(view, name.encode()) for view in (start, state, overlay)] for name in "abcd"}
    assert seen == {
        "a": [True, True, True],
        "b": [True, False, False],
        "c": [False, True, False],
        "d": [False, False, False],
    }


def test_tables_whose_names_begin_alike_do_not_mix():
    state = BlockState(Committed({b"test.count/s/x": count(1), b"test.counts/x": count(2)}))
    NEIGHBOURS.put(state, b"s/y", Count(3))
    assert list(COUNTS.scan(state)) == [(b"x", Count(2))]
    assert list(NEIGHBOURS.scan(state)) == [(b"s/x", Count(1)), (b"s/y", Count(3))]


def test_keys_and_records_over_their_limits_are_refused_and_change_nothing():
    state = BlockState(Committed({}))
    longest = bytes(200 - len(b"test.blobs/"))
    BLOBS.put(state, longest, Blob(b""))
    # MessagePack: 1 byte array, 3 bytes bin 16 header; 16 KiB in all.
    BLOBS.put(state, b"largest", Blob(bytes(16 * 1024 - 4)))
    with pytest.raises(TooLarge, match="at most 200"):
        BLOBS.put(state, longest + b"x", Blob(b""))
    with pytest.raises(TooLarge, match="at most 16384"):
        BLOBS.put(state, b"larger", Blob(bytes(16 * 1024 - 3)))
    assert sorted(state.changes()) == sorted([b"test.blobs/" + longest, b"test.blobs/largest"])


@pytest.mark.parametrize("name", ["", "a/b", "表"])
def test_a_table_name_that_would_blur_keys_is_refused(name: str):
    with pytest.raises(ValueError, match="table name"):
        Table(name, Count)


def test_a_scan_sees_what_was_there_when_it_began():
    state = BlockState(Committed({b"test.counts/%d" % number: count(number) for number in range(5)}))
    overlay = Overlay(state)
    COUNTS.put(overlay, b"7", Count(7))
    seen = []
    for key, _ in COUNTS.scan(overlay):
        COUNTS.delete(overlay, key)
        COUNTS.put(overlay, key + b"+", Count(1))
        seen.append(key)
    assert seen == [b"0", b"1", b"2", b"3", b"4", b"7"]
    assert [key for key, _ in COUNTS.scan(overlay, b"", b"3+")] == [b"4+", b"7+"]


KEYS = st.binary(min_size=0, max_size=2) | st.sampled_from([b"\xff", b"\xff\xff", b"a/b"])


class OverlaysAgainstDicts(RuleBasedStateMachine):
    """A stack of overlays over committed records and a staged layer, compared with a stack of dicts."""

    @initialize(
        committed=st.dictionaries(KEYS, st.integers(0, 127)),
        layer=st.dictionaries(KEYS, st.none() | st.integers(0, 127)),
    )
    def make(self, committed: dict[bytes, int], layer: dict[bytes, int | None]) -> None:
        records = {COUNTS.prefix + key: count(number) for key, number in committed.items()}
        records |= {b"test.count/z": count(1), b"test.countz/a": count(1)}
        changes = {COUNTS.prefix + k: None if number is None else count(number) for k, number in layer.items()}
        self.block = BlockState(Layered(Committed(records), changes))
        self.overlays: list[Overlay] = [self.block]
        self.models: list[dict[bytes, int | None]] = [{**committed, **layer}]

    @rule(key=KEYS, number=st.integers(0, 127))
    def put(self, key: bytes, number: int) -> None:
        COUNTS.put(self.overlays[-1], key, Count(number))
        self.models[-1][key] = number

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        COUNTS.delete(self.overlays[-1], key)
        self.models[-1][key] = None

    @rule()
    def begin(self) -> None:
        self.overlays.append(Overlay(self.overlays[-1]))
        self.models.append(dict(self.models[-1]))

    @precondition(lambda self: len(self.overlays) > 1)
    @rule(is_kept=st.booleans())
    def end(self, is_kept: bool) -> None:
        overlay, model = self.overlays.pop(), self.models.pop()
        if is_kept:
            overlay.keep()
            self.models[-1] = model

    @rule(prefix=KEYS, after=KEYS)
    def scan(self, prefix: bytes, after: bytes) -> None:
        expected = [
            (key, Count(number))
            for key, number in sorted(self.models[-1].items())
            if number is not None and key.startswith(prefix) and (key > after or not after)
        ]
        assert list(COUNTS.scan(self.overlays[-1], prefix, after)) == expected

    @invariant()
    def reads_agree(self) -> None:
        for key, number in self.models[-1].items():
            assert COUNTS.get(self.overlays[-1], key) == (None if number is None else Count(number))


OverlaysAgainstDicts.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestOverlaysAgainstDicts = OverlaysAgainstDicts.TestCase
