"""README's console sessions, typed as they stand: each command runs and prints what README says."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SESSION = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "-- end of command, status "


def sessions(text: str) -> list[list[tuple[str, list[str]]]]:
    """Return each console block as (command, lines that it prints)."""
    blocks = []
    for block in SESSION.findall(text):
        steps: list[tuple[str, list[str]]] = []
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append((line[2:], []))
            else:
                steps[-1][1].append(line)
        blocks.append(steps)
    return blocks


class Shell:
    """One bash in which a session is typed."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            ["bash"],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def type(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\necho '{MARK}'$?\n")
        self.process.stdin.flush()

    def lines(self) -> Iterator[str]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield line.rstrip()

    def run(self, command: str) -> tuple[list[str], int]:
        """Type a command and return what it printed and its exit status."""
        self.type(command)
        printed = []
        for line in self.lines():
            if line.startswith(MARK):
                return printed, int(line.removeprefix(MARK))
            printed.append(line)
        raise AssertionError(f"the shell ended: {printed}")

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(60)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


def matches(expected: str, printed: str) -> bool:
    """Say whether a printed line is the documented one, `…` standing for anything."""
    pattern = ".*".join(re.escape(part.rstrip()) for part in expected.split("…"))
    return re.fullmatch(pattern, printed.rstrip()) is not None


def check(command: str, expected: list[str], printed: list[str]) -> None:
    assert len(expected) == len(printed), f"{command} printed {printed}"
    for want, got in zip(expected, printed, strict=True):
        assert matches(want, got), f"{command}: README says {want!r}, it printed {got!r}"


@pytest.fixture
def environment() -> dict[str, str]:
    # A free port instead of the default one, so that a ledger of the reader's own is not in the way.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "FEIQIAN_GATEWAY_PORT": "0", "LANG": "C.UTF-8"}


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_the_sessions_run_as_they_stand(tmp_path: Path, environment: dict[str, str], name: str) -> None:
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    first, second = sessions((ROOT / name).read_text(encoding="utf-8"))
    serving = Shell(tmp_path, environment)
    using = None
    try:
        for command, expected in first[:-1]:
            printed, status = serving.run(command)
            assert status == 0, printed
            check(command, expected, printed)
        start, said = first[-1]
        # What it says while it starts is its log; the address comes on standard output.
        serving.type(f"{start} 2>/dev/null")
        address = next(serving.lines())
        assert matches(said[0].replace("8270", "…"), address)
        using = Shell(tmp_path, environment | {"FEIQIAN_URL": address.split()[-1]})
        for command, expected in second:
            printed, status = using.run(command)
            assert status == 0, printed
            check(command, expected, printed)
    finally:
        serving.close()
        if using is not None:
            using.close()
