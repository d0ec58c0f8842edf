"""The release after this one, for tests: rules of version 2, whose migration gives blocks another limit of work.

`next_release start DIR` is its `feiqian start`, `next_release node DIR` its node, `next_release audit …` its
`feiqian audit`.
"""

import sys
from pathlib import Path
from typing import Any, cast

import msgspec

from feiqian.cli import main as cli
from feiqian.execution import upgrades
from feiqian.ledger.context import Context
from feiqian.ledger.parameters import get_parameters, set_parameters
from feiqian.modules.governance import MODULE
from feiqian.node import main as node
from feiqian.node import supervisor

NEXT_VERSION = upgrades.APP_VERSION + 1
MAX_BLOCK_WORK = 12_345_678


def arm() -> None:
    """Make this process one of the next release."""
    for function in (upgrades.run_upgrade, upgrades.check_release):
        function.__defaults__ = (NEXT_VERSION,)
    cast(dict[int, Any], MODULE.migrations)[NEXT_VERSION] = _migrate


def _migrate(ctx: Context) -> None:
    parameters = get_parameters(ctx.state)
    set_parameters(ctx, msgspec.structs.replace(parameters, max_block_work=MAX_BLOCK_WORK))


def main() -> int:
    """Run from the command line; return the exit status."""
    command, *rest = sys.argv[1:]
    arm()
    if command == "start":
        supervisor.NODE = ("-m", "feiqian.testing.next_release", "node")
        return supervisor.supervise(Path(rest[0]))
    if command == "node":
        return node.main(rest)
    cli.main([command, *rest])
    return 0


if __name__ == "__main__":
    sys.exit(main())
