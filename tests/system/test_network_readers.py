"""A network's chain as others' programs read it: CometBFT's light client, CosmJS, and whoever holds a proof file."""

import base64
import copy
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from feiqian.client import Client
from feiqian.consensus.proof_file import InvalidProofFile, verify
from feiqian.core.encoding import Record
from feiqian.execution.blocks import BUNDLE
from feiqian.execution.registry import discover
from feiqian.modules.governance.messages import Propose, SetValidator
from feiqian.testing.comet_binary import require_cometbft
from feiqian.testing.ledgers import ASSET, CHAIN_ID, key_of
from feiqian.testing.ports import free_ports
from feiqian.testing.validators import Network, await_that, four_banks

pytestmark = pytest.mark.campaign

READERS = Path(__file__).parent / "readers"
SPARE = key_of("a validator that never runs").public.data
"""A validator: a header's set and its signers differ from then on."""

SPARE_POWER, POWER = 4, 10
PAID_MINOR = 12_345


class Story(NamedTuple):
    """A network of two with a payment in `paid`, another validator after that, and a payment in `later`.

    Each set of proofs was made before the next thing happened, at the payee's own gateway.
    """

    network: Network
    signed: Mapping[int, bytes]
    paid: int
    later: int
    before: Mapping[str, bytes]
    after: Mapping[str, bytes]

    def client(self, place: int = 1) -> Client:
        """Return a client of a validator's gateway that is not signed in."""
        return Client(self.network.validators[place].gateway_url)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    require_cometbft()
    # Of one governor's ledger nobody else needs to vote.
    text = four_banks().replace('roles = ["bank"]', 'roles = ["bank", "governor"]', 1)
    with Network(tmp_path_factory.mktemp("readers") / "n", discover(), 2, text=text) as network:
        network.start()
        first = network.ledger.issue("south", PAID_MINOR)
        paid, paid_id = submit(network, first)
        before = proofs(network, paid_id)
        action = SetValidator(SPARE, "west-bank", "spare", SPARE_POWER)
        change: Record = Propose(network.ledger.addresses["issuance"], action, "one more")
        changed, _ = submit(network, network.ledger.sign("issuance", [change]))
        # Validators are others from the second block after the one that says so.
        network.validators[1].await_height(changed + 2)
        second = network.ledger.issue("south", PAID_MINOR)
        later, later_id = submit(network, second)
        yield Story(network, {paid: first, later: second}, paid, later, before, proofs(network, later_id))


def submit(network: Network, signed: bytes) -> tuple[int, str]:
    """Submit at the first gateway; return height and id once the second one can prove it."""
    with Client(network.validators[0].gateway_url) as client:
        (outcome,) = client.submit_all([signed], wait="provable")
    outcome.raise_if_refused()
    with Client(network.validators[1].gateway_url) as client:
        await_that("the other gateway can prove it", lambda: client.status()["provable_height"] >= outcome.height)
    return outcome.height, outcome.tx_id


def proofs(network: Network, tx_id: str) -> dict[str, bytes]:
    """Return a proof of each kind."""
    made: dict[str, bytes] = {}
    for account, kind in (("south", "balance"), ("treasury", "absence")):
        with Client(network.validators[1].gateway_url) as client:
            client.sign_in(network.ledger.addresses[account], key_of(account))
            made[kind] = client.prove_balance(network.ledger.addresses[account], ASSET)
            if kind == "balance":
                made["result"] = client.prove_transaction(tx_id)
    return made


def validators_of(story: Story) -> dict[str, int]:
    """Return the keys in the genesis with their power."""
    return {each.public_key.hex(): each.power for each in story.network.genesis.validators}


# Proof files.


@pytest.mark.parametrize("kind", ["balance", "result", "absence"])
def test_a_proof_from_a_network_is_verified_by_the_same_command(story: Story, kind: str, tmp_path: Path) -> None:
    genesis = story.network.validators[0].layout.genesis
    for number, made in enumerate((story.before, story.after), 1):
        path = tmp_path / f"{number}.json"
        path.write_bytes(made[kind])
        command = [sys.executable, "-m", "feiqian.cli.main", "verify", str(path), "--genesis", str(genesis), "--json"]
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        said = json.loads(done.stdout)
        assert (said["verified"], said["chain_id"]) == (True, CHAIN_ID)
        assert said["height"] >= (story.paid, story.later)[number - 1]
        if kind == "balance":
            assert said["proved"]["posted_minor"] == number * PAID_MINOR
        elif kind == "result":
            assert said["proved"]["number"] == 0
        else:
            assert said["kind"] == "absence"


def test_the_trail_leads_across_a_change_of_validators(story: Story) -> None:
    def powers(proof: bytes) -> list[int]:
        validators = json.loads(proof)["trail"][-1]["validator_set"]["validators"]
        return sorted(int(each["voting_power"]) for each in validators)

    assert powers(story.before["balance"]) == [POWER, POWER]
    assert powers(story.after["balance"]) == [SPARE_POWER, POWER, POWER]


@pytest.mark.parametrize("kind", ["balance", "result", "absence"])
def test_a_proof_with_any_value_changed_is_refused(story: Story, kind: str) -> None:
    tables = discover().tables
    for made in (story.before, story.after):
        value = json.loads(made[kind])
        assert verify(made[kind], story.network.genesis, tables).chain_id == CHAIN_ID
        tried = 0
        for changed in changes(value):
            tried += 1
            with pytest.raises(InvalidProofFile):
                verify(json.dumps(changed, separators=(",", ":")).encode(), story.network.genesis, tables)
        assert tried > 40


