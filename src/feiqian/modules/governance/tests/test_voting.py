"""Propose, Vote, Withdraw and expiry: what each does, and each refusal by number."""

import pytest

from feiqian.core.encoding import encode
from feiqian.core.errors import InvalidTransaction
from feiqian.ledger.context import Claim
from feiqian.ledger.events import MemberChanged
from feiqian.ledger.records import Member
from feiqian.ledger.triggers import SCHEDULED
from feiqian.modules.governance.events import (
    ProposalApproved,
    ProposalExpired,
    ProposalRejected,
    ProposalWithdrawn,
    Proposed,
    UpgradeScheduled,
    Voted,
)
from feiqian.modules.governance.handlers import ExpireProposal
from feiqian.modules.governance.messages import (
    ChangeMember,
    ParameterChange,
    Propose,
    ReinstateMember,
    ScheduleUpgrade,
    SetParameters,
    SuspendMember,
    Vote,
    Withdraw,
)
from feiqian.modules.governance.state import BALLOTS, Ballot, Decision

WEEK_MS = 7 * 86_400_000
SUSPEND = SuspendMember("ada-works")


def test_propose_opens_with_the_proposers_approval(world):
    message = Propose(world["harbour-bank"], SUSPEND, "as agreed")
    proposed, voted = world.run(message)
    proposal = proposed.proposal
    assert proposed == Proposed(proposal, "harbour-bank", SUSPEND, "as agreed", world.time_ms + WEEK_MS)
    assert voted == Voted(proposal, "harbour-bank", True, 1, 0)
    kept = world.proposal(proposal)
    assert (kept.proposer, kept.action, kept.rationale) == ("harbour-bank", SUSPEND, "as agreed")
    assert (kept.opened_at_ms, kept.opened_at_height) == (world.time_ms, 100)
    assert (kept.expires_at_ms, kept.decision, kept.status) == (world.time_ms + WEEK_MS, None, "open")
    assert [trigger.data for _, trigger in SCHEDULED.scan(world.state)] == [encode(ExpireProposal(proposal))]
    ballot = BALLOTS.get(world.state, proposal + b"harbour-bank")
    assert ballot == Ballot(world["harbour-bank"], True, world.time_ms, 100)
    assert message.claims() == (Claim(world["harbour-bank"]),)
    assert not world.member("ada-works").is_suspended


def test_the_deciding_vote_carries_the_action_out(world):
    proposal = world.propose("harbour-bank", SUSPEND)
    world.height, world.time_ms = 105, world.time_ms + 60_000
    message = Vote(world["regulator"], proposal, True)
    suspended = Member("Ada-Works", None, None, None, ("company",), None, True)
    assert world.run(message) == [
        Voted(proposal, "regulator", True, 2, 0),
        ProposalApproved(proposal, "harbour-bank", SUSPEND, 2, 2),
        MemberChanged("ada-works", suspended),
    ]
    kept = world.proposal(proposal)
    assert kept.decision == Decision("approved", world.time_ms, 105)
    assert SCHEDULED.get(world.state, kept.expiry_key) is None
    assert message.claims() == (Claim(world["regulator"]),)
    assert world.refuse(Vote(world["lotus-bank"], proposal, True)) == ("governance", 4)


def test_enough_rejections_close_it(world):
    proposal = world.propose("harbour-bank", SUSPEND)
    assert world.vote("lotus-bank", proposal, False) == [Voted(proposal, "lotus-bank", False, 1, 1)]
    assert world.vote("regulator", proposal, False) == [
        Voted(proposal, "regulator", False, 1, 2),
        ProposalRejected(proposal, "harbour-bank", 2),
    ]
    assert world.proposal(proposal).status == "rejected"
    assert SCHEDULED.get(world.state, world.proposal(proposal).expiry_key) is None
    assert not world.member("ada-works").is_suspended


def test_where_one_approval_suffices_proposing_decides(world):
    world.enact(SetParameters((ParameterChange("approvals_needed", 1),)))
    events = world.run(Propose(world["regulator"], SUSPEND, ""))
    assert [type(event).__name__ for event in events] == ["Proposed", "Voted", "ProposalApproved", "MemberChanged"]
    assert world.member("ada-works").is_suspended
    assert world.proposal(events[0].proposal).status == "approved"
    assert list(SCHEDULED.scan(world.state)) == []


def test_propose_refuses(world):
    assert world.refuse(Propose(bytes(32), SUSPEND, "")) == ("ledger", 5)
    assert world.refuse(Propose(world["ada-works"], SUSPEND, "")) == ("governance", 1)
    world.open("counter", "harbour-bank")
    assert world.refuse(Propose(world["counter"], SUSPEND, "")) == ("ledger", 50)
    assert world.refuse(Propose(world["harbour-bank"], SuspendMember("nobody"), "")) == ("ledger", 1)


def test_a_member_without_the_role_does_not_propose(world, identity):
    world.enact(ChangeMember("lotus-bank", identity("bank"), None))
    assert world.refuse(Propose(world["lotus-bank"], SUSPEND, "")) == ("governance", 1)


def test_an_action_too_large_for_its_record_is_refused(world):
    changes = tuple(ParameterChange("é" * 48 + str(place), 2**60) for place in range(150))
    assert world.refuse(Propose(world["harbour-bank"], SetParameters(changes), "")) == ("governance", 7)


