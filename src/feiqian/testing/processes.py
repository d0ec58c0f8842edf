"""Real node processes and a plain client of their socket, for tests, crash tests and benchmarks."""

import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from feiqian.core.encoding import encode
from feiqian.core.wire import (
    REPLY_DECODER,
    AskMetrics,
    AskStatus,
    Committed,
    FollowCommitted,
    FollowStored,
    Metrics,
    NodeStatus,
    Reply,
    Request,
    Stored,
    Submit,
    Submitted,
    Verdict,
)
from feiqian.node.configuration import Layout
from feiqian.process.readiness import VARIABLE

ANSWER_S = 60
"""How long a test waits for what must come; never how long something takes."""

_LENGTH = struct.Struct(">I")

R = TypeVar("R", bound=Reply)


class NodeProcess:
    """`python -m feiqian.node DIR`, its log in `DIR/../node.log`. Leaving the `with` block kills what still runs."""

    def __init__(self, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.log = directory.with_name(directory.name + ".log")
        self.ready_descriptor, theirs = os.pipe()
        variables = {**os.environ, VARIABLE: str(theirs), **(environment or {})}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "feiqian.node", str(directory)], env=variables, pass_fds=(theirs,), stderr=log
            )
        os.close(theirs)

    def await_ready(self) -> Self:
        """Return when the node serves; fail if it ends before."""
        readable, _, _ = select.select([self.ready_descriptor], [], [], ANSWER_S)
        assert readable, "the node did not become ready"
        assert os.read(self.ready_descriptor, 4096), f"the node ended before it was ready: {self.log_text()[-3000:]}"
        return self

    def connect(self) -> "Channel":
        """Return a connection to its socket."""
        return Channel(Layout(self.directory).socket)

    def terminate(self) -> int:
        """Ask it to stop; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(ANSWER_S)

    def kill(self) -> None:
        """Kill it as a power cut would."""
        self.process.kill()
        self.process.wait(ANSWER_S)

    def await_exit(self) -> int:
        """Return the status with which it ends by itself."""
        return self.process.wait(ANSWER_S)

    def helper(self, module: str) -> int:
        """Return the process id of a helper process of the node that runs this module."""
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                if module.encode() in Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0"):
                    return int(child)
        raise AssertionError(f"the node runs no {module}")

    def log_text(self) -> str:
        """Return what it has logged."""
        return self.log.read_text("utf-8", "replace")

    def log_lines(self) -> list[dict[str, Any]]:
        """Return what it has logged, line by line; fail where a line is not one JSON object."""
        return read_log(self.log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()
        os.close(self.ready_descriptor)


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a log; fail where one is not a JSON object."""
    whole = path.read_bytes().split(b"\n")[:-1]
    return [msgspec.json.decode(line, type=dict[str, Any]) for line in whole]


class Channel:
    """A gateway's end of the node's socket, one request after another."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(ANSWER_S)
        self.socket.connect(str(path))
        self._stream = self.socket.makefile("rb", buffering=2**16)
        self._requests = 0
        self._stored: list[Stored] = []
        self._committed: list[Committed] = []

    def submit(self, transactions: Sequence[bytes]) -> tuple[Verdict, ...]:
        """Return the pool's verdicts."""
        self._requests += 1
        self.send(Submit(self._requests, tuple(transactions)))
        return self.receive(Submitted).verdicts

    def status(self) -> NodeStatus:
        """Ask how the node is."""
        self._requests += 1
        self.send(AskStatus(self._requests))
        return self.receive(NodeStatus)

    def metrics(self) -> dict[str, float]:
        """Return the node's figures by name with labels, as Prometheus writes them."""
        self._requests += 1
        self.send(AskMetrics(self._requests))
        lines = [line for line in self.receive(Metrics).text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def subscribe(self, from_height: int = 0) -> None:
        """Ask for every block in the store from a height on."""
        self.send(FollowStored(from_height))

    def follow_committed(self, from_height: int = 0) -> None:
        """Ask for word of every committed block from a height on."""
        self.send(FollowCommitted(from_height))

    @property
    def has_stored(self) -> bool:
        """Whether a block in the store came before the last reply."""
        return bool(self._stored)

    @property
    def has_committed(self) -> bool:
        """Whether word of a committed block came before the last reply."""
        return bool(self._committed)

    def next_stored(self) -> Stored:
        """Return the next block in the store."""
        return self._stored.pop(0) if self._stored else self.receive(Stored)

    def next_committed(self) -> Committed:
        """Return the next word of a committed block."""
        return self._committed.pop(0) if self._committed else self.receive(Committed)

    def send(self, request: Request) -> None:
        """Send a request."""
        data = encode(request)
        self.socket.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self, kind: type[R]) -> R:
        """Return the next reply of this kind; what comes of blocks before it is kept for who asks for the next."""
        while True:
            reply = self.read()
            assert reply is not None, "the node closed the connection"
            if isinstance(reply, kind):
                return reply
            if isinstance(reply, Committed):
                self._committed.append(reply)
            else:
                assert isinstance(reply, Stored), f"{type(reply).__name__} came, and {kind.__name__} was awaited"
                self._stored.append(reply)

    def read(self) -> Reply | None:
        """Return the next reply, None where the node has closed the connection."""
        try:
            head = self._stream.read(_LENGTH.size)
            if len(head) < _LENGTH.size:
                return None
            size = _LENGTH.unpack(head)[0]
            data = self._stream.read(size)
        except ConnectionResetError:
            # What the other side had not read when it died; all that it had sent has been read before this comes.
            return None
        return REPLY_DECODER.decode(data) if len(data) == size else None

    def close(self) -> None:
        """Hang up."""
        self._stream.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
