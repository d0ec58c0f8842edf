"""`[governance]` of consortium.toml: what it sets, and what it refuses by number."""

import pytest

from feiqian.core.errors import InvalidTransaction
from feiqian.ledger.members import add_member
from feiqian.ledger.records import Member
from feiqian.modules.governance import MODULE
from feiqian.modules.governance.events import RulesSet, VotingAccountSet
from feiqian.modules.governance.state import RULES, RULES_KEY, VOTING_ACCOUNTS, Rules, VotingAccount


def test_genesis_sets_rules_and_voting_accounts(founded):
    assert founded.do(MODULE.genesis, {"approvals_needed": 3, "voting_days": 5}) == [
        VotingAccountSet("harbour-bank", founded["harbour-bank"]),
        VotingAccountSet("lotus-bank", founded["lotus-bank"]),
        VotingAccountSet("regulator", founded["regulator"]),
        RulesSet(3, 5),
    ]
    assert RULES.get(founded.state, RULES_KEY) == Rules(3, 5)
    assert VOTING_ACCOUNTS.get(founded.state, b"lotus-bank") == VotingAccount(founded["lotus-bank"])


def test_without_settings_more_than_half_decide_within_two_weeks(founded):
    assert founded.do(MODULE.genesis, {})[-1] == RulesSet(2, 14)


def test_a_governor_with_several_accounts_names_the_one_it_votes_by(founded):
    founded.open("counter", "lotus-bank", is_founding=True)
    with pytest.raises(InvalidTransaction, match="'lotus-bank' has 2 accounts") as refusal:
        founded.do(MODULE.genesis, {})
    assert refusal.value.number == 22
    founded.do(MODULE.genesis, {"voting_accounts": [founded["counter"], founded["ada-works"]]})
    assert VOTING_ACCOUNTS.get(founded.state, b"lotus-bank") == VotingAccount(founded["counter"])
    assert VOTING_ACCOUNTS.get(founded.state, b"ada-works") == VotingAccount(founded["ada-works"])


@pytest.mark.parametrize(
    ("section", "number"),
    [
        ({"approvals_needed": 4}, 11),
        ({"approvals_needed": 0}, 16),
        ({"voting_days": 0}, 16),
        ({"voting_days": 400}, 16),
        ({"quorum": 2}, 22),
        ({"voting_days": "7"}, 22),
        ({"voting_accounts": [bytes(32)]}, 22),
    ],
)
def test_genesis_refuses(founded, section, number):
    with pytest.raises(InvalidTransaction) as refusal:
        founded.do(MODULE.genesis, section)
    assert (refusal.value.codespace, refusal.value.number) == ("governance", number)


def test_two_voting_accounts_of_one_member_are_refused(founded):
    second = founded.open("counter", "lotus-bank", is_founding=True)
    with pytest.raises(InvalidTransaction) as refusal:
        founded.do(MODULE.genesis, {"voting_accounts": [second, founded["lotus-bank"]]})
    assert refusal.value.number == 22


def test_a_governor_without_account_is_refused(founded):
    record = Member("Silent", None, None, None, ("governor",), None, False)
    founded.do(add_member, "silent", record, is_founding=True)
    with pytest.raises(InvalidTransaction, match="'silent' has 0 accounts"):
        founded.do(MODULE.genesis, {})
