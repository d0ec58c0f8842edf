"""Who may read what. Every route declares its `Access`; one that does not is refused at start and at every call."""

from enum import Enum
from typing import Any, NamedTuple

from litestar import Litestar, Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.routes import HTTPRoute

from feiqian.api.problems import NotAllowed, NotSignedIn
from feiqian.core.errors import Fault
from feiqian.index.reading import Scope


class Access(Enum):
    """Who may call a route."""

    PUBLIC = "public"
    """Anyone: facts about the chain as a whole, and submission, where the signatures speak."""
    MEMBER = "member"
    """Anyone signed in for an account of an active member."""
    PARTY = "party"
    """Signed in, and party to the thing asked for; the handler asks `Reader.may_read`. Regulators are party to all."""
    REGULATOR = "regulator"
    """Signed in for the administration account of a member with the role `regulator`."""


class Parties(NamedTuple):
    """Whom a thing concerns: accounts, and members, those of the accounts among them."""

    members: frozenset[str]
    accounts: frozenset[bytes]


class Reader(NamedTuple):
    """Who is asking. Anonymous where `member` is None.

    `account` is the 32-byte address signed in with, `roles` the member's roles and `is_administration` whether the
    account speaks for the member, both as state has them now. Who speaks for the member reads all that concerns it;
    any other account's keys may be a customer's, and read what that account is party to.
    """

    member: str | None = None
    account: bytes | None = None
    roles: tuple[str, ...] = ()
    is_administration: bool = False

    @property
    def is_regulator(self) -> bool:
        """Say whether this reader may read everything."""
        return self.is_administration and "regulator" in self.roles

    @property
    def scope(self) -> Scope | None:
        """Return whose things alone are to be shown; None for a regulator, who sees all."""
        assert self.member is not None, "an anonymous reader is shown nobody's things"
        assert self.account is not None, "who is signed in has an account"
        if self.is_regulator:
            return None
        return Scope(self.member, None if self.is_administration else self.account)

    def reads_for(self, account: bytes, member: str | None) -> bool:
        """Say whether this account, registered to this member, is one whose things are this reader's own."""
        return member == self.member if self.is_administration else account == self.account

    def may_read(self, parties: Parties) -> bool:
        """Say whether something that concerns these parties may be shown to this reader."""
        if self.is_administration:
            return self.is_regulator or self.member in parties.members
        return self.account in parties.accounts


ANONYMOUS = Reader()


async def guard_access(connection: ASGIConnection, handler: BaseRouteHandler) -> None:
    """Refuse a caller whom the route's declaration does not admit; run by Litestar before every handler.

    Whatever this gateway has told to be committed is in the state that a handler reads, unless it says that it shows
    none of it: `opt={"reads_state": False}`.

    Raises:
        NotSignedIn: the route needs a session, and there is none that holds.
        NotAllowed: the session's member may not call it.
        NodeAway: the node's store does not catch up with what it has committed.
    """
    access = handler.opt.get("access")
    gateway = connection.app.state.gateway
    if handler.opt.get("reads_state", True):
        await gateway.reach_committed()
    reader: Reader = gateway.sessions.reader_of(connection)
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
