"""What a module's pages declare to the console, as `feiqian.modules.<name>.edge.pages.PAGES`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class NavigationEntry:
    """One line of the console's menu; `title` maps each language to its words."""

    path: str
    title: dict[str, str]
    order: int = 100


@dataclass(frozen=True)
class ModulePages:
    """A module's pages: Litestar handlers that declare their access, templates of its own, lines in the menu."""

    handlers: tuple[Any, ...]
    templates: Path
    navigation: tuple[NavigationEntry, ...] = ()
