"""What each kind of failure tells the user and exits with."""

from feiqian.cli.output import EXIT_FAULT, EXIT_REFUSED, EXIT_USAGE
from feiqian.client.errors import Refused, Unreachable
from feiqian.consensus.genesis_file import InvalidGenesis
from feiqian.consensus.proof_file import InvalidProofFile
from feiqian.core.errors import Fault, InvalidTransaction
from feiqian.core.settings import SettingsError
from feiqian.execution.genesis import ConsortiumError
from feiqian.node.initialise import LedgerExists
from feiqian.wallet.files import KeyFileError
from feiqian.wallet.sign_in import ChallengeSuspicious

_REFUSALS = (InvalidProofFile, ChallengeSuspicious)
_USAGE = (ConsortiumError, InvalidGenesis, KeyFileError, LedgerExists, SettingsError)
_FILE_USAGE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, FileExistsError, PermissionError)


def status_of(error: Exception) -> tuple[str, int] | None:
    """Return the sentence and the exit status for a failure, or None for one that nobody foresaw."""
    if isinstance(error, Refused | InvalidTransaction):
        return f"refused: {error.message} [{error.codespace} {error.number}]", EXIT_REFUSED
    if isinstance(error, _REFUSALS):
        return f"refused: {error}", EXIT_REFUSED
    if isinstance(error, _USAGE):
        return str(error), EXIT_USAGE
    if isinstance(error, _FILE_USAGE):
        return f"{error.filename}: {error.strerror}", EXIT_USAGE
    if isinstance(error, Fault | Unreachable):
        return str(error), EXIT_FAULT
    return None
