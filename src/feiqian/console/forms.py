"""Forms that only the console's own pages can send, and where they lead afterwards."""

from typing import Any
from urllib.parse import urlsplit

from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import Cookie
from litestar.handlers import BaseRouteHandler

from feiqian.api.problems import BadParameter, NotAllowed
from feiqian.console.frame import HEADERS

MAX_FIELD_CHARACTERS = 4096


def guard_same_origin(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Refuse a form that another site's page sent. Every browser names the origin of a POST (Fetch standard, 3.2).

    Raises:
        NotAllowed: the origin is missing or another one.
    """
    origin = connection.headers.get("origin", "")
    host = connection.headers.get("host", "")
    if not host or urlsplit(origin).netloc.lower() != host.lower():
        raise NotAllowed("the form came from another site; open the console and send it from there")


async def read_form(request: Request[Any, Any, Any], *names: str) -> list[str]:
    """Return these fields of a sent form, empty text for one that is missing.

    Raises:
        BadParameter: a field is a file, or longer than any such field is.
    """
    form = await request.form()
    values = [form.get(name, "") for name in names]
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, str) or len(value) > MAX_FIELD_CHARACTERS:
            raise BadParameter(f"{name}: text of at most {MAX_FIELD_CHARACTERS} characters")
    return values


def local_path(text: str) -> str:
    """Return a path of this console to lead on to; its first page for whatever would lead elsewhere."""
    is_plain = text.isascii() and text.isprintable() and "\\" not in text and len(text) <= MAX_FIELD_CHARACTERS
    return text if is_plain and text.startswith("/") and not text.startswith("//") else "/"


def lead_to(path: str, *cookies: Cookie) -> Response[None]:
    """Return the answer that sends the browser on to a page."""
    return Response(None, status_code=303, headers={**HEADERS, "Location": local_path(path)}, cookies=list(cookies))
