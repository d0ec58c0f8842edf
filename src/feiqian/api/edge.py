"""What a module shows to people: the one declaration by which gateway, index, console and CLI find it.

A module exposes it as `feiqian.modules.<name>.edge.EDGE`; nothing lists the modules by name.
"""

import importlib
import importlib.util
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import feiqian.modules as modules_package
from feiqian.index.projection import Projection


@dataclass(frozen=True)
class NavigationEntry:
    """One line of the console's menu; `title` maps a language (`zh`, `en`) to its words."""

    path: str
    title: dict[str, str]
    order: int = 100


@dataclass(frozen=True)
class Edge:
    """All that a module brings to the gateway and the CLI.

    `routes` and `pages` are Litestar handlers, each with `opt={"access": Access.…}`; `commands` is a cyclopts app that
    `feiqian` mounts under the module's name; `templates` is a folder of Jinja2 templates.
    """

    projections: tuple[Projection, ...] = ()
    routes: tuple[Any, ...] = ()
    pages: tuple[Any, ...] = ()
    commands: Any | None = None
    templates: Path | None = None
    navigation: tuple[NavigationEntry, ...] = ()


def discover_edges() -> list[Edge]:
    """Return the edge of every module that has one, in the modules' name order, and the vault's."""
    edges: list[Edge] = []
    for found in sorted(pkgutil.iter_modules(modules_package.__path__), key=lambda found: found.name):
        name = f"{modules_package.__name__}.{found.name}.edge"
        spec = importlib.util.find_spec(name) if found.ispkg else None
        # A folder without an `__init__.py` declares nothing.
        if spec is not None and spec.origin is not None:
            edges.append(importlib.import_module(name).EDGE)
    return edges
