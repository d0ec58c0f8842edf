"""A consortium file becomes a ledger's first records, or a sentence that names what is wrong with it."""

from pathlib import Path

import pytest

from feiqian.core.errors import Fault
from feiqian.core.plain import to_plain
from feiqian.execution.genesis import (
    ConsortiumError,
    account_names,
    compile_consortium,
    genesis_changes,
    genesis_events,
)
from feiqian.execution.registry import Registry
from feiqian.ledger.accounts import ACCOUNTS, ADMINISTRATIONS
from feiqian.ledger.assets import ASSETS
from feiqian.ledger.events import NodeRegistered, ValidatorSet
from feiqian.ledger.members import MEMBERS
from feiqian.ledger.records import NodeRecord, ValidatorRecord
from feiqian.ledger.validators import NODES, VALIDATORS
from feiqian.modules import Module
from feiqian.state.tables import BlockState
from feiqian.testing import MemoryReader

BASE = """
[chain]
id = "feiqian-test-1"

[[members]]
id = "mint"
legal_name = "Mint of Nowhere"
roles = ["issuer"]

[[accounts]]
name = "mint/issuance"
member = "mint"
keys = [{ key = "ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a" }]

[[assets]]
code = "GLD"
name = "Gold of Nowhere"
scale = 2
issuer = "mint"
issuance_account = "@mint/issuance"
supply_cap = "1000.00"
"""


OTHER_MEMBER = """
[[members]]
id = "other"
legal_name = "Other of Nowhere"
roles = []
administration = "@mint/issuance"

"""


def compiled(tmp_path: Path, registry: Registry, text: str, resolve=None):
    path = tmp_path / "consortium.toml"
    path.write_text(text)
    return compile_consortium(path, registry, resolve)


def test_members_accounts_and_assets_stand_in_state(ledger) -> None:
    state = BlockState(ledger)
    member = MEMBERS.get(state, b"mint")
    assert member is not None
    assert (member.legal_name, member.roles) == ("Mint of Nowhere", ("governor", "issuer"))
    south = ACCOUNTS.get(state, ledger.names["south"])
    assert south is not None
    assert south.member == "south"
    assert sorted(key.role for key in south.policy.keys) == ["checker", "maker"]
    assert to_plain(south.policy.rules[0])["up_to_minor"] == 100
    asset = ASSETS.get(state, b"GLD")
    assert asset is not None
    assert asset.supply_cap_minor == 100_000_000
    assert asset.issuance_account == ledger.names["mint/issuance"]


SECOND_ACCOUNT = """
[[accounts]]
name = "mint/board"
member = "mint"
keys = [{ key = "ed25519:3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c" }]
"""


def administration_of_mint(registry: Registry, app_state) -> bytes | None:
    changes = genesis_changes(registry, app_state, 5, 0)
    data = changes[ADMINISTRATIONS.prefix + b"mint"]
    return None if data is None else ADMINISTRATIONS.codec.decode(data).account


def test_the_first_account_listed_speaks_for_its_member_unless_another_is_named(tmp_path, registry) -> None:
    listed = compiled(tmp_path, registry, BASE + SECOND_ACCOUNT)
    assert administration_of_mint(registry, listed) == account_names(listed)["mint/issuance"]
    for name in ("mint/board", "mint/issuance"):
        text = BASE.replace('id = "mint"', f'id = "mint"\nadministration = "@{name}"') + SECOND_ACCOUNT
        named = compiled(tmp_path, registry, text)
        assert administration_of_mint(registry, named) == account_names(named)[name]


def test_the_same_file_gives_the_same_records(tmp_path: Path, registry: Registry) -> None:
    first = genesis_changes(registry, compiled(tmp_path, registry, BASE), 5, 0)
    assert first == genesis_changes(registry, compiled(tmp_path, registry, BASE), 5, 0)
    assert len(first) > 5


