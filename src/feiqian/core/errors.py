"""The three error roots: whose fault it is decides what happens next."""

from typing import ClassVar


class InvalidTransaction(Exception):
    """The sender's fault: recorded with codespace, number and the broken rule; state stays as it was.

    Each rule is one subclass with a permanent `number`, unique inside its `codespace`.
    The message names the rule, the offending value and what would be accepted.
    """

    codespace: ClassVar[str] = ""
    number: ClassVar[int] = 0

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidBlock(Exception):
    """A proposer's fault: the proposal is refused, by an answer and never by an exception through the engine.

    `rule` is the name of what was broken: that of a transaction's error, or of a rule for blocks.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


class Fault(Exception):
    """Ours: the node stops at once, before it signs or stores anything more. Never caught and carried on."""


class CoreError(InvalidTransaction):
    """Root of what `core` itself refuses."""

    codespace = "core"


class Undecodable(CoreError):
    """Bytes that are not the encoding of the expected type."""

    number = 1


class NonCanonical(CoreError):
    """Bytes that decode, but are not the one encoding of their value."""

    number = 2


class TooLarge(CoreError):
    """A transaction, record, key or list beyond its limit."""

    number = 3


class MalformedAddress(CoreError):
    """Text that is no bech32m address with prefix `fq`."""

    number = 4


class MalformedKey(CoreError):
    """A public key that its scheme refuses (length, low order, non-canonical, off the curve)."""

    number = 5


class UnknownScheme(CoreError):
    """A signature scheme id that is not in the registry."""

    number = 6


class AmountOutOfRange(CoreError):
    """An amount below or above what its field accepts, or an addition that would overflow."""

    number = 7
