"""What an operator may set about a node, and where everything of one ledger lies in its directory."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from feiqian.core.settings import read_settings
from feiqian.process.logs import LogLevel
from feiqian.process.settings import settings_text
from feiqian.process.sockets import check_socket_path

Count = Annotated[int, Meta(ge=1, le=10**7)]
Size = Annotated[int, Meta(ge=2**20, le=2**36)]


class NodeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table `[node]` of `feiqian.toml`; each key also as `FEIQIAN_NODE_…` in the environment."""

    engine: Literal["solo", "comet"] = "solo"
    """Who orders transactions: this process alone, or the members' validators through CometBFT."""
    log_level: LogLevel = "info"
    block_interval_ms: Annotated[int, Meta(ge=1, le=60_000)] = 50
    """Time from the start of one block to the start of the next while transactions arrive; a full one starts sooner."""
    pool_transactions: Count = 100_000
    pool_bytes: Size = 256 * 2**20
    verify_workers: Annotated[int, Meta(ge=1, le=64)] = 2
    """Processes that check transactions; as many as the machine has cores is best."""
    submit_bytes: Size = 64 * 2**20
    """Bytes of submissions that may be on their way into the pool at once; more wait in their senders' sockets."""
    connections: Annotated[int, Meta(ge=1, le=1024)] = 64
    stalled_ms: Annotated[int, Meta(ge=10, le=600_000)] = 30_000
    """A frame that was begun must be whole, and one that was sent must be read, within this time."""
    past_heights: Annotated[int, Meta(ge=1, le=10**9)] = 10_000
    """How many heights back state can be proved; older tree nodes are pruned."""
    keep_blocks: Annotated[int, Meta(ge=0, le=10**9)] = 0
    """How many blocks the store keeps, 0 for all; older ones go to segment files in the data directory."""


class Layout:
    """Where the files of one ledger lie."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.settings = directory / "feiqian.toml"
        self.genesis = directory / "genesis.json"
        self.first_state = directory / "first-state.snapshot"
        self.origin = directory / "origin"
        self.handed_over = directory / "handed-over.json"
        self.validator_key = directory / "validator_key.json"
        self.node_key = directory / "node_key.json"
        self.comet = directory / "comet"
        self.sign_state = self.comet / "data" / "priv_validator_state.json"
        self.data = directory / "data"
        self.ledger = self.data / "ledger.lmdb"
        self.block_log = self.data / "block-log"
        self.segments = self.data / "segments"
        self.base_snapshot = self.data / "base.snapshot"
        self.snapshots = self.data / "snapshots"
        self.socket = self.data / "node.sock"
        self.abci_socket = self.data / "abci.sock"
        self.lock = self.data / "node.lock"
        self.committer_lock = self.data / "committer.lock"


def read_node_settings(layout: Layout, environment: Mapping[str, str] = os.environ) -> NodeSettings:
    """Return the settings of the node in this directory.

    Raises:
        SettingsError: no `feiqian.toml` there, or one that says what a node does not understand.
    """
    text = settings_text(layout.directory)
    check_socket_path(layout.socket, "keep the ledger in a directory with a shorter path")
    return read_settings(text, "node", NodeSettings, environment)
