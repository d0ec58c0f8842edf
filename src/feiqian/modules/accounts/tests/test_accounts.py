"""The accounts module's messages: what each does, who may send it, what refuses it."""

import doctest
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feiqian.core.addresses import Address
from feiqian.core.encoding import MAX_RECORD_BYTES, PositiveMinor, encode
from feiqian.core.errors import InvalidTransaction, Undecodable
from feiqian.core.signatures import SM2, PublicKey
from feiqian.ledger import approvals, errors
from feiqian.ledger.accounts import (
    Account,
    address_of,
    administration_of,
    change_policy,
    require_account,
    set_frozen,
)
from feiqian.ledger.approvals import (
    MAX_PROPOSAL_ACCOUNTS,
    MAX_PROPOSAL_BYTES,
    MAX_PROPOSAL_KEYS,
    PENDING,
    ExpirePending,
    expire,
    require_pending,
)
from feiqian.ledger.authority import single_key_policy
from feiqian.ledger.balances import get_balance
from feiqian.ledger.context import Claim, Context, Message
from feiqian.ledger.events import (
    AccountFrozen,
    AccountOpened,
    AccountReleased,
    AdministrationSet,
    Approved,
    LimitSet,
    PendingExecuted,
    PendingExpired,
    PendingFailed,
    PendingWithdrawn,
    PolicyChanged,
    Posted,
    Proposed,
)
from feiqian.ledger.members import require_member, set_member
from feiqian.ledger.postings import Balance, Leg, post
from feiqian.ledger.records import (
    BY_GOVERNANCE,
    BY_MEMBER,
    Member,
    Pending,
    Policy,
    PolicyKey,
    PolicyRule,
    RoleThreshold,
)
from feiqian.ledger.triggers import SCHEDULED, due
from feiqian.modules.accounts import MODULE
from feiqian.modules.accounts.errors import ERRORS, AdministrationStays, FrozenByGovernance, NotYourAccount
from feiqian.modules.accounts.messages import (
    Approve,
    ChangePolicy,
    Open,
    Propose,
    SetAdministration,
    SetFrozen,
    SetLimit,
    Withdraw,
)
from feiqian.testing import TIME_MS, Bench, key_of

DAY_MS = 86_400_000
MAKER, CHECKER, OWNER = key_of("maker"), key_of("checker"), key_of("ferry owner")


class Pay(Message, tag="tests.Pay"):
    """A plain transfer, so that approvals have something to run."""

    account: Address
    payee: Address
    amount_minor: PositiveMinor

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account, "CNY", self.amount_minor),)


class Nobody(Message, tag="tests.Nobody"):
    def claims(self) -> tuple[Claim, ...]:
        return ()


def pay(ctx: Context, message: Pay) -> None:
    post(ctx, (Leg(message.account, "CNY", -message.amount_minor), Leg(message.payee, "CNY", message.amount_minor)))


def sorted_keys(*keys):
    return tuple(sorted(keys, key=lambda key: (key.scheme, key.data)))


def four_eyes(limit_minor: int = 100, *extra: PolicyKey) -> Policy:
    keys = [PolicyKey(MAKER, 1, "maker"), PolicyKey(CHECKER, 1, "checker"), *extra]
    both = (RoleThreshold("maker", 1), RoleThreshold("checker", 1))
    return Policy(
        tuple(sorted(keys, key=lambda entry: entry.key.data)),
        (
            PolicyRule(("tests.Pay",), "CNY", limit_minor, (RoleThreshold("maker", 1),)),
            PolicyRule(("*",), None, None, both),
        ),
    )


