"""`feiqian`: a thin skin over the SDK and the node. Exit 0 done, 1 refused by a rule, 2 wrong usage, 3 fault."""

import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

from feiqian.cli import keys, ledger, proving, reading, submitting, upkeep
from feiqian.cli.output import EXIT_FAULT, EXIT_REFUSED, EXIT_USAGE, fail
from feiqian.client import Refused, Unreachable
from feiqian.consensus.genesis_file import InvalidGenesis
from feiqian.consensus.proof_file import InvalidProofFile
from feiqian.core.errors import Fault, InvalidTransaction
from feiqian.core.settings import SettingsError
from feiqian.execution.genesis import ConsortiumError
from feiqian.node.initialise import LedgerExists
from feiqian.wallet.files import KeyFileError
from feiqian.wallet.sign_in import ChallengeSuspicious

USAGE_ERRORS = (
    ConsortiumError,
    InvalidGenesis,
    KeyFileError,
    LedgerExists,
    SettingsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    FileExistsError,
    PermissionError,
)


def build_app() -> App:
    """Return the command line with every module's commands mounted under the module's name."""
    app = App(name="feiqian", help="A ledger that institutions run together.", version_flags=["--version"])
    for room in (ledger, reading, submitting, proving, upkeep):
        room.register(app)
    app.command(keys.app)
    for commands in module_commands():
        app.command(commands)
    return app


def module_commands() -> list[App]:
    """Return the command groups that modules bring, in the modules' order."""
    from feiqian.api.edge import discover_edges

    return [edge.commands for edge in discover_edges() if edge.commands is not None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status."""
    app = build_app()
    try:
        app(arguments, exit_on_error=False, print_error=True)
    except CycloptsError:
        sys.exit(EXIT_USAGE)
    except Refused as refusal:
        fail(f"refused: {refusal.message} [{refusal.codespace} {refusal.number}]", EXIT_REFUSED)
    except InvalidTransaction as refusal:
        fail(f"refused: {refusal.message} [{refusal.codespace} {refusal.number}]", EXIT_REFUSED)
    except (InvalidProofFile, ChallengeSuspicious) as refusal:
        fail(f"refused: {refusal}", EXIT_REFUSED)
    except USAGE_ERRORS as error:
        fail(_one_line(error), EXIT_USAGE)
    except (Fault, Unreachable) as error:
        fail(str(error), EXIT_FAULT)
    except KeyboardInterrupt:
        fail("stopped", EXIT_FAULT)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}"
    return str(error)


if __name__ == "__main__":
    main()
