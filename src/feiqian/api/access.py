"""Who may read what. Every route declares its `Access`; one that does not is refused at start and at every call."""

from collections.abc import Iterable
from enum import Enum
from typing import Any, NamedTuple

from litestar import Litestar, Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.routes import HTTPRoute

from feiqian.api.problems import NotAllowed, NotSignedIn
from feiqian.core.errors import Fault


class Access(Enum):
    """Who may call a route."""

    PUBLIC = "public"
    """Anyone: facts about the chain as a whole, and submission, where the signatures speak."""
    MEMBER = "member"
    """Anyone signed in for an account of an active member."""
    PARTY = "party"
    """Signed in, and party to the thing asked for; the handler asks `Reader.may_read`. Regulators are party to all."""
    REGULATOR = "regulator"
    """Signed in for an account of a member with the role `regulator`."""


class Reader(NamedTuple):
    """Who is asking. Anonymous where `member` is None.

    `account` is the 32-byte address signed in with, `roles` the member's roles as state has them now.
    """

    member: str | None = None
    account: bytes | None = None
    roles: tuple[str, ...] = ()

    @property
    def is_regulator(self) -> bool:
        """Say whether this reader may read everything."""
        return "regulator" in self.roles

    @property
    def sees_only(self) -> str | None:
        """Return the member whose things alone are to be shown; None for a regulator, who sees all."""
        assert self.member is not None, "an anonymous reader is shown no member's things"
        return None if self.is_regulator else self.member

    def may_read(self, parties: Iterable[str]) -> bool:
        """Say whether something that concerns these members may be shown to this reader."""
        return self.is_regulator or (self.member is not None and self.member in parties)


ANONYMOUS = Reader()


def guard_access(connection: ASGIConnection, handler: BaseRouteHandler) -> None:
    """Refuse a caller whom the route's declaration does not admit; run by Litestar before every handler.

    Raises:
        NotSignedIn: the route needs a session, and there is none that holds.
        NotAllowed: the session's member may not call it.
    """
    access = handler.opt.get("access")
    reader: Reader = connection.app.state.gateway.sessions.reader_of(connection)
    connection.state.reader = reader
    if access is Access.PUBLIC:
        return
    if not isinstance(access, Access):
        raise NotAllowed("this route is open to nobody")
    if reader.member is None:
        raise NotSignedIn("sign in first: POST /api/v1/session/challenge, then /api/v1/session")
    if access is Access.REGULATOR and not reader.is_regulator:
        raise NotAllowed("only a regulator may read this")


async def provide_reader(request: Request[Any, Any, Any]) -> Reader:
    """Give handlers the `reader` that the guard has established."""
    return request.state.reader


def require_declared_access(app: Litestar) -> None:
    """Refuse to start an app in which any handler does not say who may call it.

    Raises:
        Fault: naming the route.
    """
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            raise Fault(f"route {route.path} is no HTTP route; only those have declared access")
        for handler in route.route_handlers:
            # Litestar answers OPTIONS itself; the guard refuses it, so it needs no declaration.
            if handler.http_methods == {"OPTIONS"}:
                continue
            if not isinstance(handler.opt.get("access"), Access):
                raise Fault(f"route {route.path} does not declare its access: opt={{'access': Access.…}}")