class World(Bench):
    """A bank that issues CNY and has a customer's account; a company under four eyes, another with one owner."""

    def __init__(self) -> None:
        super().__init__({**MODULE.handlers, Pay: pay, Nobody: lambda ctx, message: None})
        self.member("harbour", "bank")
        self.member("quay", "company")
        self.member("ferry", "company")
        self.bank = self.account("harbour", "bank key")
        self.quay = self.account("quay", "quay salt", four_eyes())
        self.ferry = self.account("ferry", "ferry owner")
        self.customer = self.account("harbour", "customer key")
        self.asset("CNY", "harbour", self.bank)
        self.issue("CNY", self.bank, self.quay, 1_000)

    def posted(self, *accounts: bytes) -> list[int]:
        return [get_balance(self.state, account, "CNY").posted_minor for account in accounts]

    def pending(self) -> tuple[bytes, Pending]:
        [found] = PENDING.scan(self.state)
        return found

    def propose(self, *messages: Message, by=(MAKER,), days: int = 3, account: bytes | None = None) -> list:
        data = tuple(encode(message) for message in messages)
        return self.run(Propose(account or self.quay, data, days), by=by, sponsor="quay")


@pytest.fixture
def world() -> World:
    return World()


def test_errors_are_numbered_for_good() -> None:
    assert [(error.codespace, error.number, error.__name__) for error in ERRORS] == [
        ("accounts", 1, "NotYourAccount"),
        ("accounts", 2, "FrozenByGovernance"),
        ("accounts", 3, "AdministrationStays"),
    ]


def test_every_message_acts_for_its_account() -> None:
    account, other = b"a" * 32, b"b" * 32
    policy = single_key_policy(OWNER)
    for message in (
        Open(account, policy, b"saltsalt"),
        ChangePolicy(account, policy),
        SetAdministration(account, other),
        SetFrozen(account, other, True, ""),
        Propose(account, (b"",), 1),
        Approve(account, bytes(32)),
        Withdraw(account, bytes(32)),
    ):
        assert message.claims() == (Claim(account, None, None),)
    assert SetLimit(account, other, "CNY", 5).claims() == (Claim(account, "CNY", 5),)
    assert set(MODULE.handlers) == {
        Open,
        ChangePolicy,
        SetAdministration,
        SetFrozen,
        SetLimit,
        Propose,
        Approve,
        Withdraw,
    }


def test_the_readme_runs() -> None:
    readme = str(Path(__file__).parents[1] / "README.md")
    result = doctest.testfile(readme, module_relative=False, optionflags=doctest.ELLIPSIS)
    assert result.attempted > 10
    assert result.failed == 0


# --- Open ---


def test_a_member_opens_a_further_account(world: World) -> None:
    policy = single_key_policy(key_of("second"))
    events = world.run(Open(world.ferry, policy, b"saltsalt"), by=[OWNER], sponsor="ferry")
    address = address_of("ferry", policy, b"saltsalt")
    assert events == [AccountOpened(address, "ferry", policy)]
    assert require_account(world.state, address) == Account("ferry", policy, None)
    with pytest.raises(errors.AccountExists):
        world.run(Open(world.ferry, policy, b"saltsalt"), by=[OWNER], sponsor="ferry")
    with pytest.raises(errors.MalformedPolicy):
        world.run(Open(world.ferry, Policy((), ()), b"saltsalt"), by=[OWNER], sponsor="ferry")


def test_only_an_account_of_an_active_member_opens(world: World) -> None:
    policy = single_key_policy(key_of("second"))
    with pytest.raises(errors.AccountUnknown):
        world.run(Open(bytes(32), policy, b"saltsalt"), by=[OWNER], sponsor="ferry")
    with pytest.raises(errors.NotAuthorised):
        world.run(Open(world.ferry, policy, b"saltsalt"), by=[MAKER], sponsor="ferry")
    member = require_member(world.state, "ferry")
    set_member(world.context(), "ferry", Member(member.legal_name, None, None, None, member.roles, None, True))
    with pytest.raises(errors.MemberSuspended):
        world.run(Open(world.ferry, policy, b"saltsalt"), by=[OWNER], sponsor="ferry")


def test_only_the_administration_account_opens(world: World) -> None:
    policy = single_key_policy(key_of("second"))
    message = Open(world.customer, policy, b"saltsalt")
    with pytest.raises(errors.NotAdministration, match="not the administration account of member 'harbour'"):
        world.run(message, by=[key_of("customer key")], sponsor="harbour")


# --- SetAdministration ---


