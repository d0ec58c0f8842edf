"""The gateway's HTTP application: core routes, the modules' own, access, errors, limits. Makes nothing by itself."""

from collections.abc import Callable, Sequence
from typing import Any

from litestar import Litestar, Request, Response, Router
from litestar.config.response_cache import ResponseCacheConfig
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from feiqian.api.access import Access, guard_access, provide_reader, require_declared_access
from feiqian.api.edge import Edge
from feiqian.api.gateway import Gateway
from feiqian.api.problems import (
    Problem,
    handle_http,
    handle_index_away,
    handle_problem,
    handle_refusal,
    handle_unexpected,
)
from feiqian.api.routes import accounts, chain, comet, events, health, proofs, session, submission
from feiqian.core.errors import InvalidTransaction
from feiqian.index.reading import IndexAway

API_VERSION = "1.0.0"
CORE_ROUTES = (
    *submission.ROUTES,
    *chain.ROUTES,
    *comet.ROUTES,
    *accounts.ROUTES,
    *proofs.ROUTES,
    *session.ROUTES,
    *events.ROUTES,
    *health.ROUTES,
)


def create_app(gateway: Gateway | None, edges: Sequence[Edge], more: Sequence[Any] = ()) -> Litestar:
    """Return the application over a gateway's parts, with the modules' routes and pages, and `more` handlers.

    Without a gateway it can be looked at (its table of routes, its description) and not served.

    Raises:
        Fault: a route does not declare its access.
    """
    handlers = [*CORE_ROUTES, *more]
    for edge in edges:
        handlers.extend([*edge.routes, *edge.pages])
    app = Litestar(
        route_handlers=handlers,
        state=State({"gateway": gateway}, deep_copy=False),
        guards=[guard_access],
        dependencies={
            "reader": Provide(provide_reader),
            "gateway": Provide(_provide_gateway),
        },
        exception_handlers={kind: _shown(handler, edges) for kind, handler in _REFUSALS.items()},
        openapi_config=_openapi(),
        request_max_body_size=None,
        response_cache_config=ResponseCacheConfig(default_expiration=0),
        debug=False,
        pdb_on_exception=False,
        logging_config=None,
    )
    require_declared_access(app)
    return app


_REFUSALS: dict[type[Exception], Callable[[Request[Any, Any, Any], Any], Response[bytes]]] = {
    Problem: handle_problem,
    InvalidTransaction: handle_refusal,
    IndexAway: handle_index_away,
    HTTPException: handle_http,
    Exception: handle_unexpected,
}


def _shown(handler: Callable[[Request[Any, Any, Any], Any], Response[bytes]], edges: Sequence[Edge]) -> Any:
    """Return the handler with its answer given over to an edge that may show it as a page."""
    show_error = next((edge.show_error for edge in edges if edge.show_error is not None), None)
    if show_error is None:
        return handler
    return lambda request, error: show_error(request, handler(request, error))


async def _provide_gateway(request: Request[Any, Any, Any]) -> Gateway:
    return request.app.state.gateway


def _openapi() -> OpenAPIConfig:
    bearer = SecurityScheme(type="http", scheme="bearer", description="The token of POST /api/v1/session")
    return OpenAPIConfig(
        title="Feiqian",
        version=API_VERSION,
        description="A ledger that institutions run together. Errors are problem+json with codespace and number.",
        path="/schema",
        render_plugins=[JsonRenderPlugin()],
        openapi_router=Router(path="/schema", route_handlers=[], opt={"access": Access.PUBLIC}),
        components=Components(security_schemes={"session": bearer}),
        use_handler_docstrings=True,
    )
