"""`python -m feiqian.api.routes_table`: writes docs/developers/routes.md, all routes and who may read each."""

import sys
from pathlib import Path

from litestar import Litestar

from feiqian.api.access import Access
from feiqian.api.app import create_app
from feiqian.api.edge import discover_edges

FILE = Path("docs/developers/routes.md")

_HEADING = """\
# Routes

Written by `python -m feiqian.api.routes_table`; a test holds it to the code. Who may call a route: *public* anyone;
*member* anyone signed in; *party* signed in and concerned by the thing asked for, others get 404; *regulator* the
administration account of a member with that role, to whom every other route is open too. What concerns a member, its
administration account reads; any other account's keys read what that account is party to.

| method | path | who | what |
|---|---|---|---|
"""


def rows_of(app: Litestar) -> list[tuple[str, str, Access, str]]:
    """Return method, path, access and first line of description of every route, in path order."""
    rows: list[tuple[str, str, Access, str]] = []
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            for method in sorted(handler.http_methods - {"OPTIONS"}):
                words = (handler.fn.__doc__ or "").strip().partition("\n")[0]
                rows.append((method, route.path, handler.opt["access"], words))
    return sorted(rows, key=lambda row: (row[1], row[0]))


def render_table(app: Litestar) -> str:
    """Return the page."""
    lines = [
        f"| {method} | `{path}` | {access.value} | {words.replace('|', '/')} |"
        for method, path, access, words in rows_of(app)
    ]
    return _HEADING + "\n".join(lines) + "\n"


def main() -> int:
    """Write the page below the current directory."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(render_table(create_app(None, discover_edges())), "utf-8")
    print(f"wrote {FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
