"""What this module refuses by itself: codespace "accounts". What the ledger refuses is in `feiqian.ledger.errors`."""

from feiqian.core.errors import InvalidTransaction


class AccountsError(InvalidTransaction):
    """Root of this module's refusals."""

    codespace = "accounts"


class NotYourAccount(AccountsError):
    """The target is another member's account, and the acting member is no governor."""

    number = 1


class FrozenByOther(AccountsError):
    """Another member froze the account; that member or a governor releases it."""

    number = 2


ERRORS: tuple[type[InvalidTransaction], ...] = (NotYourAccount, FrozenByOther)
