"""How a process that makes and drops much at once uses memory: the collector's pace, and what malloc gives back."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_RARE = (100_000, 50, 1_000)

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
_KEPT_BYTES = 256 << 20
_LARGEST_KEPT_BYTES = 32 << 20


def tune_memory() -> None:
    """Let the garbage collector rest and freed memory stay, once a process has made what it keeps.

    Nearly all that is allocated is freed by reference counts (Records are not even tracked), so that the collector
    would only walk what the pool or a block holds, again and again. Memory that a block needed is needed by the next
    one: given back, every page of it would be cleared and mapped anew.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_RARE)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # other C libraries decide by themselves
        libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Let the garbage collector rest, for the same reason, for the length of a block of code."""
    before = gc.get_threshold()
    gc.set_threshold(*_RARE)
    try:
        yield
    finally:
        gc.set_threshold(*before)
