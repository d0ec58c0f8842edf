"""The frame of every page: language, navigation, who is signed in, templates and the headers that keep a page safe."""

from collections.abc import Callable, Mapping
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import msgspec
from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined
from litestar import Request, Response
from litestar.datastructures import Cookie

from feiqian.api.access import Reader
from feiqian.api.gateway import Gateway
from feiqian.api.problems import ProblemBody
from feiqian.console import presenting
from feiqian.console.discovery import discover_pages
from feiqian.console.languages import LANGUAGES, choose_language, words_of
from feiqian.console.navigation import NavigationEntry
from feiqian.console.static_files import static_path
from feiqian.core import addresses
from feiqian.core.errors import InvalidTransaction

TEMPLATES = Path(__file__).parent / "templates"

NAVIGATION = (
    NavigationEntry("/", {"zh": "总览", "en": "Overview"}, 10),
    NavigationEntry("/blocks", {"zh": "区块", "en": "Blocks"}, 20),
    NavigationEntry("/transactions", {"zh": "交易", "en": "Transactions"}, 30),
    NavigationEntry("/accounts", {"zh": "账户", "en": "Accounts"}, 40),
    NavigationEntry("/members", {"zh": "成员机构", "en": "Members"}, 70),
    NavigationEntry("/proof", {"zh": "证明", "en": "Proof"}, 90),
)

HEADERS = {
    # Nothing from anywhere else, no script or style inside a page, no frame around it (CSP level 3).
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_MACHINE_PATHS = ("/api/", "/schema", "/health", "/ready", "/metrics")


def show(
    request: Request[Any, Any, Any],
    template: str,
    *,
    status: int = 200,
    here: str | None = None,
    cookies: tuple[Cookie, ...] = (),
    **values: Any,
) -> Response[str]:
    """Return a page: a template with the frame around it.

    `here` is the address that the language switch and the sign-in lead back to; the request's own where None.
    """
    language = choose_language(request)
    gateway: Gateway = request.app.state.gateway
    # Where no route was found, no guard has asked who it is.
    reader: Reader = request.scope["state"].get("reader") or gateway.sessions.reader_of(request)
    context = {
        "words": words_of(language),
        "languages": LANGUAGES,
        "here": here_of(request) if here is None else here,
        "path": request.url.path,
        "navigation": [(entry.path, entry.title[language]) for entry in _navigation()],
        "reader": reader,
        "reader_account": None if reader.account is None else addresses.to_text(reader.account),
        "may_open": _may_open(gateway, reader),
    }
    text = _environment().get_template(template).render(context | values)
    headers = {**HEADERS, "Content-Language": words_of(language).tag, "Vary": "Cookie, Accept-Language"}
    return Response(
        text, status_code=status, media_type="text/html; charset=utf-8", headers=headers, cookies=list(cookies)
    )


def show_error(request: Request[Any, Any, Any], answer: Response[bytes]) -> Response[Any]:
    """Return a refusal as a page where a browser asked for one; who must sign in is led there and back."""
    if not _wants_page(request):
        return answer
    problem = msgspec.json.decode(answer.content, type=ProblemBody)
    if problem.status == HTTPStatus.UNAUTHORIZED and request.method == "GET":
        question = urlencode({"next": here_of(request), "why": "needed"})
        return Response(None, status_code=HTTPStatus.SEE_OTHER, headers={**HEADERS, "Location": f"/sign-in?{question}"})
    here = here_of(request) if request.method == "GET" else "/"
    page = show(request, "error.html", status=problem.status, here=here, problem=problem)
    for name, value in answer.headers.items():
        if name.lower() in ("retry-after", "allow", "www-authenticate"):
            page.headers[name] = value
    return page


def here_of(request: Request[Any, Any, Any]) -> str:
    """Return the path and question of a request, as a link within the console has it."""
    query = request.url.query
    return request.url.path + (f"?{query}" if query else "")


def _wants_page(request: Request[Any, Any, Any]) -> bool:
    path = request.scope["path"]
    return "text/html" in request.headers.get("accept", "") and not path.startswith(_MACHINE_PATHS)


def _may_open(gateway: Gateway, reader: Reader) -> Callable[[str], bool]:
    """Return whether this reader may open an account's page, so that a page offers no link that leads nowhere."""

    def may_open(address: str) -> bool:
        if reader.member is None:
            return False
        try:
            parties = gateway.ledger.parties([addresses.from_text(address)])
        except InvalidTransaction:
            return False
        return bool(parties.members) and reader.may_read(parties)

    return may_open


@cache
def _navigation() -> tuple[NavigationEntry, ...]:
    of_modules = [entry for pages in discover_pages() for entry in pages.navigation]
    return tuple(sorted((*NAVIGATION, *of_modules), key=lambda entry: entry.order))


@cache
def _environment() -> Environment:
    folders = [TEMPLATES, *(pages.templates for pages in discover_pages())]
    environment = Environment(
        loader=ChoiceLoader([FileSystemLoader(folder) for folder in folders]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: Mapping[str, Callable[..., str]] = {
        "number": presenting.number_text,
        "amount": presenting.amount_text,
        "hash": presenting.short_hash,
        "address": presenting.short_address,
        "time": presenting.time_text,
        "clock": presenting.clock_text,
        "machine_time": presenting.machine_time,
        "size": presenting.size_text,
    }
    environment.filters.update(filters)
    environment.globals["static_path"] = static_path
    return environment
