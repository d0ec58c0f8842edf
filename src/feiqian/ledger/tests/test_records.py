"""Members, accounts, assets, parameters: what the ledger keeps, and what it refuses to keep."""

import hashlib
from typing import Any, TypeVar

import msgspec
import pytest

from feiqian.core.encoding import Record
from feiqian.core.errors import InvalidTransaction, MalformedKey
from feiqian.core.signatures import ED25519, PublicKey
from feiqian.ledger import ERRORS, EVENTS, INVARIANTS, TABLES, TRIGGERS, errors
from feiqian.ledger.accounts import (
    ADMINISTRATIONS,
    Account,
    address_of,
    administration_of,
    change_policy,
    open_account,
    require_account,
    require_administration,
    set_administration,
    set_frozen,
)
from feiqian.ledger.assets import define_asset, require_asset, require_controller, require_issuer
from feiqian.ledger.authority import ACCOUNTS, check_policy, single_key_policy
from feiqian.ledger.balances import BALANCES, balance_key
from feiqian.ledger.events import (
    AccountFrozen,
    AccountOpened,
    AccountReleased,
    AdministrationSet,
    AssetDefined,
    MemberAdded,
    MemberChanged,
    ParametersSet,
    PolicyChanged,
)
from feiqian.ledger.members import MEMBERS, Member, add_member, require_active, set_member
from feiqian.ledger.parameters import check_parameters, get_parameters, set_parameters
from feiqian.ledger.records import (
    BY_GOVERNANCE,
    BY_MEMBER,
    Administration,
    Balance,
    Parameters,
    Policy,
    PolicyKey,
    PolicyRule,
    RoleThreshold,
)
from feiqian.testing import Bench, key_of

R = TypeVar("R", bound=Record)

HARBOUR = Member("Harbour Example Bank", None, None, "HARBGB2LXXX", ("bank",), None, False)


def change(record: R, **fields: Any) -> R:
    return msgspec.structs.replace(record, **fields)


# --- the declaration ---


def test_error_numbers_are_the_ones_that_were_given() -> None:
    numbers = [error.number for error in errors.ERRORS]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {error.codespace for error in errors.ERRORS} == {"ledger"}
    pinned = {
        errors.AccountFrozen: 7,
        errors.NotAuthorised: 10,
        errors.SignatureNotNeeded: 11,
        errors.EntryNotBalanced: 17,
        errors.InsufficientAvailable: 19,
        errors.HoldUnknown: 32,
        errors.TransactionReplayed: 40,
        errors.SponsorOverLimit: 41,
        errors.NothingChanges: 49,
        errors.NotAdministration: 50,
        errors.NotMembersAccount: 51,
        errors.TooManyHolds: 52,
    }
    assert {error: error.number for error in pinned} == pinned


def test_everything_is_declared_once() -> None:
    declared = [
        error
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, InvalidTransaction) and error.number
    ]
    assert set(declared) == set(errors.ERRORS)
    assert len({(error.codespace, error.number) for error in ERRORS}) == len(ERRORS)
    tags = [event.__struct_config__.tag for event in EVENTS]
    assert len(set(tags)) == len(tags)
    assert all(str(tag).startswith("ledger.") for tag in tags)
    assert len({table.name for table in TABLES}) == len(TABLES)
    assert {trigger.__struct_config__.tag for trigger in TRIGGERS} == {"ledger.ExpireHold", "ledger.ExpirePending"}
    assert len(INVARIANTS) == 10


# --- members ---


def test_a_member_is_added_and_changed() -> None:
    bench = Bench()
    ctx = bench.context()
    add_member(ctx, "harbour", HARBOUR)
    assert MEMBERS.get(bench.state, b"harbour") == HARBOUR
    assert require_active(bench.state, "harbour") == HARBOUR
    suspended = change(HARBOUR, is_suspended=True)
    set_member(ctx, "harbour", suspended)
    assert MEMBERS.get(bench.state, b"harbour") == suspended
    assert ctx.events == [MemberAdded("harbour", HARBOUR), MemberChanged("harbour", suspended)]
    assert ctx.events[0].members() == ("harbour",)
    with pytest.raises(errors.MemberSuspended, match="'harbour' is suspended"):
        require_active(bench.state, "harbour")


@pytest.mark.parametrize(
    ("member_id", "record"),
    [
        ("H", HARBOUR),
        ("Harbour", HARBOUR),
        ("harbour bank", HARBOUR),
        ("-harbour", HARBOUR),
        ("h" * 33, HARBOUR),
        ("harbour", change(HARBOUR, legal_name="")),
        ("harbour", change(HARBOUR, bic="HARB")),
        ("harbour", change(HARBOUR, lei="529900T8BM49AURSDO5")),
        ("harbour", change(HARBOUR, uscc="91110000I00000000X")),
        ("harbour", change(HARBOUR, roles=("bank", "bank"))),
        ("harbour", change(HARBOUR, roles=("Bank!",))),
        ("harbour", change(HARBOUR, vault_key=bytes(31))),
    ],
)
def test_a_malformed_member_is_refused(member_id: str, record: Member) -> None:
    bench = Bench()
    with pytest.raises(errors.MalformedMember):
        add_member(bench.context(), member_id, record)
    assert bench.state.written == {}