def test_administration_is_handed_over(world: World) -> None:
    spare = world.account("ferry", "spare key")
    assert world.run(SetAdministration(world.ferry, spare), by=[OWNER], sponsor="ferry") == [
        AdministrationSet("ferry", spare)
    ]
    assert administration_of(world.state, "ferry") == spare
    policy = single_key_policy(key_of("second"))
    with pytest.raises(errors.NotAdministration):
        world.run(Open(world.ferry, policy, b"saltsalt"), by=[OWNER], sponsor="ferry")
    world.run(Open(spare, policy, b"saltsalt"), by=[key_of("spare key")], sponsor="ferry")


def test_administration_goes_to_an_account_that_may_act_for_the_member(world: World) -> None:
    by = [key_of("customer key")]
    with pytest.raises(errors.NotAdministration):
        world.run(SetAdministration(world.customer, world.customer), by=by, sponsor="harbour")
    by = [key_of("bank key")]
    world.run(SetFrozen(world.bank, world.customer, True, ""), by=by, sponsor="harbour")
    for account, refusal in (
        (world.customer, errors.AccountFrozen),
        (world.ferry, errors.NotMembersAccount),
        (world.bank, errors.NothingChanges),
        (bytes(32), errors.AccountUnknown),
    ):
        with pytest.raises(refusal):
            world.run(SetAdministration(world.bank, account), by=by, sponsor="harbour")


# --- ChangePolicy ---


def test_keys_rotate_and_the_address_stays(world: World) -> None:
    new = single_key_policy(key_of("new owner"))
    assert world.run(ChangePolicy(world.ferry, new), by=[OWNER], sponsor="ferry") == [PolicyChanged(world.ferry, new)]
    assert require_account(world.state, world.ferry) == Account("ferry", new, None)
    with pytest.raises(errors.NotAuthorised):
        world.run(ChangePolicy(world.ferry, single_key_policy(OWNER)), by=[OWNER], sponsor="ferry")
    with pytest.raises(errors.NothingChanges):
        world.run(ChangePolicy(world.ferry, new), by=[key_of("new owner")], sponsor="ferry")


# --- SetFrozen ---


def test_a_member_freezes_and_releases_its_own(world: World) -> None:
    spare = world.account("ferry", "spare key")
    events = world.run(SetFrozen(world.ferry, spare, True, "phone lost"), by=[OWNER], sponsor="ferry")
    assert events == [AccountFrozen(spare, "member", "phone lost")]
    assert require_account(world.state, spare).frozen_by == "member"
    with pytest.raises(errors.NothingChanges):
        world.run(SetFrozen(world.ferry, spare, True, ""), by=[OWNER], sponsor="ferry")
    events = world.run(SetFrozen(world.ferry, spare, False, "phone found"), by=[OWNER], sponsor="ferry")
    assert events == [AccountReleased(spare, "member", "phone found")]
    assert not require_account(world.state, spare).is_frozen
    with pytest.raises(errors.NothingChanges):
        world.run(SetFrozen(world.ferry, spare, False, ""), by=[OWNER], sponsor="ferry")


def test_a_customer_freezes_nobody_at_its_bank(world: World) -> None:
    other = world.account("harbour", "other customer")
    for target in (other, world.bank, world.customer):
        with pytest.raises(errors.NotAdministration):
            world.run(SetFrozen(world.customer, target, True, ""), by=[key_of("customer key")], sponsor="harbour")


def test_what_governance_froze_its_member_neither_releases_nor_freezes_again(world: World) -> None:
    by = [key_of("bank key")]
    world.run(SetFrozen(world.bank, world.customer, True, "phone lost"), by=by, sponsor="harbour")
    set_frozen(world.context(), world.customer, True, BY_GOVERNANCE, "order 12")
    for is_frozen in (False, True):
        with pytest.raises(FrozenByGovernance):
            world.run(SetFrozen(world.bank, world.customer, is_frozen, ""), by=by, sponsor="harbour")
    assert require_account(world.state, world.customer).frozen_by == "governance"


def test_the_administration_account_does_not_freeze_itself(world: World) -> None:
    with pytest.raises(AdministrationStays):
        world.run(SetFrozen(world.ferry, world.ferry, True, ""), by=[OWNER], sponsor="ferry")


