"""What an operator may set about CometBFT, and the configuration file that it is started with.

The file is made from `feiqian.toml` at each start, so that there is one place for settings. What it leaves out has
CometBFT's own default.
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from feiqian.consensus.genesis_file import Genesis
from feiqian.core.settings import SettingsError, read_settings
from feiqian.node.configuration import Layout
from feiqian.process.settings import RPC_PORT, settings_text
from feiqian.process.sockets import check_socket_path

MAX_TX_BYTES = 2**20
"""The largest bundle that CometBFT passes on; a peer that sends a larger one is dropped. Ours are 256 KiB at most."""

_PEER = re.compile(r"\A[0-9a-f]{40}@[A-Za-z0-9.:\[\]-]+:[0-9]{1,5}\Z")
_HASH = re.compile(r"\A[0-9A-Fa-f]{64}\Z")
_NOISE = re.compile(r"\Anoise://[1-9A-HJ-NP-Za-km-z]+@[0-9a-fA-F.:\[\]]+:[0-9]{1,5}\Z")

Port = Annotated[int, Meta(ge=1, le=65_535)]
Line = Annotated[str, Meta(max_length=4_096, pattern=r"\A[^\x00-\x1f\x7f]*\Z")]
Listen = Annotated[str, Meta(max_length=200, pattern=r"\Atcp://[A-Za-z0-9.:\[\]-]+:[0-9]{1,5}\Z")]


class CometSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table `[comet]` of `feiqian.toml`; each key also as `FEIQIAN_COMET_…` in the environment."""

    binary: Line = ""
    """Path of the cometbft binary; empty: what `make cometbft` built, else the one on the PATH."""
    moniker: Line = ""
    """The node's name among its peers, for people; empty: the directory's name."""
    p2p_listen: Listen = "tcp://0.0.0.0:26656"
    """Where the other members' nodes reach this one."""
    external_address: Line = ""
    """HOST:PORT that peers are told to dial, where it is not the listening one (NAT, containers)."""
    persistent_peers: Line = ""
    """ID@HOST:PORT of the other members' nodes, separated by commas."""
    rpc_port: Port = RPC_PORT
    """CometBFT's own RPC, on loopback only."""
    metrics_port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    """CometBFT's Prometheus metrics, on loopback only; 0: none."""
    timeout_commit_ms: Annotated[int, Meta(ge=1, le=60_000)] = 200
    """Time from a block's commit to the start of the next height: late votes still count, and blocks fill."""
    timeout_propose_ms: Annotated[int, Meta(ge=100, le=60_000)] = 3_000
    """How long validators wait for the first round's proposal before they vote for none."""
    idle_ms: Annotated[int, Meta(ge=0, le=60_000)] = 1_000
    """How long the proposer of an idle ledger waits for something to put into a block."""
    reap_interval_ms: Annotated[int, Meta(ge=20, le=50)] = 50
    """How often what this node took in is handed to its peers."""
    snapshot_blocks: Annotated[int, Meta(ge=0, le=10**9)] = 1_000
    """A snapshot is made every so many blocks, for nodes that join; 0: none."""
    snapshot_keep: Annotated[int, Meta(ge=1, le=1_000)] = 2
    """How many snapshots are kept."""
    state_sync: bool = False
    """Whether a node without a ledger begins from a snapshot of its peers instead of running every block."""
    state_sync_servers: Line = ""
    """Addresses of two members' CometBFT RPC or more, separated by commas, for the light client of state sync."""
    trust_height: Annotated[int, Meta(ge=0, le=2**62)] = 0
    trust_hash: Line = ""
    """A block that is known to be the ledger's, from someone you trust: where the light client begins."""
    remote_signer: Line = ""
    """Where CometBFT listens for a signer that holds the validator's key: unix://PATH or noise://PEER-ID@IP:PORT."""
    log_level: Literal["debug", "info", "error"] = "error"
    """CometBFT's; `info` is about twenty lines a block."""


def read_comet_settings(layout: Layout, environment: Mapping[str, str] = os.environ) -> CometSettings:
    """Return the settings of CometBFT in this directory.

    Raises:
        SettingsError: no `feiqian.toml` there, or one that says what cannot be done.
    """
    settings = read_settings(settings_text(layout.directory), "comet", CometSettings, environment)
    check_socket_path(layout.abci_socket, "keep the ledger in a directory with a shorter path")
    check_comet_settings(settings)
    return settings