def test_vote_refuses(world):
    proposal = world.propose("harbour-bank", SUSPEND)
    assert world.refuse(Vote(world["lotus-bank"], bytes(32), True)) == ("governance", 3)
    assert world.refuse(Vote(world["ada-works"], proposal, True)) == ("governance", 1)
    assert world.refuse(Vote(world["harbour-bank"], proposal, True)) == ("governance", 5)
    assert world.refuse(Vote(world["harbour-bank"], proposal, False)) == ("governance", 5)
    world.open("branch", "lotus-bank")
    assert world.refuse(Vote(world["branch"], proposal, True)) == ("ledger", 50)
    world.time_ms += WEEK_MS
    assert world.refuse(Vote(world["lotus-bank"], proposal, True)) == ("governance", 4)


def test_a_deciding_vote_is_refused_where_the_action_no_longer_fits(world):
    proposal = world.propose("harbour-bank", SUSPEND)
    world.enact(SUSPEND)
    assert world.refuse(Vote(world["regulator"], proposal, True)) == ("governance", 9)
    world.enact(ReinstateMember("ada-works"))
    assert world.vote("regulator", proposal)[-1].record.is_suspended


def test_a_rejection_decides_where_the_approvals_given_suffice_by_then(world):
    world.enact(SetParameters((ParameterChange("approvals_needed", 3),)))
    lower = world.propose("harbour-bank", SetParameters((ParameterChange("approvals_needed", 2),)))
    world.vote("lotus-bank", lower)
    proposal = world.propose("harbour-bank", SUSPEND)
    world.vote("lotus-bank", proposal)
    world.vote("regulator", lower)
    assert world.proposal(proposal).status == "open"
    suspended = Member("Ada-Works", None, None, None, ("company",), None, True)
    assert world.vote("regulator", proposal, False) == [
        Voted(proposal, "regulator", False, 2, 1),
        ProposalApproved(proposal, "harbour-bank", SUSPEND, 2, 2),
        MemberChanged("ada-works", suspended),
    ]


def test_a_rejection_that_decides_is_refused_where_the_action_no_longer_fits(world):
    world.enact(SetParameters((ParameterChange("approvals_needed", 3),)))
    first, second, lower = (
        world.propose("harbour-bank", action)
        for action in (
            ScheduleUpgrade(1_000, 2),
            ScheduleUpgrade(2_000, 2),
            SetParameters((ParameterChange("approvals_needed", 2),)),
        )
    )
    for proposal in (first, second, lower):
        world.vote("lotus-bank", proposal)
    world.vote("regulator", lower)
    assert world.vote("regulator", first, False)[-1] == UpgradeScheduled(1_000, 2)
    assert world.refuse(Vote(world["regulator"], second, False)) == ("governance", 19)
    assert world.proposal(second).status == "open"


def test_votes_of_governors_out_of_office_do_not_count(world, identity):
    proposal = world.propose("lotus-bank", SUSPEND)
    world.vote("regulator", world.propose("harbour-bank", SuspendMember("lotus-bank")))
    assert world.refuse(Vote(world["lotus-bank"], proposal, True)) == ("ledger", 3)
    assert world.vote("regulator", proposal) == [Voted(proposal, "regulator", True, 1, 0)]
    assert world.vote("harbour-bank", proposal)[:2] == [
        Voted(proposal, "harbour-bank", True, 2, 0),
        ProposalApproved(proposal, "lotus-bank", SUSPEND, 2, 2),
    ]


def test_withdraw_takes_it_back(world):
    proposal = world.propose("harbour-bank", SUSPEND)
    message = Withdraw(world["harbour-bank"], proposal)
    assert message.claims() == (Claim(world["harbour-bank"]),)
    assert world.run(message) == [ProposalWithdrawn(proposal, "harbour-bank")]
    assert world.proposal(proposal).status == "withdrawn"
    assert list(SCHEDULED.scan(world.state)) == []
    assert world.refuse(message) == ("governance", 4)


def test_withdraw_refuses(world):
    proposal = world.propose("harbour-bank", SUSPEND)
    assert world.refuse(Withdraw(world["harbour-bank"], bytes(32))) == ("governance", 3)
    assert world.refuse(Withdraw(world["lotus-bank"], proposal)) == ("governance", 6)
    assert world.refuse(Withdraw(world["ada-works"], proposal)) == ("governance", 6)
    world.open("counter", "harbour-bank")
    assert world.refuse(Withdraw(world["counter"], proposal)) == ("ledger", 50)
    world.time_ms += WEEK_MS
    assert world.refuse(Withdraw(world["harbour-bank"], proposal)) == ("governance", 4)


def expire(world, proposal):
    """As execution does: take the due trigger out, then run it."""
    world.state.written.pop(SCHEDULED.prefix + world.proposal(proposal).expiry_key)
    return world.run(ExpireProposal(proposal))


def test_it_expires(world):
    proposal = world.propose("harbour-bank", SUSPEND)
    world.time_ms += WEEK_MS
    assert expire(world, proposal) == [ProposalExpired(proposal, "harbour-bank")]
    assert world.proposal(proposal).decision == Decision("expired", world.time_ms, 100)
    assert world.refuse(Vote(world["lotus-bank"], proposal, True)) == ("governance", 4)


def test_what_is_decided_does_not_expire(world):
    proposal = world.propose("harbour-bank", SUSPEND)
    world.withdraw("harbour-bank", proposal)
    with pytest.raises(InvalidTransaction, match="withdrawn"):
        world.run(ExpireProposal(proposal))
    with pytest.raises(InvalidTransaction, match="no proposal"):
        world.run(ExpireProposal(bytes(32)))