def test_other_members_accounts_are_not_yours(world: World) -> None:
    with pytest.raises(NotYourAccount, match="'quay'"):
        world.run(SetFrozen(world.ferry, world.quay, True, ""), by=[OWNER], sponsor="ferry")
    with pytest.raises(errors.AccountUnknown):
        world.run(SetFrozen(world.ferry, bytes(32), True, ""), by=[OWNER], sponsor="ferry")
    world.member("council", "governor")
    council = world.account("council", "council key")
    with pytest.raises(NotYourAccount):
        world.run(SetFrozen(council, world.quay, True, ""), by=[key_of("council key")], sponsor="council")


# --- SetLimit ---


def test_the_issuer_agrees_a_limit(world: World) -> None:
    message = SetLimit(world.bank, world.ferry, "CNY", 50)
    assert world.run(message, by=[key_of("bank key")], sponsor="harbour") == [LimitSet(world.ferry, "CNY", 50)]
    assert get_balance(world.state, world.ferry, "CNY") == Balance(0, 0, 50, False, False)
    world.run(Pay(world.ferry, world.quay, 50), by=[OWNER], sponsor="ferry")
    with pytest.raises(errors.InsufficientAvailable):
        world.run(Pay(world.ferry, world.quay, 1), by=[OWNER], sponsor="ferry")
    with pytest.raises(errors.LimitBelowUse):
        world.run(SetLimit(world.bank, world.ferry, "CNY", 49), by=[key_of("bank key")], sponsor="harbour")


def test_only_the_issuance_account_agrees_limits(world: World) -> None:
    message = SetLimit(world.customer, world.customer, "CNY", 50)
    with pytest.raises(errors.NotIssuer):
        world.run(message, by=[key_of("customer key")], sponsor="harbour")
    with pytest.raises(errors.NotIssuer):
        world.run(SetLimit(world.ferry, world.ferry, "CNY", 50), by=[OWNER], sponsor="ferry")
    with pytest.raises(errors.AssetUnknown):
        world.run(SetLimit(world.bank, world.ferry, "USD", 50), by=[key_of("bank key")], sponsor="harbour")
    with pytest.raises(errors.IssuanceLimitFixed):
        world.run(SetLimit(world.bank, world.bank, "CNY", 50), by=[key_of("bank key")], sponsor="harbour")
    with pytest.raises(errors.AccountUnknown):
        world.run(SetLimit(world.bank, bytes(32), "CNY", 50), by=[key_of("bank key")], sponsor="harbour")


# --- Propose, Approve, Withdraw ---


def test_maker_proposes_checker_approves(world: World) -> None:
    message = Pay(world.quay, world.ferry, 700)
    with pytest.raises(errors.NotAuthorised):
        world.run(message, by=[MAKER], sponsor="quay")
    events = world.propose(message)
    pending_id, pending = world.pending()
    expires_at_ms = TIME_MS + 3 * DAY_MS
    key = expires_at_ms.to_bytes(8, "big") + bytes(8)
    assert pending == Pending(world.quay, (encode(message),), (world.quay,), (MAKER,), expires_at_ms, key)
    assert events == [Proposed(pending_id, world.quay, (encode(message),), (world.quay,), (MAKER,), expires_at_ms)]
    assert events[0].accounts() == (world.quay,)
    assert world.posted(world.quay, world.ferry) == [1_000, 0]

    world.time_ms += 2 * DAY_MS
    events = world.run(Approve(world.quay, pending_id), by=[CHECKER], sponsor="quay")
    legs = (Leg(world.quay, "CNY", -700), Leg(world.ferry, "CNY", 700))
    parties = (world.quay,)
    assert events == [
        Approved(pending_id, world.quay, (CHECKER,), parties),
        Posted(legs),
        PendingExecuted(pending_id, parties),
    ]
    assert world.posted(world.quay, world.ferry) == [300, 700]
    assert list(PENDING.scan(world.state)) == []
    assert list(SCHEDULED.scan(world.state)) == []
    with pytest.raises(errors.PendingUnknown):
        world.run(Approve(world.quay, pending_id), by=[CHECKER], sponsor="quay")


