"""Validators and nodes by vote, what becomes of a member's, and what follows misbehaviour; each refusal by number."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feiqian.core.hashing import validator_address
from feiqian.ledger.events import MemberChanged, NodeRegistered, NodeRemoved, ValidatorSet
from feiqian.ledger.invariants import Scope
from feiqian.ledger.records import NodeRecord, ValidatorRecord
from feiqian.ledger.triggers import SCHEDULED
from feiqian.ledger.validators import (
    DUPLICATE_VOTE,
    LIGHT_CLIENT_ATTACK,
    NODES,
    VALIDATORS,
    Misbehaviour,
    put_node,
    put_validator,
    validator_set,
)
from feiqian.modules.governance.events import MemberLeft, Proposed, ValidatorLeftInPlace, ValidatorMisbehaved
from feiqian.modules.governance.invariants import misbehaviour_stays_on_record
from feiqian.modules.governance.messages import (
    ParameterChange,
    Propose,
    RegisterNode,
    ReinstateMember,
    RemoveMember,
    RemoveNode,
    RemoveValidator,
    SetParameters,
    SetValidator,
    SuspendMember,
    Vote,
    Withdraw,
)
from feiqian.modules.governance.misbehaviour import misbehaviour
from feiqian.modules.governance.state import MISBEHAVIOURS, MisbehaviourRecord, misbehaviour_key
from feiqian.state.tables import Overlay
from feiqian.testing import key_of

MEMBERS = ("ada-works", "harbour-bank", "lotus-bank", "regulator")
KEY = {name: key_of(name).data for name in (*MEMBERS, "spare")}
ADDRESS = {name: validator_address(key) for name, key in KEY.items()}


def found(world, **powers):
    """Give members validators, as genesis does, and begin the next block."""
    for member, power in powers.items():
        name = member.replace("_", "-")
        world.do(put_validator, KEY[name], ValidatorRecord(name, f"{name} 1", power))
    world.next_block()
    return world


@pytest.fixture
def network(world):
    return found(world, ada_works=10, harbour_bank=10, lotus_bank=10, regulator=10)


def refusal(world, action):
    return world.refuse(Propose(world["harbour-bank"], action, ""))


def powers(world):
    names = {key: name for name, key in KEY.items()}
    return {names[key]: power for key, power in validator_set(world.state)}


def proved(of, height=90, kind=DUPLICATE_VOTE):
    return Misbehaviour(kind, ADDRESS[of], height, 1_767_268_790_000, 10)


def record_of(world, misbehaviour):
    return MISBEHAVIOURS.get(world.state, misbehaviour_key(misbehaviour))


# --- by vote ---


def test_set_validator_adds_and_weighs_anew(network):
    added = network.enact(SetValidator(KEY["spare"], "ada-works", "ada-works 2", 5))
    assert added[2:] == [ValidatorSet(KEY["spare"], "ada-works", "ada-works 2", 0, 5)]
    assert VALIDATORS.get(network.state, KEY["spare"]) == ValidatorRecord("ada-works", "ada-works 2", 5)
    changed = network.enact(SetValidator(KEY["spare"], "ada-works", "ada-works 2", 8))
    assert changed[2:] == [ValidatorSet(KEY["spare"], "ada-works", "ada-works 2", 5, 8)]
    assert powers(network) == {**dict.fromkeys(MEMBERS, 10), "spare": 8}


def test_remove_validator(network):
    removed = network.enact(RemoveValidator(KEY["ada-works"]))
    assert removed[2:] == [ValidatorSet(KEY["ada-works"], "ada-works", "ada-works 1", 10, 0)]
    assert powers(network) == dict.fromkeys(MEMBERS[1:], 10)


def test_validators_refuse(network):
    assert refusal(network, RemoveValidator(KEY["spare"])) == ("ledger", 54)
    assert refusal(network, SetValidator(KEY["spare"], "nobody", "x", 1)) == ("ledger", 1)
    assert refusal(network, SetValidator(bytes(32), "ada-works", "x", 1)) == ("core", 5)
    assert refusal(network, SetValidator(KEY["spare"], "ada-works", "regulator 1", 1)) == ("ledger", 57)
    assert refusal(network, SetValidator(KEY["regulator"], "ada-works", "x", 1)) == ("ledger", 56)
    assert refusal(network, SetValidator(KEY["regulator"], "regulator", "regulator 1", 10)) == ("ledger", 49)
    assert refusal(network, SetValidator(KEY["spare"], "ada-works", "x", 0)) == ("ledger", 58)
    network.enact(SuspendMember("ada-works"))
    assert refusal(network, SetValidator(KEY["spare"], "ada-works", "x", 1)) == ("ledger", 3)
    assert refusal(network, RegisterNode(KEY["spare"], "ada-works", "x")) == ("ledger", 3)


def test_a_solo_ledger_has_none(world):
    for action in (
        SetValidator(KEY["spare"], "ada-works", "x", 1),
        RemoveValidator(KEY["spare"]),
        RegisterNode(KEY["spare"], "ada-works", "x"),
    ):
        assert refusal(world, action) == ("ledger", 53)
    assert refusal(world, RemoveNode(KEY["spare"])) == ("ledger", 55)


def test_two_votes_in_one_block_take_no_more_than_one_may(network):
    first = network.propose("harbour-bank", RemoveValidator(KEY["ada-works"]))
    second = network.propose("harbour-bank", RemoveValidator(KEY["regulator"]))
    network.vote("lotus-bank", first)
    assert network.refuse(Vote(network["lotus-bank"], second, True)) == ("ledger", 61)
    network.next_block()
    network.vote("lotus-bank", second)
    assert powers(network) == {"harbour-bank": 10, "lotus-bank": 10}


def test_the_last_validator_stays(world):
    found(world, regulator=7)
    assert refusal(world, RemoveValidator(KEY["regulator"])) == ("ledger", 59)


def test_register_and_remove_a_node(network):
    registered = network.enact(RegisterNode(KEY["spare"], "ada-works", "ada-works node"))
    assert registered[2:] == [NodeRegistered(KEY["spare"], "ada-works", "ada-works node")]
    assert NODES.get(network.state, KEY["spare"]) == NodeRecord("ada-works", "ada-works node")
    assert refusal(network, RegisterNode(KEY["spare"], "ada-works", "other")) == ("ledger", 56)
    assert refusal(network, RegisterNode(KEY["regulator"], "regulator", "ada-works node")) == ("ledger", 57)
    assert refusal(network, RegisterNode(bytes(32), "regulator", "other")) == ("core", 5)
    removed = network.enact(RemoveNode(KEY["spare"]))
    assert removed[2:] == [NodeRemoved(KEY["spare"], "ada-works", "ada-works node")]
    assert NODES.get(network.state, KEY["spare"]) is None
    assert refusal(network, RemoveNode(KEY["spare"])) == ("ledger", 55)


# --- with their members ---


def test_a_member_leaves_without_validators_and_its_nodes_go_with_it(network):
    network.do(put_node, KEY["spare"], NodeRecord("ada-works", "ada-works node"))
    assert refusal(network, RemoveMember("ada-works")) == ("governance", 26)
    network.enact(RemoveValidator(KEY["ada-works"]))
    former = network.member("ada-works")
    left = network.enact(RemoveMember("ada-works"))
    assert left[2:] == [
        NodeRemoved(KEY["spare"], "ada-works", "ada-works node"),
        MemberChanged("ada-works", type(former)(former.legal_name, None, None, None, (), None, True)),
        MemberLeft("ada-works"),
    ]
    assert list(NODES.scan(network.state)) == []


def test_a_suspended_members_validator_is_removed_and_comes_back_by_vote_only(network):
    network.do(put_node, KEY["spare"], NodeRecord("ada-works", "ada-works node"))
    suspended = network.enact(SuspendMember("ada-works"))
    assert suspended[3:] == [ValidatorSet(KEY["ada-works"], "ada-works", "ada-works 1", 10, 0)]
    assert NODES.has(network.state, KEY["spare"])
    network.enact(ReinstateMember("ada-works"))
    assert "ada-works" not in powers(network)
    network.enact(SetValidator(KEY["ada-works"], "ada-works", "ada-works 1", 10))
    assert powers(network) == dict.fromkeys(MEMBERS, 10)


def test_a_suspended_members_validator_stays_where_too_much_power_would_leave(world):
    found(world, ada_works=14, regulator=26)
    suspended = world.enact(SuspendMember("ada-works"))
    rule = "validators that stay would keep 26 of 40 in this block; at least two thirds: take several"
    assert suspended[3:] == [ValidatorLeftInPlace(KEY["ada-works"], "ada-works", "ada-works 1", 14, rule, None)]
    assert world.member("ada-works").is_suspended
    assert powers(world) == {"ada-works": 14, "regulator": 26}


# --- misbehaviour ---


def test_who_misbehaves_is_removed_and_does_not_return(network):
    what = proved("ada-works")
    assert network.do(misbehaviour, what) == [
        ValidatorMisbehaved(
            ADDRESS["ada-works"], KEY["ada-works"], "ada-works", "ada-works 1", "duplicate-vote", 90, 10, "removed"
        ),
        ValidatorSet(KEY["ada-works"], "ada-works", "ada-works 1", 10, 0),
    ]
    assert powers(network) == dict.fromkeys(MEMBERS[1:], 10)
    assert record_of(network, what) == MisbehaviourRecord(
        KEY["ada-works"], "ada-works", "ada-works 1", what.time_ms, 10, "removed", network.time_ms, network.height
    )
    network.next_block()
    again = SetValidator(KEY["ada-works"], "ada-works", "ada-works 1", 10)
    assert refusal(network, again) == ("governance", 27)
    network.enact(SetValidator(KEY["spare"], "ada-works", "ada-works 1", 10))


def test_the_same_misbehaviour_is_recorded_once(network):
    network.do(misbehaviour, proved("ada-works"))
    written = dict(network.state.written)
    assert network.do(misbehaviour, proved("ada-works")) == []
    assert network.state.written == written
    other_kind = network.do(misbehaviour, proved("ada-works", kind=LIGHT_CLIENT_ATTACK))
    later = network.do(misbehaviour, proved("ada-works", height=91))
    for events, kind, height in ((other_kind, "light-client-attack", 90), (later, "duplicate-vote", 91)):
        # Whose it was is still known, since it was caught before.
        assert events == [
            ValidatorMisbehaved(
                ADDRESS["ada-works"], KEY["ada-works"], "ada-works", "ada-works 1", kind, height, 10, "gone before"
            )
        ]
    assert len(list(MISBEHAVIOURS.scan(network.state))) == 3


def test_of_an_unknown_validator_it_is_recorded_all_the_same(network):
    assert network.do(misbehaviour, proved("spare")) == [
        ValidatorMisbehaved(ADDRESS["spare"], None, None, None, "duplicate-vote", 90, 10, "gone before")
    ]
    assert powers(network) == dict.fromkeys(MEMBERS, 10)
    assert refusal(network, SetValidator(KEY["spare"], "ada-works", "x", 1)) == ("governance", 27)


def test_where_the_rules_keep_it_in_place_the_governors_are_called(world):
    found(world, ada_works=14, regulator=26)
    misbehaved, proposed, left = world.do(misbehaviour, proved("ada-works"))
    assert misbehaved == ValidatorMisbehaved(
        ADDRESS["ada-works"], KEY["ada-works"], "ada-works", "ada-works 1", "duplicate-vote", 90, 10, "left in place"
    )
    action = RemoveValidator(KEY["ada-works"])
    assert (proposed.proposer, proposed.action, proposed.members()) == (None, action, ())
    rule = "validators that stay would keep 26 of 40 in this block; at least two thirds: take several"
    assert left == ValidatorLeftInPlace(KEY["ada-works"], "ada-works", "ada-works 1", 14, rule, proposed.proposal)
    assert powers(world) == {"ada-works": 14, "regulator": 26}
    assert world.proposal(proposed.proposal).status == "open"
    assert len(list(SCHEDULED.scan(world.state))) == 1
    # Once is enough: a second proof calls them, and opens no second proposal.
    second = world.do(misbehaviour, proved("ada-works", height=91))
    assert [type(event) for event in second] == [ValidatorMisbehaved, ValidatorLeftInPlace]
    assert second[1].proposal is None
    # Nobody's proposal: nobody withdraws it, and its deciding vote waits until the rules allow the removal.
    assert world.refuse(Withdraw(world["regulator"], proposed.proposal)) == ("governance", 6)
    world.next_block()
    world.vote("lotus-bank", proposed.proposal)
    assert world.refuse(Vote(world["regulator"], proposed.proposal, True)) == ("ledger", 61)
    # It gains no power, and may lose some.
    assert refusal(world, SetValidator(KEY["ada-works"], "ada-works", "ada-works 1", 15)) == ("governance", 27)
    assert refusal(world, SetValidator(KEY["ada-works"], "ada-works", "other", 14)) == ("governance", 27)
    world.enact(SetValidator(KEY["ada-works"], "ada-works", "ada-works 1", 10))
    world.next_block()
    world.vote("regulator", proposed.proposal)
    assert powers(world) == {"regulator": 26}
    assert world.proposal(proposed.proposal).status == "approved"


def test_without_governors_there_is_nobody_to_call(founded):
    record = ValidatorRecord("regulator", "regulator 1", 7)
    founded.do(put_validator, KEY["regulator"], record, is_founding=True)
    events = founded.do(misbehaviour, proved("regulator"), is_founding=True)
    assert [type(event) for event in events] == [ValidatorMisbehaved, ValidatorLeftInPlace]
    assert events[1].rule == "without it nobody would decide blocks; add another validator first"
    assert events[1].proposal is None


def test_of_two_in_one_block_one_goes(network):
    network.do(misbehaviour, proved("ada-works"))
    events = network.do(misbehaviour, proved("regulator"))
    assert [type(event) for event in events] == [ValidatorMisbehaved, Proposed, ValidatorLeftInPlace]
    assert powers(network) == dict.fromkeys(("harbour-bank", "lotus-bank", "regulator"), 10)


def test_the_invariant_names_what_no_rule_would_do(network):
    before = Overlay(network.state)
    network.do(misbehaviour, proved("ada-works"))
    after = Overlay(network.state)
    VALIDATORS.put(after, KEY["ada-works"], ValidatorRecord("ada-works", "x", 1))
    said = list(misbehaviour_stays_on_record(Scope(before, after, after.written)))
    assert said == [f"validator {KEY['ada-works'].hex()} was removed for misbehaviour and is one again"]
    after = Overlay(network.state)
    key = misbehaviour_key(proved("ada-works"))
    MISBEHAVIOURS.delete(after, key)
    said = list(misbehaviour_stays_on_record(Scope(Overlay(network.state), after, after.written)))
    assert said == [f"the record of misbehaviour {key.hex()} was changed or deleted"]


# --- any sequence ---


acts = st.one_of(
    st.tuples(st.just("set"), st.sampled_from(MEMBERS), st.integers(1, 30)),
    st.tuples(st.just("remove"), st.sampled_from(MEMBERS), st.just(0)),
    st.tuples(st.just("caught"), st.sampled_from(MEMBERS), st.integers(1, 3)),
    st.tuples(st.just("block"), st.just(""), st.just(0)),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(acts, max_size=30))
def test_any_sequence_agrees_with_a_plain_dict(new_world, sequence):
    world = found(new_world(), ada_works=10, harbour_bank=10, lotus_bank=10, regulator=10)
    # One governor decides from here on, so that each act is a message of its own.
    world.enact(SetParameters((ParameterChange("approvals_needed", 1),)))
    start: dict[str, int] = dict.fromkeys(MEMBERS, 10)
    plain: dict[str, int] = dict(start)
    caught: dict[tuple[str, int], bool] = {}

    def is_allowed(after):
        kept = sum(min(power, after.get(name, 0)) for name, power in start.items())
        return bool(after) and kept * 3 >= 2 * sum(start.values())

    for kind, name, number in sequence:
        without = {key: power for key, power in plain.items() if key != name}
        if kind == "block":
            world.next_block()
            start = dict(plain)
        elif kind == "caught":
            is_new = (name, number) not in caught
            events = world.do(misbehaviour, proved(name, height=number))
            assert bool(events) == is_new
            if is_new and name in plain and is_allowed(without):
                plain = without
            caught[name, number] = True
        else:
            action = RemoveValidator(KEY[name])
            after, is_fit = without, name in plain
            if kind == "set":
                action = SetValidator(KEY[name], name, f"{name} 1", number)
                is_marked = any(who == name for who, _ in caught) and number >= plain.get(name, 0)
                after, is_fit = {**plain, name: number}, plain.get(name) != number and not is_marked
            message = Propose(world["regulator"], action, "")
            if is_fit and is_allowed(after):
                world.run(message)
                plain = after
            else:
                world.refuse(message)
        assert powers(world) == plain
    assert len(list(MISBEHAVIOURS.scan(world.state))) == len(caught)
