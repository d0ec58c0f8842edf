"""How governance takes part in the simulation: proposals of every action, votes, withdrawals, expiry."""

from collections.abc import Mapping
from typing import Any

from feiqian.core.encoding import Record, encode
from feiqian.ledger.authority import single_key_policy
from feiqian.ledger.context import Message
from feiqian.ledger.records import Policy, PolicyKey, PolicyRule, RoleThreshold
from feiqian.ledger.validators import Misbehaviour
from feiqian.modules.governance.handlers import ExpireProposal
from feiqian.modules.governance.messages import (
    Action,
    AdmitMember,
    CancelUpgrade,
    ChangeMember,
    FreezeAccount,
    Identity,
    ParameterChange,
    Propose,
    RegisterNode,
    ReinstateMember,
    ReleaseAccount,
    RemoveMember,
    RemoveNode,
    RemoveValidator,
    ScheduleUpgrade,
    SetParameters,
    SetValidator,
    SuspendMember,
    Vote,
    Withdraw,
)
from feiqian.modules.governance.state import (
    Ballot,
    Decision,
    Departure,
    MisbehaviourRecord,
    Proposal,
    Rules,
)
from feiqian.testing.simulation import Simulation
from feiqian.testing.simulation.consortium import KEYS, NETWORK_KEYS
from feiqian.testing.simulation.model import (
    DAY_MS,
    MemberFacts,
    Model,
    Refusal,
    Rule,
    Run,
    ValidatorFacts,
    account_of,
    active_member,
    administered_by,
    check_administration,
    check_policy,
    open_account,
    refuse,
)
from feiqian.testing.simulation.picking import UNKNOWN_ID, Pick
from feiqian.testing.simulation.records import trigger_key
from feiqian.testing.simulation.reference import comet_address

NOTICE_BLOCKS = 10
BAD_KEY = bytes(32)
"""A point of small order."""
MAX_ACTION_BYTES = 15 * 1024
BOUNDS = {
    "max_approval_days": (1, 366),
    "max_block_bytes": (512 * 1024, 16 * 2**20),
    "max_block_work": (2_000_000, 200_000_000),
    "max_triggers_per_block": (10, 10_000),
    "max_window_deletes": (1, 10_000),
    "proof_window": (600, 10_000_000),
    "replay_window_ms": (60_000, 600_000),
    "sponsor_block_bytes": (256 * 1024, 16 * 2**20),
    "sponsor_block_work": (1_000_000, 200_000_000),
    "sponsor_day_bytes": (16 * 2**20, 2**53),
    "sponsor_day_work": (100_000_000, 2**53),
    "approvals_needed": (1, 1_000),
    "voting_days": (1, 366),
}
# Larger than an action may be: 9 rules of 32 kinds of 64 characters each.
LARGE_POLICY = Policy(
    (PolicyKey(KEYS["spare"].public, 1, "owner"),),
    (PolicyRule(tuple(f"assets.{place:057}" for place in range(32)), None, None, (RoleThreshold("owner", 1),)),) * 9,
)
OWN_RULES = ("approvals_needed", "voting_days")

GENESIS = {"approvals_needed": 2, "voting_days": 2}


def found(model: Model, names: Mapping[str, bytes]) -> None:
    """Write the rules of `GENESIS`."""
    model.table("governance.rules").update(GENESIS)


def opening(names: Mapping[str, bytes]) -> list[Message]:
    """Return proposals to vote on."""
    identity = Identity("Reed Ltd", None, None, None, ("governor",), None)
    joining = AdmitMember("reed", identity, single_key_policy(KEYS["spare"].public), bytes(8))
    # Where this one passes, one governor decides alone from then on, and much more is decided.
    alone = SetParameters((ParameterChange("approvals_needed", 1),))
    return [Propose(names["mint"], joining, ""), Propose(names["north"], alone, "")]


def in_office(model: Model) -> list[str]:
    return [name for name, facts in model.members.items() if "governor" in facts.roles and not facts.is_suspended]


# --- actions ---


def check(run: Run, action: Record) -> None:
    """Refuse an action that could not be carried out now."""
    CHECKS[type(action)](run, action)


