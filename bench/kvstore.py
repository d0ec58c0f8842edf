"""The yardstick of a network's rate: CometBFT's own key-value store, which checks no signature and keeps no tree.

It keeps its pairs on disk and runs inside CometBFT's process, which is set as the ledger's own and has CometBFT's
defaults otherwise, but for pools with room. Transactions come over CometBFT's RPC, as many to a request as it takes by
default and from a process of its own, to every validator alike; so many wait in the pools at most that blocks are full
and no pool is (docs/decisions/0034).
"""

import base64
import http.client
import itertools
import json
import multiprocessing
import shutil
import signal
import subprocess
import threading
import time
import tomllib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from load import in_threads
from running import POLL_S, STILL_S, Mark, cpu_s, halted

from feiqian.consensus.comet.gossip import NodeKey, node_id
from feiqian.consensus.genesis_file import load_genesis
from feiqian.node.comet.configuration import config_toml, read_comet_settings
from feiqian.node.configuration import Layout
from feiqian.node.workers import die_with_parent
from feiqian.testing.ports import free_ports

BATCH = 10
"""Calls in a request: more are refused by CometBFT's default."""

CONNECTIONS = 16
WAITING = 30_000
"""Transactions in a pool at which its load pauses: nearly two full blocks."""

KEY_DIGITS = 20
PAGE = 20
"""Heads of blocks that CometBFT tells of at once (rpc/core/blocks.go)."""

STOP_S = 20

POOL = {"size": 200_000, "cache_size": 400_000}
"""Room for what waits; the rest of CometBFT's pool is as it comes."""

AS_THE_LEDGER = ("p2p", "consensus", "storage", "tx_index")
"""Tables of CometBFT's configuration that are the ledger's own, word for word, but for who the peers are."""

MAX_BLOCK_BYTES = 4 * 2**20
"""As the ledger's."""


Settings = Mapping[str, Mapping[str, Any]]
"""Tables of a `config.toml`."""


class Feed(NamedTuple):
    """What the loading process sends: where to, how large a transaction is, for how long, the first one's number."""

    ports: tuple[int, ...]
    transaction_bytes: int
    seconds: float
    first: int = 0


class KeyValueStore:
    """A network of validators that run CometBFT's built-in key-value store. Leaving the `with` block removes it."""

    def __init__(self, directory: Path, binary: Path, validators: int, settings: Settings) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        first = free_ports(2 * validators)
        self.ports = tuple(first + 2 * number for number in range(validators))
        command = [binary, "testnet", "--v", str(validators), "--o", directory, "--populate-persistent-peers=false"]
        subprocess.run(command, check=True, capture_output=True)
        self._homes = [directory / f"node{number}" for number in range(validators)]
        ids = [node_id(NodeKey.load(home / "config" / "node_key.json").public_key) for home in self._homes]
        peers = [f"{own}@127.0.0.1:{port + 1}" for own, port in zip(ids, self.ports, strict=True)]
        for number, home in enumerate(self._homes):
            others = ",".join(peers[:number] + peers[number + 1 :])
            (home / "config" / "config.toml").write_text(_config(self.ports[number], others, settings), "utf-8")
            _limit_blocks(home / "config" / "genesis.json")
        self._binary = binary

    def __enter__(self) -> "KeyValueStore":
        for home in self._homes:
            with home.with_suffix(".log").open("wb") as log:
                command = [self._binary, "start", "--home", home]
                tie = die_with_parent(signal.SIGTERM)
                self._processes.append(subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=tie))
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for home in self._homes:
            shutil.rmtree(home)

    def await_first_block(self) -> None:
        """Return when every validator has a block."""
        until = time.monotonic() + STILL_S
        for port, home in zip(self.ports, self._homes, strict=True):
            while True:
                try:
                    if _height(Rpc(port)) > 0:
                        break
                except OSError:
                    pass
                if time.monotonic() > until:
                    words = home.with_suffix(".log").read_text("utf-8", "replace")[-2000:]
                    raise SystemExit(f"CometBFT's key-value store did not start; its log ends with:\n{words}")
                time.sleep(0.1)

    def halted(self) -> AbstractContextManager[None]:
        """Let none of its processes run meanwhile."""
        return halted([process.pid for process in self._processes])

    def processor_s(self) -> float:
        """Return seconds of processor time so far."""
        return sum(cpu_s(process.pid) for process in self._processes)

    def next_block(self) -> Mark:
        """Return when the next block is committed."""
        rpc = Rpc(self.ports[0])
        before, until = _height(rpc), time.monotonic() + STILL_S
        while (height := _height(rpc)) == before:
            if time.monotonic() > until:
                raise SystemExit(f"CometBFT's key-value store made no block for {STILL_S} s under load")
            time.sleep(POLL_S)
        return Mark(height, time.monotonic())

    def count(self, heights: range) -> int:
        """Return how many transactions the blocks of these heights hold."""
        rpc = Rpc(self.ports[0])
        count = 0
        for first in range(heights.start, heights.stop, PAGE):
            last = min(first + PAGE, heights.stop) - 1
            told = rpc.ask("blockchain", {"minHeight": str(first), "maxHeight": str(last)})
            if len(told["block_metas"]) != last - first + 1:
                raise SystemExit(f"CometBFT told of {len(told['block_metas'])} of the blocks {first} to {last}")
            count += sum(int(meta["num_txs"]) for meta in told["block_metas"])
        return count


