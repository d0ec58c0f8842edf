"""What this module refuses by itself: codespace "accounts". What the ledger refuses is in `feiqian.ledger.errors`."""

from feiqian.core.errors import InvalidTransaction


class AccountsError(InvalidTransaction):
    """Root of this module's refusals."""

    codespace = "accounts"


class NotYourAccount(AccountsError):
    """The target is another member's account; only governance freezes those."""

    number = 1


class FrozenByGovernance(AccountsError):
    """Governance froze the account; governance releases it."""

    number = 2


class AdministrationStays(AccountsError):
    """The administration account is not frozen by its own word: it could not release itself."""

    number = 3


ERRORS: tuple[type[InvalidTransaction], ...] = (NotYourAccount, FrozenByGovernance, AdministrationStays)
