"""Limits on each request, around the application: header bytes, body bytes, time for the body; and its figures.

What the server or the front already limits (time for headers, idle and crowded connections) is not repeated here.
"""

import asyncio
import contextlib
import time
from typing import Any

import msgspec
import structlog

from feiqian.api.metrics import GatewayMetrics
from feiqian.api.problems import PROBLEM_JSON, BodyTooLarge, BodyTooSlow, HeadersTooLarge, Problem, ProblemBody
from feiqian.api.settings import GatewaySettings

DRAINED_BODIES = 4
"""How much is read of a body that was refused, in bodies of the size that is accepted."""

SILENCE_S = 1
"""A refused body that stops coming for so long is waited for no more."""

Scope = dict[str, Any]
Message = dict[str, Any]

log = structlog.get_logger("feiqian.api")


class Limits:
    """An ASGI application around another."""

    def __init__(self, app: Any, settings: GatewaySettings, metrics: GatewayMetrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 0
        body = _LimitedBody(receive, self._settings, is_coming=_has_body(scope))

        async def counted_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *_SECURITY_HEADERS]
                await body.drain()
            await send(message)

        try:
            refusal = self._refusal(scope)
            if refusal is not None:
                await _refuse(refusal, counted_send)
            else:
                await self._app(scope, body, counted_send)
        finally:
            self._count(scope, status, time.perf_counter() - started)

    def _refusal(self, scope: Scope) -> Problem | None:
        size_bytes = len(scope["path"]) + len(scope["query_string"])
        length = 0
        for name, value in scope["headers"]:
            size_bytes += len(name) + len(value)
            if name == b"content-length":
                # The server has refused what is no number.
                length = int(value)
        if size_bytes > self._settings.header_bytes:
            return HeadersTooLarge(f"{size_bytes} bytes of headers; at most {self._settings.header_bytes} are accepted")
        if length > self._settings.body_bytes:
            return BodyTooLarge(f"a body of {length} bytes; at most {self._settings.body_bytes} are accepted")
        return None

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope.get("path_template") or "none"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(method, route, str(status)).inc()
        if not route.endswith("/events"):
            self._metrics.latency.labels(route).observe(seconds)


_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"))
"""Told apart in the figures; a method may be any word, and each would stay in memory."""

_SECURITY_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
]


class _LimitedBody:
    """`receive` of one request: counts the body's bytes and gives it so long; afterwards it lets everything through.

    `is_coming`: the client sends a body without being asked to.
    """

    def __init__(self, receive: Any, settings: GatewaySettings, *, is_coming: bool) -> None:
        self._receive = receive
        self._is_coming = is_coming
        self._most_bytes = self._left_bytes = settings.body_bytes
        self._seconds = settings.body_s
        self._deadline: float | None = None
        self._is_whole = False

    async def __call__(self) -> Message:
        if self._is_whole:
            return await self._receive()
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(self._deadline):
                message: Message = await self._receive()
        except TimeoutError:
            raise BodyTooSlow(f"the body did not arrive within {self._seconds} s") from None
        if message["type"] == "http.request":
            self._left_bytes -= len(message.get("body", b""))
            self._is_whole = not message.get("more_body", False)
            if self._left_bytes < 0:
                raise BodyTooLarge("the body is larger than this gateway accepts")
        return message

    async def drain(self) -> None:
        """Read what nobody wants of a body that is on its way, as long as it keeps coming and within its limits.

        The server closes a connection whose body was not read, and who is still sending would never see the answer.
        """
        if not self._is_coming:
            return
        self._left_bytes = DRAINED_BODIES * self._most_bytes
        with contextlib.suppress(BodyTooLarge, BodyTooSlow, TimeoutError):
            while not self._is_whole:
                async with asyncio.timeout(SILENCE_S):
                    if (await self())["type"] != "http.request":
                        return


def _has_body(scope: Scope) -> bool:
    headers = dict(scope["headers"])
    if b"expect" in headers:
        # This client sends its body only once it is read.
        return False
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


async def _refuse(problem: Problem, send: Any) -> None:
    body = msgspec.json.encode(
        ProblemBody(
            f"urn:feiqian:api:{problem.number}", problem.title, problem.status, problem.detail, "api", problem.number
        )
    )
    headers = [
        (b"content-type", PROBLEM_JSON.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
