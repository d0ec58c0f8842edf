"""The door: too many connections, silent ones, slow bodies, slow readers, and headers or bodies that are too large."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest

from feiqian.testing.gateways import GatewayProcess
from feiqian.testing.processes import ANSWER_S

StartGateway = Callable[..., GatewayProcess]
CROWD = 600


def connect(gateway: GatewayProcess, source: str = "127.0.0.1") -> socket.socket:
    parts = urlsplit(gateway.url)
    made = socket.create_connection((str(parts.hostname), int(parts.port or 0)), ANSWER_S, (source, 0))
    made.settimeout(ANSWER_S)
    return made


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def answer_to(connection: socket.socket, request: bytes) -> bytes:
    connection.sendall(request)
    return connection.recv(65536)


def figures(gateway: GatewayProcess) -> dict[str, float]:
    with gateway.client() as client:
        lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_one_address_has_only_so_many_connections(start: StartGateway) -> None:
    gateway = start(connections_per_address=8)
    with ExitStack() as stack:
        crowd = [stack.enter_context(connect(gateway)) for _ in range(8)]
        assert is_closed(stack.enter_context(connect(gateway)))
        # Another address still gets in, and the same one again when some have left.
        other = stack.enter_context(connect(gateway, "127.0.0.2"))
        assert answer_to(other, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200")
        for each in crowd:
            each.close()
        deadline = time.monotonic() + ANSWER_S
        while True:
            with connect(gateway) as again:
                try:
                    if answer_to(again, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200"):
                        break
                except ConnectionResetError:
                    pass
            assert time.monotonic() < deadline


def test_a_crowd_of_idle_connections_takes_nobody_s_place(start: StartGateway) -> None:
    gateway = start(connections=CROWD, connections_per_address=CROWD, first_request_s=600)
    with ExitStack() as stack:
        crowd = [stack.enter_context(connect(gateway, f"127.0.1.{place % 20 + 1}")) for place in range(CROWD)]
        with gateway.client() as client:
            assert client.get("/ready").status_code == 200
            assert client.get("/api/v1/status").status_code == 200
            for each in crowd[100:]:
                each.sendall(b"GET /health HTTP/1.1\r\nHo")
            assert client.get("/api/v1/status").status_code == 200
        # Room was made by closing those that had been silent longest.
        assert is_closed(crowd[0])
        assert figures(gateway)['feiqian_connections_refused_total{limit="silent_evicted"}'] >= 1


def test_silence_is_ended_before_and_between_requests(start: StartGateway) -> None:
    gateway = start(first_request_s=1, header_s=1)
    with connect(gateway) as silent, connect(gateway) as half, connect(gateway) as kept:
        half.sendall(b"GET /health HTTP/1.1\r\nHost")
        assert answer_to(kept, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200")
        assert is_closed(silent)
        assert is_closed(half)
        assert is_closed(kept)
    assert figures(gateway)['feiqian_connections_refused_total{limit="silent"}'] == 2


def test_a_body_that_does_not_come_is_not_awaited(start: StartGateway) -> None:
    gateway = start(body_s=1)
    with connect(gateway) as slow:
        slow.sendall(b"POST /api/v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n")
        slow.sendall(b'Content-Length: 99\r\n\r\n{"tr')
        answer = slow.recv(65536)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b'"number":7' in answer


def test_who_does_not_read_is_cut_off(start: StartGateway) -> None:
    gateway = start(slow_reader_s=1)
    with connect(gateway) as lazy:
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        # Pipelined requests for a large answer that is never read.
        request = b"GET /schema/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
        deadline = time.monotonic() + ANSWER_S
        lazy.settimeout(0.2)
        was_cut = False
        while not was_cut:
            assert time.monotonic() < deadline
            try:
                lazy.sendall(request * 50)
            except TimeoutError:
                continue
            except (ConnectionResetError, BrokenPipeError):
                was_cut = True
    assert figures(gateway)['feiqian_connections_refused_total{limit="slow_reader"}'] == 1


def test_a_head_may_come_in_pieces(world: Any) -> None:
    with connect(world.gateway) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in (b"GET /health HT", b"TP/1.1\r\nHost: x\r", b"\n\r", b"\n"):
            connection.sendall(piece)
            time.sleep(0.01)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("head", "status", "number"),
    [
        (b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 20_000 + b"\r\n\r\n", b"431", 8),
        (b"GET /health?" + b"q" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"431", 8),
        (b"POST /api/v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n", b"413", 6),
    ],
)
def test_what_is_announced_too_large_is_refused_at_once(world: Any, head: bytes, status: bytes, number: int) -> None:
    with connect(world.gateway) as connection:
        answer = answer_to(connection, head)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b'"number":%d' % number in answer


def test_a_body_without_length_is_counted(world: Any) -> None:
    with connect(world.gateway) as connection:
        connection.sendall(
            b"POST /api/v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"%x\r\n%s\r\n" % (2**20, b" " * 2**20)
        answer = b""
        try:
            for _ in range(17):
                connection.sendall(chunk)
        except (ConnectionResetError, BrokenPipeError):
            pass
        try:
            answer = connection.recv(65536)
        except ConnectionResetError:
            return
    assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1",
    ],
)
def test_what_is_no_http_ends_its_own_connection_only(world: Any, garbage: bytes) -> None:
    with connect(world.gateway) as connection:
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    with world.client() as client:
        assert client.get("/health").status_code == 200


def test_it_stops_cleanly_with_connections_open(start: StartGateway) -> None:
    gateway = start()
    with connect(gateway), connect(gateway) as streaming:
        assert answer_to(streaming, b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200")
        assert gateway.terminate() == 0


def test_whoever_is_answered_before_the_body_was_read_sees_the_answer(start: StartGateway) -> None:
    """The body follows at every distance from the head: before, while and after the server answers and closes."""
    gateway = start(connections_per_address=1_000)
    head = b"POST /api/v1/transactions/dry-run HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
    for delay_us in range(0, 6_000, 20):
        with connect(gateway) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(head)
            time.sleep(delay_us / 1_000_000)
            assert answer_to(connection, b"{}").startswith(b"HTTP/1.1 401"), delay_us


def test_whoever_sends_too_large_a_body_to_its_end_sees_why_it_is_refused(start: StartGateway) -> None:
    gateway = start(body_bytes=2**16)
    with connect(gateway) as connection:
        size = 3 * 2**16
        head = b"POST /api/v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
        assert answer_to(connection, head + bytes(size)).startswith(b"HTTP/1.1 413")
    with connect(gateway) as connection:
        # A client that asks first is told at once.
        ask = b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % size
        assert answer_to(connection, b"POST /api/v1/transactions HTTP/1.1\r\nHost: x\r\n" + ask).startswith(
            b"HTTP/1.1 413"
        )
