"""What each kind of failure tells the user and exits with."""

from feiqian.cli.output import EXIT_FAULT, EXIT_REFUSED, EXIT_USAGE
from feiqian.client.errors import Refused, Unreachable
from feiqian.consensus.genesis_file import InvalidGenesis
from feiqian.consensus.proof_file import InvalidProofFile
from feiqian.core.errors import Fault, InvalidTransaction
from feiqian.core.settings import SettingsError
from feiqian.execution.genesis import ConsortiumError
from feiqian.node.comet.hand_over import NotHandedOver
from feiqian.node.initialise import LedgerExists
from feiqian.node.restore import WrongValidatorKey
from feiqian.wallet.files import KeyFileError
from feiqian.wallet.sign_in import ChallengeSuspicious

_REFUSALS = (InvalidProofFile, ChallengeSuspicious)
_USAGE = (ConsortiumError, InvalidGenesis, KeyFileError, LedgerExists, NotHandedOver, SettingsError, WrongValidatorKey)
_FILE_USAGE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, FileExistsError, PermissionError)


_NOT_SIGNED_IN = ("api", 1)


def status_of(error: Exception) -> tuple[str, int] | None:
    """Return the sentence and the exit status for a failure, or None for one that nobody foresaw."""
    if isinstance(error, Refused) and (error.codespace, error.number) == _NOT_SIGNED_IN:
        how = "name a key file to sign in with, --key FILE, and its account, --as-account fq1…, where no other is named"
        return f"refused: only for who is signed in: {how} [api 1]", EXIT_REFUSED
    if isinstance(error, Refused | InvalidTransaction):
        return f"refused: {error.message} [{error.codespace} {error.number}]", EXIT_REFUSED
    if isinstance(error, _REFUSALS):
        return f"refused: {error}", EXIT_REFUSED
    if isinstance(error, _USAGE):
        return str(error), EXIT_USAGE
    if isinstance(error, _FILE_USAGE):
        return f"{error.filename}: {error.strerror}", EXIT_USAGE
    if isinstance(error, Unreachable):
        return f"{error}; start the ledger there (`feiqian start`), or name another with --url", EXIT_FAULT
    if isinstance(error, Fault):
        return str(error), EXIT_FAULT
    if isinstance(error, OSError):
        return f"{error.filename or 'the output'}: {error.strerror}", EXIT_FAULT
    return None
