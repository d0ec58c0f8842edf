"""The demo's ledgers as its children: `feiqian start` on each directory, none left over."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

ADDRESS = re.compile(rb"https?://\S+")
LOOK_S = 0.2


class Running:
    """One ledger, or the validators of a network."""

    def __init__(self, ledgers: Mapping[str, Path], environment: Mapping[str, str]) -> None:
        """`ledgers` are directories by the member that runs each; the log of one is `DIR.log`."""
        self._ledgers = ledgers
        self._environment = {**os.environ, **environment}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> dict[str, str]:
        """Start all, and return the gateways' addresses once every one serves. SIGTERM is Ctrl-C from now on."""
        signal.signal(signal.SIGTERM, _interrupt)
        for member, directory in self._ledgers.items():
            with _log(directory).open("wb") as log:
                self._processes[member] = subprocess.Popen(
                    [sys.executable, "-m", "feiqian.cli.main", "start", str(directory)],
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                )
        return {member: self._address(member) for member in self._processes}

    def wait(self) -> None:
        """Return at Ctrl-C, SIGTERM, or when one of them ends by itself."""
        try:
            while all(process.poll() is None for process in self._processes.values()):
                time.sleep(LOOK_S)
        except KeyboardInterrupt:
            return

    def stop(self) -> None:
        """Stop all cleanly."""
        for process in self._processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self._processes.values():
            process.wait()

    def _address(self, member: str) -> str:
        stdout = self._processes[member].stdout
        assert stdout is not None
        found = ADDRESS.search(stdout.readline())
        if found is None:
            text = _log(self._ledgers[member]).read_text("utf-8", "replace")
            sys.exit(f"{member or 'the ledger'} did not start:\n{text[-2000:]}")
        return found.group().decode()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _log(directory: Path) -> Path:
    return directory.with_name(directory.name + ".log")
