"""CometBFT's own code as the judge of ours: the Go program of `tests/vectors/go`, built from its pinned module."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[3]
_PROGRAM = ROOT / "tests" / "vectors" / "go"
_BUILD_S = 900
_RUN_S = 300

Judge = Callable[..., bytes]
"""Runs the program with arguments and `given` as its input; fails with its words where CometBFT refuses."""


def build_judge() -> Judge:
    """Return the program; a machine without Go fails here."""
    assert shutil.which("go"), "this test needs Go 1.25 or newer; install it from https://go.dev/dl/"
    binary = ROOT / ".build" / "cometbft-vectors"
    binary.parent.mkdir(exist_ok=True)
    built = subprocess.run(
        ["go", "build", "-o", binary, "."], cwd=_PROGRAM, capture_output=True, check=False, timeout=_BUILD_S
    )
    assert built.returncode == 0, built.stderr.decode()

    def run(*arguments: str, given: bytes = b"") -> bytes:
        done = subprocess.run([binary, *arguments], input=given, capture_output=True, check=False, timeout=_RUN_S)
        if done.returncode:
            raise AssertionError(done.stderr.decode()[:2000])
        return done.stdout

    return run
