"""What every file that must survive a power cut needs, or that holds what members alone may read."""

import os
from pathlib import Path
from typing import IO

OWNER_AND_GROUP = 0o640
"""Files with blocks or records in them: whoever reads one reads every transaction."""


def sync_directory(path: Path) -> None:
    """Put the names in a directory on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reason_of(error: OSError) -> str:
    """Say what the system said, without the path that it may say it of."""
    return os.strerror(error.errno or 0)


def open_private(path: Path) -> IO[bytes]:
    """Open a file to read and write, at its start; one that is not there is made, for its owner and group only."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, OWNER_AND_GROUP)
    return os.fdopen(descriptor, "r+b")
