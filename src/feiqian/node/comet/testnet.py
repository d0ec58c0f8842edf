"""Makes the directories of a new network: one a validator, each ready to start here or to be copied to its machine."""

import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from feiqian.consensus.comet.gossip import NodeKey, node_id
from feiqian.consensus.genesis_file import Genesis, GenesisValidator, save_genesis
from feiqian.consensus.solo import SoloSigner
from feiqian.core.encoding import MemberId
from feiqian.execution.genesis import ConsortiumError, KeyResolver, compile_document, read_consortium
from feiqian.execution.registry import Registry
from feiqian.execution.upgrades import APP_VERSION
from feiqian.node.configuration import Layout
from feiqian.node.initialise import LedgerExists, consensus_params
from feiqian.state.files import sync_directory

RUNNING_ROLES = ("operator", "bank", "governor")
"""Members with one of these roles run a validator where the consortium file does not say who does."""

POWER = 10
"""Voting power of each validator: room to give one a little more or less."""

FIRST_PORT = 26_600
PORT_STEP = 10
PORTS_EACH = 4
LAST_PORT = 65_535
P2P_PORT, RPC_PORT, METRICS_PORT, GATEWAY_PORT = 26_656, 26_657, 26_660, 8_270
"""On a machine of its own each validator has the ports that CometBFT and the gateway have by default."""

_HOST = re.compile(r"\A(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9a-fA-F:.]{2,45}\])\Z")

NOTHING_SIGNED = b'{\n  "height": "0",\n  "round": 0,\n  "step": 0\n}\n'
"""CometBFT's priv_validator_state.json of a key that has signed nothing."""

SETTINGS_TEXT = """\
# Settings of this validator's processes. Each key stands in the environment too: [comet] rpc_port is
# FEIQIAN_COMET_RPC_PORT. What is left out has its default.

[node]
engine = "comet"

[comet]
moniker = "{moniker}"
p2p_listen = "tcp://{listen}"
external_address = "{external}"
persistent_peers = "{peers}"
rpc_port = {rpc_port}
metrics_port = {metrics_port}

[gateway]
port = {gateway_port}
"""


class Endpoints(NamedTuple):
    """Where one validator's processes are reached. `host` is what peers dial."""

    host: str
    listen_host: str
    p2p_port: int
    rpc_port: int
    metrics_port: int
    gateway_port: int

    @property
    def p2p(self) -> str:
        """The address that peers dial."""
        return f"{self.host}:{self.p2p_port}"


class Made(NamedTuple):
    """One validator's directory."""

    member: str
    directory: Path
    validator_address: str
    node_id: str
    endpoints: Endpoints


class Network(NamedTuple):
    """What was made."""

    genesis: Genesis
    validators: tuple[Made, ...]


class Runner(msgspec.Struct, forbid_unknown_fields=True):
    """`[[validators]]` of a consortium file whose network is still to be made."""

    member: MemberId
    name: str = ""
    power: int = POWER
    public_key: str | None = None


class _Member(msgspec.Struct):
    id: MemberId
    roles: list[str] = []


class _Document(msgspec.Struct):
    members: list[_Member]
    validators: list[Runner] = []


class Keys(NamedTuple):
    """The keys of one node: its votes', and by which its peers know it."""

    validator: SoloSigner
    node: NodeKey


def endpoints_here(count: int, first_port: int = FIRST_PORT) -> list[Endpoints]:
    """Return endpoints of several validators on this machine, on loopback, `PORT_STEP` ports apart.

    Raises:
        ConsortiumError: there are not as many ports from there on.
    """
    last = first_port + PORT_STEP * (count - 1) + PORTS_EACH - 1
    if not 1 <= first_port <= last <= LAST_PORT:
        raise ConsortiumError(f"{count} validators from port {first_port} on need ports 1 to {LAST_PORT}")
    ports = [first_port + PORT_STEP * number for number in range(count)]
    return [Endpoints("127.0.0.1", "127.0.0.1", port, port + 1, port + 2, port + 3) for port in ports]


def endpoints_on(hosts: Sequence[str]) -> list[Endpoints]:
    """Return endpoints of validators on machines of their own.

    Raises:
        ConsortiumError: not names or addresses of as many machines.
    """
    for host in hosts:
        if not _HOST.match(host):
            raise ConsortiumError(f"{host[:80]!r} is no machine's name or IP address (an IPv6 one in brackets)")
    if len(set(hosts)) != len(hosts):
        raise ConsortiumError("a machine stands twice; give several validators of one machine different ports instead")
    return [Endpoints(host, "0.0.0.0", P2P_PORT, RPC_PORT, METRICS_PORT, GATEWAY_PORT) for host in hosts]


def make_testnet(
    directory: Path,
    consortium: Path,
    registry: Registry,
    endpoints: Sequence[Endpoints],
    time_ms: int,
    resolve_key: KeyResolver | None = None,
) -> Network:
    """Write the directories of a new network, one validator for each of `endpoints`, below `directory`.

    They run the validators that the consortium file lists, else the first members with one of `RUNNING_ROLES`.
    `time_ms` is the genesis time, the same for all.

    Raises:
        LedgerExists: something is in the directory already; nothing was written.
        ConsortiumError, InvalidGenesis: what the file describes is no network of that many; nothing was written.
        OSError: the directory cannot be written.
    """
    refuse_full(directory)
    document = read_consortium(consortium, registry)
    runners = _runners(document, len(endpoints))

    def compose(keys: Sequence[Keys]) -> Genesis:
        app_state = compile_document({**document, **network_tables(runners, keys)}, registry, resolve_key)
        return network_genesis(app_state, runners, keys, time_ms)

    return write_network(directory, runners, endpoints, compose)