def check_comet_settings(settings: CometSettings) -> None:
    """Refuse settings with which CometBFT could not do its work.

    Raises:
        SettingsError: naming the key and what would do.
    """
    for peer in _listed(settings.persistent_peers):
        if not _PEER.match(peer):
            raise SettingsError(f"[comet] persistent_peers: {peer[:80]!r}; write ID@HOST:PORT, an id is 40 hex digits")
    if settings.idle_ms >= settings.timeout_propose_ms:
        raise SettingsError(
            f"[comet] idle_ms {settings.idle_ms} is not below timeout_propose_ms {settings.timeout_propose_ms}: "
            "the others would give up on each proposal of an idle ledger"
        )
    _check_signer(settings.remote_signer)
    if settings.state_sync:
        _check_state_sync(settings)


def config_toml(settings: CometSettings, layout: Layout, genesis: Genesis) -> str:
    """Return the text of CometBFT's `config.toml`, the reason beside each value that is not its default."""
    parts = [
        _base(settings, layout),
        _peers(settings, genesis),
        _pool(settings),
        _syncing(settings, layout, genesis),
        _consensus(settings),
    ]
    return "\n".join(parts)


def _base(settings: CometSettings, layout: Layout) -> str:
    has_signer = bool(settings.remote_signer)
    return f"""\
# Written by `feiqian start` at each start: what is changed here is lost. Settings stand in feiqian.toml, [comet].
# What is left out has CometBFT's own default.

# The ledger, which the node serves here; it is this machine's alone.
proxy_app = {_text(f"unix://{layout.abci_socket}")}
abci = "socket"
moniker = {_text(settings.moniker or layout.directory.name)}

# The directory's own files, so that there is one of each.
genesis_file = "../{layout.genesis.name}"
node_key_file = "../{layout.node_key.name}"
# With a remote signer the key is not here. CometBFT makes a key where it finds none: this one never signs.
priv_validator_key_file = {_text("data/unused_key.json" if has_signer else f"../{layout.validator_key.name}")}
# What this validator signed last. It keeps it from signing twice: never delete it, never bring back an older one.
priv_validator_state_file = {_text("data/unused_state.json" if has_signer else "data/priv_validator_state.json")}
priv_validator_laddr = {_text(settings.remote_signer)}

# The ledger is asked whether a peer may stay: only nodes that governance registered.
filter_peers = true

# One log for all: `feiqian start` reads these lines and passes them on.
log_level = "{settings.log_level}"
log_format = "json"

[rpc]
# It has no access control: members read the chain through a gateway.
laddr = "tcp://127.0.0.1:{settings.rpc_port}"
unsafe = false
"""


def _peers(settings: CometSettings, genesis: Genesis) -> str:
    return f"""\
[p2p]
laddr = {_text(settings.p2p_listen)}
external_address = {_text(settings.external_address)}
persistent_peers = {_text(settings.persistent_peers)}
# Members often reach one another by private addresses, which the strict address book leaves out.
addr_book_strict = false
# Several nodes may stand behind one address (one machine, NAT); who may connect is decided by id.
allow_duplicate_ip = true
# Peer exchange dials lost peers again for good; without it CometBFT gives up after a day.
pex = true
# Without a cap the pause before a lost peer is dialled again doubles each time, long past the end of an outage.
persistent_peers_max_dial_period = "10s"
# A full block of {genesis.params.block_max_bytes} bytes must reach peers well within a round; the default is 5 MB/s.
send_rate = 51200000
recv_rate = 51200000
"""


def _pool(settings: CometSettings) -> str:
    return f"""\
[mempool]
# Transactions wait in the ledger's own pool.
type = "app"
# A bundle has 256 KiB at most. Larger than this would drop the peer that sent it.
max_tx_bytes = {MAX_TX_BYTES}
max_batch_bytes = {MAX_TX_BYTES}
# What is handed to peers at once: several bundles, not the whole pool.
reap_max_bytes = {MAX_TX_BYTES}
# Each transaction waits this long at most before it is on its way to the proposer; the default is half a second.
reap_interval = "{settings.reap_interval_ms}ms"
# Bundles never repeat (they are numbered): only echoes of the last minutes need be known.
seen_cache_size = 20000
"""


