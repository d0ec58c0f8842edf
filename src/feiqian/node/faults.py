"""The one way out when something of ours is broken: say what, and end the process before it keeps anything more."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import structlog

DONE, REFUSED, WRONG_USAGE, FAULT = 0, 1, 2, 3
"""Exit statuses of every Feiqian command and process."""


def stop_loudly(where: str, error: BaseException) -> NoReturn:
    """Log the error and end the process at once with status 3.

    No handler, destructor or other thread runs any further: what is not on disk by now was never acknowledged.
    """
    try:
        structlog.get_logger().critical("fault", where=where, error=str(error), exc_info=error)
        sys.stderr.flush()
    finally:
        os._exit(FAULT)


def start_thread(name: str, run: Callable[[], None]) -> threading.Thread:
    """Run a function on a thread of its own; whatever it raises stops the process."""

    def guarded() -> None:
        try:
            run()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the process
            stop_loudly(name, error)

    thread = threading.Thread(target=guarded, name=name)
    thread.start()
    return thread


def guard_task(task: asyncio.Task[Any]) -> asyncio.Task[Any]:
    """Make whatever the task raises, but its cancellation, stop the process."""

    def ended(task: asyncio.Task[Any]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            stop_loudly(task.get_name(), error)

    task.add_done_callback(ended)
    return task
