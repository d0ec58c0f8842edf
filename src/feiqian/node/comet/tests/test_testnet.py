"""The directories of a new network: what all share, what each has of its own, and what is refused."""

import json
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest

from feiqian.consensus.genesis_file import load_genesis
from feiqian.execution.genesis import ConsortiumError, genesis_changes
from feiqian.execution.registry import Registry
from feiqian.node.comet.configuration import prepare_home, read_comet_settings
from feiqian.node.comet.testnet import Endpoints, Network, endpoints_here, endpoints_on, make_testnet
from feiqian.node.configuration import Layout, read_node_settings
from feiqian.node.initialise import LedgerExists
from feiqian.testing.comet_binary import require_cometbft
from feiqian.testing.ledgers import consortium_text

TIME_MS = 1_700_000_000_123
RUN_BY = """
[[validators]]
member = "lantern-works"
power = 30

[[validators]]
member = "north-bank"
name = "north-2"
"""


@pytest.fixture
def consortium(tmp_path: Path) -> Path:
    path = tmp_path / "consortium.toml"
    path.write_text(consortium_text({"max_block_bytes": 2**20}), "utf-8")
    return path


def make(tmp_path: Path, consortium: Path, registry: Registry, endpoints: list[Endpoints]) -> Network:
    return make_testnet(tmp_path / "net", consortium, registry, endpoints, TIME_MS)


def test_each_has_the_one_genesis_and_keys_of_its_own(tmp_path: Path, consortium: Path, registry: Registry) -> None:
    network = make(tmp_path, consortium, registry, endpoints_here(3))
    layouts = [Layout(made.directory) for made in network.validators]
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == ["lantern-works", "north-bank", "south-bank"]
    assert [layout.directory.name for layout in layouts] == ["north-bank", "south-bank", "lantern-works"]
    assert len({layout.genesis.read_bytes() for layout in layouts}) == 1
    for private in ("validator_key", "node_key"):
        paths = [getattr(layout, private) for layout in layouts]
        assert len({path.read_bytes() for path in paths}) == 3
        assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
    genesis = load_genesis(layouts[0].genesis)
    assert genesis == network.genesis
    assert (genesis.is_started, genesis.time_ns, genesis.initial_height) == (True, TIME_MS * 10**6, 1)
    # Evidence may not fill the block that it stands in; the version is that of the rules.
    assert (genesis.params.block_max_bytes, genesis.params.evidence_max_bytes) == (2**20, 2**18)
    assert genesis.params.app_version == genesis.app_state["app_version"] == 1
    assert [validator.power for validator in genesis.validators] == [10, 10, 10]


def test_the_ledger_knows_the_validators_and_nodes_that_cometbft_does(
    tmp_path: Path, consortium: Path, registry: Registry
) -> None:
    """CometBFT itself says what the keys in the files are."""
    network = make(tmp_path, consortium, registry, endpoints_here(3))
    state = network.genesis.app_state
    for number, made in enumerate(network.validators):
        layout = Layout(made.directory)
        prepare_home(read_comet_settings(layout, {}), layout, network.genesis)
        shown = [
            subprocess.run(
                [require_cometbft(), command, "--home", layout.comet], capture_output=True, check=True
            ).stdout
            for command in ("show-validator", "show-node-id")
        ]
        assert json.loads(shown[0])["value"] == json.loads(layout.validator_key.read_bytes())["pub_key"]["value"]
        assert shown[1].decode().strip() == made.node_id
        validator, node = state["validators"][number], state["nodes"][number]
        assert (validator["member"], validator["name"], validator["power"]) == (made.member, made.member, 10)
        assert validator["public_key"] == f"ed25519:{network.genesis.validators[number].public_key.hex()}"
        assert (node["member"], node["name"]) == (made.member, made.member)
        assert node["public_key"].startswith("ed25519:")
    assert genesis_changes(registry, state, TIME_MS, 0)


def test_on_one_machine_the_ports_are_spaced_and_all_know_one_another(
    tmp_path: Path, consortium: Path, registry: Registry
) -> None:
    network = make(tmp_path, consortium, registry, endpoints_here(3, 31_000))
    for number, made in enumerate(network.validators):
        layout = Layout(made.directory)
        assert read_node_settings(layout, {}).engine == "comet"
        settings = read_comet_settings(layout, {})
        assert settings.p2p_listen == f"tcp://127.0.0.1:{31_000 + 10 * number}"
        assert (settings.rpc_port, settings.metrics_port) == (31_001 + 10 * number, 31_002 + 10 * number)
        assert tomllib.loads(layout.settings.read_text("utf-8"))["gateway"]["port"] == 31_003 + 10 * number
        others = [each for each in network.validators if each is not made]
        assert settings.persistent_peers == ",".join(f"{each.node_id}@{each.endpoints.p2p}" for each in others)


