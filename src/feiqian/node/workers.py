"""Starts the node's helper processes: each has one channel to the node, and none outlives it."""

import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from io import BufferedRWPair
from typing import NamedTuple, NoReturn

from feiqian.node.faults import DONE, stop_loudly
from feiqian.process.logs import configure_logs

LENGTH = struct.Struct(">I")
"""Each message on a channel comes after its length."""

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class Worker(NamedTuple):
    """A helper process and the node's end of its channel."""

    process: subprocess.Popen[bytes]
    channel: socket.socket


def start_worker(module: str, arguments: Sequence[str]) -> Worker:
    """Run `python -m MODULE ARGUMENTS` with a channel as its standard input."""
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", module, *arguments]
        process = subprocess.Popen(
            command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, preexec_fn=die_with_parent(signal.SIGKILL)
        )
    return Worker(process, ours)


def die_with_parent(number: int) -> "_Tie":
    """Return what a child runs before its program, so that it gets this signal when its parent dies."""
    return _Tie(number, os.getpid())


class _Tie(NamedTuple):
    number: int
    parent: int

    def __call__(self) -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, self.number, 0, 0, 0)
        # The parent may have died between fork and prctl.
        if os.getppid() != self.parent:
            os._exit(DONE)


def read_message(stream: BufferedRWPair) -> bytes | None:
    """Return the next message of a channel, or None when the other side has closed it."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    size_bytes = LENGTH.unpack(head)[0]
    data = stream.read(size_bytes)
    return data if len(data) == size_bytes else None


def write_message(stream: BufferedRWPair, data: bytes) -> None:
    """Send a message."""
    stream.write(LENGTH.pack(len(data)))
    stream.write(data)
    stream.flush()


def serve_as_worker(name: str, run: Callable[[BufferedRWPair], None]) -> NoReturn:
    """Run a helper process's work on its channel and end the process; whatever it raises is a fault.

    Signals that stop a node also reach its helpers, from a terminal or a service manager: they wait for the node to
    close the channel, so that it can finish what it has begun.
    """
    configure_logs("info", name)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        run(socket.socket(fileno=0).makefile("rwb"))
    except (BrokenPipeError, ConnectionResetError):
        # The node is gone: nobody waits for an answer.
        sys.exit(DONE)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it ends the process
        stop_loudly(name, error)
    sys.exit(DONE)
