"""One table from a broken rule, codespace and number, to ISO's ExternalStatusReason1Code."""

from feiqian.core import errors as core
from feiqian.core.errors import InvalidTransaction
from feiqian.ledger import documents
from feiqian.ledger import errors as ledger
from feiqian.modules.payments import errors as payments

UNSPECIFIED = "NARR"
"""Narrative: the reason is given in words only."""

_REASONS: dict[type[InvalidTransaction], str] = {
    payments.DuplicateInstruction: "AM05",  # Duplication
    payments.AlteredInstruction: "DU04",  # DuplicateEndToEndID
    payments.DuplicateUetr: "DU03",  # DuplicateTransaction
    payments.SameAccount: "AC01",  # IncorrectAccountNumber
    payments.AgentUnknown: "AGNT",  # IncorrectAgent
    payments.CurrencyMismatch: "AM03",  # NotAllowedCurrency
    payments.LimitExceeded: "AM14",  # AmountExceedsAgreedLimit
    payments.DebtorNotCustomer: "AC02",  # InvalidDebtorAccountNumber
    payments.CreditorNotCustomer: "AC03",  # InvalidCreditorAccountNumber
    payments.NoSettlementPath: "AGNT",
    payments.InsufficientFunds: "AM04",  # InsufficientFunds
    payments.InsufficientSettlement: "ED05",  # SettlementFailed
    payments.WrongDay: "DT01",  # InvalidDate
    payments.ReaderMissing: "RR04",  # RegulatoryReason
    payments.UetrMalformed: "FF01",  # InvalidFileFormat
    ledger.AccountUnknown: "AC01",
    ledger.AccountFrozen: "AC06",  # BlockedAccount
    ledger.AssetFrozenForAccount: "AC06",
    ledger.MemberSuspended: "AG01",  # TransactionForbidden
    ledger.MemberUnknown: "AGNT",
    ledger.NotAuthorised: "DS0H",  # NotAllowedAccount: signer not allowed to sign for this account
    ledger.SignatureNotNeeded: "DS0H",
    ledger.AssetUnknown: "AM03",
    ledger.InsufficientAvailable: "AM04",
    ledger.TransferLimitExceeded: "AM14",
    ledger.DailyLimitExceeded: "AM14",
    ledger.HolderNotListed: "AG01",
    ledger.SupplyCapExceeded: "ED05",
    ledger.BalanceOutOfRange: "AM02",  # NotAllowedAmount
    ledger.TransactionExpired: "TM01",  # InvalidCutOffTime
    ledger.SponsorOverLimit: "AM14",
    core.AmountOutOfRange: "AM12",  # InvalidAmount
    documents.ReaderUnknown: "RR04",
    documents.ReadersOutOfOrder: "RR04",
}

REASONS: dict[tuple[str, int], str] = {(error.codespace, error.number): code for error, code in _REASONS.items()}


def reason_of(codespace: str, number: int) -> str:
    """Return the ISO code for a refusal; `NARR` where no code says it."""
    return REASONS.get((codespace, number), UNSPECIFIED)