def test_on_machines_of_their_own_each_has_the_standard_ports(
    tmp_path: Path, consortium: Path, registry: Registry
) -> None:
    network = make(tmp_path, consortium, registry, endpoints_on(["north.example", "[2001:db8::5]"]))
    settings = read_comet_settings(Layout(network.validators[0].directory), {})
    assert (settings.p2p_listen, settings.rpc_port) == ("tcp://0.0.0.0:26656", 26_657)
    assert settings.external_address == "north.example:26656"
    assert settings.persistent_peers.endswith("@[2001:db8::5]:26656")


def test_who_runs_them_may_be_listed(tmp_path: Path, consortium: Path, registry: Registry) -> None:
    consortium.write_text(consortium.read_text("utf-8") + RUN_BY, "utf-8")
    network = make(tmp_path, consortium, registry, endpoints_here(2))
    assert [(each.member, each.directory.name) for each in network.validators] == [
        ("lantern-works", "lantern-works"),
        ("north-bank", "north-bank"),
    ]
    assert [(each.name, each.power) for each in network.genesis.validators] == [("lantern-works", 30), ("north-2", 10)]


@pytest.mark.parametrize(
    ("more", "count", "said"),
    [
        ("", 4, "4 validators; members with a role of operator, bank, governor: 3, and each institution runs one"),
        (RUN_BY, 3, "3 validators; [[validators]] lists 2"),
        (RUN_BY + '[[validators]]\nmember = "north-bank"\n', 3, "a member stands twice"),
        (RUN_BY + f'public_key = "ed25519:{"00" * 32}"\n', 2, "leave public_key out"),
        ('[[validators]]\nmember = "../north-bank"\n', 1, "$.validators[0].member"),
        ('[[validators]]\nmember = "north-bank"\nweight = 3\n', 1, "`weight`"),
        ("[weather]\n", 1, "'weather'"),
    ],
)
def test_what_is_no_network_of_that_many_is_refused_and_nothing_is_written(
    tmp_path: Path, consortium: Path, registry: Registry, more: str, count: int, said: str
) -> None:
    consortium.write_text(consortium.read_text("utf-8") + "\n" + more, "utf-8")
    with pytest.raises(ConsortiumError) as refusal:
        make(tmp_path, consortium, registry, endpoints_here(count))
    assert said in str(refusal.value)
    assert list(tmp_path.iterdir()) == [consortium]


def test_a_ledger_that_the_rules_refuse_leaves_nothing(tmp_path: Path, consortium: Path, registry: Registry) -> None:
    text = consortium.read_text("utf-8").replace('supply_cap = "', 'supply_cap = "x')
    consortium.write_text(text, "utf-8")
    with pytest.raises(ConsortiumError):
        make(tmp_path, consortium, registry, endpoints_here(2))
    assert list(tmp_path.iterdir()) == [consortium]


def test_a_directory_that_holds_something_is_left_alone(tmp_path: Path, consortium: Path, registry: Registry) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "mine").write_text("x", "utf-8")
    with pytest.raises(LedgerExists, match="choose an empty directory"):
        make(tmp_path, consortium, registry, endpoints_here(1))
    assert [path.name for path in (tmp_path / "net").iterdir()] == ["mine"]
    (tmp_path / "net" / "mine").unlink()
    make(tmp_path, consortium, registry, endpoints_here(1))


@pytest.mark.parametrize(("count", "first_port"), [(1, 65_533), (3, 65_514), (1, 0)])
def test_ports_that_there_are_not_are_refused(count: int, first_port: int) -> None:
    with pytest.raises(ConsortiumError, match="need ports 1 to 65535"):
        endpoints_here(count, first_port)


@pytest.mark.parametrize("hosts", [["a b"], [""], ["a,b"], ['x"'], ["a.example", "a.example"], ["-a"]])
def test_what_is_no_machine_is_refused(hosts: list[str]) -> None:
    with pytest.raises(ConsortiumError, match="machine"):
        endpoints_on(hosts)
