"""`[governance]` of consortium.toml: what it sets, and what it refuses by number."""

import pytest

from feiqian.core.errors import InvalidTransaction
from feiqian.ledger.members import add_member
from feiqian.ledger.records import Member
from feiqian.modules.governance import MODULE
from feiqian.modules.governance.events import RulesSet
from feiqian.modules.governance.state import RULES, RULES_KEY, Rules


def test_genesis_sets_rules(founded):
    assert founded.do(MODULE.genesis, {"approvals_needed": 3, "voting_days": 5}) == [RulesSet(3, 5)]
    assert RULES.get(founded.state, RULES_KEY) == Rules(3, 5)


def test_without_settings_more_than_half_decide_within_two_weeks(founded):
    assert founded.do(MODULE.genesis, {})[-1] == RulesSet(2, 14)


@pytest.mark.parametrize(
    ("section", "number"),
    [
        ({"approvals_needed": 4}, 11),
        ({"approvals_needed": 0}, 16),
        ({"voting_days": 0}, 16),
        ({"voting_days": 400}, 16),
        ({"quorum": 2}, 22),
        ({"voting_days": "7"}, 22),
        ({"voting_accounts": ["@lotus-bank"]}, 22),
    ],
)
def test_genesis_refuses(founded, section, number):
    with pytest.raises(InvalidTransaction) as refusal:
        founded.do(MODULE.genesis, section)
    assert (refusal.value.codespace, refusal.value.number) == ("governance", number)


def test_a_governor_without_account_is_refused(founded):
    record = Member("Silent", None, None, None, ("governor",), None, False)
    founded.do(add_member, "silent", record, is_founding=True)
    with pytest.raises(InvalidTransaction, match="'silent' has no account"):
        founded.do(MODULE.genesis, {})
