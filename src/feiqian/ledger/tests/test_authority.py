"""Authority: which signatures let which messages in."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feiqian.core.addresses import Address
from feiqian.core.encoding import AmountMinor
from feiqian.ledger import errors
from feiqian.ledger.accounts import set_frozen
from feiqian.ledger.authority import (
    Contribution,
    authorise,
    check_policy,
    policy_keys,
    require_authority,
    single_key_policy,
)
from feiqian.ledger.context import Claim, Message
from feiqian.ledger.members import require_member, set_member
from feiqian.ledger.records import BY_GOVERNANCE, Member, Policy, PolicyKey, PolicyRule, RoleThreshold
from feiqian.testing import Bench, key_of


class Pay(Message, tag="payments.Pay"):
    account: Address
    asset: str
    amount_minor: AmountMinor

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account, self.asset, self.amount_minor),)


class Swap(Message, tag="payments.Swap"):
    left: Address
    right: Address

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.left), Claim(self.right))


class Nobody(Message, tag="payments.Nobody"):
    def claims(self) -> tuple[Claim, ...]:
        return ()


class Add(Contribution, tag="approvals.Add"):
    account: Address

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account),)


MAKER, CHECKER_1, CHECKER_2, STRANGER = (key_of(name) for name in ("maker", "checker 1", "checker 2", "stranger"))


def policy_of(keys: list[PolicyKey], *rules: PolicyRule) -> Policy:
    policy = Policy(tuple(sorted(keys, key=lambda entry: (entry.key.scheme, entry.key.data))), rules)
    check_policy(policy)
    return policy


def needs(**weights: int) -> tuple[RoleThreshold, ...]:
    return tuple(RoleThreshold(role, weight) for role, weight in weights.items())


FOUR_EYES = policy_of(
    [PolicyKey(MAKER, 1, "maker"), PolicyKey(CHECKER_1, 1, "checker"), PolicyKey(CHECKER_2, 1, "checker")],
    PolicyRule(("payments.*",), "CNY", 1_000, needs(maker=1)),
    PolicyRule(("payments.Pay",), None, None, needs(maker=1, checker=1)),
    PolicyRule(("payments.Swap", "accounts.ChangePolicy"), None, None, needs(checker=2)),
)


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.member("harbour", "bank")
    bench.member("ferry", "company")
    return bench


def allow(bench: Bench, *messages: Message, by: Any, sponsor: str = "harbour") -> None:
    authorise(bench.state, messages, sponsor, frozenset(by))


def test_one_key_may_do_everything_by_a_single_key_policy(bench: Bench) -> None:
    account = bench.account("harbour", "the owner")
    allow(bench, Pay(account, "CNY", 2**62), Swap(account, account), by=[key_of("the owner")])
    with pytest.raises(errors.NotAuthorised, match="needs weight 1 of role 'owner'; the signatures weigh 0"):
        allow(bench, Pay(account, "CNY", 1), by=[STRANGER])


def test_the_first_rule_that_matches_decides(bench: Bench) -> None:
    account = bench.account("harbour", "four eyes", FOUR_EYES)
    allow(bench, Pay(account, "CNY", 1_000), by=[MAKER])
    allow(bench, Pay(account, "CNY", 1_001), by=[MAKER, CHECKER_1])
    allow(bench, Pay(account, "EUR", 1), by=[MAKER, CHECKER_2])
    allow(bench, Swap(account, account), by=[CHECKER_1, CHECKER_2])
    with pytest.raises(errors.NotAuthorised, match="'checker'"):
        allow(bench, Pay(account, "CNY", 1_001), by=[MAKER])
    with pytest.raises(errors.NotAuthorised, match="'maker'"):
        allow(bench, Pay(account, "CNY", 1_001), by=[CHECKER_1, CHECKER_2])
    with pytest.raises(errors.NotAuthorised, match="needs weight 2"):
        allow(bench, Swap(account, account), by=[CHECKER_1])


def test_a_claim_without_amount_is_not_within_an_amount(bench: Bench) -> None:
    account = bench.account("harbour", "four eyes", FOUR_EYES)
    with pytest.raises(errors.NotAuthorised, match="'checker'"):
        allow(bench, Swap(account, account), by=[MAKER])


def test_no_rule_matches_means_no(bench: Bench) -> None:
    policy = policy_of([PolicyKey(MAKER, 1, "maker")], PolicyRule(("payments.Pay",), "CNY", 10, needs(maker=1)))
    account = bench.account("harbour", "small sums", policy)
    for message in (Pay(account, "CNY", 11), Pay(account, "EUR", 1), Swap(account, account)):
        with pytest.raises(errors.NotAuthorised, match="no rule"):
            allow(bench, message, by=[MAKER])


def test_every_account_of_every_message_counts(bench: Bench) -> None:
    left = bench.account("harbour", "left key")
    right = bench.account("ferry", "right key")
    by = [key_of("left key"), key_of("right key")]
    allow(bench, Swap(left, right), by=by)
    allow(bench, Swap(left, right), by=by, sponsor="ferry")
    with pytest.raises(errors.NotAuthorised):
        allow(bench, Swap(left, right), by=by[:1])
    with pytest.raises(errors.NotAuthorised):
        allow(bench, Pay(left, "CNY", 1), Pay(right, "CNY", 1), by=by[1:])


def test_a_message_that_acts_for_nobody_is_refused(bench: Bench) -> None:
    account = bench.account("harbour", "the owner")
    with pytest.raises(errors.NoAccountClaimed, match=r"payments\.Nobody"):
        allow(bench, Nobody(), by=[key_of("the owner")])
    with pytest.raises(errors.NoAccountClaimed):
        allow(bench, Pay(account, "CNY", 1), Nobody(), by=[key_of("the owner")])


def test_signatures_that_nobody_asked_for_are_refused(bench: Bench) -> None:
    account = bench.account("harbour", "four eyes", FOUR_EYES)
    with pytest.raises(errors.SignatureNotNeeded):
        allow(bench, Pay(account, "CNY", 1_000), by=[MAKER, STRANGER])
    # A key of the policy, but in a role that the deciding rule does not ask for.
    with pytest.raises(errors.SignatureNotNeeded, match="1 of 2"):
        allow(bench, Pay(account, "CNY", 1_000), by=[MAKER, CHECKER_1])
    # More checkers than needed are welcome: the role is asked for.
    allow(bench, Pay(account, "CNY", 1_001), by=[MAKER, CHECKER_1, CHECKER_2])


def test_the_sponsor_is_concerned(bench: Bench) -> None:
    account = bench.account("harbour", "the owner")
    with pytest.raises(errors.SponsorNotConcerned, match="'ferry'"):
        allow(bench, Pay(account, "CNY", 1), by=[key_of("the owner")], sponsor="ferry")
    with pytest.raises(errors.SponsorNotConcerned):
        authorise(bench.state, (), "harbour", frozenset([key_of("the owner")]))


def test_accounts_and_members_that_may_not_act(bench: Bench) -> None:
    account = bench.account("harbour", "the owner")
    by = [key_of("the owner")]
    with pytest.raises(errors.AccountUnknown):
        allow(bench, Pay(bytes(32), "CNY", 1), by=by)
    set_frozen(bench.context(), account, True, BY_GOVERNANCE, "lost key")
    with pytest.raises(errors.AccountFrozen):
        allow(bench, Pay(account, "CNY", 1), by=by)
    with pytest.raises(errors.AccountFrozen):
        allow(bench, Add(account), by=by)
    set_frozen(bench.context(), account, False, BY_GOVERNANCE, "found")
    member = require_member(bench.state, "harbour")
    set_member(bench.context(), "harbour", Member(member.legal_name, None, None, None, (), None, True))
    with pytest.raises(errors.MemberSuspended):
        allow(bench, Pay(account, "CNY", 1), by=by)


def test_a_contribution_needs_one_key_unless_a_rule_names_it(bench: Bench) -> None:
    account = bench.account("harbour", "four eyes", FOUR_EYES)
    for key in (MAKER, CHECKER_1, CHECKER_2):
        allow(bench, Add(account), by=[key])
    allow(bench, Add(account), by=[MAKER, CHECKER_1])
    with pytest.raises(errors.NotAuthorised, match="a key of account"):
        allow(bench, Add(account), by=[STRANGER])
    with pytest.raises(errors.SignatureNotNeeded):
        allow(bench, Add(account), by=[MAKER, STRANGER])
    keys = [PolicyKey(MAKER, 1, "maker"), PolicyKey(CHECKER_1, 1, "checker")]
    everything = policy_of(keys, PolicyRule(("*", "approvals.*"), None, None, needs(maker=1, checker=1)))
    allow(bench, Add(bench.account("harbour", "star rule", everything)), by=[MAKER])
    named = policy_of(keys, PolicyRule(("approvals.Add",), None, None, needs(checker=1)))
    with pytest.raises(errors.NotAuthorised, match="'checker'"):
        allow(bench, Add(bench.account("harbour", "named rule", named)), by=[MAKER])


def test_policy_keys_are_in_the_policys_order() -> None:
    both = frozenset([CHECKER_1, MAKER, STRANGER])
    expected = tuple(sorted((MAKER, CHECKER_1), key=lambda key: key.data))
    assert policy_keys(FOUR_EYES, both) == expected
    assert policy_keys(single_key_policy(MAKER), frozenset([STRANGER])) == ()


# --- against a plain reference ---

ROLES = ("maker", "checker", "owner")
KEYS = [key_of(f"key {number}") for number in range(5)]
KINDS = ("*", "payments.*", "payments.Pay", "payments.Swap", "assets.*")


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    chosen = draw(st.lists(st.sampled_from(KEYS), min_size=1, unique=True))
    keys = [PolicyKey(key, draw(st.integers(1, 3)), draw(st.sampled_from(ROLES))) for key in chosen]
    totals: dict[str, int] = {}
    for entry in keys:
        totals[entry.role] = totals.get(entry.role, 0) + entry.weight
    rules = []
    for _ in range(draw(st.integers(1, 4))):
        kinds = tuple(draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=2, unique=True)))
        asset = draw(st.sampled_from((None, "CNY", "EUR")))
        up_to = draw(st.none() | st.integers(0, 20)) if asset else None
        roles = draw(st.lists(st.sampled_from(sorted(totals)), min_size=1, unique=True))
        wanted = tuple(RoleThreshold(role, draw(st.integers(1, totals[role]))) for role in roles)
        rules.append(PolicyRule(kinds, asset, up_to, wanted))
    return policy_of(keys, *rules)


def is_allowed(policy: Policy, tag: str, asset: str | None, amount: int | None, signers: list) -> bool:
    """The rule of records.Policy in the plainest words."""
    for rule in policy.rules:
        names_it = any(kind in ("*", tag) or (kind.endswith(".*") and tag.startswith(kind[:-1])) for kind in rule.kinds)
        fits_asset = rule.asset is None or rule.asset == asset
        fits_amount = rule.up_to_minor is None or (amount is not None and amount <= rule.up_to_minor)
        if names_it and fits_asset and fits_amount:
            return all(
                sum(entry.weight for entry in policy.keys if entry.role == need.role and entry.key in signers)
                >= need.weight
                for need in rule.needs
            )
    return False


@given(
    policies(),
    st.lists(st.sampled_from(KEYS), unique=True),
    st.sampled_from(("CNY", "EUR", "USD")),
    st.integers(0, 25),
    st.booleans(),
)
def test_policies_decide_as_the_reference_does(
    policy: Policy, signers: list, asset: str, amount: int, is_pay: bool
) -> None:
    bench = Bench()
    bench.member("harbour", "bank")
    account = bench.account("harbour", "under test", policy)
    message = Pay(account, asset, amount) if is_pay else Swap(account, account)
    if is_pay:
        expected = is_allowed(policy, "payments.Pay", asset, amount, signers)
    else:
        expected = is_allowed(policy, "payments.Swap", None, None, signers)
    try:
        require_authority(bench.state, [message], frozenset(signers))
    except errors.NotAuthorised:
        assert not expected
    else:
        assert expected
