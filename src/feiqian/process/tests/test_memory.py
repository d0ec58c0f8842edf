"""The garbage collector rests as long as it is asked to, and no longer; freed memory stays with a tuned process."""

import gc
import subprocess
import sys

import pytest

from feiqian.process.memory import rare_collections

FAULTS_OF_ALLOCATING_AGAIN = """
import resource
{before}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
bytearray(16 << 20)
begun = faults()
for _ in range(10):
    bytearray(16 << 20)
print(faults() - begun)
"""


@rare_collections()
def fail() -> None:
    assert gc.get_threshold()[0] == 100_000
    raise KeyError("fails")


def test_collections_are_as_frequent_as_before_after_a_failure_too() -> None:
    before = gc.get_threshold()
    with pytest.raises(KeyError):
        fail()
    assert gc.get_threshold() == before


def test_a_tuned_process_uses_freed_memory_again() -> None:
    tuned = page_faults("from feiqian.process.memory import tune_memory; tune_memory()")
    assert tuned < 1_000 < page_faults("")


def page_faults(before: str) -> int:
    """Return how many pages were mapped to make 16 MiB ten times, after `before` and a first time."""
    script = FAULTS_OF_ALLOCATING_AGAIN.format(before=before)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return int(done.stdout)
