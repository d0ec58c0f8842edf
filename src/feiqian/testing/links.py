"""Network namespaces joined by veth to one bridge, and what befalls the links: cut, deaf, lossy, slow. Needs root.

A slow link goes through a relay of our own (`slow_link.py`), since not every kernel has a queue that delays. Packets
are lost by nftables.
"""

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

P2P_PORT, RPC_PORT, METRICS_PORT, GATEWAY_PORT = 26_656, 26_657, 26_660, 8_270
_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_SUBNET = "10.213.77"

DEAF = "iifname eth0 drop"
"""Hears nobody; whoever listens hears it."""


def lossy(percent: int) -> str:
    """Return the rule that loses so many of a hundred packets that come in."""
    return f"iifname eth0 numgen random mod 100 < {percent} drop"


class Links:
    """One namespace a validator, `eth0` in each; the other end of its link is a port of the bridge."""

    def __init__(self, count: int) -> None:
        self._mark = f"fq{os.getpid() % 100_000}"
        self._count = count
        self._relays: dict[int, subprocess.Popen[bytes]] = {}

    def make(self) -> None:
        """Make namespaces and links."""
        _ip("link", "add", self._mark, "type", "bridge")
        _ip("link", "set", self._mark, "up")
        for number in range(self._count):
            name, outer = self.namespace(number), self._outer(number)
            _ip("netns", "add", name)
            _ip("link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("-n", name, "addr", "add", f"{self.host(number)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", name, "link", "set", device, "up")
            _ip("link", "set", outer, "master", self._mark, "up")

    def remove(self) -> None:
        """Remove whatever there is of them."""
        for number in list(self._relays):
            self._end_relay(number)
        for number in range(self._count):
            # The namespace lives on in processes that still end: its link goes at once.
            _ip("link", "del", self._outer(number), is_sure=False)
            _ip("netns", "del", self.namespace(number), is_sure=False)
        _ip("link", "del", self._mark, is_sure=False)

    def host(self, number: int) -> str:
        """Return a validator's address."""
        return f"{_SUBNET}.{number + 1}"

    def namespace(self, number: int) -> str:
        """Return the name of a validator's namespace."""
        return f"{self._mark}n{number}"

    def inside(self, number: int, run: Callable[[], T]) -> T:
        """Run a function in a validator's namespace, on a thread of its own; sockets made there stay there."""
        results: list[Any] = []
        errors: list[BaseException] = []

        def enter() -> None:
            try:
                self.enter(number)
                results.append(run())
            except BaseException as error:  # noqa: BLE001 - raised again below
                errors.append(error)

        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return results[0]

    def enter(self, number: int) -> None:
        """Move this thread into a validator's namespace for good."""
        with Path("/run/netns", self.namespace(number)).open("rb") as file:
            if _LIBC.setns(file.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def cut(self, number: int) -> None:
        """Let nothing through, in either direction; nobody is told."""
        _ip("link", "set", self._outer(number), "nomaster")

    def filter(self, number: int, rule: str) -> None:
        """Add an nftables rule for what comes in."""
        chain = f"chain incoming {{\ntype filter hook input priority 0;\n{rule}\n}}"
        self._nft(number, "-f", "-", given=f"table inet faults {{\n{chain}\n}}\n")

    def slow(self, number: int, delay_ms: int) -> None:
        """Let each packet, in either direction, take so much longer."""
        outer, inner = f"{self._mark}o{number}", f"{self._mark}i{number}"
        command = [sys.executable, "-m", "feiqian.testing.slow_link", inner, outer, str(delay_ms)]
        relay = subprocess.Popen(command, stdout=subprocess.PIPE)
        self._relays[number] = relay
        assert relay.stdout is not None
        assert relay.stdout.readline() == b"ready\n", "the relay of the slow link did not start"
        side = self._side(number)
        _ip("link", "add", side, "type", "bridge")
        _ip("link", "set", side, "up")
        _ip("link", "set", inner, "master", side, "up")
        _ip("link", "set", outer, "master", self._mark, "up")
        _ip("link", "set", self._outer(number), "master", side)

    def heal(self, number: int) -> None:
        """Make a link as it was."""
        _ip("link", "set", self._outer(number), "master", self._mark)
        if number in self._relays:
            self._end_relay(number)
        self._nft(number, "flush", "ruleset")

    def _nft(self, number: int, *arguments: str, given: str = "") -> None:
        command = ["ip", "netns", "exec", self.namespace(number), "nft", *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr

    def _end_relay(self, number: int) -> None:
        relay = self._relays.pop(number)
        relay.kill()
        relay.wait()
        assert relay.stdout is not None
        relay.stdout.close()
        _ip("link", "del", self._side(number), is_sure=False)

    def _outer(self, number: int) -> str:
        return f"{self._mark}v{number}"

    def _side(self, number: int) -> str:
        return f"{self._mark}s{number}"


def _ip(*arguments: str, is_sure: bool = True) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert not (is_sure and done.returncode), f"ip {' '.join(arguments)}: {done.stderr}"