def test_the_same_key_counts_once(world: World) -> None:
    world.propose(Pay(world.quay, world.ferry, 700))
    pending_id, _ = world.pending()
    with pytest.raises(errors.AlreadyApproved):
        world.run(Approve(world.quay, pending_id), by=[MAKER], sponsor="quay")
    assert world.pending()[1].keys == (MAKER,)


def test_what_the_proposers_keys_already_meet_runs_at_once(world: World) -> None:
    events = world.propose(Pay(world.quay, world.ferry, 100))
    assert [type(event) for event in events] == [Proposed, Posted, PendingExecuted]
    assert world.posted(world.ferry) == [100]
    assert list(PENDING.scan(world.state)) == []
    assert list(SCHEDULED.scan(world.state)) == []


def test_accounts_of_two_members(world: World) -> None:
    world.issue("CNY", world.bank, world.ferry, 10)
    world.propose(Pay(world.quay, world.ferry, 700), Pay(world.ferry, world.quay, 10))
    pending_id, pending = world.pending()
    assert pending.accounts == tuple(sorted((world.quay, world.ferry)))
    world.run(Approve(world.ferry, pending_id), by=[OWNER], sponsor="ferry")
    assert world.pending()[1].keys == sorted_keys(MAKER, OWNER)
    world.run(Approve(world.quay, pending_id), by=[CHECKER], sponsor="quay")
    assert world.posted(world.quay, world.ferry) == [310, 700]


def test_a_signers_key_counts_for_the_account_it_approves_for_only(world: World) -> None:
    """In one transaction, the checker signs for quay's other message, and only ferry's key approves."""
    world.propose(Pay(world.quay, world.ferry, 700), Pay(world.ferry, world.quay, 10))
    pending_id, _ = world.pending()
    other = Pay(world.quay, world.ferry, 101)
    world.run(Approve(world.ferry, pending_id), other, by=[OWNER, MAKER, CHECKER], sponsor="ferry")
    assert world.pending()[1].keys == sorted_keys(MAKER, OWNER)


def test_a_failure_is_recorded_and_never_tried_again(world: World) -> None:
    world.propose(Pay(world.quay, world.ferry, 600), Pay(world.quay, world.ferry, 401))
    pending_id, _ = world.pending()
    events = world.run(Approve(world.quay, pending_id), by=[CHECKER], sponsor="quay")
    assert [type(event) for event in events] == [Approved, PendingFailed]
    failed = events[1]
    assert isinstance(failed, PendingFailed)
    assert (failed.pending, failed.codespace, failed.number) == (pending_id, "ledger", 19)
    assert "would pay 401 of CNY; it has 400 available" in failed.message
    assert world.posted(world.quay, world.ferry) == [1_000, 0]
    assert list(PENDING.scan(world.state)) == []
    assert list(SCHEDULED.scan(world.state)) == []
    with pytest.raises(errors.PendingUnknown):
        world.run(Approve(world.quay, pending_id), by=[CHECKER], sponsor="quay")


def test_policies_count_as_they_stand_then(world: World) -> None:
    world.propose(Pay(world.quay, world.ferry, 700))
    pending_id, _ = world.pending()
    # The maker leaves before the checker approves: another maker is needed.
    new_maker = key_of("new maker")
    entries = [PolicyKey(new_maker, 1, "maker"), PolicyKey(CHECKER, 1, "checker")]
    policy = Policy(tuple(sorted(entries, key=lambda entry: entry.key.data)), four_eyes().rules)
    world.run(ChangePolicy(world.quay, policy), by=[MAKER, CHECKER], sponsor="quay")
    world.run(Approve(world.quay, pending_id), by=[CHECKER], sponsor="quay")
    assert world.posted(world.ferry) == [0]
    with pytest.raises(errors.NotAuthorised):
        world.run(Approve(world.quay, pending_id), by=[MAKER], sponsor="quay")
    world.run(Approve(world.quay, pending_id), by=[new_maker], sponsor="quay")
    assert world.posted(world.ferry) == [700]