def test_key_names_are_resolved_by_the_caller(tmp_path: Path, registry: Registry) -> None:
    explicit = "ed25519:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    text = BASE.replace(explicit, "key:mint")
    resolved = compiled(tmp_path, registry, text, lambda name: {"mint": explicit}[name])
    assert account_names(resolved) == account_names(compiled(tmp_path, registry, BASE))
    with pytest.raises(ConsortiumError, match="--keys"):
        compiled(tmp_path, registry, text)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[chain]", "[chain", "consortium.toml"),
        ('id = "feiqian-test-1"', 'name = "x"', "unknown field `name` - at `$.chain`"),
        ("[chain]", "[weather]\nsun = 1\n[chain]", "no module is called 'weather'"),
        ('roles = ["issuer"]', 'roles = ["issuer"]\ncolour = "red"', "colour"),
        ('roles = ["issuer"]', 'roles = ["issuer"]\nadministration = "@board"', "'@board' names no entry"),
        ('roles = ["issuer"]', 'roles = ["issuer"]\nadministration = "board"', '"@name" of an account'),
        ("[[accounts]]", OTHER_MEMBER + "[[accounts]]", "must be 'other'"),
        ('roles = ["issuer"]', 'roles = ["issuer"]\nlei = "529900T8BM49AURSDO54"', "no valid LEI"),
        ('roles = ["issuer"]', 'roles = ["issuer"]\nbic = "NOPE"', "no valid BIC"),
        ('member = "mint"', 'member = "mind"', "mind"),
        ("d75a98", "zz5a98", "hex"),
        ("ed25519:d75a", "rsa:d75a", "write one of"),
        ("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "00" * 32, "not a valid Ed25519"),
        ('"@mint/issuance"', '"@mint/other"', "names no entry"),
        ('supply_cap = "1000.00"', 'supply_cap = "1000.001"', "fraction digits"),
        ("scale = 2", "scale = 10", "<= 9"),
        ('issuer = "mint"', 'issuer = "mind"', "mind"),
        ("[chain]", "[parameters]\nmax_block_byte = 1\n[chain]", "max_block_byte"),
        ("[chain]", "[parameters]\nproof_window = 1\n[chain]", "proof_window"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, registry: Registry, old: str, new: str, said: str) -> None:
    assert old in BASE
    with pytest.raises(ConsortiumError) as caught:
        compiled(tmp_path, registry, BASE.replace(old, new, 1))
    assert said in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(ConsortiumError, match="No such file"):
        compile_consortium(tmp_path / "absent.toml", registry)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConsortiumError, match=r"binary\.toml"):
        compile_consortium(tmp_path / "binary.toml", registry)


def test_a_name_declared_twice_is_a_fault(registry: Registry) -> None:
    module = registry.modules[0]
    with pytest.raises(Fault, match="declared twice"):
        Registry([module, Module("copy", module.handlers)])
    with pytest.raises(Fault, match="does not know"):
        registry.table_of(b"weather.sun/1")


NETWORK = """
[[validators]]
name = "mint 1"
member = "mint"
public_key = "ed25519:3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
power = 10

[[validators]]
name = "mint 2"
member = "mint"
public_key = "ed25519:fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"

[[nodes]]
name = "mint 1"
member = "mint"
public_key = "ed25519:278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e"
"""
"""The public keys of RFC 8032, 7.1, tests 2, 3 and 1024."""

P256_BASE_POINT = "p256:036b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
"""FIPS 186-4, D.1.2.3, compressed."""

FIRST = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
SECOND = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"


def test_validators_and_nodes_of_a_network_stand_in_state(tmp_path: Path, registry: Registry) -> None:
    app_state = compiled(tmp_path, registry, BASE + NETWORK)
    reader = MemoryReader()
    reader.commit(genesis_changes(registry, app_state, 5, 0))
    state = BlockState(reader)
    assert list(VALIDATORS.scan(state)) == [
        (bytes.fromhex(FIRST), ValidatorRecord("mint", "mint 1", 10)),
        (bytes.fromhex(SECOND), ValidatorRecord("mint", "mint 2", 1)),
    ]
    node = bytes.fromhex("278117fc144c72340f67d0f2316e8386ceffbf2b2428c9c51fef7c597f1d426e")
    assert list(NODES.scan(state)) == [(node, NodeRecord("mint", "mint 1"))]
    assert genesis_events(registry, app_state, 5, 0)[-4:-1] == [
        ValidatorSet(bytes.fromhex(FIRST), "mint", "mint 1", 0, 10),
        ValidatorSet(bytes.fromhex(SECOND), "mint", "mint 2", 0, 1),
        NodeRegistered(node, "mint", "mint 1"),
    ]


def test_a_ledger_of_one_node_has_neither(tmp_path: Path, registry: Registry) -> None:
    changes = genesis_changes(registry, compiled(tmp_path, registry, BASE), 5, 0)
    assert not [key for key in changes if key.startswith((VALIDATORS.prefix, NODES.prefix))]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('member = "mint"\npublic_key', 'member = "mind"\npublic_key', "member 'mind' is not admitted"),
        (SECOND, FIRST, "another one has this key"),
        (SECOND, "00" * 32, "not a valid Ed25519"),
        (f"ed25519:{SECOND}", P256_BASE_POINT, "keys are Ed25519 here"),
        (f"ed25519:{SECOND}", SECOND, "write one of"),
        ('name = "mint 2"', 'name = "mint 1"', "another one is called 'mint 1'"),
        ('name = "mint 2"', 'name = ""', "$.validators[1].name"),
        ("power = 10", "power = 0", "$.validators[0].power"),
        ("power = 10", "power = 9007199254740993", "$.validators[0].power"),
        ("power = 10", 'power = 10\ncolour = "red"', "colour"),
    ],
)
def test_mistakes_about_the_network_are_named(
    tmp_path: Path, registry: Registry, old: str, new: str, said: str
) -> None:
    assert old in NETWORK
    with pytest.raises(ConsortiumError) as caught:
        compiled(tmp_path, registry, BASE + NETWORK.replace(old, new, 1))
    assert said in str(caught.value)


def test_nodes_without_validators_are_refused(tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(ConsortiumError, match="it has no validators"):
        compiled(tmp_path, registry, BASE + "[[nodes]]" + NETWORK.partition("[[nodes]]")[2])