def carry_out(run: Run, action: Record) -> None:
    """Do what an action says."""
    EFFECTS[type(action)](run, action)


def present(model: Model, member: str) -> MemberFacts:
    refuse(member not in model.members, "ledger", 1)
    refuse(member in model.table("governance.departures"), "governance", 8)
    return model.members[member]


def check_without(model: Model, member: str) -> None:
    governors = in_office(model)
    if member in governors:
        refuse(len(governors) - 1 < model.table("governance.rules")["approvals_needed"], "governance", 11)


def check_identity(identity: Identity) -> None:
    refuse(list(identity.roles) != sorted(set(identity.roles)), "governance", 21)


def check_admit(run: Run, action: AdmitMember) -> None:
    refuse(action.member in run.model.members, "ledger", 2)
    check_identity(action.identity)
    check_policy(action.policy)


def admit(run: Run, action: AdmitMember) -> None:
    run.model.members[action.member] = facts_of(action.identity, False)
    open_account(run.model, action.member, action.policy, action.salt)


def check_remove(run: Run, action: RemoveMember) -> None:
    present(run.model, action.member)
    refuse(any(facts.member == action.member for facts in run.model.validators.values()), "governance", 26)
    check_without(run.model, action.member)


def remove(run: Run, action: RemoveMember) -> None:
    model = run.model
    model.members[action.member] = model.members[action.member]._replace(roles=(), is_suspended=True)
    model.table("governance.departures")[action.member] = (run.time_ms, run.height)
    model.nodes = {key: facts for key, facts in model.nodes.items() if facts[0] != action.member}


def check_suspend(run: Run, action: SuspendMember) -> None:
    refuse(present(run.model, action.member).is_suspended, "governance", 9)
    check_without(run.model, action.member)


def suspend(run: Run, action: SuspendMember) -> None:
    run.model.members[action.member] = run.model.members[action.member]._replace(is_suspended=True)
    for key in sorted(run.model.validators):
        if run.model.validators[key].member == action.member and may_go(run.model, key):
            del run.model.validators[key]


def may_go(model: Model, key: bytes) -> bool:
    try:
        check_powers(model, {name: facts.power for name, facts in model.validators.items() if name != key})
    except Refusal:
        return False
    return True


def check_powers(model: Model, after: Mapping[bytes, int]) -> None:
    """Who stays keeps two thirds of what there was when the block began; somebody stays."""
    refuse(not after, "ledger", 59)
    kept = sum(min(power, after.get(key, 0)) for key, power in model.powers_at_start.items())
    refuse(3 * kept < 2 * sum(model.powers_at_start.values()), "ledger", 61)


def check_reinstate(run: Run, action: ReinstateMember) -> None:
    member = present(run.model, action.member)
    refuse(not member.is_suspended, "governance", 10)
    if "governor" in member.roles:
        check_may_vote(run.model, run.model.administrations.get(action.member))


def check_may_vote(model: Model, administration: bytes | None) -> None:
    refuse(administration is None or model.accounts[administration].frozen_by is not None, "governance", 12)


def reinstate(run: Run, action: ReinstateMember) -> None:
    run.model.members[action.member] = run.model.members[action.member]._replace(is_suspended=False)


def check_change(run: Run, action: ChangeMember) -> None:
    model = run.model
    present(model, action.member)
    check_identity(action.identity)
    administration = model.administrations.get(action.member)
    if action.administration not in (None, administration):
        check_administration(model, action.member, action.administration)
        administration = action.administration
    if "governor" in action.identity.roles:
        check_may_vote(model, administration)
    else:
        check_without(model, action.member)


def change(run: Run, action: ChangeMember) -> None:
    model = run.model
    model.members[action.member] = facts_of(action.identity, model.members[action.member].is_suspended)
    if action.administration is not None:
        model.administrations[action.member] = action.administration


def check_freeze(run: Run, action: FreezeAccount) -> None:
    account = account_of(run.model, action.account)
    refuse(account.frozen_by == "governance", "governance", 23)
    is_administration = run.model.administrations[account.member] == action.account
    refuse(is_administration and account.member in in_office(run.model), "governance", 25)


def freeze(run: Run, action: FreezeAccount) -> None:
    account = run.model.accounts[action.account]
    run.model.accounts[action.account] = account._replace(frozen_by="governance")


