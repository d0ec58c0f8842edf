"""Makes the directory of a node that joins a running network: keys of its own, the others' genesis, where to begin."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from feiqian.consensus.genesis_file import load_genesis, save_genesis
from feiqian.consensus.light import KnownBlock
from feiqian.core.settings import read_settings
from feiqian.node.comet.configuration import CometSettings, check_comet_settings
from feiqian.node.comet.testnet import Endpoints, Keys, make_keys, refuse_full
from feiqian.node.configuration import Layout
from feiqian.state.files import sync_directory

_TEXT = """\
# Settings of this node's processes. Each key stands in the environment too: [comet] rpc_port is
# FEIQIAN_COMET_RPC_PORT. What is left out has its default.

[node]
engine = "comet"

[comet]
moniker = {moniker}
p2p_listen = {listen}
external_address = {external}
persistent_peers = {peers}
rpc_port = {rpc_port}
metrics_port = {metrics_port}

# Where this node began: not read any more once it has a ledger.
state_sync = true
state_sync_servers = {servers}
trust_height = {height}
trust_hash = {hash}

[gateway]
port = {gateway_port}
"""


class Newcomer(NamedTuple):
    """What was made: the public keys are for governance, `address` for the other members' `persistent_peers`."""

    chain_id: str
    keys: Keys
    address: str


def make_newcomer(
    directory: Path,
    genesis: Path,
    endpoints: Endpoints,
    peers: Sequence[str],
    gateways: Sequence[str],
    trusted: KnownBlock,
) -> Newcomer:
    """Write the directory of a node that begins with a snapshot of its peers.

    `peers` are nodes that let it in, `ID@HOST:PORT`; `gateways` addresses of two members' gateways or more, by which
    its light client goes from the trusted block to the last one.

    Raises:
        LedgerExists: something is in the directory already; nothing was written.
        InvalidGenesis, SettingsError: what was given is no genesis, or does not do; nothing was written.
        OSError: a file cannot be read, or the directory cannot be written.
    """
    refuse_full(directory)
    shared = load_genesis(genesis)
    text = _settings_text(directory.name, endpoints, peers, gateways, trusted)
    check_comet_settings(read_settings(text, "comet", CometSettings, {}))
    directory.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}-"))
    try:
        layout = Layout(beside)
        keys = make_keys(layout)
        layout.settings.write_text(text, "utf-8")
        save_genesis(layout.genesis, shared)
        sync_directory(beside)
        beside.chmod(0o755)
        beside.rename(directory)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    sync_directory(directory.parent)
    return Newcomer(shared.chain_id, keys, f"{keys.node.node_id}@{endpoints.p2p}")


def _settings_text(
    name: str, own: Endpoints, peers: Sequence[str], gateways: Sequence[str], trusted: KnownBlock
) -> str:
    quoted = {
        "moniker": name,
        "listen": f"tcp://{own.listen_host}:{own.p2p_port}",
        "external": own.p2p,
        "peers": ",".join(peers),
        # The gateways pass on what the light client asks of CometBFT's RPC.
        "servers": ",".join(f"{gateway.rstrip('/')}/comet" for gateway in gateways),
        "hash": trusted.hash.hex(),
    }
    return _TEXT.format(
        **{key: json.dumps(value, ensure_ascii=False) for key, value in quoted.items()},
        rpc_port=own.rpc_port,
        metrics_port=own.metrics_port,
        gateway_port=own.gateway_port,
        height=trusted.height,
    )
