"""The log: every line is one JSON object, whoever caused it, and nothing of it is lost while others are muted."""

import subprocess
import sys

import msgspec

PROGRAM = """
import logging, os, threading, warnings
import structlog
from feiqian.process.logs import configure_logs
from feiqian.process.native import mute_native_output

configure_logs("{level}", "sample")
structlog.get_logger().debug("unheard_of")
structlog.get_logger().info("begun", text="a\\nb")
logging.getLogger("some.library").info("too quiet to be told")
logging.getLogger("some.library").warning("odd: %s", "3\\n{{}}")
warnings.warn("old ways")
with mute_native_output():
    os.write(2, b"a native library's line\\n")
    structlog.get_logger().warning("kept")
    try:
        raise ValueError("what went wrong")
    except ValueError:
        logging.getLogger("asyncio").exception("a task failed")
os.write(2, b'{{"event": "heard_again"}}\\n')
"""


def log_of(level: str) -> list[dict[str, str]]:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(level=level)], capture_output=True, check=True)
    return [msgspec.json.decode(line, type=dict[str, str]) for line in done.stderr.splitlines()]


def test_every_line_is_one_json_object() -> None:
    lines = log_of("info")
    names = ["begun", "library_said", "library_said", "kept", "library_said", "heard_again"]
    assert [line["event"] for line in lines] == names
    begun, odd, warned, _, failed, _ = lines
    assert (begun["process"], begun["level"], begun["text"]) == ("sample", "info", "a\nb")
    assert (odd["level"], odd["library"], odd["said"]) == ("warning", "some.library", "odd: 3\n{}")
    assert "old ways" in warned["said"]
    assert (failed["level"], failed["said"]) == ("error", "a task failed")
    assert "ValueError: what went wrong" in failed["exception"]


def test_the_level_is_the_least_that_is_told() -> None:
    assert [line["event"] for line in log_of("debug")][:2] == ["unheard_of", "begun"]
    assert [line["event"] for line in log_of("error")] == ["library_said", "heard_again"]
