"""Waits until the node's store has reached a height: it follows what is committed by some hundred milliseconds."""

import asyncio
from collections.abc import Callable

POLL_S = 0.005


class StoreWatch:
    """Lives on the event loop. Looks at the store while anyone waits, once for all who do."""

    def __init__(self, read_height: Callable[[], int]) -> None:
        self._read_height = read_height
        self._waiting = 0
        self._watcher: asyncio.Task[None] | None = None
        self._rose = asyncio.Event()
        self.height = read_height()
        """The store's height when last looked at."""

    async def reach(self, height: int, timeout_s: float) -> bool:
        """Return when the store has this height, or after so long; say whether it has."""
        if self.height >= height or self._look() >= height:
            return True
        self._waiting += 1
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch(), name="store watch")
        try:
            async with asyncio.timeout(timeout_s):
                while self.height < height:
                    await self._rose.wait()
        except TimeoutError:
            return False
        finally:
            self._waiting -= 1
        return True

    async def _watch(self) -> None:
        while self._waiting:
            self._look()
            await asyncio.sleep(POLL_S)

    def _look(self) -> int:
        height = self._read_height()
        if height > self.height:
            self.height = height
            self._rose.set()
            self._rose = asyncio.Event()
        return self.height
