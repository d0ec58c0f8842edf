"""What the console shows: its own pages and those of every module, as the gateway mounts them."""

from feiqian.api.edge import Edge
from feiqian.console.discovery import discover_pages
from feiqian.console.frame import show_error
from feiqian.console.pages import accounts, chain, files, overview, proofs, session

CONSOLE_EDGE = Edge(
    pages=(
        *overview.PAGES,
        *chain.PAGES,
        *accounts.PAGES,
        *proofs.PAGES,
        *session.PAGES,
        *files.PAGES,
        *(handler for pages in discover_pages() for handler in pages.handlers),
    ),
    show_error=show_error,
)