def test_a_frozen_account_lets_its_approvals_wait(world: World) -> None:
    world.propose(Pay(world.ferry, world.quay, 5), Pay(world.quay, world.ferry, 700))
    pending_id, _ = world.pending()
    set_frozen(world.context(), world.ferry, True, BY_MEMBER, "")
    world.run(Approve(world.quay, pending_id), by=[CHECKER], sponsor="quay")
    with pytest.raises(errors.AccountFrozen):
        world.run(Approve(world.ferry, pending_id), by=[OWNER], sponsor="ferry")
    set_frozen(world.context(), world.ferry, False, BY_MEMBER, "")
    world.issue("CNY", world.bank, world.ferry, 5)
    world.run(Approve(world.ferry, pending_id), by=[OWNER], sponsor="ferry")
    assert world.posted(world.quay, world.ferry) == [305, 700]


def test_approving_again_runs_what_waited_for_something_else(world: World) -> None:
    spare = world.account("quay", "spare salt", four_eyes())
    world.propose(Pay(world.quay, world.ferry, 600), Pay(spare, world.ferry, 200), by=(MAKER,))
    world.issue("CNY", world.bank, spare, 200)
    pending_id, _ = world.pending()
    set_frozen(world.context(), spare, True, BY_MEMBER, "")
    world.run(Approve(world.quay, pending_id), by=[CHECKER], sponsor="quay")
    with pytest.raises(errors.AlreadyApproved):
        world.run(Approve(world.quay, pending_id), by=[CHECKER], sponsor="quay")
    set_frozen(world.context(), spare, False, BY_MEMBER, "")
    events = world.run(Approve(world.quay, pending_id), by=[CHECKER], sponsor="quay")
    assert [type(event) for event in events] == [Approved, Posted, Posted, PendingExecuted]
    assert events[0] == Approved(pending_id, world.quay, (), tuple(sorted((world.quay, spare))))


def test_the_proposer_withdraws(world: World) -> None:
    world.propose(Pay(world.quay, world.ferry, 700), Pay(world.ferry, world.quay, 1))
    pending_id, pending = world.pending()
    with pytest.raises(errors.NotProposer):
        world.run(Withdraw(world.ferry, pending_id), by=[OWNER], sponsor="ferry")
    events = world.run(Withdraw(world.quay, pending_id), by=[CHECKER], sponsor="quay")
    assert events == [PendingWithdrawn(pending_id, world.quay, pending.accounts)]
    assert list(PENDING.scan(world.state)) == []
    assert list(SCHEDULED.scan(world.state)) == []
    for message in (Withdraw(world.quay, pending_id), Approve(world.quay, pending_id)):
        with pytest.raises(errors.PendingUnknown):
            world.run(message, by=[MAKER], sponsor="quay")


def test_approval_ends_at_the_exact_millisecond(world: World) -> None:
    world.propose(Pay(world.quay, world.ferry, 700), days=1)
    pending_id, pending = world.pending()
    world.time_ms = TIME_MS + DAY_MS - 1
    assert due(world.state, world.time_ms, 10) == []
    world.time_ms += 1
    with pytest.raises(errors.PendingPastExpiry):
        world.run(Approve(world.quay, pending_id), by=[CHECKER], sponsor="quay")
    [(_, trigger)] = due(world.state, world.time_ms, 10)
    assert trigger.tag == "ledger.ExpirePending"
    ctx = world.context()
    expire(ctx, ExpirePending(pending_id))
    assert ctx.events == [PendingExpired(pending_id, pending.accounts)]
    with pytest.raises(errors.PendingUnknown):
        require_pending(world.state, pending_id)


def test_strangers_neither_propose_nor_approve(world: World) -> None:
    with pytest.raises(errors.NotConcerned):
        world.run(Propose(world.ferry, (encode(Pay(world.quay, world.ferry, 700)),), 3), by=[OWNER], sponsor="ferry")
    world.propose(Pay(world.quay, world.ferry, 700))
    pending_id, _ = world.pending()
    with pytest.raises(errors.NotConcerned):
        world.run(Approve(world.ferry, pending_id), by=[OWNER], sponsor="ferry")
    with pytest.raises(errors.NotAuthorised):
        world.run(Approve(world.quay, pending_id), by=[OWNER], sponsor="quay")