class Feeder:
    """The process that loads it."""

    def __init__(self, feed: Feed) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_feed, args=(feed, theirs), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid or 0

    def finish(self) -> None:
        """Wait for its end; end the benchmark where it failed."""
        try:
            answer = self._ours.recv()
        except EOFError:
            answer = "died"
        self._process.join()
        if answer:
            raise SystemExit(f"loading CometBFT's key-value store: {answer}")


class Rpc:
    """One kept connection to CometBFT's RPC."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def post(self, body: bytes) -> bytes:
        """Return the answer to a JSON-RPC request or several.

        Raises:
            ConnectionError: CometBFT hung up, as it does on a connection at rest; the next request opens it again.
        """
        try:
            self._connection.request("POST", "/", body, {"Content-Type": "application/json"})
            return self._connection.getresponse().read()
        except ConnectionError:
            self._connection.close()
            raise

    def ask(self, method: str, params: dict[str, str] | None = None) -> dict[str, Any]:
        """Return the result of one call."""
        body = json.dumps({"jsonrpc": "2.0", "id": 0, "method": method, "params": params or {}}).encode()
        try:
            answer = json.loads(self.post(body))
        except ConnectionError:
            answer = json.loads(self.post(body))
        if "error" in answer:
            raise SystemExit(f"CometBFT's {method}: {answer['error']}")
        return answer["result"]


def transactions_body(first: int, count: int, size_bytes: int) -> bytes:
    """Return a request that brings so many transactions of unique keys, numbered from `first` on."""
    value = b"v" * (size_bytes - KEY_DIGITS - 1)
    calls: list[str] = []
    for number in range(first, first + count):
        signed = base64.b64encode(b"%0*d=%s" % (KEY_DIGITS, number, value)).decode("ascii")
        calls.append(f'{{"jsonrpc":"2.0","id":0,"method":"broadcast_tx_async","params":{{"tx":"{signed}"}}}}')
    return f"[{','.join(calls)}]".encode("ascii")


def _feed(feed: Feed, pipe: Connection) -> None:
    try:
        _send(feed)
        pipe.send("")
    except Exception as error:  # noqa: BLE001 - told to the process that measures, which ends with it
        pipe.send(f"{type(error).__name__}: {error}")


def _send(feed: Feed) -> None:
    until = time.monotonic() + feed.seconds
    firsts = itertools.count(feed.first, BATCH)
    has_room = {port: threading.Event() for port in feed.ports}

    def send(place: int) -> None:
        port = feed.ports[place % len(feed.ports)]
        rpc = Rpc(port)
        while time.monotonic() < until:
            if not has_room[port].wait(0.1):
                continue
            try:
                answer = rpc.post(transactions_body(next(firsts), BATCH, feed.transaction_bytes))
            except ConnectionError:
                continue  # what counts is what stands in blocks
            if b'"error"' in answer:
                raise RuntimeError(answer[answer.index(b'"error"') :][:300].decode())

    def watch(place: int) -> None:
        port = feed.ports[place]
        rpc = Rpc(port)
        while time.monotonic() < until:
            if int(rpc.ask("num_unconfirmed_txs")["total"]) < WAITING:
                has_room[port].set()
            else:
                has_room[port].clear()
            time.sleep(0.02)

    watchers = len(feed.ports)
    in_threads(
        lambda place: watch(place) if place < watchers else send(place - watchers),
        watchers + CONNECTIONS,
    )


def _height(rpc: Rpc) -> int:
    return int(rpc.ask("status")["sync_info"]["latest_block_height"])


def settings_beside(layout: Layout) -> Settings:
    """Return the settings of a key-value store that is measured beside the ledger in this directory."""
    text = config_toml(read_comet_settings(layout), layout, load_genesis(layout.genesis))
    return {"mempool": POOL, **{name: table for name, table in tomllib.loads(text).items() if name in AS_THE_LEDGER}}


def _config(port: int, peers: str, settings: Settings) -> str:
    own = {"laddr": f"tcp://127.0.0.1:{port + 1}", "external_address": "", "persistent_peers": peers}
    tables = {**settings, "rpc": {"laddr": f"tcp://127.0.0.1:{port}"}, "p2p": {**settings["p2p"], **own}}
    lines = ['proxy_app = "persistent_kvstore"', 'log_level = "error"']
    for name, table in tables.items():
        lines += ["", f"[{name}]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in table.items()]  # JSON's values are TOML's too
    return "\n".join(lines) + "\n"


def _limit_blocks(path: Path) -> None:
    genesis = json.loads(path.read_bytes())
    block = genesis["consensus_params"]["block"]
    block["max_bytes"] = str(MAX_BLOCK_BYTES)
    evidence = genesis["consensus_params"]["evidence"]
    evidence["max_bytes"] = str(min(int(evidence["max_bytes"]), MAX_BLOCK_BYTES // 4))
    path.write_text(json.dumps(genesis), "utf-8")
