"""The rules of assets that a message may break; numbers are permanent. Those on value itself are the ledger's."""

from feiqian.core.errors import InvalidTransaction


class AssetsError(InvalidTransaction):
    """Root of the codespace."""

    codespace = "assets"


class NotIssuanceAccount(AssetsError):
    """The message acts for another account than the asset's issuance account."""

    number = 1


class SelfTransfer(AssetsError):
    """Payer and payee are one account."""

    number = 2


class IssuanceByTransfer(AssetsError):
    """Units enter by Issue and leave by Redeem, never by a transfer or hold from or to the issuance account."""

    number = 3


class ReasonUnknown(AssetsError):
    """The reason is none of the enumerated codes."""

    number = 4


class NotBeneficiary(AssetsError):
    """The message acts for another account than the hold's beneficiary."""

    number = 5


class HoldOfOtherAsset(AssetsError):
    """The message names another asset than the hold's."""

    number = 6


class HoldTooLong(AssetsError):
    """A hold ends within the longest time that units may stay reserved."""

    number = 7


class CodeNotOfIssuer(AssetsError):
    """A code defined by message ends in a dot and its issuer's id, so that no member takes another's name."""

    number = 8


class NotAnIssuer(AssetsError):
    """The member has no role that may issue assets."""

    number = 9


class LimitAboveCap(AssetsError):
    """A limit that could never bind: per transfer above the daily one, or daily above the supply cap."""

    number = 10


ERRORS: tuple[type[AssetsError], ...] = (
    NotIssuanceAccount,
    SelfTransfer,
    IssuanceByTransfer,
    ReasonUnknown,
    NotBeneficiary,
    HoldOfOtherAsset,
    HoldTooLong,
    CodeNotOfIssuer,
    NotAnIssuer,
    LimitAboveCap,
)
