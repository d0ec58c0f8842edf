"""What a module shows to people: the one declaration by which gateway, index, console and CLI find it.

A module exposes it as `feiqian.modules.<name>.edge.EDGE`; nothing lists the modules by name.
"""

import importlib
import importlib.util
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from litestar import Request, Response

import feiqian.modules as modules_package
from feiqian.index.projection import Projection


class Notes(NamedTuple):
    """The name of a module's own database, and its tables."""

    name: str
    tables: sa.MetaData


@dataclass(frozen=True)
class Edge:
    """All that a module brings to the gateway and the CLI.

    `routes` and `pages` are Litestar handlers, each with `opt={"access": Access.…}`; `commands` is a cyclopts app that
    `feiqian` mounts under the module's name. `notes` are the tables of what the module keeps beside the ledger, in a
    database of its own, `data/NAME.db`: facts of the ledger stand in projections, which can be built again. A module's
    own pages stand in `edge/pages.py`, where the console finds them. `show_error` turns a refusal into a page for those
    who asked for one; only the console has it.
    """

    projections: tuple[Projection, ...] = ()
    routes: tuple[Any, ...] = ()
    pages: tuple[Any, ...] = ()
    commands: Any | None = None
    notes: Notes | None = None
    show_error: Callable[[Request[Any, Any, Any], Response[bytes]], Response[Any]] | None = None


def discover_edges() -> list[Edge]:
    """Return the edge of every module that has one, in the modules' name order, the vault's and the console's."""
    edges: list[Edge] = []
    for found in sorted(pkgutil.iter_modules(modules_package.__path__), key=lambda found: found.name):
        name = f"{modules_package.__name__}.{found.name}.edge"
        spec = importlib.util.find_spec(name) if found.ispkg else None
        # A folder without an `__init__.py` declares nothing.
        if spec is not None and spec.origin is not None:
            edges.append(importlib.import_module(name).EDGE)
    # The vault is a facility of all modules; its routes import this file, so it is asked for here and not above.
    # The console stands above this room and is put in by the same door.
    vault = importlib.import_module("feiqian.api.routes.vault").VAULT_EDGE
    return [*edges, vault, importlib.import_module("feiqian.console.edge").CONSOLE_EDGE]
