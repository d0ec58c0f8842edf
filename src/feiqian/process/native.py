"""Keeps what native libraries print of their own accord off standard error."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2

_LOCK = threading.Lock()


@contextmanager
def mute_native_output() -> Iterator[None]:
    """Send what is written to descriptor 2 nowhere, for the length of a block of code.

    GmSSL prints where it stands for each SM2 signature that does not hold, and has no setting against it: whoever
    verifies strangers' signatures does so in here. The log is not concerned, since it has a descriptor of its own.
    """
    with _LOCK:
        kept, nowhere = os.dup(STDERR), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, STDERR)
        os.close(nowhere)
        try:
            yield
        finally:
            os.dup2(kept, STDERR)
            os.close(kept)
