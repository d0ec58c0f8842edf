"""Signing in with a key file that never comes near the browser, signing out, and the language switch."""

import base64
from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.params import Parameter

from feiqian.api.access import Access
from feiqian.api.problems import BadParameter, ChallengeInvalid
from feiqian.api.routes.parameters import Here
from feiqian.api.routes.session import session_cookie
from feiqian.api.sessions import Challenge
from feiqian.console.forms import guard_same_origin, lead_to, local_path, read_form
from feiqian.console.frame import show
from feiqian.console.languages import COOKIE, LANGUAGES
from feiqian.core import addresses
from feiqian.core.encoding import encode
from feiqian.core.errors import InvalidTransaction, MalformedAddress
from feiqian.core.signatures import PublicKey
from feiqian.wallet.sign_in import BadAnswer, read_answer

LANGUAGE_COOKIE_S = 365 * 24 * 3600
MAX_CHALLENGE_BYTES = 1024

Next = Annotated[str, Parameter(query="next", max_length=4096)]
Why = Annotated[str, Parameter(query="why", max_length=16)]


@get("/sign-in", opt={"access": Access.PUBLIC}, include_in_schema=False)
async def show_sign_in(request: Request[Any, Any, Any], next_path: Next = "/", why: Why = "") -> Response[str]:
    """Page: which account to sign in for."""
    return show(
        request,
        "sign-in.html",
        here=local_path(next_path),
        account="",
        next_path=local_path(next_path),
        why=why,
        complaint=None,
    )


@post(
    "/sign-in/challenge",
    opt={"access": Access.PUBLIC},
    guards=[guard_same_origin],
    status_code=200,
    include_in_schema=False,
)
async def show_challenge(gateway: Here, request: Request[Any, Any, Any]) -> Response[str]:
    """Page: what to sign, and with which command."""
    account, next_path = await read_form(request, "account", "next")
    account = account.strip()
    try:
        address = addresses.from_text(account)
    except MalformedAddress as error:
        return show(
            request,
            "sign-in.html",
            status=400,
            here="/sign-in",
            account=account,
            next_path=local_path(next_path),
            why="",
            complaint=error.message,
        )
    challenge = gateway.sessions.challenge(address, request.headers.get("host", ""))
    return _challenge_page(request, challenge, next_path)


@post("/sign-in", opt={"access": Access.PUBLIC}, guards=[guard_same_origin], status_code=200, include_in_schema=False)
async def sign_in(gateway: Here, request: Request[Any, Any, Any]) -> Response[Any]:
    """Sign in with the signed challenge; a page that says why where it does not hold, with another challenge."""
    account, challenge, answer, next_path = await read_form(request, "account", "challenge", "answer", "next")
    try:
        scheme, key, signature = read_answer(answer)
        opened = gateway.sessions.open(_challenge_bytes(challenge), PublicKey(scheme, key), signature)
    except (BadAnswer, ChallengeInvalid, BadParameter) as error:
        detail = error.detail if isinstance(error, ChallengeInvalid | BadParameter) else str(error)
        return _try_again(gateway, request, account, next_path, detail)
    return lead_to(next_path, session_cookie(gateway, opened.token))


@post("/sign-out", opt={"access": Access.PUBLIC}, guards=[guard_same_origin], status_code=303, include_in_schema=False)
async def sign_out(gateway: Here, request: Request[Any, Any, Any]) -> Response[None]:
    """Sign out."""
    session = gateway.sessions.session_of(request)
    if session is not None:
        gateway.sessions.end(session.token)
    return lead_to("/", session_cookie(gateway, "", max_age_s=0))


@post("/language", opt={"access": Access.PUBLIC}, guards=[guard_same_origin], status_code=303, include_in_schema=False)
async def choose_language(gateway: Here, request: Request[Any, Any, Any]) -> Response[None]:
    """Keep the language that was chosen, and lead back."""
    language, next_path = await read_form(request, "language", "next")
    if language not in LANGUAGES:
        raise BadParameter(f"language: one of {', '.join(LANGUAGES)}")
    cookie = Cookie(
        key=COOKIE,
        value=language,
        max_age=LANGUAGE_COOKIE_S,
        path="/",
        httponly=True,
        samesite="lax",
        secure=gateway.settings.is_behind_https,
    )
    return lead_to(next_path, cookie)


def _try_again(
    gateway: Here, request: Request[Any, Any, Any], account: str, next_path: str, complaint: str
) -> Response[str]:
    try:
        challenge = gateway.sessions.challenge(addresses.from_text(account), request.headers.get("host", ""))
    except InvalidTransaction:
        raise ChallengeInvalid(complaint) from None
    return _challenge_page(request, challenge, next_path, complaint)


def _challenge_page(
    request: Request[Any, Any, Any], challenge: Challenge, next_path: str, complaint: str | None = None
) -> Response[str]:
    return show(
        request,
        "challenge.html",
        status=200 if complaint is None else 401,
        here="/sign-in",
        challenge=challenge,
        challenge_text=base64.urlsafe_b64encode(encode(challenge)).decode().rstrip("="),
        account=addresses.to_text(challenge.account),
        next_path=local_path(next_path),
        complaint=complaint,
    )


def _challenge_bytes(text: str) -> bytes:
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        data = b""
    if not 0 < len(data) <= MAX_CHALLENGE_BYTES:
        raise BadParameter("the challenge is not one of this gateway; ask for another")
    return data


PAGES = (show_sign_in, show_challenge, sign_in, sign_out, choose_language)
