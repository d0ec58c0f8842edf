"""Live events: waits for the index to grow and pages through what is new, once for all who ask the same."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from feiqian.index.reading import BlockRow, EventRow, IndexAway, IndexReader, Scope
from feiqian.index.tables import split_position

POLL_S = 0.025
IDLE_POLL_S = 0.25
PAGE_EVENTS = 500
PAGE_BLOCKS = 100
KEPT_PAGES = 128


class FeedPage(NamedTuple):
    """What follows a position, in order; `until` is the position that the next page starts after."""

    events: list[EventRow]
    blocks: list[BlockRow]
    until: int


class EventFeed:
    """Lives on the event loop; asks the index on threads."""

    def __init__(self, index: IndexReader) -> None:
        self._index = index
        self._pages: OrderedDict[tuple[Scope | None, bool, int, int], asyncio.Task[FeedPage]] = OrderedDict()
        self._changed = asyncio.Event()
        self._waiting = 0
        self.height: int | None = None
        """How far the index had come when last looked at."""
        self.first_height: int | None = None
        """The first height whose block it holds: it is the chain's own unless the index began with a snapshot."""

    async def run(self) -> None:
        """Watch the index's height, often while someone waits for it, until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(POLL_S if self._waiting else IDLE_POLL_S)

    async def refresh(self) -> int | None:
        """Look at the index now."""
        # Both each time: an index that was built anew may have come as far as the one before it between two looks.
        height, self.first_height = await asyncio.to_thread(self._index.bounds)
        if height != self.height:
            self.height = height
            self.wake()
        return height

    def wake(self) -> None:
        """Let everyone who waits look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for(self, height: int, timeout_s: float) -> int | None:
        """Return the index's height when it has reached this one, or what it is after so long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        if self.height is None or self.height < height:
            await self.refresh()
        self._waiting += 1
        try:
            while self.height is None or self.height < height:
                left_s = deadline - loop.time()
                if left_s <= 0:
                    break
                # A poll of one's own: the watcher may be in its long sleep.
                await asyncio.sleep(min(POLL_S, left_s))
                await self.refresh()
        finally:
            self._waiting -= 1
        return self.height

    async def wait_beyond(self, height: int, timeout_s: float, is_enough: Callable[[], bool]) -> int:
        """Return a height above this one when the index has one; this one when it `is_enough`, or after so long."""
        self._waiting += 1
        try:
            while self.height is None or self.height <= height:
                if is_enough():
                    return height
                await asyncio.wait_for(self._changed.wait(), timeout_s)
        except TimeoutError:
            return height
        finally:
            self._waiting -= 1
        return self.height

    async def page(self, scope: Scope | None, with_events: bool, after: int, height: int) -> FeedPage:
        """Return what follows a position up to a height: the events in this scope (None: all; or none), and blocks."""
        key = (scope, with_events, after, height)
        task = self._pages.get(key)
        if task is None:
            task = asyncio.ensure_future(asyncio.to_thread(self._read, *key))
            self._pages[key] = task
            while len(self._pages) > KEPT_PAGES:
                self._pages.popitem(last=False)
        try:
            # Shared: one reader's leaving must not end the question for the others.
            return await asyncio.shield(task)
        except IndexAway:
            self._pages.pop(key, None)
            raise

    def _read(self, scope: Scope | None, with_events: bool, after: int, height: int) -> FeedPage:
        first, _ = split_position(after + 1)
        last = min(height, first + PAGE_BLOCKS - 1)
        until = self._index.last_event_position(last)
        events = self._index.events(scope, after, PAGE_EVENTS, until) if with_events else []
        if len(events) == PAGE_EVENTS:
            until = events[-1].position
            last = split_position(until)[0] - 1
        blocks = self._index.blocks_between(first, last) if last >= first else []
        return FeedPage(events, blocks, until)