def check_release(run: Run, action: ReleaseAccount) -> None:
    refuse(account_of(run.model, action.account).frozen_by != "governance", "governance", 24)


def release(run: Run, action: ReleaseAccount) -> None:
    run.model.accounts[action.account] = run.model.accounts[action.account]._replace(frozen_by=None)


def check_set(run: Run, action: SetParameters) -> None:
    names = [each.name for each in action.changes]
    refuse(names != sorted(set(names)), "governance", 15)
    for each in action.changes:
        refuse(each.name not in BOUNDS, "governance", 14)
        refuse(not BOUNDS[each.name][0] <= each.value <= BOUNDS[each.name][1], "governance", 16)
    needed: int = run.model.table("governance.rules")["approvals_needed"]
    for each in action.changes:
        needed = each.value if each.name == "approvals_needed" else needed
    refuse(needed > len(in_office(run.model)), "governance", 11)


def set_(run: Run, action: SetParameters) -> None:
    for each in action.changes:
        table = run.model.table("governance.rules") if each.name in OWN_RULES else run.model.parameters
        table[each.name] = each.value


def check_schedule(run: Run, action: ScheduleUpgrade) -> None:
    refuse(bool(run.model.upgrade), "governance", 19)
    refuse(action.height < run.height + NOTICE_BLOCKS, "governance", 17)
    refuse(action.app_version != 2, "governance", 18)


def schedule(run: Run, action: ScheduleUpgrade) -> None:
    run.model.upgrade.update(height=action.height, version=action.app_version)


def check_cancel(run: Run, action: CancelUpgrade) -> None:
    refuse(not run.model.upgrade, "governance", 20)


def cancel(run: Run, action: CancelUpgrade) -> None:
    run.model.upgrade.clear()


def is_caught(model: Model, key: bytes) -> bool:
    address = comet_address(key)
    return any(of == address for of, _, _ in model.table("governance.misbehaviours"))


def check_set_validator(run: Run, action: SetValidator) -> None:
    model, key = run.model, action.public_key
    refuse(key == BAD_KEY, "core", 5)
    active_member(model, action.member)
    former = model.validators.get(key)
    refuse(former == (action.member, action.name, action.power), "ledger", 49)
    refuse(former is not None and former.member != action.member, "ledger", 56)
    refuse(any(facts.name == action.name for at, facts in model.validators.items() if at != key), "ledger", 57)
    check_powers(model, {**{at: facts.power for at, facts in model.validators.items()}, key: action.power})
    refuse(is_caught(model, key) and (former is None or action.power >= former.power), "governance", 27)


def set_validator(run: Run, action: SetValidator) -> None:
    run.model.validators[action.public_key] = ValidatorFacts(action.member, action.name, action.power)


def check_remove_validator(run: Run, action: RemoveValidator) -> None:
    model, key = run.model, action.public_key
    refuse(key not in model.validators, "ledger", 54)
    check_powers(model, {at: facts.power for at, facts in model.validators.items() if at != key})


def remove_validator(run: Run, action: RemoveValidator) -> None:
    del run.model.validators[action.public_key]


def check_register(run: Run, action: RegisterNode) -> None:
    refuse(action.public_key == BAD_KEY, "core", 5)
    active_member(run.model, action.member)
    refuse(action.public_key in run.model.nodes, "ledger", 56)
    refuse(any(name == action.name for _, name in run.model.nodes.values()), "ledger", 57)


def register(run: Run, action: RegisterNode) -> None:
    run.model.nodes[action.public_key] = (action.member, action.name)


def check_remove_node(run: Run, action: RemoveNode) -> None:
    refuse(action.public_key not in run.model.nodes, "ledger", 55)


def remove_node(run: Run, action: RemoveNode) -> None:
    del run.model.nodes[action.public_key]