def test_proposals_within_proposals_are_refused(world: World) -> None:
    inner = encode(Pay(world.quay, world.ferry, 700))
    for nested in (Propose(world.quay, (inner,), 3), Approve(world.quay, bytes(32)), Withdraw(world.quay, bytes(32))):
        with pytest.raises(errors.NestedProposal):
            world.propose(nested)


def test_malformed_proposals(world: World) -> None:
    good = Pay(world.quay, world.ferry, 700)
    for days in (0, 31, 65_535):
        with pytest.raises(errors.MalformedProposal, match="1 to 30"):
            world.propose(good, days=days)
    with pytest.raises(errors.MalformedProposal, match="17 messages"):
        world.propose(*[good] * 17)
    with pytest.raises(errors.MalformedProposal, match="0 messages"):
        world.propose()
    with pytest.raises(errors.MalformedProposal, match=f"{MAX_PROPOSAL_BYTES + 1} bytes"):
        world.run(Propose(world.quay, (bytes(MAX_PROPOSAL_BYTES + 1),), 3), by=[MAKER], sponsor="quay")
    with pytest.raises(Undecodable):
        world.run(Propose(world.quay, (b"\x91\xa9tests.Lie",), 3), by=[MAKER], sponsor="quay")
    with pytest.raises(errors.NoAccountClaimed):
        world.propose(good, Nobody())
    with pytest.raises(errors.AccountUnknown):
        world.propose(good, Pay(bytes(32), world.ferry, 1))
    assert list(PENDING.scan(world.state)) == []
    assert list(SCHEDULED.scan(world.state)) == []


def test_the_fullest_pending_fits_its_record() -> None:
    longest_key = PublicKey(SM2, bytes(64))
    messages = (bytes(MAX_PROPOSAL_BYTES // 16),) * 16
    accounts = (bytes(32),) * MAX_PROPOSAL_ACCOUNTS
    pending = Pending(bytes(32), messages, accounts, (longest_key,) * MAX_PROPOSAL_KEYS, 2**53, bytes(16))
    assert len(encode(pending)) <= MAX_RECORD_BYTES


def test_so_many_keys_gather(world: World) -> None:
    keys = [key_of(f"signer {number}") for number in range(96)]
    accounts = []
    for part in range(3):
        entries = [PolicyKey(key, 1, "signer") for key in sorted_keys(*keys[32 * part : 32 * part + 32])]
        rules = (
            PolicyRule(("tests.*",), None, None, (RoleThreshold("signer", 32),)),
            PolicyRule(("*",), None, None, (RoleThreshold("signer", 1),)),
        )
        accounts.append(world.account("quay", f"crowd {part} salt", Policy(tuple(entries), rules)))
    by = keys[:31]
    messages = [Pay(account, world.ferry, 1) for account in accounts]
    world.propose(*messages, by=by, account=accounts[0])
    pending_id, _ = world.pending()
    world.run(Approve(accounts[1], pending_id), by=keys[32:64], sponsor="quay")
    world.run(Approve(accounts[2], pending_id), by=keys[64:65], sponsor="quay")
    assert len(world.pending()[1].keys) == MAX_PROPOSAL_KEYS
    with pytest.raises(errors.MalformedProposal, match="65 keys"):
        world.run(Approve(accounts[2], pending_id), by=keys[65:66], sponsor="quay")


def test_a_key_taken_out_in_the_same_block_adds_nothing(world: World) -> None:
    """Authority is as of the start of the block; what a key adds to is as of now."""
    world.propose(Pay(world.quay, world.ferry, 700))
    pending_id, _ = world.pending()
    data = (encode(Pay(world.quay, world.ferry, 5)),)
    change_policy(world.context(), world.quay, single_key_policy(OWNER))
    for act in (
        lambda ctx: approvals.approve(ctx, world.quay, pending_id),
        lambda ctx: approvals.propose(ctx, world.quay, data, 3),
        lambda ctx: approvals.withdraw(ctx, world.quay, pending_id),
    ):
        with pytest.raises(errors.NotAuthorised, match="any more"):
            act(world.context(CHECKER))


@given(
    weights=st.lists(st.integers(1, 3), min_size=1, max_size=5),
    needed=st.integers(1, 15),
    order=st.lists(st.integers(0, 4), min_size=1, max_size=10),
)
def test_a_proposal_runs_when_the_weights_first_suffice(weights: list[int], needed: int, order: list[int]) -> None:
    needed = min(needed, sum(weights))
    keys = sorted_keys(*[key_of(f"signer {number}") for number in range(len(weights))])
    entries = tuple(PolicyKey(key, weight, "signer") for key, weight in zip(keys, weights, strict=True))
    rule = PolicyRule(("*",), None, None, (RoleThreshold("signer", needed),))
    world = World()
    account = world.account("quay", "crowd salt", Policy(entries, (rule,)))
    world.issue("CNY", world.bank, account, 1)
    data = (encode(Pay(account, world.ferry, 1)),)
    signers = [number % len(weights) for number in order]
    first = world.run(Propose(account, data, 1), by=[keys[signers[0]]], sponsor="quay")[0]
    assert isinstance(first, Proposed)
    gathered = {signers[0]}
    for number in signers[1:]:
        approve = Approve(account, first.pending)
        is_over = sum(weights[member] for member in gathered) >= needed
        if is_over or number in gathered:
            with pytest.raises(errors.PendingUnknown if is_over else errors.AlreadyApproved):
                world.run(approve, by=[keys[number]], sponsor="quay")
        else:
            world.run(approve, by=[keys[number]], sponsor="quay")
            gathered.add(number)
    is_met = sum(weights[member] for member in gathered) >= needed
    assert world.posted(world.ferry) == [1 if is_met else 0]
    assert len(list(PENDING.scan(world.state))) == (0 if is_met else 1)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from(["freeze", "release", "hand"]))))
