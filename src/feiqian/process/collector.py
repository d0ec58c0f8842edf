"""How often Python's garbage collector walks what a process holds."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_RARE = (100_000, 50, 1_000)


def tune_collector() -> None:
    """Let the garbage collector rest, once a process has made what it keeps.

    Nearly all that is allocated is freed by reference counts (Records are not even tracked), so that it would only
    walk what the pool or a block holds, again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_RARE)


@contextmanager
def rare_collections() -> Iterator[None]:
    """Let it rest, for the same reason, for the length of a block of code."""
    before = gc.get_threshold()
    gc.set_threshold(*_RARE)
    try:
        yield
    finally:
        gc.set_threshold(*before)