def changes(value: Any) -> Iterator[Any]:
    """Yield a value with one leaf changed, for each of its leaves."""
    for path, leaf in leaves(value):
        changed = at = copy.deepcopy(value)
        for name in path[:-1]:
            at = at[name]
        match leaf:
            case None:
                at[path[-1]] = "00"
            case int():
                at[path[-1]] = leaf + 1
            case _:
                at[path[-1]] = ("1" if leaf[:1] != "1" else "2") + leaf[1:]
        yield changed


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield every value that holds no other, with the way to it."""
    if isinstance(value, dict | list):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*path, name))
    else:
        yield path, value


# CometBFT's light client.


def light(story: Story, home: Path, trusted_hash: str, port: int) -> subprocess.Popen[bytes]:
    """Start CometBFT's light client on the two validators' RPC, trusting block 1 by its hash."""
    primary, witness = (f"http://127.0.0.1:{each.made.endpoints.rpc_port}" for each in story.network.validators)
    command = [require_cometbft(), "light", CHAIN_ID, "--primary", primary, "--witnesses", witness]
    command += ["--height", "1", "--hash", trusted_hash, "--laddr", f"tcp://127.0.0.1:{port}", "--home-dir", home]
    with (home.with_name(home.name + ".log")).open("wb") as log:
        return subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def ask(port: int, method: str, **parameters: int) -> Any:
    """Return what an RPC answers, None where nobody answers yet."""
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/{method}", params=parameters, trust_env=False, timeout=60).json()
    except httpx.HTTPError:
        return None
    assert "error" not in answer, answer
    return answer["result"]


def test_cometbfts_light_client_follows_the_chain(story: Story, tmp_path: Path) -> None:
    with story.client() as client:
        blocks = {height: client.block(height) for height in (1, story.paid + 1, story.later + 1)}
    port = free_ports(1)
    process = light(story, tmp_path / "light", blocks[1]["commit"]["block_id"]["hash"], port)
    try:
        await_that("the light client answers", lambda: process.poll() is not None or ask(port, "status") is not None)
        assert ask(port, "status")["node_info"]["network"] == CHAIN_ID
        for height, block in blocks.items():
            found = ask(port, "commit", height=height)["signed_header"]
            assert found["header"] == block["header"]
            assert found["commit"]["block_id"] == block["commit"]["block_id"]
            powers = [int(each["voting_power"]) for each in ask(port, "validators", height=height)["validators"]]
            assert powers == ([POWER, POWER, SPARE_POWER] if height > story.later else [POWER, POWER])
        # It checks a block's transactions against the header.
        (bundle,) = ask(port, "block", height=story.later)["block"]["data"]["txs"]
        assert BUNDLE.decode(base64.b64decode(bundle)) == (story.signed[story.later],)
    finally:
        process.kill()
        process.wait()


def test_cometbfts_light_client_refuses_another_block_than_the_trusted(story: Story, tmp_path: Path) -> None:
    process = light(story, tmp_path / "light", "ab" * 32, free_ports(1))
    assert process.wait(120) != 0
    assert "hash" in (tmp_path / "light.log").read_text()


# CosmJS.


@pytest.fixture(scope="module")
def cosmjs() -> Path:
    """Return the program that reads a chain by CosmJS; it is installed where the lock file is newer."""
    if shutil.which("npm") is None:
        assert not os.environ.get("CI"), "npm is needed: install Node.js 20 or newer"
        pytest.skip("this test runs CosmJS, and there is no npm on this machine: install Node.js 20 or newer")
    installed, lock = READERS / "node_modules" / ".package-lock.json", READERS / "package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=READERS, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        os.utime(installed, (time.time(), time.time()))
    return READERS / "read.mjs"


def test_cosmjs_reads_the_chain(story: Story, cosmjs: Path) -> None:
    keys = validators_of(story)
    for place, height in ((0, story.paid), (1, story.later)):
        validator = story.network.validators[place]
        url = f"http://127.0.0.1:{validator.made.endpoints.rpc_port}"
        done = subprocess.run(["node", cosmjs, url, str(height)], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        found = json.loads(done.stdout)
        with story.client() as client:
            block = client.block(height)
        header = block["header"]
        assert (found["network"], found["chainId"], found["moniker"]) == (CHAIN_ID, CHAIN_ID, validator.name)
        assert found["catchingUp"] is False
        assert found["latestHeight"] >= height == found["height"] == int(header["height"])
        assert found["time"][0] == block["time_ms"]
        assert found["hash"] == found["signed"] == block["commit"]["block_id"]["hash"].lower()
        for name, field in (("appHash", "app_hash"), ("dataHash", "data_hash"), ("validatorsHash", "validators_hash")):
            assert found[name] == header[field].lower()
        is_later = height == story.later
        assert dict(found["validators"]) == keys | ({SPARE.hex(): SPARE_POWER} if is_later else {})
        assert found["signatures"] == len(found["validators"])
        assert [BUNDLE.decode(bytes.fromhex(each)) for each in found["bundles"]] == [(story.signed[height],)]
