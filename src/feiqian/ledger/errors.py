"""What the ledger refuses: codespace "ledger", one permanent number for each rule."""

from feiqian.core.errors import InvalidTransaction


class LedgerError(InvalidTransaction):
    """Root of what the ledger itself refuses."""

    codespace = "ledger"


class MemberUnknown(LedgerError):
    """No member has this id."""

    number = 1


class MemberExists(LedgerError):
    """A member with this id was admitted before."""

    number = 2


class MemberSuspended(LedgerError):
    """The member may not act while it is suspended."""

    number = 3


class MalformedMember(LedgerError):
    """A member's id or record does not have the required form."""

    number = 4


class AccountUnknown(LedgerError):
    """No account was opened at this address."""

    number = 5


class AccountExists(LedgerError):
    """The same member, policy and salt opened this account before."""

    number = 6


class AccountFrozen(LedgerError):
    """A frozen account neither acts nor sends nor receives."""

    number = 7


class MalformedPolicy(LedgerError):
    """A policy that could not be met, is ambiguous or is too large."""

    number = 8


class NoAccountClaimed(LedgerError):
    """A message must act for at least one account."""

    number = 9


class NotAuthorised(LedgerError):
    """The signatures do not meet the policy of an account that the message acts for."""

    number = 10


class SignatureNotNeeded(LedgerError):
    """A signature by a key that no policy asked for."""

    number = 11


class SponsorNotConcerned(LedgerError):
    """The sponsor must be the member of an account that the transaction acts for."""

    number = 12


class AssetUnknown(LedgerError):
    """No asset has this code."""

    number = 13


class AssetExists(LedgerError):
    """An asset with this code was defined before."""

    number = 14


class MalformedAsset(LedgerError):
    """An asset's definition does not hold together."""

    number = 15


class MalformedEntry(LedgerError):
    """An entry with too few or too many legs, or a leg of zero or beyond range."""

    number = 16


class EntryNotBalanced(LedgerError):
    """The legs of one asset do not sum to zero."""

    number = 17


class EntryMovesNothing(LedgerError):
    """Every account ends where it began: a transfer to oneself."""

    number = 18


class InsufficientAvailable(LedgerError):
    """Posted less held would fall below minus the agreed limit."""

    number = 19


class BalanceOutOfRange(LedgerError):
    """A balance would pass 2^62 minor units."""

    number = 20


class SupplyCapExceeded(LedgerError):
    """Issuing would pass the asset's supply cap."""

    number = 21


class AssetFrozenForAccount(LedgerError):
    """The account is frozen for this asset."""

    number = 22


class HolderNotListed(LedgerError):
    """Only listed accounts may receive this asset."""

    number = 23


class TransferLimitExceeded(LedgerError):
    """One transfer is above the asset's limit per transfer."""

    number = 24


class DailyLimitExceeded(LedgerError):
    """What leaves the account on one UTC day is above the asset's limit."""

    number = 25


class NotController(LedgerError):
    """Only the asset's controller may do this."""

    number = 26


class NotIssuer(LedgerError):
    """Only the asset's issuance account may do this."""

    number = 27


class NotFreezable(LedgerError):
    """The asset was defined without freezing."""

    number = 28


class NotAllowListed(LedgerError):
    """The asset was defined without a list of holders."""

    number = 29


class LimitBelowUse(LedgerError):
    """A credit limit below what the account already uses of it."""

    number = 30


class IssuanceLimitFixed(LedgerError):
    """The issuance account's limit is the supply cap."""

    number = 31


class HoldUnknown(LedgerError):
    """No hold with this id is open."""

    number = 32


class HoldPastExpiry(LedgerError):
    """The hold's time is over; it can no longer be posted."""

    number = 33


class MalformedHold(LedgerError):
    """A hold, or a posting of one, with an amount, leg or expiry that cannot be."""

    number = 34


class NotHoldController(LedgerError):
    """The hold belongs to another module."""

    number = 35


class TriggerNotAhead(LedgerError):
    """A trigger must fall due after the block that schedules it."""

    number = 36


class ParametersOutOfRange(LedgerError):
    """A consensus parameter outside what it accepts."""

    number = 37


class TransactionExpired(LedgerError):
    """The transaction's expiry is before block time."""

    number = 38


