"""What is preloaded into real nodes: libraries that hold or break their disk, and turn their clock."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give a function that builds the library of a C file in this folder."""

    def build_library(name: str) -> Path:
        source = Path(__file__).with_name(name)
        built = tmp_path_factory.mktemp("preload") / source.with_suffix(".so").name
        subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-O1", "-o", built, source, "-ldl"], check=True)
        return built

    return build_library


@pytest.fixture(scope="session")
def library(build: Callable[[str], Path]) -> Path:
    """The library that holds or breaks a ledger's disk, built."""
    return build("slow_fdatasync.c")


@pytest.fixture
def gate(tmp_path: Path) -> "Gate":
    return Gate(tmp_path / "gate")


class Gate:
    """The test's end of the held disk."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        for name in ("entered", "opened"):
            os.mkfifo(directory / name)

    def close(self) -> None:
        """From now on every sync waits."""
        (self.directory / "closed").touch()

    def await_sync(self) -> None:
        """Return when a sync has begun and waits."""
        assert (self.directory / "entered").read_bytes() == b"."

    def let_one_through(self) -> None:
        """Let the sync that waits go on; the next one waits again."""
        (self.directory / "opened").write_bytes(b".")

    def let_through(self) -> None:
        """Let the sync that waits go on, and all later ones."""
        (self.directory / "closed").unlink()
        (self.directory / "opened").write_bytes(b".")