CHECKS: Mapping[type[Record], Any] = {
    AdmitMember: check_admit,
    RemoveMember: check_remove,
    SuspendMember: check_suspend,
    ReinstateMember: check_reinstate,
    ChangeMember: check_change,
    FreezeAccount: check_freeze,
    ReleaseAccount: check_release,
    SetParameters: check_set,
    ScheduleUpgrade: check_schedule,
    CancelUpgrade: check_cancel,
    SetValidator: check_set_validator,
    RemoveValidator: check_remove_validator,
    RegisterNode: check_register,
    RemoveNode: check_remove_node,
}
EFFECTS: Mapping[type[Record], Any] = {
    AdmitMember: admit,
    RemoveMember: remove,
    SuspendMember: suspend,
    ReinstateMember: reinstate,
    ChangeMember: change,
    FreezeAccount: freeze,
    ReleaseAccount: release,
    SetParameters: set_,
    ScheduleUpgrade: schedule,
    CancelUpgrade: cancel,
    SetValidator: set_validator,
    RemoveValidator: remove_validator,
    RegisterNode: register,
    RemoveNode: remove_node,
}


def facts_of(identity: Identity, is_suspended: bool) -> MemberFacts:
    fields = (identity.legal_name, identity.lei, identity.uscc, identity.bic, identity.vault_key)
    return MemberFacts(fields, identity.roles, is_suspended)


def draw_action(pick: Pick):
    member = pick.member()
    own = [address for address, facts in pick.model.accounts.items() if facts.member == member]
    speaking = pick.one((None, own[0] if own else None, own[-1] if own else None, pick.account()))
    gone = pick.model.table("governance.departures")
    suspended = [name for name, facts in pick.model.members.items() if facts.is_suspended and name not in gone]
    frozen = sorted(at for at, facts in pick.model.accounts.items() if facts.frozen_by == "governance")
    kind = pick.integer(0, 17)
    if kind >= 14:
        return draw_network(pick)
    if kind >= 12:
        # What can be undone is undone about as often as it is done; what cannot is asked for rarely.
        is_release = bool(frozen) != pick.rarely(4)
        return (
            ReleaseAccount(pick.some(frozen, pick.account()), "") if is_release else FreezeAccount(pick.account(), "")
        )
    if kind < 2:
        policy = pick.policy() if not pick.rarely() else LARGE_POLICY
        return AdmitMember(pick.one(("reed", "fern", member)), draw_identity(pick), policy, bytes(8))
    if kind < 4:
        return ChangeMember(member, draw_identity(pick), speaking)
    if kind < 6:
        return draw_parameters(pick)
    if kind == 6:
        return RemoveMember(member)
    if kind < 10:
        is_reinstatement = bool(suspended) != pick.rarely(3)
        return ReinstateMember(pick.some(suspended, member)) if is_reinstatement else SuspendMember(member)
    if bool(pick.model.upgrade) != pick.rarely(3):
        return CancelUpgrade()
    # Mostly so far ahead that the run ends before: at that height this release stops.
    return ScheduleUpgrade(pick.one((10_000, 10_000, 10_000, 10_000, 10_000, 40, 9)), pick.one((2, 2, 2, 3)))


def draw_network(pick: Pick) -> SetValidator | RemoveValidator | RegisterNode | RemoveNode:
    model = pick.model
    key = pick.one([*NETWORK_KEYS.values()]) if not pick.rarely() else BAD_KEY
    facts = model.validators.get(key)
    member = pick.member() if facts is None or pick.rarely() else facts.member
    name = pick.one((f"{member} 1", f"{member} 1", f"{member} 2", "mint 1"))
    kind = pick.integer(0, 7)
    if kind < 3:
        return SetValidator(key, member, name, pick.one((1, 5, 6, 8, 9, 10, 11, 14, 30, 2**53)))
    if kind < 5:
        return RemoveValidator(pick.some(sorted(model.validators), key))
    # Nodes are registered about as often as they are removed.
    return RegisterNode(key, member, name) if kind == 5 or pick.flag() else RemoveNode(key)


def draw_identity(pick: Pick) -> Identity:
    roles = pick.one((("governor",), ("bank", "governor"), ("company",), ("bank",), (), ("governor", "bank")))
    return Identity("Reed Ltd", None, None, pick.one((None, "REEDDEF0XXX")), roles, pick.one((None, bytes(32))))


