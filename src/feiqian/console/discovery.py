"""Finds the modules' pages; nothing lists the modules by name."""

import importlib
from functools import cache
from pathlib import Path

from feiqian.console.navigation import ModulePages

MODULES = Path(__file__).parent.parent / "modules"


@cache
def discover_pages() -> tuple[ModulePages, ...]:
    """Return the pages of every module that has a file `edge/pages.py`, in the modules' name order."""
    names = [path.parent.parent.name for path in sorted(MODULES.glob("*/edge/pages.py"))]
    return tuple(importlib.import_module(f"feiqian.modules.{name}.edge.pages").PAGES for name in names)
