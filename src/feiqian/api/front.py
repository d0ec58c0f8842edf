"""The door: accepts TCP connections, keeps the crowd and the silent out, and passes the rest on to the HTTP server.

The server bounds time for headers and silence between requests; it has no cap per address, and a silent connection
would take one of its places. Here a connection costs one descriptor until its first request's head is whole.
"""

import asyncio
import contextlib
import os
import re
import socket
from collections import OrderedDict
from pathlib import Path
from typing import cast

from feiqian.api.metrics import GatewayMetrics
from feiqian.api.settings import GatewaySettings
from feiqian.core.settings import SettingsError

BACKLOG = 4096
_END_OF_HEAD = re.compile(rb"\n\r?\n")
BUFFER_BYTES = 256 * 1024
IPV6_NETWORK_BITS = 64


class Front:
    """Listens, and joins each connection that speaks to one of its own to the server's unix socket."""

    def __init__(self, settings: GatewaySettings, upstream: Path, metrics: GatewayMetrics) -> None:
        self._settings = settings
        self.upstream = upstream
        self._metrics = metrics
        self._of_address: dict[str, int] = {}
        self._silent: OrderedDict[_Client, None] = OrderedDict()
        self._open: set[_Client] = set()
        self._joined = 0
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """How many are open now."""
        return len(self._open)

    async def start(self) -> tuple[str, int]:
        """Listen; return the address and port.

        Raises:
            SettingsError: the host is none of this machine's, or the port is taken or not for this user.
        """
        loop = asyncio.get_running_loop()
        host, port = self._settings.host, self._settings.port
        try:
            self._server = await loop.create_server(lambda: _Client(self), host, port, backlog=BACKLOG)
        except OSError as error:
            is_name = isinstance(error, socket.gaierror)
            why = error.strerror if is_name else os.strerror(error.errno or 0)
            raise SettingsError(
                f"cannot listen at {host}, port {port}: {why}; set host and port in [gateway] of feiqian.toml"
            ) from None
        name = self._server.sockets[0].getsockname()
        return name[0], name[1]

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        if self._server is not None:
            self._server.close()
        for client in list(self._open):
            client.abort()

    def admits(self, client: "_Client", address: str) -> bool:
        """Count a new connection in; say whether it may stay."""
        here = self._of_address.get(address, 0)
        if here >= self._settings.connections_per_address:
            self._metrics.refused.labels("per_address").inc()
            return False
        if len(self._open) >= self._settings.connections and not self._evict_silent():
            self._metrics.refused.labels("total").inc()
            return False
        self._of_address[address] = here + 1
        self._open.add(client)
        self._silent[client] = None
        self._metrics.connections.inc()
        return True

    def forget(self, client: "_Client", address: str) -> None:
        """Count a connection out."""
        if client not in self._open:
            return
        self._open.discard(client)
        self._silent.pop(client, None)
        self._metrics.connections.dec()
        left = self._of_address[address] - 1
        if left:
            self._of_address[address] = left
        else:
            del self._of_address[address]

    def spoke(self, client: "_Client") -> bool:
        """Note that a connection sent a request; say whether the server has a place for it."""
        self._silent.pop(client, None)
        if self._joined >= self._settings.requests:
            self._metrics.refused.labels("requests").inc()
            return False
        self._joined += 1
        return True

    def left(self) -> None:
        """Give a place at the server back."""
        self._joined -= 1

    def cut(self, limit: str) -> None:
        """Count a connection that a time limit ended."""
        self._metrics.refused.labels(limit).inc()

    @property
    def settings(self) -> GatewaySettings:
        """The limits."""
        return self._settings

    def _evict_silent(self) -> bool:
        """Make room by closing the connection that has been silent longest."""
        if not self._silent:
            return False
        client, _ = self._silent.popitem(last=False)
        self._metrics.refused.labels("silent_evicted").inc()
        client.abort()
        return True


