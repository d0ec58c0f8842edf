"""Structured logs: one JSON object a line on standard error."""

import logging
import os
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal

import structlog

from feiqian.process.native import STDERR

LogLevel = Literal["debug", "info", "warning", "error"]

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure_logs(level: LogLevel, process: str) -> None:
    """Send every log line of this process to standard error, with time, level and the process's name.

    What libraries log, or warn of, from the level `warning` on becomes the event `library_said`.
    """

    def add_process(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        return {"process": process, **event}

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_process,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        # A descriptor of its own: `mute_native_output` sends that of standard error elsewhere for a while.
        logger_factory=structlog.PrintLoggerFactory(file=os.fdopen(os.dup(STDERR), "w", encoding="utf-8")),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(LEVELS[level], logging.WARNING), handlers=[_Forwarder()], force=True)
    logging.captureWarnings(True)


class _Forwarder(logging.Handler):
    """Gives what libraries log by Python's own means to the structured log."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        more = {} if error is None else {"exc_info": error}
        structlog.get_logger().log(
            record.levelno, "library_said", library=record.name, said=record.getMessage(), **more
        )