class ExpiryTooFar(LedgerError):
    """The transaction's expiry is further ahead of block time than the replay window."""

    number = 39


class TransactionReplayed(LedgerError):
    """The transaction's id is used up."""

    number = 40


class SponsorOverLimit(LedgerError):
    """The sponsor has used its bytes or work of this block or day."""

    number = 41


class PendingUnknown(LedgerError):
    """No pending approval with this id is open."""

    number = 42


class PendingPastExpiry(LedgerError):
    """The pending approval's time is over."""

    number = 43


class NotConcerned(LedgerError):
    """The account is not one that the pending messages act for."""

    number = 44


class AlreadyApproved(LedgerError):
    """These keys approved before, and the policies are still not met."""

    number = 45


class NestedProposal(LedgerError):
    """A proposal may not hold proposals or approvals."""

    number = 46


class MalformedProposal(LedgerError):
    """A proposal with too many or too large messages, or too long an expiry."""

    number = 47


class NotProposer(LedgerError):
    """Only the account that proposed may withdraw."""

    number = 48


class NothingChanges(LedgerError):
    """The state asked for is the one that is."""

    number = 49


class NotAdministration(LedgerError):
    """Only the member's administration account may do this: accounts that it opened for others do not speak for it."""

    number = 50


class NotMembersAccount(LedgerError):
    """A member's administration account is one of its own."""

    number = 51


class TooManyHolds(LedgerError):
    """So many holds are open on the account in this asset that another would go beyond the limit."""

    number = 52


class NoValidators(LedgerError):
    """The ledger has no validators: a solo ledger's one node signs its blocks."""

    number = 53


class ValidatorUnknown(LedgerError):
    """No validator has this key."""

    number = 54


class NodeUnknown(LedgerError):
    """No node with this key is registered."""

    number = 55


class KeyTaken(LedgerError):
    """The key is that of another member's validator, or of a node that is registered already."""

    number = 56


class NameTaken(LedgerError):
    """Another validator, or another node, has this name."""

    number = 57


class MalformedValidator(LedgerError):
    """A validator's or node's member, name or power does not have the required form."""

    number = 58


class LastValidator(LedgerError):
    """The set of validators never becomes empty."""

    number = 59


class TotalPowerExceeded(LedgerError):
    """The validators' powers add up to more than CometBFT counts."""

    number = 60


class TooMuchPowerLeaves(LedgerError):
    """Validators that stay keep at least two thirds of the power that the set had at the block's start."""

    number = 61


ERRORS: tuple[type[InvalidTransaction], ...] = (
    MemberUnknown,
    MemberExists,
    MemberSuspended,
    MalformedMember,
    AccountUnknown,
    AccountExists,
    AccountFrozen,
    MalformedPolicy,
    NoAccountClaimed,
    NotAuthorised,
    SignatureNotNeeded,
    SponsorNotConcerned,
    AssetUnknown,
    AssetExists,
    MalformedAsset,
    MalformedEntry,
    EntryNotBalanced,
    EntryMovesNothing,
    InsufficientAvailable,
    BalanceOutOfRange,
    SupplyCapExceeded,
    AssetFrozenForAccount,
    HolderNotListed,
    TransferLimitExceeded,
    DailyLimitExceeded,
    NotController,
    NotIssuer,
    NotFreezable,
    NotAllowListed,
    LimitBelowUse,
    IssuanceLimitFixed,
    HoldUnknown,
    HoldPastExpiry,
    MalformedHold,
    NotHoldController,
    TriggerNotAhead,
    ParametersOutOfRange,
    TransactionExpired,
    ExpiryTooFar,
    TransactionReplayed,
    SponsorOverLimit,
    PendingUnknown,
    PendingPastExpiry,
    NotConcerned,
    AlreadyApproved,
    NestedProposal,
    MalformedProposal,
    NotProposer,
    NothingChanges,
    NotAdministration,
    NotMembersAccount,
    TooManyHolds,
    NoValidators,
    ValidatorUnknown,
    NodeUnknown,
    KeyTaken,
    NameTaken,
    MalformedValidator,
    LastValidator,
    TotalPowerExceeded,
    TooMuchPowerLeaves,
)
