"""`feiqian start DIR`: runs node and gateway as two children, neither of which outlives the other or their parent.

When either ends unasked, the other is stopped and its status passed on: nothing is started again, since what stopped a
ledger wants a person's eyes.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from feiqian.node.faults import DONE, FAULT
from feiqian.node.workers import die_with_parent
from feiqian.process.readiness import VARIABLE

NODE = ("-m", "feiqian.node")
GATEWAY = ("-m", "feiqian.api")
STOP_S = 30
"""How long a child may take to stop; then it is killed."""


class _Child(NamedTuple):
    name: str
    process: subprocess.Popen[bytes]
    ready: int


class Supervisor:
    """Starts, watches and stops the children. Runs on the main thread, the only one: it forks, and takes signals."""

    def __init__(self, directory: Path, ready: Callable[[str], None] = lambda _: None) -> None:
        """`ready` is called with the gateway's address once both serve."""
        self._directory = directory
        self._ready = ready
        self._children: list[_Child] = []
        self._signals = 0

    def run(self) -> int:
        """Run both until a signal or until either ends; return the exit status for this process."""
        wakeup, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        previous = signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, self._note)
        try:
            return self._run(wakeup)
        finally:
            self._stop_all()
            signal.set_wakeup_fd(previous)
            os.close(wakeup)
            os.close(woken)

    def _run(self, wakeup: int) -> int:
        address = ""
        for name, command in (("node", NODE), ("gateway", GATEWAY)):
            child = _start(name, [sys.executable, *command, str(self._directory)])
            self._children.append(child)
            answer = self._await_ready(child, wakeup)
            if answer is None:
                return self._ended()
            address = answer
        self._ready(address)
        while not self._must_stop():
            _drain(wakeup)
        return self._ended()

    def _await_ready(self, child: _Child, wakeup: int) -> str | None:
        """Return the address that the child serves at, or None when it, another or the user ended first."""
        data = b""
        while not self._must_stop():
            readable, _, _ = select.select([wakeup, child.ready], [], [])
            if wakeup in readable:
                _read(wakeup)
            if child.ready in readable:
                part = _read(child.ready)
                data += part
                if data.endswith(b"\n"):
                    return data.decode().removeprefix("ready ").strip()
                if not part:
                    child.process.wait()
        return None

    def _must_stop(self) -> bool:
        return bool(self._signals) or any(child.process.poll() is not None for child in self._children)

    def _ended(self) -> int:
        """Stop what still runs; the status is that of the child that ended unasked, 0 if none did."""
        dead = [child for child in self._children if child.process.poll() is not None]
        self._stop_all()
        if self._signals and not dead:
            failed = [child.process.returncode for child in self._children if child.process.returncode != 0]
            return _status(failed[0]) if failed else DONE
        status = _status(dead[0].process.returncode) if dead else DONE
        for child in dead:
            sys.stderr.write(
                f"feiqian: the {child.name} ended with status {child.process.returncode}; stopped the rest\n"
            )
        # A child that ended by itself with 0 ended unasked all the same.
        return status or FAULT

    def _stop_all(self) -> None:
        # The gateway first: it ends its requests while the node still answers.
        for child in reversed(self._children):
            process = child.process
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(STOP_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            # What the child started and left behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(OSError):
                os.close(child.ready)

    def _note(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self._signals += 1


def supervise(directory: Path, ready: Callable[[str], None] = lambda _: None) -> int:
    """Run the ledger of a directory until it is told to stop; return the exit status."""
    return Supervisor(directory, ready).run()


def _start(name: str, command: Sequence[str]) -> _Child:
    ready, theirs = os.pipe()
    try:
        process = subprocess.Popen(
            command,
            env={**os.environ, VARIABLE: str(theirs)},
            pass_fds=(theirs,),
            process_group=0,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
    finally:
        os.close(theirs)
    return _Child(name, process, ready)


def _status(returncode: int) -> int:
    return FAULT if returncode < 0 else returncode


def _drain(wakeup: int) -> None:
    select.select([wakeup], [], [])
    _read(wakeup)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except BlockingIOError:
        return b""


if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1]), lambda address: print(address, flush=True)))
