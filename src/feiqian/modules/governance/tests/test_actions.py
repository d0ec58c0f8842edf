"""Each action: what it does to members, parameters and upgrades, and each refusal by number."""

import pytest

from feiqian.core.signatures import PublicKey
from feiqian.ledger.accounts import address_of, administration_of, require_account, set_frozen
from feiqian.ledger.authority import single_key_policy
from feiqian.ledger.events import (
    AccountFrozen,
    AccountOpened,
    AccountReleased,
    AdministrationSet,
    MemberAdded,
    MemberChanged,
)
from feiqian.ledger.events import ParametersSet as LedgerParametersSet
from feiqian.ledger.members import add_member
from feiqian.ledger.parameters import check_parameters, get_parameters
from feiqian.ledger.records import BY_MEMBER, Member, Parameters
from feiqian.ledger.upgrades import UPGRADE_KEY, UPGRADES, Upgrade, scheduled_upgrade
from feiqian.modules.governance.events import (
    MemberLeft,
    RulesSet,
    UpgradeCancelled,
    UpgradeScheduled,
)
from feiqian.modules.governance.messages import (
    AdmitMember,
    CancelUpgrade,
    ChangeMember,
    FreezeAccount,
    Identity,
    ParameterChange,
    Propose,
    ReinstateMember,
    ReleaseAccount,
    RemoveMember,
    ScheduleUpgrade,
    SetParameters,
    SuspendMember,
    Vote,
)
from feiqian.modules.governance.state import (
    DEPARTURES,
    LEDGER_BOUNDS,
    RULES,
    RULES_BOUNDS,
    RULES_KEY,
    Departure,
    Rules,
)


def refusal(world, action):
    """Return the rule by which a proposal of the action is refused."""
    return world.refuse(Propose(world["harbour-bank"], action, ""))


def set_of(**values):
    return SetParameters(tuple(ParameterChange(name, value) for name, value in sorted(values.items())))


def admission(policy, salt, member="bo-trade", roles=("company",)):
    identity = Identity("Bo Trade GmbH", None, None, None, roles, bytes(range(32)))
    return AdmitMember(member, identity, policy(member), salt(member))


def test_admit_member(world, policy, salt):
    record = Member("Bo Trade GmbH", None, None, None, ("company",), bytes(range(32)), False)
    account = address_of("bo-trade", policy("bo-trade"), salt("bo-trade"))
    assert world.enact(admission(policy, salt))[2:] == [
        MemberAdded("bo-trade", record),
        AccountOpened(account, "bo-trade", policy("bo-trade")),
        AdministrationSet("bo-trade", account),
    ]
    assert world.member("bo-trade") == record
    assert require_account(world.state, account).policy == policy("bo-trade")
    assert administration_of(world.state, "bo-trade") == account


def test_an_admitted_governor_votes(world, policy, salt):
    world.enact(admission(policy, salt, roles=("company", "governor")))
    world.accounts["bo-trade"] = address_of("bo-trade", policy("bo-trade"), salt("bo-trade"))
    proposal = world.propose("bo-trade", SuspendMember("ada-works"))
    world.vote("regulator", proposal)
    assert world.member("ada-works").is_suspended


def test_admit_member_refuses(world, policy, salt):
    assert refusal(world, admission(policy, salt, member="ada-works")) == ("ledger", 2)
    assert refusal(world, admission(policy, salt, roles=("company", "bank"))) == ("governance", 21)
    assert refusal(world, admission(policy, salt, roles=("bank", "bank"))) == ("governance", 21)
    identity = Identity("Bo Trade GmbH", None, None, None, (), None)
    keyless = single_key_policy(PublicKey(1, bytes(32)))
    assert refusal(world, AdmitMember("bo-trade", identity, keyless, salt("x"))) == ("core", 5)


def test_remove_member_is_final(world, policy, salt):
    gone = Member("Ada-Works", None, None, None, (), None, True)
    assert world.enact(RemoveMember("ada-works"))[2:] == [MemberChanged("ada-works", gone), MemberLeft("ada-works")]
    assert DEPARTURES.get(world.state, b"ada-works") == Departure(world.time_ms, 100)
    assert refusal(world, RemoveMember("ada-works")) == ("governance", 8)
    assert refusal(world, ReinstateMember("ada-works")) == ("governance", 8)
    assert refusal(world, SuspendMember("ada-works")) == ("governance", 8)
    assert refusal(world, ChangeMember("ada-works", admission(policy, salt).identity, None)) == ("governance", 8)
    assert refusal(world, admission(policy, salt, member="ada-works")) == ("ledger", 2)
    assert refusal(world, RemoveMember("nobody")) == ("ledger", 1)


def test_suspend_and_reinstate(world):
    assert world.enact(SuspendMember("ada-works"))[2].record.is_suspended
    assert refusal(world, SuspendMember("ada-works")) == ("governance", 9)
    assert world.enact(ReinstateMember("ada-works"))[2:] == [
        MemberChanged("ada-works", Member("Ada-Works", None, None, None, ("company",), None, False))
    ]
    assert refusal(world, ReinstateMember("ada-works")) == ("governance", 10)
    assert refusal(world, SuspendMember("nobody")) == ("ledger", 1)
    assert refusal(world, ReinstateMember("nobody")) == ("ledger", 1)


