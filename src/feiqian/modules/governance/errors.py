"""The rules of governance that a message may break; numbers are permanent. Those on members are the ledger's."""

from feiqian.core.errors import InvalidTransaction


class GovernanceError(InvalidTransaction):
    """Root of the codespace."""

    codespace = "governance"


class NotGovernor(GovernanceError):
    """The member does not have the role `governor`."""

    number = 1


class ProposalUnknown(GovernanceError):
    """No proposal has this id."""

    number = 3


class ProposalClosed(GovernanceError):
    """The proposal was decided or withdrawn, or its voting days are over."""

    number = 4


class AlreadyVoted(GovernanceError):
    """A member votes once on a proposal, and its proposer approved it by proposing."""

    number = 5


class NotProposer(GovernanceError):
    """Only the member that made a proposal withdraws it."""

    number = 6


class ActionTooLarge(GovernanceError):
    """An action of more bytes than a proposal's record may hold."""

    number = 7


class AlreadyLeft(GovernanceError):
    """The member has left; that is final."""

    number = 8


class AlreadySuspended(GovernanceError):
    """The member is suspended already."""

    number = 9


class NotSuspended(GovernanceError):
    """The member is not suspended."""

    number = 10


class TooFewGovernors(GovernanceError):
    """Fewer active governors would remain than approvals are needed."""

    number = 11


class AdministrationUnfit(GovernanceError):
    """A governor has an administration account that is not frozen: by it alone it proposes and votes."""

    number = 12


class ParameterUnknown(GovernanceError):
    """No parameter of this name can be set by vote."""

    number = 14


class ParametersOutOfOrder(GovernanceError):
    """Changes are sorted by name, each parameter once."""

    number = 15


class ParameterOutOfRange(GovernanceError):
    """A value outside the bounds within which the ledger can be governed."""

    number = 16


class UpgradeTooSoon(GovernanceError):
    """The upgrade height leaves operators no time."""

    number = 17


class UpgradeVersionWrong(GovernanceError):
    """Upgrades lead to the next version of the rules, one by one."""

    number = 18


class UpgradeAlreadyScheduled(GovernanceError):
    """An upgrade is scheduled already; cancel it first."""

    number = 19


class NoUpgradeScheduled(GovernanceError):
    """There is no upgrade to cancel."""

    number = 20


class RolesOutOfOrder(GovernanceError):
    """A member's roles are sorted, each once."""

    number = 21


class GenesisIncomplete(GovernanceError):
    """The consortium file's `[governance]` does not make a ledger that its members can govern."""

    number = 22


class FrozenAlready(GovernanceError):
    """Governance has frozen the account already."""

    number = 23


class NotFrozenByVote(GovernanceError):
    """Governance releases what it froze; its own member releases what that member froze."""

    number = 24


class GovernorsAdministration(GovernanceError):
    """A governor in office keeps the account that it votes by; suspend the member instead."""

    number = 25


class MemberRunsValidator(GovernanceError):
    """A member that leaves runs no validator any more: remove its validators first."""

    number = 26


class ValidatorMisbehavedBefore(GovernanceError):
    """A key that consensus proved misbehaviour of is not added again and gains no power."""

    number = 27


ERRORS: tuple[type[GovernanceError], ...] = (
    NotGovernor,
    ProposalUnknown,
    ProposalClosed,
    AlreadyVoted,
    NotProposer,
    ActionTooLarge,
    AlreadyLeft,
    AlreadySuspended,
    NotSuspended,
    TooFewGovernors,
    AdministrationUnfit,
    ParameterUnknown,
    ParametersOutOfOrder,
    ParameterOutOfRange,
    UpgradeTooSoon,
    UpgradeVersionWrong,
    UpgradeAlreadyScheduled,
    NoUpgradeScheduled,
    RolesOutOfOrder,
    GenesisIncomplete,
    FrozenAlready,
    NotFrozenByVote,
    GovernorsAdministration,
    MemberRunsValidator,
    ValidatorMisbehavedBefore,
)
