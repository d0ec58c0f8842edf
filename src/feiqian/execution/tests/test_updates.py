"""What a block tells consensus to carry out: validators, the size of blocks, the version of the rules."""

import msgspec

from feiqian.core.encoding import encode
from feiqian.execution.updates import Updates, updates_of
from feiqian.ledger.parameters import PARAMETERS, PARAMETERS_KEY
from feiqian.ledger.records import Parameters, ValidatorRecord
from feiqian.ledger.validators import VALIDATORS
from feiqian.state.tables import BlockState, Overlay
from feiqian.testing import key_of, memory_state

NOTHING = Updates((), None, None)
PLACE = PARAMETERS.prefix + PARAMETERS_KEY


def parameters(**changes: int) -> bytes:
    return encode(msgspec.structs.replace(Parameters(), **changes))


def test_a_block_that_changes_neither_tells_nothing() -> None:
    before = memory_state({PLACE: parameters()})
    assert updates_of(before, {}) == NOTHING
    assert updates_of(before, {b"ledger.members/x": b"other", PLACE: parameters(max_block_work=5_000_000)}) == NOTHING


def test_the_size_of_blocks_and_the_version_of_the_rules() -> None:
    before = memory_state({PLACE: parameters()})
    assert updates_of(before, {PLACE: parameters(max_block_bytes=2**20)}) == Updates((), 1_048_576, None)
    assert updates_of(before, {PLACE: parameters(app_version=2)}) == Updates((), None, 2)
    both = parameters(app_version=2, max_block_bytes=2**20)
    assert updates_of(before, {PLACE: both}) == Updates((), 1_048_576, 2)
    # A ledger without a record of them runs by the defaults: 4 MiB, version 1.
    assert updates_of(memory_state(), {PLACE: parameters()}) == NOTHING


def test_validators_whose_power_changed_in_key_order() -> None:
    keys = sorted(key_of(name).data for name in ("arno", "brenta", "cecina", "dora"))
    stored = {VALIDATORS.prefix + key: encode(ValidatorRecord("arno", key.hex(), 10)) for key in keys[:3]}
    before = memory_state(stored)
    block = BlockState(before.reader)
    overlay = Overlay(block)
    VALIDATORS.put(overlay, keys[3], ValidatorRecord("arno", "new", 4))
    VALIDATORS.put(overlay, keys[1], ValidatorRecord("arno", "renamed", 10))
    VALIDATORS.delete(overlay, keys[2])
    VALIDATORS.put(overlay, keys[0], ValidatorRecord("arno", keys[0].hex(), 11))
    VALIDATORS.delete(overlay, bytes(32))
    overlay.keep()
    assert updates_of(before, block.changes()) == Updates(((keys[0], 11), (keys[2], 0), (keys[3], 4)), None, None)
