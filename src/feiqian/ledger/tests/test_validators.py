"""The set of validators and the nodes: what one block may change, what consensus is told, what holds afterwards."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feiqian.core.errors import InvalidTransaction, MalformedKey
from feiqian.core.hashing import validator_address
from feiqian.ledger import errors
from feiqian.ledger.events import NodeRegistered, NodeRemoved, ValidatorSet
from feiqian.ledger.invariants import Scope, nodes_have_members, validators_can_decide
from feiqian.ledger.members import set_member
from feiqian.ledger.records import Member, NodeRecord, ValidatorRecord
from feiqian.ledger.validators import (
    MAX_TOTAL_POWER,
    NODES,
    VALIDATORS,
    check_founding_validator,
    check_node,
    check_node_removal,
    check_removal,
    check_validator,
    nodes_of,
    put_node,
    put_validator,
    remove_node,
    remove_validator,
    validator_by_address,
    validator_set,
    validator_updates,
    validators_of,
)
from feiqian.state.tables import BlockState, Overlay
from feiqian.testing import Bench, MemoryReader, key_of

NAMES = ("arno", "brenta", "cecina", "dora")
KEYS = {name: key_of(name).data for name in (*NAMES, "enza", "fiora")}


class Network(Bench):
    """A bench whose state can be committed, so that a block has a start; four members, each with a validator of 10."""

    def __init__(self, powers: dict[str, int] | None = None) -> None:
        super().__init__()
        self.store = MemoryReader()
        self.state = BlockState(self.store)
        for name in (*NAMES, "enza"):
            self.member(name)
        for name, power in (powers or dict.fromkeys(NAMES, 10)).items():
            record = ValidatorRecord(name, name, power)
            check_founding_validator(self.context(), KEYS[name], record)
            put_validator(self.context(), KEYS[name], record)
        self.commit()

    def commit(self) -> None:
        self.store.commit(self.state.changes())
        self.state = BlockState(self.store)
        self.height += 1

    def set(self, name: str, power: int, *, member: str | None = None, called: str | None = None) -> list:
        """Set a validator as a transaction does: on an overlay of the block, kept when nothing refused it."""
        record = ValidatorRecord(member or name, called or name, power)
        ctx = self.context(state=Overlay(self.state))
        check_validator(ctx, KEYS[name], record)
        put_validator(ctx, KEYS[name], record)
        ctx.state.keep()
        return ctx.events

    def remove(self, name: str) -> list:
        ctx = self.context(state=Overlay(self.state))
        check_removal(ctx, KEYS[name])
        remove_validator(ctx, KEYS[name])
        ctx.state.keep()
        return ctx.events

    def powers(self) -> dict[str, int]:
        found = dict(validator_set(self.state))
        return {name: found[key] for name, key in KEYS.items() if key in found}


def refused(action: Callable[[], object]) -> tuple[str, int]:
    with pytest.raises(InvalidTransaction) as refusal:
        action()
    return refusal.value.codespace, refusal.value.number


def test_a_validator_is_added_weighed_anew_and_removed() -> None:
    network = Network()
    assert network.set("enza", 12) == [ValidatorSet(KEYS["enza"], "enza", "enza", 0, 12)]
    network.commit()
    assert network.powers() == {"arno": 10, "brenta": 10, "cecina": 10, "dora": 10, "enza": 12}
    assert network.set("enza", 9, called="enza 2") == [ValidatorSet(KEYS["enza"], "enza", "enza 2", 12, 9)]
    network.commit()
    assert network.remove("enza") == [ValidatorSet(KEYS["enza"], "enza", "enza 2", 9, 0)]
    assert network.powers() == dict.fromkeys(NAMES, 10)
    assert [key for key, _ in validator_set(network.state)] == sorted(KEYS[name] for name in NAMES)


def test_validators_are_found_by_address_and_by_member() -> None:
    network = Network()
    # The key of RFC 8032, 7.1, test 1, and what `sha256sum` says of it: CometBFT takes the first 20 bytes.
    key = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert validator_address(key).hex() == "21fe31dfa154a261626bf854046fd2271b7bed4b"
    found = validator_by_address(network.state, validator_address(KEYS["dora"]))
    assert found == (KEYS["dora"], ValidatorRecord("dora", "dora", 10))
    assert validator_by_address(network.state, bytes(20)) is None
    assert validators_of(network.state, "dora") == (KEYS["dora"],)
    assert validators_of(network.state, "enza") == ()


def test_who_stays_keeps_two_thirds_of_the_power_at_the_start_of_the_block() -> None:
    """40 in all: 26⅔ must stay, so 13 may go, however many actions they are spread over."""
    network = Network()
    network.remove("arno")
    assert refused(lambda: network.remove("brenta")) == ("ledger", 61)
    assert refused(lambda: network.set("brenta", 6)) == ("ledger", 61)
    network.set("brenta", 7)
    assert refused(lambda: network.set("cecina", 9)) == ("ledger", 61)
    # What is added elsewhere does not stand for what leaves.
    network.set("enza", 1000)
    network.set("dora", 1000)
    assert refused(lambda: network.set("cecina", 9)) == ("ledger", 61)
    network.commit()
    network.set("cecina", 1)
    assert network.powers() == {"brenta": 7, "cecina": 1, "dora": 1000, "enza": 1000}


def test_two_thirds_exactly_may_stay() -> None:
    network = Network({"arno": 10, "brenta": 10, "cecina": 10})
    network.remove("arno")
    assert network.powers() == {"brenta": 10, "cecina": 10}
    assert refused(lambda: network.set("brenta", 9)) == ("ledger", 61)


def test_what_a_block_took_it_may_give_back() -> None:
    network = Network()
    network.remove("arno")
    network.set("arno", 10)
    network.remove("brenta")
    assert validator_updates(BlockState(network.store), network.state.changes()) == ((KEYS["brenta"], 0),)


def test_the_set_never_becomes_empty() -> None:
    network = Network({"arno": 10})
    assert refused(lambda: network.remove("arno")) == ("ledger", 59)
    network.set("brenta", 1)
    assert refused(lambda: network.remove("arno")) == ("ledger", 61)


def test_powers_add_up_to_what_cometbft_counts() -> None:
    # MaxTotalVotingPower = math.MaxInt64 / 8, types/validator_set.go.
    assert MAX_TOTAL_POWER == 1_152_921_504_606_846_975
    most = 2**53
    network = Network()
    for place in range(127):
        put_validator(network.context(), place.to_bytes(32, "big"), ValidatorRecord("arno", f"arno {place}", most))
    network.commit()
    network.set("enza", most - 41)
    assert sum(network.powers().values()) + 127 * most == MAX_TOTAL_POWER
    network.remove("enza")
    assert refused(lambda: network.set("enza", most - 40)) == ("ledger", 60)


def test_what_is_no_validator_is_refused() -> None:
    network = Network()
    assert refused(lambda: network.remove("enza")) == ("ledger", 54)
    assert refused(lambda: network.set("dora", 10)) == ("ledger", 49)
    assert refused(lambda: network.set("dora", 10, member="arno")) == ("ledger", 56)
    assert refused(lambda: network.set("enza", 10, called="dora")) == ("ledger", 57)
    assert refused(lambda: network.set("enza", 10, member="nobody")) == ("ledger", 1)
    for power in (0, 2**53 + 1):
        assert refused(lambda power=power: network.set("enza", power)) == ("ledger", 58)
    for name in ("", "x" * 65):
        record = ValidatorRecord("enza", name, 1)
        assert refused(lambda record=record: check_validator(network.context(), KEYS["enza"], record)) == ("ledger", 58)
    suspended = Member("enza Ltd", None, None, None, (), None, True)
    set_member(network.context(), "enza", suspended)
    assert refused(lambda: network.set("enza", 1)) == ("ledger", 3)


@pytest.mark.parametrize("key", [bytes(32), b"\x01" + bytes(31), b"\xff" * 32, bytes(31), bytes(33)])
def test_keys_are_of_ed25519(key: bytes) -> None:
    """RFC 8032 decoding: small order, non-canonical and short keys are none."""
    network = Network()
    with pytest.raises(MalformedKey):
        check_validator(network.context(), key, ValidatorRecord("enza", "enza", 1))
    with pytest.raises(MalformedKey):
        check_node(network.context(), key, NodeRecord("enza", "enza"))


def test_a_solo_ledger_has_no_validators_to_change() -> None:
    solo = Bench()
    solo.member("arno")
    key, record = KEYS["arno"], ValidatorRecord("arno", "arno", 1)
    assert refused(lambda: check_validator(solo.context(), key, record)) == ("ledger", 53)
    assert refused(lambda: check_removal(solo.context(), key)) == ("ledger", 53)
    assert refused(lambda: check_node(solo.context(), key, NodeRecord("arno", "arno"))) == ("ledger", 53)
    assert validator_set(solo.state) == ()


def test_nodes_are_registered_and_removed() -> None:
    network = Network()
    ctx = network.context()
    check_node(ctx, KEYS["enza"], NodeRecord("enza", "enza 1"))
    put_node(ctx, KEYS["enza"], NodeRecord("enza", "enza 1"))
    assert ctx.events == [NodeRegistered(KEYS["enza"], "enza", "enza 1")]
    assert NODES.get(network.state, KEYS["enza"]) == NodeRecord("enza", "enza 1")
    assert nodes_of(network.state, "enza") == (KEYS["enza"],)
    again = NodeRecord("arno", "arno 1")
    assert refused(lambda: check_node(network.context(), KEYS["enza"], again)) == ("ledger", 56)
    same = NodeRecord("arno", "enza 1")
    assert refused(lambda: check_node(network.context(), KEYS["arno"], same)) == ("ledger", 57)
    stranger = NodeRecord("nobody", "node")
    assert refused(lambda: check_node(network.context(), KEYS["arno"], stranger)) == ("ledger", 1)
    nameless = NodeRecord("arno", "")
    assert refused(lambda: check_node(network.context(), KEYS["arno"], nameless)) == ("ledger", 58)
    ctx = network.context()
    check_node_removal(ctx, KEYS["enza"])
    remove_node(ctx, KEYS["enza"])
    assert ctx.events == [NodeRemoved(KEYS["enza"], "enza", "enza 1")]
    assert nodes_of(network.state, "enza") == ()
    assert refused(lambda: check_node_removal(network.context(), KEYS["enza"])) == ("ledger", 55)


def test_consensus_is_told_what_changed_and_no_more() -> None:
    """CometBFT refuses a whole block's updates where one removes who is no validator: then the chain stands still."""
    network = Network()
    before = BlockState(network.store)
    network.set("enza", 5)
    network.remove("enza")
    network.set("fiora", 6, member="enza")
    network.set("dora", 10, called="dora 2")
    network.set("cecina", 11)
    network.remove("arno")
    expected = sorted([(KEYS["fiora"], 6), (KEYS["cecina"], 11), (KEYS["arno"], 0)])
    assert validator_updates(before, network.state.changes()) == tuple(expected)
    assert validator_updates(before, {}) == ()


