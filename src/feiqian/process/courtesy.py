"""Gives way: work that nobody waits for rests as often as it notices that others want the processor."""

import os
import time
from pathlib import Path

STEP_S = 0.001
"""How long it works between two looks at how long it had to wait."""

SHORTEST_REST_S, LONGEST_REST_S = 0.00005, 0.1

_SCHEDULER_FIGURES = Path("/proc/self/schedstat")


class Courtesy:
    """Called again and again between pieces of work by a process's main thread; it rests when a step is over.

    The idle policy alone is not enough: a processor that such a process keeps busy counts as busy, so that nothing
    that waits behind another is moved to it. Each rest lets the scheduler do that, and is as long as this process had
    to wait for a processor since the last one.
    """

    def __init__(self) -> None:
        """Take the idle policy. Where the kernel does not say how long a process waited, every rest is short."""
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        self._figures = os.open(_SCHEDULER_FIGURES, os.O_RDONLY) if _SCHEDULER_FIGURES.exists() else None
        self._waited_s = self._read_waited_s()
        self._step_ends_s = time.perf_counter() + STEP_S

    def __call__(self) -> None:
        """Rest if it is time to."""
        if time.perf_counter() < self._step_ends_s:
            return
        waited_s = self._read_waited_s()
        rest_s = waited_s - self._waited_s
        self._waited_s = waited_s
        time.sleep(max(SHORTEST_REST_S, min(rest_s, LONGEST_REST_S)))
        self._step_ends_s = time.perf_counter() + STEP_S

    def _read_waited_s(self) -> float:
        """Return how long the process has waited for a processor so far: the second of the three figures, in ns."""
        if self._figures is None:
            return 0.0
        return int(os.pread(self._figures, 128, 0).split()[1]) / 1e9