def _syncing(settings: CometSettings, layout: Layout, genesis: Genesis) -> str:
    return f"""\
[statesync]
enable = {_flag(settings.state_sync)}
rpc_servers = {_text(",".join(_listed(settings.state_sync_servers)))}
trust_height = {settings.trust_height}
trust_hash = {_text(settings.trust_hash)}
# As long as evidence is accepted: validators of a block older than that could lie without being recorded.
trust_period = "{genesis.params.evidence_max_age_ns // 10**9}s"
# Beside the ledger: the system's temporary directory may be small, or memory.
temp_dir = {_text(str(layout.data))}

[blocksync]
version = "v0"
# A validator that votes while it still catches up may sign for heights that were decided without it.
adaptive_sync = false
"""


def _consensus(settings: CometSettings) -> str:
    return f"""\
[consensus]
timeout_propose = "{settings.timeout_propose_ms}ms"
# The ledger's idle pace is its proposer's wait ({settings.idle_ms} ms), so this one need only let late votes in.
timeout_commit = "{settings.timeout_commit_ms}ms"
skip_timeout_commit = false
# The app's pool does not tell CometBFT of new transactions: without empty blocks it would wait for ever.
create_empty_blocks = true
create_empty_blocks_interval = "0s"
# A validator that finds its own votes on restart would stop; what it signed last is on disk and guards it already.
double_sign_check_height = 0
# A vote or block part waits this long at most in each node that passes it on; the default is 100 ms.
peer_gossip_sleep_duration = "10ms"

[storage]
# The ledger keeps the results. What the last block answered is kept in any case, for a restart.
discard_abci_responses = true

[tx_index]
# The gateway's index finds transactions; a second one would double the writes.
indexer = "null"

[instrumentation]
prometheus = {_flag(settings.metrics_port > 0)}
prometheus_listen_addr = "127.0.0.1:{settings.metrics_port}"
"""


def prepare_home(settings: CometSettings, layout: Layout, genesis: Genesis) -> None:
    """Write CometBFT's configuration into its home, whole.

    Raises:
        SettingsError: a key file or the record of what was signed is missing, which CometBFT would silently make anew.
        OSError: it cannot be written.
    """
    needed = [layout.node_key]
    if not settings.remote_signer:
        needed += [layout.validator_key, layout.sign_state]
    for path in needed:
        if not path.exists():
            raise SettingsError(_missing(path, layout))
    config = layout.comet / "config"
    config.mkdir(parents=True, exist_ok=True)
    (layout.comet / "data").mkdir(exist_ok=True, mode=0o700)
    beside = config / "config.toml.new"
    beside.write_text(config_toml(settings, layout, genesis), "utf-8")
    beside.replace(config / "config.toml")


def clear_signer_socket(settings: CometSettings) -> None:
    """Remove the signer's socket that a CometBFT which was killed left behind: the next one could not listen there."""
    path = Path(settings.remote_signer.removeprefix("unix://"))
    if settings.remote_signer.startswith("unix://") and path.is_socket():
        path.unlink(missing_ok=True)


def _missing(path: Path, layout: Layout) -> str:
    where = f"{layout.directory} holds no {path.relative_to(layout.directory)}"
    if path == layout.sign_state:
        return (
            f"{where}, the record of what this validator signed last. Without it the key could sign twice: bring it "
            "back, or give the validator a new key"
        )
    return f"{where}; a validator's directory is made by `feiqian testnet`"


def _check_signer(address: str) -> None:
    if not address or _NOISE.match(address):
        return
    if address.startswith("tcp://"):
        raise SettingsError(
            "[comet] remote_signer: on tcp:// CometBFT makes a fresh key at each start, which a signer cannot tell "
            "from an intruder's; write unix://PATH, or noise://PEER-ID@IP:PORT for a signer on another machine"
        )
    path = address.removeprefix("unix://")
    if path == address or not path.startswith("/"):
        raise SettingsError(
            f"[comet] remote_signer: {address[:80]!r}; write unix:///PATH or noise://PEER-ID@IP:PORT, an IP, no name"
        )
    check_socket_path(Path(path), "give [comet] remote_signer a shorter one")


def _check_state_sync(settings: CometSettings) -> None:
    if len(_listed(settings.state_sync_servers)) < 2:
        raise SettingsError("[comet] state_sync needs two addresses in state_sync_servers: one is checked by the other")
    if settings.trust_height < 1 or not _HASH.match(settings.trust_hash):
        raise SettingsError(
            "[comet] state_sync needs trust_height and trust_hash (64 hex digits) of a block that you know to be the "
            "ledger's; ask a member that you trust"
        )


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _text(value: str) -> str:
    """Return a TOML string: JSON's escapes are TOML's too."""
    return json.dumps(value, ensure_ascii=False)


def _flag(value: bool) -> str:
    return "true" if value else "false"
