"""Signing in and out."""

import base64
from typing import Any

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.datastructures import Cookie
from litestar.params import JSONBody

from feiqian.api.access import Access
from feiqian.api.gateway import Gateway
from feiqian.api.problems import BadParameter, NotSignedIn
from feiqian.api.routes.parameters import V1, Here
from feiqian.api.sessions import CHALLENGE_DOMAIN, COOKIE, OpenSession
from feiqian.api.shapes import ChallengeBody, SessionBody
from feiqian.core import addresses
from feiqian.core.encoding import encode
from feiqian.core.signatures import SCHEMES, PublicKey


class AskChallenge(msgspec.Struct, forbid_unknown_fields=True):
    """`account`: the one to sign in for, `fq1…`."""

    account: str


class AskSession(msgspec.Struct, forbid_unknown_fields=True):
    """`challenge` as it was given (base64); `scheme`, `key` (hex) and `signature` (hex) over its `bytes_to_sign`."""

    challenge: str
    scheme: int
    key: str
    signature: str


@post(f"{V1}/session/challenge", opt={"access": Access.PUBLIC}, status_code=200)
async def ask_challenge(data: JSONBody[AskChallenge], gateway: Here, request: Request[Any, Any, Any]) -> ChallengeBody:
    """Ask for something to sign, by which to sign in for an account. Good once and for five minutes."""
    audience = request.headers.get("host", "")
    challenge = gateway.sessions.challenge(addresses.from_text(data.account), audience)
    body = encode(challenge)
    return ChallengeBody(
        challenge=base64.b64encode(body).decode(),
        bytes_to_sign=(CHALLENGE_DOMAIN + body).hex(),
        chain_id=challenge.chain_id,
        audience=challenge.audience,
        expires_at_ms=challenge.expires_at_ms,
    )


@post(f"{V1}/session", opt={"access": Access.PUBLIC}, status_code=200)
async def open_session(data: JSONBody[AskSession], gateway: Here) -> Response[SessionBody]:
    """Sign in with the signed challenge: a bearer token, also set as a cookie that scripts cannot read."""
    try:
        challenge = base64.b64decode(data.challenge, validate=True)
        key, signature = bytes.fromhex(data.key), bytes.fromhex(data.signature)
    except ValueError:
        raise BadParameter("challenge is base64; key and signature are hex") from None
    if data.scheme not in SCHEMES or len(challenge) > 1024:
        raise BadParameter(f"scheme is one of {sorted(SCHEMES)}; a challenge has at most 1024 bytes")
    opened = gateway.sessions.open(challenge, PublicKey(data.scheme, key), signature)
    return Response(_body(opened, opened.token), cookies=[session_cookie(gateway, opened.token)])


@get(f"{V1}/session", opt={"access": Access.MEMBER})
async def show_session(gateway: Here, request: Request[Any, Any, Any]) -> SessionBody:
    """Say who is signed in."""
    session = gateway.sessions.session_of(request)
    if session is None:
        raise NotSignedIn("the session has ended")
    return _body(session, None)


@delete(f"{V1}/session", opt={"access": Access.MEMBER})
async def end_session(gateway: Here, request: Request[Any, Any, Any]) -> Response[None]:
    """Sign out."""
    session = gateway.sessions.session_of(request)
    if session is not None:
        gateway.sessions.end(session.token)
    return Response(None, status_code=204, cookies=[session_cookie(gateway, "", max_age_s=0)])


def session_cookie(gateway: Gateway, token: str, max_age_s: int | None = None) -> Cookie:
    """Return the cookie that carries a session in a browser; the console sets it too."""
    lifetime_s = gateway.sessions.lifetime_ms // 1000 if max_age_s is None else max_age_s
    return Cookie(
        key=COOKIE,
        value=token,
        max_age=lifetime_s,
        path="/",
        httponly=True,
        samesite="strict",
        secure=gateway.settings.is_behind_https,
    )


def _body(session: OpenSession, token: str | None) -> SessionBody:
    reader = session.reader
    assert reader.member is not None
    assert reader.account is not None
    return SessionBody(
        token=token,
        account=addresses.to_text(reader.account),
        member=reader.member,
        roles=list(reader.roles),
        is_regulator=reader.is_regulator,
        expires_at_ms=session.expires_at_ms,
    )


ROUTES = (ask_challenge, open_session, show_session, end_session)
