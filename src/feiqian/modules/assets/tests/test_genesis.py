"""`[[assets]]` of consortium.toml: what it defines, and what it refuses by name."""

import pytest

from feiqian.core.errors import InvalidTransaction
from feiqian.ledger.assets import ASSETS
from feiqian.ledger.records import Asset
from feiqian.modules.assets import MODULE


def entry(world, **changes):
    values = {
        "code": "CNY",
        "name": "Renminbi",
        "currency": "CNY",
        "scale": 2,
        "issuer": "harbour-bank",
        "issuance_account": world["vault"],
        "supply_cap": "1000000.00",
    } | changes
    return {name: value for name, value in values.items() if value is not None}


def test_genesis_defines_each_entry_in_order(bare_world):
    world = bare_world
    controlled = entry(
        world,
        code="XAU",
        name="Gold, gram",
        currency=None,
        scale=3,
        supply_cap="5000",
        flags=["allow-listed", "freezable"],
        controller=world["court"],
        transfer_limit="0.5",
        daily_limit="2.25",
    )
    events = world.do(MODULE.genesis, [entry(world), controlled])
    assert [event.code for event in events] == ["CNY", "XAU"]
    assert ASSETS.get(world.state, b"CNY") == Asset(
        scale=2,
        issuer="harbour-bank",
        issuance_account=world["vault"],
        supply_cap_minor=100_000_000,
        is_freezable=False,
        is_allow_listed=False,
        transfer_limit_minor=None,
        daily_limit_minor=None,
        controller=None,
        name="Renminbi",
        currency="CNY",
    )
    assert ASSETS.get(world.state, b"XAU") == Asset(
        scale=3,
        issuer="harbour-bank",
        issuance_account=world["vault"],
        supply_cap_minor=5_000_000,
        is_freezable=True,
        is_allow_listed=True,
        transfer_limit_minor=500,
        daily_limit_minor=2_250,
        controller=world["court"],
        name="Gold, gram",
        currency=None,
    )


@pytest.mark.parametrize("section", [{}, [], {"assets": []}])
def test_genesis_without_assets_defines_none(bare_world, section):
    assert bare_world.do(MODULE.genesis, section) == []


@pytest.mark.parametrize(
    ("changes", "rule", "words"),
    [
        ({"colour": "red"}, ("core", 1), "colour"),
        ({"code": "CN Y"}, ("core", 1), "[[assets]] entry 1"),
        ({"supply_cap": None}, ("core", 1), "supply_cap"),
        ({"supply_cap": "1.005"}, ("core", 1), "fraction digits"),
        ({"supply_cap": "0"}, ("core", 1), ">= 1"),
        ({"supply_cap": 5}, ("core", 1), "str"),
        ({"scale": 12}, ("core", 1), "<= 9"),
        ({"scale": -1}, ("core", 1), ""),
        ({"flags": ["frozen"]}, ("core", 1), "'frozen'"),
        ({"issuance_account": "vault"}, ("core", 1), ""),
        ({"flags": ["freezable"]}, ("ledger", 15), "controller"),
        ({"issuer": "ada-works"}, ("assets", 9), "ada-works"),
    ],
)
def test_genesis_refuses_and_names_the_entry(bare_world, changes, rule, words):
    with pytest.raises(InvalidTransaction) as refusal:
        bare_world.do(MODULE.genesis, [entry(bare_world, **changes)])
    assert (refusal.value.codespace, refusal.value.number) == rule
    assert words in refusal.value.message
