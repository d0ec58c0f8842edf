"""Deletes CometBFT's old logs of votes: it needs what came since the last block, and would keep a gigabyte.

It begins a new file every 10 MiB, and has no setting for how many stay (libs/autofile/group.go).
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

LOOK_S = 10.0
NAME = "wal"


async def keep_short(folder: Path, height: Callable[[], int]) -> None:
    """Delete what is no longer needed of the log in a folder, every few seconds, for ever."""
    log = VoteLog(folder)
    while True:
        await asyncio.sleep(LOOK_S)
        log.look(height())


class VoteLog:
    """Which files were whole already when the ledger was lower than it is now."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._height = 0
        self._whole: list[Path] = []

    def look(self, height: int) -> None:
        """Delete files that were whole two heights ago: nothing in them is of a height that is still to be decided.

        Raises:
            OSError: the disk refuses.
        """
        if height < self._height + 2:
            return
        for path in self._whole:
            path.unlink(missing_ok=True)
        self._height, self._whole = height, _whole_files(self._folder)


def _whole_files(folder: Path) -> list[Path]:
    """Return the files that CometBFT writes no more; the one without a number is being written."""
    return sorted(path for path in folder.glob(f"{NAME}.*") if path.suffix[1:].isdecimal())
