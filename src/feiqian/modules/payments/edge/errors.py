"""Why a payment file is refused whole, by permanent number; where a pain.002 can answer, ISO's code with it."""

from typing import ClassVar

from feiqian.core.errors import InvalidTransaction


class FileRefused(InvalidTransaction):
    """Root of the codespace. Nothing of a refused file moves.

    `reason` is the ExternalStatusReason1Code of the pain.002 that answers; None where the file is no readable message.
    """

    codespace = "payments.files"
    reason: ClassVar[str | None] = None


class FileTooLarge(FileRefused):
    """More bytes than a payment file may have."""

    number = 1


class FileNotUtf8(FileRefused):
    """Bytes that are not UTF-8, or an XML declaration that names another encoding."""

    number = 2


class FileNotXml(FileRefused):
    """Not well-formed XML."""

    number = 3


class DoctypeForbidden(FileRefused):
    """A document type declaration: entities and external references begin there."""

    number = 4


class FileTooDeep(FileRefused):
    """Elements nested deeper than any ISO 20022 message."""

    number = 5


class TooManyElements(FileRefused):
    """More elements or attributes than a payment file may have."""

    number = 6


class MessageUnknown(FileRefused):
    """A root element or namespace of no message that is read here."""

    number = 7


class SchemaViolated(FileRefused):
    """The message breaks its published schema."""

    number = 8


class TooManyPayments(FileRefused):
    """More payments than one file may hold."""

    number = 9
    reason = "AM18"


class CountMismatch(FileRefused):
    """The number of transactions stated is not the number there is."""

    number = 10
    reason = "AM18"


class ControlSumMismatch(FileRefused):
    """The control sum stated is not the sum of the amounts."""

    number = 11
    reason = "AM10"


class TwoCurrencies(FileRefused):
    """One batch with more than one currency."""

    number = 12
    reason = "AM03"


class BatchRepeated(FileRefused):
    """Two batches of one file with the same PmtInfId."""

    number = 13
    reason = "DU02"


ERRORS: tuple[type[FileRefused], ...] = (
    FileTooLarge,
    FileNotUtf8,
    FileNotXml,
    DoctypeForbidden,
    FileTooDeep,
    TooManyElements,
    MessageUnknown,
    SchemaViolated,
    TooManyPayments,
    CountMismatch,
    ControlSumMismatch,
    TwoCurrencies,
    BatchRepeated,
)