def test_published_identifiers_are_accepted() -> None:
    # LEI of GLEIF itself (ISO 17442), USCC of Tencent Computer Systems, BIC of SWIFT: all published.
    member = change(HARBOUR, lei="506700GE1G29325QX363", uscc="9144030071526726XG", bic="SWHQBEBB")
    add_member(Bench().context(), "harbour", member)


def test_members_are_unknown_or_known_once() -> None:
    bench = Bench()
    add_member(bench.context(), "harbour", HARBOUR)
    with pytest.raises(errors.MemberExists):
        add_member(bench.context(), "harbour", HARBOUR)
    with pytest.raises(errors.MemberUnknown):
        set_member(bench.context(), "ferry", HARBOUR)
    with pytest.raises(errors.MemberUnknown):
        require_active(bench.state, "ferry")


# --- accounts ---


def test_an_account_is_opened_at_the_hash_of_its_creation() -> None:
    bench = Bench()
    bench.member("harbour", "bank")
    # RFC 8032, 7.1, test 1
    key = PublicKey(ED25519, bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"))
    ctx = bench.context()
    address = open_account(ctx, "harbour", single_key_policy(key), b"saltsalt")
    # MessagePack by hand: array of 3; str "harbour"; policy = [[[[1, bin32 key], 1, "owner"]], [[["*"], nil, nil,
    # [["owner", 1]]]]]; bin "saltsalt". Hash: the tagged construction of BIP 340.
    policy_bytes = (
        b"\x92\x91\x93\x92\x01\xc4\x20" + key.data + b"\x01\xa5owner\x91\x94\x91\xa1*\xc0\xc0\x91\x92\xa5owner\x01"
    )
    creation = b"\x93\xa7harbour" + policy_bytes + b"\xc4\x08saltsalt"
    tag = hashlib.sha256(b"feiqian/account-address/v1").digest()
    assert address == hashlib.sha256(tag + tag + creation).digest()
    assert ACCOUNTS.get(bench.state, address) == Account("harbour", single_key_policy(key), None)
    opened = AccountOpened(address, "harbour", single_key_policy(key))
    assert ctx.events == [opened, AdministrationSet("harbour", address)]
    assert ctx.events[0].accounts() == (address,)
    assert ctx.events[0].members() == ("harbour",)


def test_each_part_of_the_creation_changes_the_address() -> None:
    policy, other = single_key_policy(key_of("a")), single_key_policy(key_of("b"))
    addresses = {
        address_of("harbour", policy, b"saltsalt"),
        address_of("ferry", policy, b"saltsalt"),
        address_of("harbour", other, b"saltsalt"),
        address_of("harbour", policy, b"saltsal2"),
    }
    assert len(addresses) == 4


def test_opening_is_refused() -> None:
    bench = Bench()
    bench.member("harbour", "bank")
    policy = single_key_policy(key_of("a"))
    open_account(bench.context(), "harbour", policy, b"saltsalt")
    with pytest.raises(errors.AccountExists):
        open_account(bench.context(), "harbour", policy, b"saltsalt")
    with pytest.raises(errors.MemberUnknown):
        open_account(bench.context(), "ferry", policy, b"saltsalt")
    set_member(bench.context(), "harbour", change(HARBOUR, is_suspended=True))
    with pytest.raises(errors.MemberSuspended):
        open_account(bench.context(), "harbour", policy, b"saltsal2")
    with pytest.raises(errors.AccountUnknown, match="fq1"):
        require_account(bench.state, bytes(32))


def test_rotation_keeps_the_address() -> None:
    bench = Bench()
    bench.member("harbour", "bank")
    address = bench.account("harbour", "old-key")
    ctx = bench.context()
    change_policy(ctx, address, single_key_policy(key_of("new-key")))
    assert require_account(bench.state, address) == Account("harbour", single_key_policy(key_of("new-key")), None)
    assert ctx.events == [PolicyChanged(address, single_key_policy(key_of("new-key")))]
    with pytest.raises(errors.NothingChanges):
        change_policy(bench.context(), address, single_key_policy(key_of("new-key")))
    with pytest.raises(errors.AccountUnknown):
        change_policy(bench.context(), bytes(32), single_key_policy(key_of("new-key")))


def test_an_account_is_frozen_and_released() -> None:
    bench = Bench()
    bench.member("harbour", "bank")
    address = bench.account("harbour", "a-key-here")
    ctx = bench.context()
    set_frozen(ctx, address, True, BY_GOVERNANCE, "lost key")
    assert require_account(bench.state, address).is_frozen
    with pytest.raises(errors.NothingChanges):
        set_frozen(bench.context(), address, True, BY_GOVERNANCE, "again")
    set_frozen(ctx, address, False, BY_GOVERNANCE, "found")
    assert not require_account(bench.state, address).is_frozen
    with pytest.raises(errors.NothingChanges):
        set_frozen(bench.context(), address, False, BY_GOVERNANCE, "again")
    assert ctx.events == [
        AccountFrozen(address, BY_GOVERNANCE, "lost key"),
        AccountReleased(address, BY_GOVERNANCE, "found"),
    ]


def test_either_freezer_takes_the_others_freeze_over() -> None:
    bench = Bench()
    bench.member("harbour", "bank")
    address = bench.account("harbour", "a-key-here")
    set_frozen(bench.context(), address, True, BY_MEMBER, "lost key")
    assert require_account(bench.state, address).frozen_by == "member"
    set_frozen(bench.context(), address, True, BY_GOVERNANCE, "order 7")
    assert require_account(bench.state, address).frozen_by == "governance"


def test_a_members_first_account_speaks_for_it_until_another_does() -> None:
    bench = Bench()
    bench.member("harbour", "bank")
    bench.member("ferry", "company")
    assert administration_of(bench.state, "harbour") is None
    first, second, foreign = (bench.account(*names) for names in (("harbour", "1"), ("harbour", "2"), ("ferry", "3")))
    assert ADMINISTRATIONS.get(bench.state, b"harbour") == Administration(first)
    assert require_administration(bench.state, first).member == "harbour"
    for address, refusal in (
        (bytes(32), errors.AccountUnknown),
        (foreign, errors.NotMembersAccount),
        (first, errors.NothingChanges),
    ):
        with pytest.raises(refusal):
            set_administration(bench.context(), "harbour", address)
    set_frozen(bench.context(), second, True, BY_MEMBER, "")
    with pytest.raises(errors.AccountFrozen):
        set_administration(bench.context(), "harbour", second)
    set_frozen(bench.context(), second, False, BY_MEMBER, "")
    ctx = bench.context()
    set_administration(ctx, "harbour", second)
    assert ctx.events == [AdministrationSet("harbour", second)]
    assert (ctx.events[0].accounts(), ctx.events[0].members()) == ((second,), ("harbour",))
    assert administration_of(bench.state, "harbour") == second
    for address in (first, bytes(32)):
        with pytest.raises((errors.NotAdministration, errors.AccountUnknown)):
            require_administration(bench.state, address)
    assert require_administration(bench.state, foreign).member == "ferry"


# --- policies ---

MAKER, CHECKER = sorted((key_of("maker"), key_of("checker")), key=lambda key: key.data)
KEYS = (PolicyKey(MAKER, 1, "maker"), PolicyKey(CHECKER, 2, "checker"))
ANY = PolicyRule(("*",), None, None, (RoleThreshold("maker", 1),))


@pytest.mark.parametrize(
    ("policy", "what"),
    [
        (Policy((), (ANY,)), "length"),
        (Policy(KEYS, ()), "length"),
        (Policy((KEYS[1], KEYS[0]), (ANY,)), "sorted"),
        (Policy((KEYS[0], KEYS[0]), (ANY,)), "each key once"),
        (Policy((KEYS[0], PolicyKey(MAKER, 1, "checker"), KEYS[1]), (ANY,)), "each key once"),
        (Policy((PolicyKey(MAKER, 0, "maker"),), (ANY,)), ">= 1"),
        (Policy((PolicyKey(MAKER, 1, "Maker"),), (ANY,)), "letter first"),
        (Policy(KEYS, (PolicyRule((), None, None, (RoleThreshold("maker", 1),)),)), "length"),
        (Policy(KEYS, (PolicyRule(("*",), None, None, ()),)), "length"),
        (Policy(KEYS, (PolicyRule(("payments",), None, None, (RoleThreshold("maker", 1),)),)), "a kind is"),
        (Policy(KEYS, (PolicyRule(("*", "*"), None, None, (RoleThreshold("maker", 1),)),)), "twice"),
        (Policy(KEYS, (PolicyRule(("*",), None, 5, (RoleThreshold("maker", 1),)),)), "name the asset"),
        (Policy(KEYS, (PolicyRule(("*",), None, None, (RoleThreshold("maker", 2),)),)), "policy's keys have 1"),
        (Policy(KEYS, (PolicyRule(("*",), None, None, (RoleThreshold("owner", 1),)),)), "policy's keys have 0"),
        (Policy(KEYS, (PolicyRule(("*",), None, None, (RoleThreshold("maker", 0),)),)), ">= 1"),
        (
            Policy(KEYS, (PolicyRule(("*",), None, None, (RoleThreshold("maker", 1), RoleThreshold("maker", 1))),)),
            "role twice",
        ),
        (Policy(KEYS, (ANY,) * 33), "length"),
    ],
)
def test_a_policy_that_cannot_work_is_refused(policy: Policy, what: str) -> None:
    with pytest.raises(errors.MalformedPolicy, match=what):
        check_policy(policy)


def test_a_policy_has_a_largest_size() -> None:
    kinds = tuple(f"payments.{'X' * 45}{place:02}" for place in range(32))
    rule = PolicyRule(kinds, None, None, (RoleThreshold("maker", 1),))
    with pytest.raises(errors.MalformedPolicy, match="at most 12288"):
        check_policy(Policy(KEYS, (rule,) * 8))


def test_a_policy_names_only_good_keys() -> None:
    zero_point = PublicKey(ED25519, bytes(32))  # y = 0: a point of small order
    with pytest.raises(MalformedKey):
        check_policy(single_key_policy(zero_point))


# --- assets ---


def test_an_asset_is_defined() -> None:
    bench = Bench()
    bench.member("harbour", "bank")
    issuance = bench.account("harbour", "issuance")
    controller = bench.account("harbour", "controller")
    asset = bench.asset("HARB-CNY", "harbour", issuance, supply_cap_minor=1_000, controller=controller)
    assert require_asset(bench.state, "HARB-CNY") == asset
    assert BALANCES.get(bench.state, balance_key(issuance, "HARB-CNY")) == Balance(0, 0, 1_000, False, False)
    ctx = bench.context()
    define_asset(ctx, "HARB-EUR", asset)
    assert ctx.events == [AssetDefined("HARB-EUR", asset)]
    assert ctx.events[0].accounts() == (issuance,)
    assert require_controller(bench.state, "HARB-CNY", controller) == asset
    assert require_issuer(bench.state, "HARB-CNY", issuance) == asset
    with pytest.raises(errors.NotController):
        require_controller(bench.state, "HARB-CNY", issuance)
    bench.member("ferry", "company")
    for other in (controller, bench.account("ferry", "ferry-main")):
        with pytest.raises(errors.NotIssuer):
            require_issuer(bench.state, "HARB-CNY", other)
    with pytest.raises(errors.AssetUnknown):
        require_asset(bench.state, "HARB-USD")


def test_a_malformed_asset_is_refused() -> None:
    bench = Bench()
    bench.member("harbour", "bank")
    bench.member("ferry", "company")
    issuance, foreign = bench.account("harbour", "issuance"), bench.account("ferry", "ferry-main")
    good = bench.asset("HARB-CNY", "harbour", issuance)
    for code, asset in [
        ("", good),
        ("HARB CNY", good),
        ("X" * 49, good),
        ("OK", change(good, scale=10)),
        ("OK", change(good, supply_cap_minor=0)),
        ("OK", change(good, supply_cap_minor=2**62 + 1)),
        ("OK", change(good, transfer_limit_minor=0)),
        ("OK", change(good, currency="cny")),
        ("OK", change(good, issuance_account=foreign)),
        ("OK", change(good, is_freezable=True)),
    ]:
        with pytest.raises(errors.MalformedAsset):
            define_asset(bench.context(), code, asset)
    with pytest.raises(errors.AssetExists):
        define_asset(bench.context(), "HARB-CNY", good)
    with pytest.raises(errors.AccountUnknown):
        define_asset(bench.context(), "OK", change(good, issuance_account=bytes(32)))
    with pytest.raises(errors.AccountUnknown):
        define_asset(bench.context(), "OK", change(good, controller=bytes(32)))
    with pytest.raises(errors.MemberUnknown):
        define_asset(bench.context(), "OK", change(good, issuer="quay"))


# --- parameters ---


def test_parameters_are_set_and_held_to_their_ranges() -> None:
    bench = Bench()
    assert get_parameters(bench.state) == Parameters()
    assert Parameters().max_block_bytes == 4 * 1024 * 1024
    assert Parameters().replay_window_ms == 600_000
    wanted = change(Parameters(), max_triggers_per_block=7)
    ctx = bench.context()
    set_parameters(ctx, wanted)
    assert get_parameters(bench.state) == wanted
    assert ctx.events == [ParametersSet(wanted)]
    for field, value in [
        ("replay_window_ms", 600_001),
        ("max_triggers_per_block", 0),
        ("proof_window", 599),
        ("sponsor_block_bytes", 128 * 1024 - 1),
        ("max_block_bytes", 65 * 2**20),
        ("app_version", 0),
    ]:
        with pytest.raises(errors.ParametersOutOfRange):
            check_parameters(change(Parameters(), **{field: value}))
