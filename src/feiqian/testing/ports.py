"""Ports on loopback for programs that cannot ask the system for one themselves."""

import random
import socket
from contextlib import ExitStack

FIRST, END = 12_000, 32_000
"""Below those that Linux gives to outgoing connections (`ip_local_port_range` begins at 32768), which come and go."""


def free_ports(count: int) -> int:
    """Return the first of several ports in a row that were free just now."""
    while True:
        first = random.randrange(FIRST, END - count)
        with ExitStack() as stack:
            try:
                for number in range(count):
                    stack.enter_context(socket.create_server(("127.0.0.1", first + number)))
            except OSError:
                continue
        return first
