"""The gateway's own refusals, and how every error leaves it: as problem+json (RFC 9457) with codespace and number.

Messages name the rule, the value and what would be accepted; never a path, a key or another member's data.
"""

from typing import Any, ClassVar

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from feiqian.core.errors import InvalidTransaction
from feiqian.index.reading import IndexAway

PROBLEM_JSON = "application/problem+json"

log = structlog.get_logger("feiqian.api")


class Problem(Exception):
    """A request that the gateway refuses. Each rule is a subclass with a permanent number in codespace `api`."""

    status: ClassVar[int] = 400
    number: ClassVar[int] = 0
    title: ClassVar[str] = "Bad request"

    def __init__(self, detail: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s


class NotSignedIn(Problem):
    """The route needs a session."""

    status, number, title = 401, 1, "Not signed in"


class NotAllowed(Problem):
    """The session's member may not do this."""

    status, number, title = 403, 2, "Not allowed"


class NotFound(Problem):
    """No such thing, or none that this reader may see: the two are not told apart."""

    status, number, title = 404, 3, "Not found"


class BadParameter(Problem):
    """A parameter, cursor or body that is not of the form the route takes."""

    status, number, title = 400, 4, "Bad parameter"


class UnsupportedMediaType(Problem):
    """A content type that the route does not take."""

    status, number, title = 415, 5, "Unsupported media type"


class BodyTooLarge(Problem):
    """More bytes or transactions than one request may carry."""

    status, number, title = 413, 6, "Body too large"


class BodyTooSlow(Problem):
    """The body did not arrive in time."""

    status, number, title = 408, 7, "Body too slow"


class HeadersTooLarge(Problem):
    """More header bytes than one request may carry."""

    status, number, title = 431, 8, "Headers too large"


class NodeAway(Problem):
    """The node does not answer. What was sent may or may not have arrived; sending it again is safe."""

    status, number, title = 503, 9, "Node away"


class TooBusy(Problem):
    """The pool, or this gateway, is full."""

    status, number, title = 429, 10, "Too busy"


class ChallengeInvalid(Problem):
    """A sign-in challenge that is unknown, used, expired, or not answered by a key of the account."""

    status, number, title = 401, 11, "Challenge invalid"


class NotIndexed(Problem):
    """The SQL index is not there yet."""

    status, number, title = 503, 12, "Not indexed yet"


class OutsideWindow(Problem):
    """A height whose state the node no longer keeps, or that is not there yet."""

    status, number, title = 410, 13, "Outside the proof window"


class NotProvable(Problem):
    """What was asked cannot be proved now: the next header, which carries the app hash, is not there (yet)."""

    status, number, title = 409, 14, "Not provable"


class OtherRefusal(Problem):
    """What the HTTP framework refuses by itself: method, path, protocol."""

    status, number, title = 400, 15, "Refused"


class Internal(Problem):
    """Our fault; the log has more."""

    status, number, title = 500, 16, "Internal error"


class NoLongerHeld(Problem):
    """A block, or a transaction in one, that the node gave up for segment files, which its operator keeps."""

    status, number, title = 410, 17, "No longer held"


class ProblemBody(msgspec.Struct, omit_defaults=True):
    """The body of an error answer (RFC 9457), with codespace and permanent number of the broken rule."""

    type: str
    title: str
    status: int
    detail: str
    codespace: str = ""
    number: int = 0


def problem_response(problem: Problem, status: int | None = None) -> Response[bytes]:
    """Return the answer to a refused request."""
    used = problem.status if status is None else status
    return _respond(problem.title, used, problem.detail, "api", problem.number, problem.retry_after_s)


def handle_problem(request: Request, problem: Problem) -> Response[bytes]:
    """Answer one of our refusals."""
    return problem_response(problem)


def handle_refusal(request: Request, refusal: InvalidTransaction) -> Response[bytes]:
    """Answer a rule of the ledger that a request's value broke, such as a malformed address."""
    return _respond("Refused by a rule", 400, refusal.message, refusal.codespace, refusal.number, None)


def handle_index_away(request: Request, error: IndexAway) -> Response[bytes]:
    """Answer while the index is not there: what is committed is safe, lists come later."""
    return problem_response(NotIndexed("the index is not there now; try again", retry_after_s=1))


def handle_http(request: Request, error: HTTPException) -> Response[bytes]:
    """Answer what the framework refuses, with a message of ours where its own could show internals."""
    if isinstance(error, ValidationException):
        return problem_response(BadParameter(_first_complaint(error)))
    if error.status_code >= 500:
        return handle_unexpected(request, error)
    if error.status_code == 404:
        return problem_response(NotFound("there is no such route; /schema lists them all"))
    if error.status_code == 413:
        return problem_response(BodyTooLarge("the body is larger than this route takes"))
    response = problem_response(OtherRefusal(error.detail), error.status_code)
    allowed = (error.headers or {}).get("Allow")
    if allowed:
        response.headers["Allow"] = allowed
    return response


def handle_unexpected(request: Request, error: Exception) -> Response[bytes]:
    """Answer a fault of ours: the log gets all of it, the caller nothing but that it happened."""
    log.error("request_failed", path=request.scope["path"], error=type(error).__name__, exc_info=error)
    return problem_response(Internal("the gateway failed on this request; its log says why"))


def _first_complaint(error: ValidationException) -> str:
    extra: Any = error.extra
    if isinstance(extra, list) and extra and isinstance(extra[0], dict):
        return f"{extra[0].get('key', 'value')}: {extra[0].get('message', 'not valid')}"[:300]
    return "a parameter is missing or not of its form"


def _respond(
    title: str, status: int, detail: str, codespace: str, number: int, retry_after_s: int | None
) -> Response[bytes]:
    body = ProblemBody(f"urn:feiqian:{codespace}:{number}", title, status, detail, codespace, number)
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="feiqian"'
    return Response(msgspec.json.encode(body), status_code=status, media_type=PROBLEM_JSON, headers=headers)