def test_change_member(world, identity):
    roles = ("company", "governor")
    changed = Identity("Ada Works Ltd", "5493001KJTIIGC8Y1R12", None, "ADAWGB2L", roles, bytes(32))
    account = world.open("counter", "ada-works")
    record = Member(
        "Ada Works Ltd", "5493001KJTIIGC8Y1R12", None, "ADAWGB2L", ("company", "governor"), bytes(32), False
    )
    assert world.enact(ChangeMember("ada-works", changed, account))[2:] == [
        MemberChanged("ada-works", record),
        AdministrationSet("ada-works", account),
    ]
    assert world.member("ada-works") == record
    assert administration_of(world.state, "ada-works") == account
    proposal = world.propose("counter", SuspendMember("lotus-bank"))
    assert world.vote("regulator", proposal)[-1].member == "lotus-bank"


def test_change_member_keeps_a_suspension(world, identity):
    world.enact(SuspendMember("ada-works"))
    world.enact(ChangeMember("ada-works", identity("bank"), None))
    assert world.member("ada-works") == Member("New Member plc", None, None, None, ("bank",), None, True)


def test_change_member_may_name_the_present_administration(world, identity):
    events = world.enact(ChangeMember("ada-works", identity("bank"), world["ada-works"]))
    assert [type(event) for event in events[2:]] == [MemberChanged]
    assert administration_of(world.state, "ada-works") == world["ada-works"]


def test_change_member_refuses(world, identity):
    assert refusal(world, ChangeMember("nobody", identity(), None)) == ("ledger", 1)
    assert refusal(world, ChangeMember("ada-works", identity(), world["regulator"])) == ("ledger", 51)
    assert refusal(world, ChangeMember("ada-works", identity(), bytes(32))) == ("ledger", 5)
    assert refusal(world, ChangeMember("ada-works", identity("b", "a"), None)) == ("governance", 21)
    counter = world.open("counter", "ada-works")
    world.enact(FreezeAccount(counter, "order 7"))
    assert refusal(world, ChangeMember("ada-works", identity(), counter)) == ("ledger", 7)
    world.do(add_member, "silent", Member("Silent", None, None, None, (), None, False))
    assert refusal(world, ChangeMember("silent", identity("governor"), None)) == ("governance", 12)


def test_nobody_comes_into_office_who_could_not_vote(world, identity):
    world.enact(FreezeAccount(world["ada-works"], "order 7"))
    assert refusal(world, ChangeMember("ada-works", identity("governor"), None)) == ("governance", 12)
    world.enact(SuspendMember("lotus-bank"))
    world.vote("regulator", world.propose("harbour-bank", FreezeAccount(world["lotus-bank"], "order 8")))
    assert refusal(world, ReinstateMember("lotus-bank")) == ("governance", 12)
    world.vote("regulator", world.propose("harbour-bank", ReleaseAccount(world["lotus-bank"], "lifted")))
    world.vote("regulator", world.propose("harbour-bank", ReinstateMember("lotus-bank")))
    assert not world.member("lotus-bank").is_suspended


def test_freeze_and_release_an_account(world):
    account = world["ada-works"]
    assert world.enact(FreezeAccount(account, "order 7"))[2:] == [AccountFrozen(account, "governance", "order 7")]
    assert require_account(world.state, account).frozen_by == "governance"
    assert world.enact(ReleaseAccount(account, "lifted"))[2:] == [AccountReleased(account, "governance", "lifted")]
    assert require_account(world.state, account).frozen_by is None


def test_one_governor_alone_freezes_nothing(world):
    world.propose("harbour-bank", FreezeAccount(world["ada-works"], "order 7"))
    assert require_account(world.state, world["ada-works"]).frozen_by is None


def test_a_vote_takes_a_members_own_freeze_over(world):
    world.do(set_frozen, world["ada-works"], True, BY_MEMBER, "phone lost")
    world.enact(FreezeAccount(world["ada-works"], "order 7"))
    assert require_account(world.state, world["ada-works"]).frozen_by == "governance"


def test_freeze_and_release_refuse(world):
    account = world["ada-works"]
    assert refusal(world, FreezeAccount(bytes(32), "order 7")) == ("ledger", 5)
    assert refusal(world, FreezeAccount(world["lotus-bank"], "order 7")) == ("governance", 25)
    assert refusal(world, ReleaseAccount(bytes(32), "lifted")) == ("ledger", 5)
    assert refusal(world, ReleaseAccount(account, "lifted")) == ("governance", 24)
    world.do(set_frozen, account, True, BY_MEMBER, "phone lost")
    assert refusal(world, ReleaseAccount(account, "lifted")) == ("governance", 24)
    world.enact(FreezeAccount(account, "order 7"))
    assert refusal(world, FreezeAccount(account, "order 7")) == ("governance", 23)
    world.enact(FreezeAccount(world.open("counter", "lotus-bank"), "a governor's other accounts may be frozen"))


