"""`feiqian start` as a real process, for tests: what runs below it, and that nothing of it is left."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

from feiqian.testing.processes import ANSWER_S


class Supervised:
    """A supervisor that has said where its ledger serves, and everything that runs below it."""

    def __init__(self, directory: Path) -> None:
        self.log = directory.with_name("start.log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "feiqian.node.supervisor", str(directory)], stdout=subprocess.PIPE, stderr=log
            )
        self.address = ""
        self.children: dict[str, int] = {}
        self.family: dict[int, int] = {}

    def await_ready(self) -> None:
        """Return when both children serve."""
        assert self.process.stdout is not None
        line = b""
        while b"http://" not in line:
            line = self.process.stdout.readline()
            assert line, "it ended before it was ready"
        self.address = line.decode().split()[-1]
        self.children = {name: pid for pid, name in children_of(self.process.pid).items()}
        self.family = {pid: os.pidfd_open(pid) for pid in _below(self.process.pid)}

    def await_end(self) -> int:
        """Return the supervisor's status once every process below it is gone."""
        status = self.process.wait(ANSWER_S)
        for pid, descriptor in self.family.items():
            ended, _, _ = select.select([descriptor], [], [], ANSWER_S)
            assert ended, f"process {pid} lives on"
        return status

    def clear_away(self) -> None:
        """Kill what still runs."""
        for descriptor in self.family.values():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)
        self.process.kill()
        self.process.wait()


def children_of(pid: int) -> dict[int, str]:
    """Return the processes right below one: the module that Python runs, or the program's name."""
    names: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            is_module = command[1:2] == [b"-m"]
            names[int(child)] = command[2].decode() if is_module else Path(command[0].decode()).name
    return names


def _below(pid: int) -> list[int]:
    below = list(children_of(pid))
    return below + [each for child in below for each in _below(child)]
