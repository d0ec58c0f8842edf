"""`feiqian start DIR`: runs node and gateway as its children, in a network CometBFT too; none outlives another.

When node or gateway ends unasked, the rest is stopped and its status passed on: nothing is started again, since what
stopped a ledger wants a person's eyes. CometBFT alone is started again where that helps (`comet/child.py`).
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

from feiqian.core.settings import SettingsError
from feiqian.node.comet.child import CometChild
from feiqian.node.configuration import Layout, read_node_settings
from feiqian.node.faults import DONE, FAULT, WRONG_USAGE
from feiqian.node.workers import die_with_parent
from feiqian.process.readiness import LISTENING, READY, VARIABLE

NODE = ("-m", "feiqian.node")
GATEWAY = ("-m", "feiqian.api")
STOP_S = 30
"""How long a child may take to stop; then it is killed."""


class _Child(NamedTuple):
    name: str
    process: subprocess.Popen[bytes]
    ready: int
    said: bytearray


class Supervisor:
    """Starts, watches and stops the children. Runs on the main thread, the only one: it forks, and takes signals."""

    def __init__(
        self, directory: Path, ready: Callable[[str], None] = lambda _: None, comet: CometChild | None = None
    ) -> None:
        """`ready` is called with the gateway's address once all serve; `comet` runs between node and gateway."""
        self._directory = directory
        self._ready = ready
        self._comet = comet
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
        node = self._start("node", NODE)
        if self._comet is not None:
            # A node that has no ledger yet gets it through CometBFT, and is ready only then.
            if self._await_word(node, LISTENING, wakeup) is None:
                return self._ended()
            self._comet.start()
        if self._await_word(node, READY, wakeup) is None:
            return self._ended()
        address = self._await_word(self._start("gateway", GATEWAY), READY, wakeup)
        if address is None:
            return self._ended()
        self._ready(address)
        while not self._must_stop():
            self._wait([wakeup])
        return self._ended()

    def _start(self, name: str, command: Sequence[str]) -> _Child:
        child = _start(name, [sys.executable, *command, str(self._directory)])
        self._children.append(child)
        return child

    def _await_word(self, child: _Child, word: str, wakeup: int) -> str | None:
        """Return the address that the child says a word of, or None when it, another or the user ended first.

        Who is ready listens.
        """
        while not self._must_stop():
            for line in child.said.decode().split("\n")[:-1]:
                said, _, address = line.partition(" ")
                if said in {word, READY}:
                    return address
            if child.ready in self._wait([wakeup, child.ready]):
                part = _read(child.ready)
                child.said.extend(part)
                if not part:
                    child.process.wait()
        return None

    def _wait(self, descriptors: list[int]) -> list[int]:
        """Wait for input or a signal, attend to CometBFT, and return which of the descriptors have input.

        The first one is what signals wake.
        """
        comet = self._comet
        more = [comet.output] if comet is not None and comet.output is not None else []
        readable, _, _ = select.select([*descriptors, *more], [], [], None if comet is None else comet.wait_s())
        if descriptors[0] in readable:
            _read(descriptors[0])
        if comet is not None:
            comet.attend()
        return readable

    def _must_stop(self) -> bool:
        if self._signals or (self._comet is not None and self._comet.failure):
            return True
        return any(child.process.poll() is not None for child in self._children)

    def _ended(self) -> int:
        """Stop what still runs; the status is that of the child that ended unasked, 0 if none did."""
        dead = [child for child in self._children if child.process.poll() is not None]
        self._stop_all()
        if self._signals and not dead:
            # A child that had only begun, and knew of no signals yet, ended by the signal itself: as it was asked to.
            ends = [child.process.returncode for child in self._children]
            failed = [status for status in ends if status not in (DONE, -signal.SIGTERM)]
            return _status(failed[0]) if failed else DONE
        status = _status(dead[0].process.returncode) if dead else DONE
        if self._comet is not None and self._comet.failure:
            sys.stderr.write(f"feiqian: {self._comet.failure}\n")
        for child in dead:
            sys.stderr.write(
                f"feiqian: the {child.name} ended with status {child.process.returncode}; stopped the rest\n"
            )
        # A child that ended by itself with 0 ended unasked all the same.
        return status or FAULT

    def _stop_all(self) -> None:
        # The gateway first: it ends its requests while the node still answers. The node last: CometBFT ends cleanly
        # only while the node answers.
        for child in reversed(self._children):
            if child.name == "node" and self._comet is not None:
                self._comet.stop(STOP_S)
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
    layout = Layout(directory.absolute())
    try:
        is_network = read_node_settings(layout).engine == "comet"
        comet = CometChild(layout, _write_log) if is_network else None
    except SettingsError as error:
        sys.stderr.write(f"feiqian: {error}\n")
        return WRONG_USAGE
    return Supervisor(directory, ready, comet).run()


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
    return _Child(name, process, ready, bytearray())


def _status(returncode: int) -> int:
    return FAULT if returncode < 0 else returncode


def _write_log(line: bytes) -> None:
    sys.stderr.buffer.write(line)
    sys.stderr.buffer.flush()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except BlockingIOError:
        return b""


if __name__ == "__main__":
    sys.exit(supervise(Path(sys.argv[1]), lambda address: print(address, flush=True)))