def test_governors_never_become_too_few(world, identity):
    world.enact(SuspendMember("regulator"))
    for action in (
        SuspendMember("lotus-bank"),
        RemoveMember("lotus-bank"),
        ChangeMember("lotus-bank", identity("bank"), None),
        RemoveMember("harbour-bank"),
    ):
        assert refusal(world, action) == ("governance", 11)
    world.enact(set_of(approvals_needed=1))
    world.run(Propose(world["harbour-bank"], RemoveMember("lotus-bank"), ""))
    for action in (
        SuspendMember("harbour-bank"),
        RemoveMember("harbour-bank"),
        ChangeMember("harbour-bank", identity("bank"), None),
    ):
        assert refusal(world, action) == ("governance", 11)
    world.run(Propose(world["harbour-bank"], RemoveMember("regulator"), "suspended already, so no governor is lost"))


def test_the_deciding_vote_may_be_its_members_own_removal(world):
    proposal = world.propose("harbour-bank", RemoveMember("lotus-bank"))
    assert world.vote("lotus-bank", proposal)[-1] == MemberLeft("lotus-bank")


def test_set_parameters_of_ledger_and_governance_together(world):
    action = set_of(approvals_needed=3, voting_days=30, max_block_bytes=2**23, replay_window_ms=120_000)
    expected = Parameters(max_block_bytes=2**23, replay_window_ms=120_000)
    assert world.enact(action)[2:] == [LedgerParametersSet(expected), RulesSet(3, 30)]
    assert get_parameters(world.state) == expected
    assert RULES.get(world.state, RULES_KEY) == Rules(3, 30)


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"app_version": 2}, ("governance", 14)),
        ({"gas_price": 1}, ("governance", 14)),
        ({"approvals_needed": 0}, ("governance", 16)),
        ({"approvals_needed": 4}, ("governance", 11)),
        ({"voting_days": 0}, ("governance", 16)),
        ({"voting_days": 367}, ("governance", 16)),
        ({"max_block_bytes": 1}, ("governance", 16)),
        ({"max_block_work": 2**53}, ("governance", 16)),
        ({"max_triggers_per_block": 0}, ("governance", 16)),
        ({"replay_window_ms": 59_999}, ("governance", 16)),
        ({"sponsor_day_work": 1}, ("governance", 16)),
    ],
)
def test_set_parameters_refuses(world, values, rule):
    assert refusal(world, set_of(**values)) == rule


def test_set_parameters_wants_each_name_once_in_order(world):
    one, other = ParameterChange("voting_days", 3), ParameterChange("approvals_needed", 2)
    assert refusal(world, SetParameters((one, other))) == ("governance", 15)
    assert refusal(world, SetParameters((one, one))) == ("governance", 15)


def test_the_bounds_cover_every_parameter_and_lie_within_what_its_record_takes():
    assert sorted(LEDGER_BOUNDS) == sorted(set(Parameters.__struct_fields__) - {"app_version"})
    defaults = Parameters()
    for place in (0, 1):
        values = {name: bounds[place] for name, bounds in LEDGER_BOUNDS.items()}
        check_parameters(Parameters(**values, app_version=1))
    for name, (least, most) in LEDGER_BOUNDS.items():
        assert least <= getattr(defaults, name) <= most
    assert sorted(RULES_BOUNDS) == sorted(Rules.__struct_fields__)


def test_schedule_and_cancel_an_upgrade(world):
    assert world.enact(ScheduleUpgrade(110, 2))[2:] == [UpgradeScheduled(110, 2)]
    assert scheduled_upgrade(world.state) == Upgrade(110, 2)
    assert refusal(world, ScheduleUpgrade(120, 2)) == ("governance", 19)
    assert world.enact(CancelUpgrade())[2:] == [UpgradeCancelled(110, 2)]
    assert UPGRADES.get(world.state, UPGRADE_KEY) is None
    assert refusal(world, CancelUpgrade()) == ("governance", 20)


def test_schedule_upgrade_refuses(world):
    assert refusal(world, ScheduleUpgrade(109, 2)) == ("governance", 17)
    assert refusal(world, ScheduleUpgrade(110, 1)) == ("governance", 18)
    assert refusal(world, ScheduleUpgrade(110, 3)) == ("governance", 18)


def test_an_approval_that_comes_too_late_for_the_height_is_refused(world):
    proposal = world.propose("harbour-bank", ScheduleUpgrade(110, 2))
    world.height = 101
    assert world.refuse(Vote(world["regulator"], proposal, True)) == ("governance", 17)


def test_an_upgrade_that_has_run_is_no_longer_scheduled(world):
    world.enact(ScheduleUpgrade(110, 2))
    world.height = 110
    assert refusal(world, CancelUpgrade()) == ("governance", 20)
