"""The rules of payments that can be broken, each with its permanent number."""

from feiqian.core.errors import InvalidTransaction


class PaymentsError(InvalidTransaction):
    """Root of the codespace."""

    codespace = "payments"


class DuplicateInstruction(PaymentsError):
    """The debtor has already paid this instruction, with the same contents."""

    number = 1


class AlteredInstruction(PaymentsError):
    """The debtor has already paid an instruction of this id, with other contents."""

    number = 2


class DuplicateUetr(PaymentsError):
    """The debtor has already used this UETR for another instruction."""

    number = 3


class SameAccount(PaymentsError):
    """Debtor and creditor are the same account at the same agent."""

    number = 4


class AgentUnknown(PaymentsError):
    """No bank has stated standing authority for payments in this deposit asset."""

    number = 5


class AgentKnown(PaymentsError):
    """The deposit asset already has an agent; remove it before stating other terms."""

    number = 6


class CurrencyMismatch(PaymentsError):
    """Payment and deposit assets differ in currency, or an agent's two assets in currency or scale."""

    number = 7


class LimitExceeded(PaymentsError):
    """The amount is above what the debtor agent lets one payment be."""

    number = 8


class DebtorNotCustomer(PaymentsError):
    """The debtor's account is under no open account number at the debtor agent."""

    number = 9


class CreditorNotCustomer(PaymentsError):
    """The creditor's account is under no open account number at the creditor agent."""

    number = 10


class NoSettlementPath(PaymentsError):
    """The two agents settle in different assets."""

    number = 11


class InsufficientFunds(PaymentsError):
    """The debtor's available deposit does not cover the payment."""

    number = 12


class InsufficientSettlement(PaymentsError):
    """The debtor agent's settlement asset and credit line do not cover the payment."""

    number = 13


class WrongDay(PaymentsError):
    """The requested execution date is not today anywhere on Earth."""

    number = 14


class ReaderMissing(PaymentsError):
    """The particulars are not sealed for everyone who has to be able to read them."""

    number = 15


class NotAgentsAccount(PaymentsError):
    """An account named for an agent does not belong to the bank, or does not issue its deposit asset."""

    number = 16


class NotABank(PaymentsError):
    """The deposit asset's issuer lacks the role `bank`."""

    number = 17


class AliasUnknown(PaymentsError):
    """The agent's directory has no open entry under this digest."""

    number = 18


class AliasKnown(PaymentsError):
    """The agent's directory already has an open entry under this digest."""

    number = 19


class NotForCustomers(PaymentsError):
    """A customer's account number cannot mean an account from which the agent issues or settles."""

    number = 20


class UetrMalformed(PaymentsError):
    """The UETR is not a version 4 UUID."""

    number = 21


ERRORS: tuple[type[PaymentsError], ...] = (
    DuplicateInstruction,
    AlteredInstruction,
    DuplicateUetr,
    SameAccount,
    AgentUnknown,
    AgentKnown,
    CurrencyMismatch,
    LimitExceeded,
    DebtorNotCustomer,
    CreditorNotCustomer,
    NoSettlementPath,
    InsufficientFunds,
    InsufficientSettlement,
    WrongDay,
    ReaderMissing,
    NotAgentsAccount,
    NotABank,
    AliasUnknown,
    AliasKnown,
    NotForCustomers,
    UetrMalformed,
)