def draw_parameters(pick: Pick) -> SetParameters:
    count = pick.integer(1, 3)
    names = sorted({pick.one(sorted(BOUNDS)) for _ in range(count)})
    if pick.rarely():
        names = [*names, *names] if pick.flag() else ["app_version", *names]
    changes = []
    for name in names:
        least, most = BOUNDS.get(name, (1, 2))
        # Days stay few and a year is rare, so that proposals expire within a run.
        usual = (1, 2, 3) if most <= 1_000 else (least, most, least + 1)
        value = pick.one(usual) if not pick.rarely() else pick.one((most, most + 1, least - 1))
        changes.append(ParameterChange(name, max(0, value)))
    return SetParameters(tuple(changes))


# --- proposals and votes ---


def voter(pick: Pick) -> bytes:
    """Return a governor's administration account, rarely any account."""
    voting = pick.model.administrations
    governing = [voting[name] for name in in_office(pick.model) if name in voting]
    return pick.account() if pick.rarely() else pick.some(governing, pick.names["mint"])


def draw_propose(pick: Pick) -> Propose:
    return Propose(voter(pick), draw_action(pick), "because")


def draw_vote(pick: Pick) -> Vote:
    proposal = a_proposal(pick)
    ballots = pick.model.table("governance.ballots")
    silent = [name for name in in_office(pick.model) if (proposal, name) not in ballots]
    speaking = [pick.model.administrations[name] for name in silent]
    # Opinion on a proposal is mostly one, so that some are rejected and not only outvoted.
    is_liked = proposal[0] % 2 == 0
    return Vote(pick.some(speaking, voter(pick)), proposal, is_liked != pick.rarely(2))


def draw_withdraw(pick: Pick) -> Withdraw:
    proposals = pick.model.table("governance.proposals")
    decided = sorted(key for key, proposal in proposals.items() if proposal.decision is not None)
    # Seldom one that may still be voted on, or little would ever be decided.
    proposal = a_proposal(pick) if pick.rarely(4) else pick.some(decided, UNKNOWN_ID)
    facts = proposals.get(proposal)
    voting = pick.model.administrations
    account = voter(pick) if facts is None or pick.rarely() else voting.get(facts.proposer, pick.account())
    return Withdraw(account, proposal)


def a_proposal(pick: Pick) -> bytes:
    """Return a proposal, open if there is one, rarely any or none."""
    proposals = pick.model.table("governance.proposals")
    open_ = sorted(key for key, proposal in proposals.items() if proposal.decision is None)
    return pick.some(open_, pick.some(sorted(proposals), UNKNOWN_ID))


def member_by(run: Run, account: bytes) -> str:
    member = administered_by(run.model, account)
    active_member(run.model, member)
    return member


def governor_by(run: Run, account: bytes) -> str:
    member = member_by(run, account)
    refuse("governor" not in run.model.members[member].roles, "governance", 1)
    return member


def open_proposal(run: Run, proposal: bytes) -> Proposal:
    proposals = run.model.table("governance.proposals")
    refuse(proposal not in proposals, "governance", 3)
    facts = proposals[proposal]
    refuse(facts.decision is not None or run.time_ms >= facts.expires_at_ms, "governance", 4)
    return facts


def propose(run: Run, message: Propose) -> None:
    member = governor_by(run, message.account)
    refuse(len(encode(message.action)) > MAX_ACTION_BYTES, "governance", 7)
    check(run, message.action)
    proposal = open_one(run, member, message.action, message.rationale)
    cast(run, proposal, member, message.account, True)


def open_one(run: Run, member: str | None, action: Action, rationale: str) -> bytes:
    """Open a proposal, nobody's where the ledger itself proposes."""
    proposal = run.new_id()
    expires_at_ms = run.time_ms + run.model.table("governance.rules")["voting_days"] * DAY_MS
    trigger = run.schedule(expires_at_ms, ExpireProposal(proposal))
    run.model.table("governance.proposals")[proposal] = Proposal(
        member,
        action,
        rationale,
        run.time_ms,
        run.height,
        expires_at_ms,
        trigger_key(trigger),
        None,
    )
    return proposal


def vote(run: Run, message: Vote) -> None:
    member = governor_by(run, message.account)
    facts = open_proposal(run, message.proposal)
    refuse((message.proposal, member) in run.model.table("governance.ballots"), "governance", 5)
    # A rejection decides too, where the approvals needed have become fewer since, or a voter is in office again.
    if outcome(run.model, message.proposal, member, message.is_approval) == "approved":
        check(run, facts.action)
    cast(run, message.proposal, member, message.account, message.is_approval)


