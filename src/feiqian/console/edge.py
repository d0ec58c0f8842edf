"""What the console shows: its own pages and those of every module, as the gateway mounts them."""

from feiqian.api.edge import Edge

CONSOLE_EDGE = Edge()
