"""Any sequence of proposals and votes against a plain model of who governs and what was decided."""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from feiqian.core.errors import InvalidTransaction
from feiqian.ledger.accounts import require_account
from feiqian.ledger.triggers import SCHEDULED
from feiqian.modules.governance.handlers import ExpireProposal
from feiqian.modules.governance.messages import (
    ChangeMember,
    FreezeAccount,
    Identity,
    ParameterChange,
    Propose,
    ReinstateMember,
    ReleaseAccount,
    RemoveMember,
    SetParameters,
    SuspendMember,
    Vote,
    Withdraw,
)
from feiqian.modules.governance.state import RULES, RULES_KEY, Rules, governors

MEMBERS = ("ada-works", "harbour-bank", "lotus-bank", "regulator")
DAY_MS = 86_400_000

members = st.sampled_from(MEMBERS)
kinds = st.sampled_from(["suspend", "reinstate", "remove", "promote", "demote", "needed", "freeze", "release"])


class Model(RuleBasedStateMachine):
    """Who governs, is suspended or gone; each proposal's action, votes and standing."""

    def new_world(self) -> Any:
        raise NotImplementedError

    def __init__(self):
        super().__init__()
        self.world = self.new_world()
        self.with_role = {"harbour-bank", "lotus-bank", "regulator"}
        self.suspended: set[str] = set()
        self.gone: set[str] = set()
        self.frozen: set[str] = set()
        self.needed = 2
        self.proposals: list[dict[str, Any]] = []

    def in_office(self):
        return self.with_role - self.suspended - self.gone

    def is_possible(self, kind, subject, number):
        if kind == "needed":
            return 1 <= number <= len(self.in_office())
        if kind in ("freeze", "release"):
            is_free = subject not in self.frozen
            return is_free and subject not in self.in_office() if kind == "freeze" else not is_free
        if subject in self.gone:
            return False
        if subject in self.frozen and (kind == "promote" or (kind == "reinstate" and subject in self.with_role)):
            return False
        remaining = len(self.in_office() - {subject})
        loses_governor = subject in self.in_office() and kind in ("suspend", "remove", "demote")
        if loses_governor and remaining < self.needed:
            return False
        return {"suspend": subject not in self.suspended, "reinstate": subject in self.suspended}.get(kind, True)

    def perform(self, kind, subject, number):
        if kind == "needed":
            self.needed = number
        elif kind == "suspend":
            self.suspended.add(subject)
        elif kind == "reinstate":
            self.suspended.remove(subject)
        elif kind == "remove":
            self.gone.add(subject)
        elif kind == "promote":
            self.with_role.add(subject)
        elif kind == "freeze":
            self.frozen.add(subject)
        elif kind == "release":
            self.frozen.remove(subject)
        else:
            self.with_role.discard(subject)

    def action(self, kind, subject, number):
        if kind == "needed":
            return SetParameters((ParameterChange("approvals_needed", number),))
        if kind in ("promote", "demote"):
            roles = ("governor",) if kind == "promote" else ()
            identity = Identity(subject, None, None, None, roles, None)
            return ChangeMember(subject, identity, self.world[subject] if kind == "promote" else None)
        if kind in ("freeze", "release"):
            return {"freeze": FreezeAccount, "release": ReleaseAccount}[kind](self.world[subject], "order 7")
        return {"suspend": SuspendMember, "reinstate": ReinstateMember, "remove": RemoveMember}[kind](subject)

    def accepted(self, message):
        before = dict(self.world.state.written)
        try:
            return self.world.run(message)
        except InvalidTransaction:
            assert self.world.state.written == before
            return None

    def settle(self, proposal):
        """Return what the votes of governors in office come to."""
        office = self.in_office()
        votes = [is_approval for member, is_approval in proposal["votes"].items() if member in office]
        if votes.count(True) >= self.needed:
            return "approved"
        return "rejected" if len(office) - votes.count(False) < self.needed else "open"

    @rule(by=members, kind=kinds, subject=members, number=st.integers(0, 4))
    def propose(self, by, kind, subject, number):
        what = (kind, subject, number)
        events = self.accepted(Propose(self.world[by], self.action(*what), ""))
        assert (events is not None) == (by in self.in_office() and self.is_possible(*what))
        if events is None:
            return
        expires_at_ms = self.world.time_ms + 7 * DAY_MS
        proposal = {"id": events[0].proposal, "by": by, "what": what, "votes": {by: True}, "until": expires_at_ms}
        proposal["standing"] = self.settle(proposal)
        self.proposals.append(proposal)
        if proposal["standing"] == "approved":
            self.perform(*what)

    @precondition(lambda self: self.proposals)
    @rule(by=members, place=st.integers(0, 5), is_approval=st.booleans())
    def vote(self, by, place, is_approval):
        proposal = self.proposals[-1 - place % len(self.proposals)]
        may_vote = by in self.in_office() and proposal["standing"] == "open" and by not in proposal["votes"]
        outcome = self.settle({"votes": {**proposal["votes"], by: is_approval}})
        is_allowed = may_vote and (outcome != "approved" or self.is_possible(*proposal["what"]))
        assert (self.accepted(Vote(self.world[by], proposal["id"], is_approval)) is not None) == is_allowed
        if is_allowed:
            proposal["votes"][by] = is_approval
            proposal["standing"] = outcome
            if outcome == "approved":
                self.perform(*proposal["what"])

    @precondition(lambda self: self.proposals)
    @rule(by=members, place=st.integers(0, 5))
    def withdraw(self, by, place):
        proposal = self.proposals[-1 - place % len(self.proposals)]
        may_act = by not in self.suspended | self.gone
        is_allowed = may_act and by == proposal["by"] and proposal["standing"] == "open"
        assert (self.accepted(Withdraw(self.world[by], proposal["id"])) is not None) == is_allowed
        if is_allowed:
            proposal["standing"] = "withdrawn"

    @rule(days=st.integers(1, 3))
    def wait(self, days):
        self.world.time_ms += days * DAY_MS
        for proposal in self.proposals:
            if proposal["standing"] == "open" and proposal["until"] <= self.world.time_ms:
                key = self.world.proposal(proposal["id"]).expiry_key
                del self.world.state.written[SCHEDULED.prefix + key]
                self.world.run(ExpireProposal(proposal["id"]))
                proposal["standing"] = "expired"

    @invariant()
    def the_ledger_agrees(self):
        assert governors(self.world.state) == tuple(sorted(self.in_office()))
        assert 1 <= self.needed <= len(self.in_office())
        assert RULES.get(self.world.state, RULES_KEY) == Rules(self.needed, 7)
        for member in MEMBERS:
            assert self.world.member(member).is_suspended == (member in self.suspended | self.gone)
            assert require_account(self.world.state, self.world[member]).is_frozen == (member in self.frozen)
        for proposal in self.proposals:
            assert self.world.proposal(proposal["id"]).status == proposal["standing"]
        open_count = sum(proposal["standing"] == "open" for proposal in self.proposals)
        assert len(list(SCHEDULED.scan(self.world.state))) == open_count


def test_any_sequence_agrees_with_the_model(new_world):
    class Run(Model):
        def new_world(self):
            return new_world()

    run_state_machine_as_test(Run, settings=settings(max_examples=60, stateful_step_count=40, deadline=None))
