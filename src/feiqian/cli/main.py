"""`feiqian`: a thin skin over the SDK and the node. Exit 0 done, 1 refused by a rule, 2 wrong usage, 3 fault.

Commands are named by import path and loaded when they are run, so that a short one does not wait for all the others.
"""

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cyclopts import App, CycloptsError, Parameter

from feiqian.cli.output import EXIT_FAULT, EXIT_USAGE, fail

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("feiqian.cli.ledger:init", "Make a new ledger in a directory from a consortium file."),
    "testnet": ("feiqian.cli.network:make_network", "Make the directories of a network, one a validator."),
    "join": ("feiqian.cli.network:join", "Make the directory of a node that joins a running network."),
    "start": ("feiqian.cli.ledger:start", "Run a ledger, node and gateway, until SIGTERM or Ctrl-C."),
    "status": ("feiqian.cli.ledger:status", "Print how the ledger stands."),
    "address": ("feiqian.cli.ledger:address", "Print the address of an account that the consortium file named."),
    "key": ("feiqian.cli.keys:app", "Make key files, read their public halves, sign in."),
    "submit": ("feiqian.cli.submitting:submit", "Sign the messages in a file as one transaction and submit it."),
    "account": ("feiqian.cli.reading:account", "Print an account: who holds it, its balances and last entries."),
    "pending": ("feiqian.cli.reading:pending", "Print what waits for approval on behalf of an account."),
    "tx": ("feiqian.cli.reading:tx", "Print a transaction: what was asked and what came of it."),
    "block": ("feiqian.cli.reading:block", "Print a block: its place in the chain."),
    "export": ("feiqian.cli.reading:export", "Print a whole list as JSON lines."),
    "proof": ("feiqian.cli.proving:proof", "Write a proof file: a balance, a result, a record or its absence."),
    "verify": ("feiqian.cli.proving:verify", "Check a proof file offline."),
    "audit": ("feiqian.cli.upkeep:audit", "Run a ledger again from its base and compare everything."),
    "snapshot": ("feiqian.cli.upkeep:snapshot", "Write the state after a block into one checkable file."),
    "archive": ("feiqian.cli.upkeep:archive", "Put a ledger's blocks into hash-chained segment files."),
    "import": ("feiqian.cli.upkeep:import_blocks", "Put earlier blocks beside a ledger that began with a snapshot."),
}

MODULES = Path(__file__).parent.parent / "modules"


def build_app(chosen: str = "") -> App:
    """Return the command line, with every module's commands under the module's name.

    The chosen command explains itself in full; of the others, which are not loaded, stands one line each.
    """
    app = App(
        name="feiqian",
        help="A ledger that institutions run together.",
        version_flags=["--version"],
        default_parameter=Parameter(negative=()),
    )
    for name, (path, text) in COMMANDS.items():
        app.command(path, name=name, help=None if name == chosen else text)
    for commands in sorted(MODULES.glob("*/edge/commands.py")):
        module = commands.parent.parent.name
        app.command(
            f"feiqian.modules.{module}.edge.commands:app", name=module, help=f"Commands of the module {module}."
        )
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        try:
            build_app(given[0] if given else "")(given, exit_on_error=False, print_error=True)
        finally:
            sys.stdout.flush()
    except CycloptsError:
        sys.exit(EXIT_USAGE)
    except BrokenPipeError:
        _close_output()  # whoever reads it has enough
    except Exception as error:  # noqa: BLE001 - the outermost: what it does not know is a bug, and said to be one
        if isinstance(error, OSError):
            _close_output()
        _explain(error)


def _close_output() -> None:
    """Let what could not be written go: Python flushes once more at its end, and would fail a second time."""
    with contextlib.suppress(io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explain(error: Exception) -> NoReturn:
    """End with a sentence and the status for this kind of failure; with all that is known of a bug of ours."""
    from feiqian.cli.failures import status_of

    status = status_of(error)
    if status is None:
        traceback.print_exception(error)
        fail("this is a bug: please report it with the lines above", EXIT_FAULT)
    fail(*status)


if __name__ == "__main__":
    main()