class _Client(asyncio.Protocol):
    """A connection from outside."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._transport: asyncio.Transport | None = None
        self._upstream: _Upstream | None = None
        self._early = bytearray()
        self._address = ""
        self._is_joined = False
        self._timer: asyncio.TimerHandle | None = None
        self._joining: asyncio.Task[None] | None = None
        self._has_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's by conduct, not by descent.
        self._transport = stream = cast(asyncio.Transport, transport)
        self._address = _source(stream.get_extra_info("peername"))
        if not self._front.admits(self, self._address):
            stream.abort()
            return
        stream.set_write_buffer_limits(high=BUFFER_BYTES)
        self._start_timer(self._front.settings.first_request_s, "silent")

    def data_received(self, data: bytes) -> None:
        if self._upstream is not None:
            self._upstream.write(data)
            return
        start = max(0, len(self._early) - 3)
        self._early += data
        if self._joining is not None:
            return
        if not _END_OF_HEAD.search(self._early, start) and len(self._early) <= self._front.settings.header_bytes:
            return
        self._stop_timer()
        assert self._transport is not None
        if not self._front.spoke(self):
            self._transport.write(_FULL)
            self._transport.close()
            return
        self._is_joined = True
        self._transport.pause_reading()
        self._joining = asyncio.get_running_loop().create_task(self._join())

    def eof_received(self) -> bool:
        self._has_ended = True
        if self._upstream is not None:
            self._upstream.end()
            return True
        return self._joining is not None

    def pause_writing(self) -> None:
        if self._upstream is not None:
            self._upstream.pause()
        self._start_timer(self._front.settings.slow_reader_s, "slow_reader")

    def resume_writing(self) -> None:
        self._stop_timer()
        if self._upstream is not None:
            self._upstream.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._front.forget(self, self._address)
        if self._is_joined:
            self._is_joined = False
            self._front.left()
        if self._upstream is not None:
            self._upstream.abort()

    def write(self, data: bytes) -> None:
        """Send an answer's bytes."""
        assert self._transport is not None
        self._transport.write(data)

    def pause(self) -> None:
        """Read no more for now."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def finish(self) -> None:
        """Close once everything is sent; a reader that does not take it has so long."""
        if self._transport is not None:
            self._transport.close()
            self._start_timer(self._front.settings.slow_reader_s, "slow_reader")

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    async def _join(self) -> None:
        loop = asyncio.get_running_loop()
        assert self._transport is not None
        try:
            _, upstream = await loop.create_unix_connection(lambda: _Upstream(self), str(self._front.upstream))
        except OSError:
            self._transport.abort()
            return
        if self._transport.is_closing():
            upstream.abort()
            return
        self._upstream = upstream
        upstream.write(bytes(self._early))
        self._early.clear()
        if self._has_ended:
            upstream.end()
        self.resume()

    def _start_timer(self, seconds: float, limit: str) -> None:
        self._stop_timer()

        def end() -> None:
            self._front.cut(limit)
            self.abort()

        self._timer = asyncio.get_running_loop().call_later(seconds, end)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Upstream(asyncio.Protocol):
    """The same conversation's other end: a connection to the server."""

    def __init__(self, client: _Client) -> None:
        self._client = client
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = stream = cast(asyncio.Transport, transport)
        stream.set_write_buffer_limits(high=BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def pause_writing(self) -> None:
        self._client.pause()

    def resume_writing(self) -> None:
        self._client.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.finish()

    def write(self, data: bytes) -> None:
        """Send a request's bytes."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def end(self) -> None:
        """Say that the client sends no more."""
        if self._transport is not None and not self._transport.is_closing():
            with contextlib.suppress(OSError):
                self._transport.write_eof()

    def pause(self) -> None:
        """Read no more for now."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


def _source(peer: object) -> str:
    """Return what counts as one address: an IPv4 address, or the network that one IPv6 customer has."""
    host = str(peer[0]) if isinstance(peer, tuple) else ""
    if ":" not in host:
        return host
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return packed[: IPV6_NETWORK_BITS // 8].hex()


_FULL_BODY = (
    b'{"type":"urn:feiqian:api:10","title":"Too busy","status":503,'
    b'"detail":"as many requests are under way as this gateway carries","codespace":"api","number":10}'
)
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nRetry-After: 1\r\n"
    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(_FULL_BODY), _FULL_BODY)
)
