"""`feiqian start` with a node that fails or cheats: `faulty_validator DIR FAULT`; `faulty_node.py` lists the faults."""

import sys
from pathlib import Path

from feiqian.node import supervisor


def main() -> int:
    """Run from the command line; return the exit status."""
    directory, fault = sys.argv[1:]
    supervisor.NODE = ("-m", "feiqian.testing.faulty_node", fault)
    return supervisor.supervise(Path(directory))


if __name__ == "__main__":
    sys.exit(main())
