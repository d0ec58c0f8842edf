"""What execution itself refuses, before any rule of a module runs."""

from feiqian.core.errors import Fault, InvalidTransaction


class ExecutionError(InvalidTransaction):
    """Root of the codespace."""

    codespace = "execution"


class WrongChain(ExecutionError):
    """The transaction was signed for another ledger."""

    number = 1


class WrongVersion(ExecutionError):
    """A transaction version that this release does not read."""

    number = 2


class SignatureInvalid(ExecutionError):
    """A signature that does not verify under its key."""

    number = 3


class SignaturesOutOfOrder(ExecutionError):
    """Signatures that are not sorted by key, or a key that signs twice."""

    number = 4


class NoSignature(ExecutionError):
    """No signature at all."""

    number = 5


class BlockLimitReached(ExecutionError):
    """The block has no room left for this transaction's work."""

    number = 6


class WorkLimitReached(ExecutionError):
    """One transaction or trigger whose work is more than a whole block may hold."""

    number = 7


ERRORS: tuple[type[ExecutionError], ...] = (
    WrongChain,
    WrongVersion,
    SignatureInvalid,
    SignaturesOutOfOrder,
    NoSignature,
    BlockLimitReached,
    WorkLimitReached,
)


class WrongRelease(Fault):
    """The rules of a height are those of another release than this one."""
