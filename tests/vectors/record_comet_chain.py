"""Records a chain of CometBFT's own: `python tests/vectors/record_comet_chain.py`, once `make cometbft` has built it.

Four validators of CometBFT's built-in kvstore begin at height 5. A transaction of block 8, or near it, gives one more
power and adds a fifth, who never runs; one is stopped; a later transaction takes the fifth out. What their RPC then
answers is written to `comet/chain.json`; their keys are thrown away. Tests name heights of the present recording.
"""

import base64
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

ROOT = Path(__file__).parents[2]
BINARY = ROOT / ".build" / "cometbft" / "cometbft"
RECORDING = Path(__file__).parent / "comet" / "chain.json"
CHAIN_ID, FIRST, LAST = "vector-1", 5, 16
SPARE = 4
"""The place of the validator that never runs."""


class Network:
    """Directories of five validators on one machine, four of them running."""

    def __init__(self, folder: Path) -> None:
        options = ["--v", "5", "--starting-ip-address", "127.0.0.1", "--initial-height", str(FIRST), "--o", str(folder)]
        subprocess.run([BINARY, "testnet", *options], check=True, capture_output=True)
        self.homes = [folder / f"node{place}" for place in range(5)]
        self.keys = [
            json.loads((home / "config" / "priv_validator_key.json").read_text())["pub_key"]["value"]
            for home in self.homes
        ]
        self.ports = [(free_port(), free_port()) for _ in self.homes]
        self.genesis = self._genesis()
        self.processes: list[subprocess.Popen[bytes]] = []

    def _genesis(self) -> dict[str, Any]:
        genesis = json.loads((self.homes[0] / "config" / "genesis.json").read_text())
        founders = [each for each in genesis["validators"] if each["pub_key"]["value"] != self.keys[SPARE]]
        validators = [each | {"power": "10"} for each in founders]
        return genesis | {"chain_id": CHAIN_ID, "validators": validators, "app_state": {}}

    def start(self) -> None:
        """Write the settings and start all but the spare one."""
        shown = [subprocess.run([BINARY, "show-node-id", "--home", home], capture_output=True) for home in self.homes]
        peers = [
            f"{each.stdout.decode().strip()}@127.0.0.1:{port}"
            for each, (_, port) in zip(shown, self.ports, strict=True)
        ]
        for place, (home, (rpc, p2p)) in enumerate(zip(self.homes, self.ports, strict=True)):
            values = {
                "persistent_peers": ",".join(peers[:place] + peers[place + 1 :]),
                "proxy_app": "persistent_kvstore",
                "timeout_commit": "400ms",
                "pprof_laddr": "",
            }
            text = (home / "config" / "config.toml").read_text()
            text = text.replace("tcp://127.0.0.1:26657", f"tcp://127.0.0.1:{rpc}")
            text = text.replace("tcp://0.0.0.0:26656", f"tcp://127.0.0.1:{p2p}")
            text = text.replace("allow_duplicate_ip = false", "allow_duplicate_ip = true")
            for name, value in values.items():
                text = re.sub(rf'^{name} = ".*"', f'{name} = "{value}"', text, flags=re.MULTILINE)
            (home / "config" / "config.toml").write_text(text)
            (home / "config" / "genesis.json").write_text(json.dumps(self.genesis))
        self.processes = [
            subprocess.Popen([BINARY, "start", "--home", home], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for home in self.homes[:SPARE]
        ]

    def stop(self, *places: int) -> None:
        """Stop validators and wait for their end."""
        for place in places:
            self.processes[place].terminate()
            self.processes[place].wait()

    def ask(self, method: str, **params: str) -> dict[str, Any]:
        """Return what the first validator's RPC answers."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = Request(f"http://127.0.0.1:{self.ports[0][0]}", body, {"content-type": "application/json"})
        with urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def send(self, *transactions: str) -> None:
        """Send transactions to the first validator."""
        for each in transactions:
            self.ask("broadcast_tx_sync", tx=base64.b64encode(each.encode()).decode())

    def until(self, height: int) -> None:
        """Return when the first validator has a height."""
        while True:
            try:
                if int(self.ask("status")["result"]["sync_info"]["latest_block_height"]) >= height:
                    return
            except OSError:
                assert self.processes[0].poll() is None, "CometBFT has ended"
            time.sleep(0.05)

    def power(self, place: int, power: int) -> str:
        """Return the transaction that gives a validator its power."""
        return f"val=ed25519!{self.keys[place]}!{power}"


def main() -> int:
    """Record; return the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        network = Network(Path(folder))
        network.start()
        try:
            network.until(7)
            network.send(network.power(SPARE, 5), network.power(0, 12), "name=value")
            network.until(9)
            network.stop(3)
            network.until(12)
            network.send(network.power(SPARE, 0))
            network.until(LAST + 1)
            write(recording(network))
        finally:
            network.stop(*[place for place, each in enumerate(network.processes) if each.poll() is None])
    return 0


def recording(network: Network) -> dict[str, Any]:
    """Return the RPC's answers."""

    def at(method: str, height: int) -> Any:
        return network.ask(method, height=str(height))["result"]

    heights = range(FIRST, LAST + 1)
    net_info = network.ask("net_info")["result"]
    for peer in net_info["peers"]:
        peer["connection_status"] = {}
    return {
        "genesis": network.genesis,
        "commit": {str(height): at("commit", height) for height in heights},
        "validators": {str(height): at("validators", height) for height in range(FIRST, LAST + 2)},
        "block": {str(height): at("block", height) for height in (5, 8, 9, 10)},
        "consensus_params": at("consensus_params", LAST),
        "status": network.ask("status")["result"],
        "net_info": net_info,
        "dump_consensus_state": network.ask("dump_consensus_state")["result"],
        "errors": {f"commit {height}": network.ask("commit", height=str(height))["error"] for height in (4, 900)},
    }


def write(found: dict[str, Any]) -> None:
    """Write the recording, a height a line."""
    parts = []
    for name, value in found.items():
        text = json.dumps(value, separators=(",", ":"))
        if name in ("commit", "validators", "block"):
            lines = [f"{json.dumps(key)}: {json.dumps(each, separators=(',', ':'))}" for key, each in value.items()]
            text = "{\n" + ",\n".join(lines) + "\n}"
        parts.append(f"{json.dumps(name)}: {text}")
    RECORDING.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main())