def test_invariants_name_what_no_rule_would_do() -> None:
    network = Network()
    before = BlockState(network.store)
    for name in ("arno", "brenta"):
        VALIDATORS.delete(network.state, KEYS[name])
    NODES.put(network.state, KEYS["enza"], NodeRecord("nobody", "node"))
    scope = Scope(before, network.state, network.state.changes())
    assert list(validators_can_decide(scope)) == ["validators lost 20 of 40 in one block"]
    (said,) = nodes_have_members(scope)
    assert said == f"ledger.nodes {KEYS['enza'].hex()} is run by 'nobody', which is no member"
    for name in NAMES:
        VALIDATORS.delete(network.state, KEYS[name])
    scope = Scope(before, network.state, network.state.changes())
    assert list(validators_can_decide(scope)) == ["validators lost 40 of 40 in one block"]
    for place in range(128):
        put_validator(network.context(), place.to_bytes(32, "big"), ValidatorRecord("arno", f"arno {place}", 2**53))
    (said,) = validators_can_decide(Scope(network.state, network.state, None))
    assert said == "the validators' powers add up to 1152921504606846976, above 1152921504606846975"


steps = st.tuples(st.sampled_from(sorted(KEYS)), st.integers(0, 40), st.booleans())


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=40))
def test_any_changes_agree_with_a_plain_dict(changes: list[tuple[str, int, bool]]) -> None:
    """At least two thirds of the start of the block stay, whatever was tried; what is told makes the new set."""
    network = Network()
    start = network.powers()
    plain = dict(start)
    for name, power, is_last_of_block in changes:
        after = {**plain, name: power} if power else {key: each for key, each in plain.items() if key != name}
        kept = sum(min(each, after.get(key, 0)) for key, each in start.items())
        is_change = plain.get(name, 0) != power
        is_allowed = is_change and bool(after) and kept * 3 >= sum(start.values()) * 2
        member = name if name != "fiora" else "enza"
        try:
            if power:
                network.set(name, power, member=member)
            else:
                network.remove(name)
        except errors.LedgerError:
            assert not is_allowed
        else:
            assert is_allowed
            plain = after
        assert network.powers() == plain
        if is_last_of_block:
            before, written = BlockState(network.store), network.state.changes()
            told = {**{KEYS[key]: each for key, each in start.items()}, **dict(validator_updates(before, written))}
            assert {key: each for key, each in told.items() if each} == {KEYS[key]: each for key, each in plain.items()}
            assert list(validators_can_decide(Scope(before, network.state, written))) == []
            network.commit()
            start = dict(plain)
