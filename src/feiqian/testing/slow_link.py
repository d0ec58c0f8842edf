"""Carries frames between two TAP devices, each so many milliseconds late: `slow_link INNER OUTER DELAY_MS`."""

import fcntl
import os
import select
import struct
import sys
import time
from collections import deque

_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000  # linux/if_tun.h
_FRAME_BYTES = 65_536
_MOST_FRAMES = 50_000
"""Beyond so many on their way, further ones are lost, as on a real link whose buffers are full."""


def _tap(name: str) -> int:
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TAP | _IFF_NO_PI))
    return descriptor


def carry(inner: int, outer: int, delay_s: float) -> None:
    """Carry frames both ways for ever."""
    other = {inner: outer, outer: inner}
    on_way: deque[tuple[float, int, bytes]] = deque()
    while True:
        wait_s = max(0.0, on_way[0][0] - time.monotonic()) if on_way else None
        readable, _, _ = select.select([inner, outer], [], [], wait_s)
        now_s = time.monotonic()
        for source in readable:
            frame = os.read(source, _FRAME_BYTES)
            if len(on_way) < _MOST_FRAMES:
                on_way.append((now_s + delay_s, other[source], frame))
        while on_way and on_way[0][0] <= now_s:
            _, target, frame = on_way.popleft()
            try:
                os.write(target, frame)
            except OSError:
                continue  # the device is down, or its queue full: the frame is lost


def main() -> None:
    """Run from the command line."""
    inner, outer, delay_ms = sys.argv[1:]
    pair = _tap(inner), _tap(outer)
    print("ready", flush=True)
    carry(*pair, int(delay_ms) / 1000)


if __name__ == "__main__":
    main()