def test_who_speaks_for_a_member_and_freezes_is_that_of_a_plain_model(steps: list[tuple[int, int, str]]) -> None:
    world = World()
    spare = world.account("ferry", "spare key")
    bench = [
        (world.bank, "harbour", [key_of("bank key")]),
        (world.customer, "harbour", [key_of("customer key")]),
        (world.ferry, "ferry", [OWNER]),
        (spare, "ferry", [key_of("spare key")]),
    ]
    frozen: set[int] = set()
    speaks = {"harbour": 0, "ferry": 2}
    for acting, target, what in steps:
        account, member, by = bench[acting]
        is_frozen = what == "freeze"
        is_own = bench[target][1] == member and speaks[member] == acting != target
        if what == "hand":
            is_allowed, message = is_own and target not in frozen, SetAdministration(account, bench[target][0])
        else:
            is_allowed = is_own and (target in frozen) != is_frozen
            message = SetFrozen(account, bench[target][0], is_frozen, "")
        if not is_allowed:
            with pytest.raises(InvalidTransaction):
                world.run(message, by=by, sponsor=member)
            continue
        world.run(message, by=by, sponsor=member)
        if what == "hand":
            speaks[member] = target
        elif is_frozen:
            frozen.add(target)
        else:
            frozen.remove(target)
        assert [require_account(world.state, address).is_frozen for address, _, _ in bench] == [
            number in frozen for number in range(4)
        ]
        assert {name: bench[number][0] for name, number in speaks.items()} == {
            name: administration_of(world.state, name) for name in speaks
        }


def test_a_policy_change_by_approval(world: World) -> None:
    new = single_key_policy(CHECKER)
    world.propose(ChangePolicy(world.quay, new))
    pending_id, _ = world.pending()
    world.run(Approve(world.quay, pending_id), by=[CHECKER], sponsor="quay")
    assert require_account(world.state, world.quay).policy == new


def test_two_pendings_made_in_one_transaction_differ(world: World) -> None:
    data = (encode(Pay(world.quay, world.ferry, 700)),)
    world.run(Propose(world.quay, data, 3), Propose(world.quay, data, 3), by=[MAKER], sponsor="quay")
    assert len(list(PENDING.scan(world.state))) == 2