def outcome(model: Model, proposal: bytes, voting: str, is_approval: bool) -> str | None:
    """Return how a proposal is decided with this vote, None while it stays open."""
    governors = in_office(model)
    needed = model.table("governance.rules")["approvals_needed"]
    ballots = model.table("governance.ballots")
    votes = {name: ballot.is_approval for (of, name), ballot in ballots.items() if of == proposal and name in governors}
    votes[voting] = is_approval
    if sum(votes.values()) >= needed:
        return "approved"
    return "rejected" if len(governors) - list(votes.values()).count(False) < needed else None


def cast(run: Run, proposal: bytes, member: str, account: bytes, is_approval: bool) -> None:
    decision = outcome(run.model, proposal, member, is_approval)
    run.model.table("governance.ballots")[proposal, member] = Ballot(account, is_approval, run.time_ms, run.height)
    if decision is not None:
        facts = decide(run, proposal, decision)
        if decision == "approved":
            carry_out(run, facts.action)


def decide(run: Run, proposal: bytes, status: str) -> Proposal:
    proposals = run.model.table("governance.proposals")
    facts: Proposal = proposals[proposal]
    key = (int.from_bytes(facts.expiry_key[:8], "big"), int.from_bytes(facts.expiry_key[8:], "big"))
    run.model.triggers.pop(key, None)
    proposals[proposal] = Proposal(
        facts.proposer,
        facts.action,
        facts.rationale,
        facts.opened_at_ms,
        facts.opened_at_height,
        facts.expires_at_ms,
        facts.expiry_key,
        Decision(status, run.time_ms, run.height),
    )
    return facts


def withdraw(run: Run, message: Withdraw) -> None:
    member = member_by(run, message.account)
    facts = open_proposal(run, message.proposal)
    refuse(facts.proposer != member, "governance", 6)
    decide(run, message.proposal, "withdrawn")


def expire(run: Run, trigger: ExpireProposal) -> None:
    decide(run, trigger.proposal, "expired")


def misbehaviour(run: Run, proved: Misbehaviour) -> None:
    """A validator that broke the rules goes, once; where it may not, the ledger asks the governors, once."""
    model, table = run.model, run.model.table("governance.misbehaviours")
    place = (proved.validator, proved.height, proved.kind)
    if place in table:
        return
    earlier = [facts for (of, _, _), facts in sorted(table.items()) if of == proved.validator]
    found = [key for key in model.validators if comet_address(key) == proved.validator]
    who: tuple[bytes | None, str | None, str | None] = earlier[0][:3] if earlier else (None, None, None)
    outcome = "gone before"
    if found:
        key = found[0]
        who = (key, model.validators[key].member, model.validators[key].name)
        outcome = "removed" if may_go(model, key) else "left in place"
        if outcome == "removed":
            del model.validators[key]
        elif not earlier:
            open_one(
                run, None, RemoveValidator(key), "consensus proved its misbehaviour, and it cannot be removed by rule"
            )
    table[place] = (*who, proved.time_ms, proved.power, outcome, run.time_ms, run.height)


def by_account(message: Propose | Vote | Withdraw):
    return ((message.account, None, None),)


# --- golden blocks ---