def write_network(
    directory: Path,
    runners: Sequence[Runner],
    endpoints: Sequence[Endpoints],
    compose: Callable[[Sequence[Keys]], Genesis],
    carry: Callable[[Layout], None] = lambda layout: None,
) -> Network:
    """Write a directory for each of `runners` below an empty one: all of them or none.

    `compose` makes the genesis once the keys are there; `carry` adds what else each directory needs.

    Raises:
        OSError: the directory cannot be written.
    """
    directory.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}-"))
    try:
        network = _write(beside, runners, endpoints, compose, carry)
        beside.chmod(0o755)
        beside.rename(directory)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    sync_directory(directory.parent)
    moved = [made._replace(directory=directory / made.directory.name) for made in network.validators]
    return network._replace(validators=tuple(moved))


def refuse_full(directory: Path) -> None:
    """Refuse a directory that holds something already. Raises: LedgerExists."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise LedgerExists(f"{directory} is not empty; choose an empty directory")


def _runners(document: Mapping[str, Any], count: int) -> list[Runner]:
    try:
        wanted = msgspec.convert(document, _Document)
    except msgspec.ValidationError as error:
        raise ConsortiumError(f"consortium: {error}") from None
    if any(runner.public_key is not None for runner in wanted.validators):
        raise ConsortiumError("[[validators]]: the keys are made with the directories; leave public_key out")
    runners = wanted.validators or [
        Runner(member.id) for member in wanted.members if set(member.roles) & set(RUNNING_ROLES)
    ]
    if not 1 <= count <= len(runners):
        who = "[[validators]] lists" if wanted.validators else f"members with a role of {', '.join(RUNNING_ROLES)}:"
        raise ConsortiumError(f"{count} validators; {who} {len(runners)}, and each institution runs one")
    chosen = [msgspec.structs.replace(runner, name=runner.name or runner.member) for runner in runners[:count]]
    if len({runner.member for runner in chosen}) != count:
        raise ConsortiumError("[[validators]]: a member stands twice, and each institution runs one")
    return chosen


def _write(
    beside: Path,
    runners: Sequence[Runner],
    endpoints: Sequence[Endpoints],
    compose: Callable[[Sequence[Keys]], Genesis],
    carry: Callable[[Layout], None],
) -> Network:
    layouts = [Layout(beside / runner.member) for runner in runners]
    keys = [make_keys(layout) for layout in layouts]
    genesis = compose(keys)
    made = [
        Made(runner.member, layout.directory, own.validator.address.hex(), node_id(own.node.public_key), reached)
        for runner, layout, own, reached in zip(runners, layouts, keys, endpoints, strict=True)
    ]
    for layout, each in zip(layouts, made, strict=True):
        layout.settings.write_text(_settings_text(each, made), "utf-8")
        save_genesis(layout.genesis, genesis)
        carry(layout)
        sync_directory(layout.directory)
    sync_directory(beside)
    return Network(genesis, tuple(made))


def make_keys(layout: Layout) -> Keys:
    """Write fresh keys into a new directory, with the record that they have signed nothing."""
    layout.sign_state.parent.mkdir(parents=True)
    layout.sign_state.parent.chmod(0o700)
    layout.sign_state.write_bytes(NOTHING_SIGNED)
    return Keys(SoloSigner.create(layout.validator_key), NodeKey.create(layout.node_key))


def network_tables(runners: Sequence[Runner], keys: Sequence[Keys]) -> dict[str, Any]:
    """Return what the ledger's state says of its validators and nodes from the first block on."""
    pairs = list(zip(runners, keys, strict=True))
    return {
        "validators": [
            {
                "name": runner.name,
                "member": runner.member,
                "public_key": f"ed25519:{own.validator.public_key.hex()}",
                "power": runner.power,
            }
            for runner, own in pairs
        ],
        "nodes": [
            {"name": runner.name, "member": runner.member, "public_key": f"ed25519:{own.node.public_key.hex()}"}
            for runner, own in pairs
        ],
    }


def network_genesis(
    app_state: Mapping[str, Any], runners: Sequence[Runner], keys: Sequence[Keys], time_ms: int, initial_height: int = 1
) -> Genesis:
    """Return the genesis of a network, without an app hash."""
    params = consensus_params(app_state)
    return Genesis(
        time_ns=time_ms * 1_000_000,
        chain_id=app_state["chain"]["id"],
        initial_height=initial_height,
        # CometBFT takes the version of the rules from here once any parameter changes. Header, last commit and
        # evidence share a block with its transactions: evidence may not crowd them out.
        params=params._replace(
            app_version=APP_VERSION, evidence_max_bytes=min(params.evidence_max_bytes, params.block_max_bytes // 4)
        ),
        validators=tuple(
            GenesisValidator(own.validator.public_key, runner.power, runner.name)
            for runner, own in zip(runners, keys, strict=True)
        ),
        app_hash=b"",
        app_state=app_state,
    )


def _settings_text(own: Made, made: Sequence[Made]) -> str:
    reached = own.endpoints
    return SETTINGS_TEXT.format(
        moniker=own.member,
        listen=f"{reached.listen_host}:{reached.p2p_port}",
        external=reached.p2p,
        peers=",".join(f"{each.node_id}@{each.endpoints.p2p}" for each in made if each is not own),
        rpc_port=reached.rpc_port,
        metrics_port=reached.metrics_port,
        gateway_port=reached.gateway_port,
    )
