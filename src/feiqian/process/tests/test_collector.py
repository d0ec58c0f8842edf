"""The garbage collector rests as long as it is asked to, and no longer."""

import gc

import pytest

from feiqian.process.collector import rare_collections


@rare_collections()
def fail() -> None:
    assert gc.get_threshold()[0] == 100_000
    raise KeyError("fails")


def test_collections_are_as_frequent_as_before_after_a_failure_too() -> None:
    before = gc.get_threshold()
    with pytest.raises(KeyError):
        fail()
    assert gc.get_threshold() == before