def story(book) -> None:
    """Reed joins by two votes of four and leaves; parameters change, an upgrade is planned and given up."""
    mint, north, south, watch = (book.names[name] for name in ("mint", "north", "south", "watch"))
    identity = Identity("Reed Ltd", None, None, "REEDDEF0XXX", ("bank", "governor"), bytes(32))
    joining = AdmitMember("reed", identity, single_key_policy(KEYS["spare"].public), bytes(8))
    book.block(
        book.done(Propose(mint, joining, "a bank of good standing")),
        book.refused("ledger", 2, Propose(mint, AdmitMember("mint", identity, joining.policy, bytes(8)), "")),
        book.refused("governance", 1, Propose(book.names["shop"], joining, "")),
        book.refused("ledger", 50, Propose(book.names["north-settling"], joining, "")),
        book.done(Propose(north, SuspendMember("shop"), "unpaid fees")),
        book.done(Propose(south, SetParameters((ParameterChange("voting_days", 1),)), "faster")),
        book.refused("governance", 16, Propose(south, SetParameters((ParameterChange("voting_days", 0),)), "")),
    )
    first, second, third = book.open_proposals()
    book.block(
        book.refused("governance", 5, Vote(mint, first, True)),
        book.done(Vote(watch, first, True)),
        book.refused("governance", 4, Vote(north, first, True)),
        book.done(Vote(mint, second, False)),
        book.done(Vote(mint, third, False)),
        book.refused("governance", 6, Withdraw(mint, second)),
        book.done(Withdraw(north, second)),
        book.refused("governance", 3, Withdraw(north, bytes(32))),
    )
    book.block(
        book.done(Vote(watch, third, True)),
        book.done(Propose(mint, ScheduleUpgrade(500, 2), "new rules")),
        book.done(Propose(mint, SuspendMember("reed"), "")),
        book.done(Propose(mint, RemoveMember("reed"), "")),
        book.done(Propose(mint, ChangeMember("reed", identity, None), "")),
    )
    book.block(*[book.done(Vote(south, proposal, True)) for proposal in book.open_proposals()[:2]])
    book.block(
        book.refused("ledger", 3, Propose(book.account_of("reed"), CancelUpgrade(), ""), by=["spare"]),
        book.done(Propose(north, CancelUpgrade(), "")),
        book.done(Propose(north, ReinstateMember("reed"), "")),
    )
    removing, changing, cancelling, reinstating = book.open_proposals()
    book.block(
        book.done(Vote(south, removing, True)),
        book.refused("governance", 8, Vote(south, changing, True)),
        book.done(Vote(south, cancelling, True)),
        book.refused("governance", 8, Vote(south, reinstating, True)),
        book.done(Withdraw(mint, changing)),
        book.done(Propose(mint, FreezeAccount(book.names["shop-2"], "court order"), "")),
        book.refused("governance", 25, Propose(mint, FreezeAccount(north, ""), "")),
    )
    book.block(*[book.done(Vote(south, proposal, True)) for proposal in book.open_proposals()[-1:]])
    book.block(
        book.refused("ledger", 7, Propose(book.names["shop-2"], CancelUpgrade(), ""), by=["shop"]),
        book.done(Propose(north, ReleaseAccount(book.names["shop-2"], "order lifted"), "")),
    )
    book.block(*[book.done(Vote(south, proposal, True)) for proposal in book.open_proposals()[-1:]])
    book.block(book.done(Propose(mint, SuspendMember("mill"), "")))
    unloved = book.open_proposals()[-1]
    book.block(*[book.done(Vote(account, unloved, False)) for account in (north, south, watch)])
    book.block(book.refused("governance", 4, Vote(watch, unloved, True)))
    # With a day of voting only, the last of them expires unheard.
    book.block(book.done(Propose(mint, SuspendMember("shop"), "")), after_ms=5_000)
    book.block(after_ms=DAY_MS + 1)


SIMULATION = Simulation(
    rules={
        Propose: Rule(draw_propose, by_account, propose),
        Vote: Rule(draw_vote, by_account, vote),
        Withdraw: Rule(draw_withdraw, by_account, withdraw),
    },
    triggers={ExpireProposal: expire},
    misbehaviour=misbehaviour,
    records={
        "governance.proposals": lambda model: dict(model.table("governance.proposals")),
        "governance.ballots": lambda model: {
            proposal + member.encode(): ballot
            for (proposal, member), ballot in model.table("governance.ballots").items()
        },
        "governance.rules": lambda model: {b"current": Rules(**model.table("governance.rules"))},
        "governance.misbehaviours": lambda model: {
            of + height.to_bytes(8, "big") + kind.encode(): MisbehaviourRecord(*facts)
            for (of, height, kind), facts in model.table("governance.misbehaviours").items()
        },
        "governance.departures": lambda model: {
            member.encode(): Departure(*when) for member, when in model.table("governance.departures").items()
        },
    },
    genesis=GENESIS,
    found=found,
    opening=opening,
    story=story,
)
