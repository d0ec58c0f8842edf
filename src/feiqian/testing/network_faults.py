"""What befalls a network of four real validators under load, case by case, and what must be so after each.

Whatever befalls it, nothing that was acknowledged is lost, nothing was applied twice, all nodes at a height have the
same state root and the audit is clean on each.
"""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from feiqian.client import Client
from feiqian.consensus.comet.gossip import NodeKey
from feiqian.consensus.solo import SoloSigner
from feiqian.node.comet.testnet import NOTHING_SIGNED, endpoints_here
from feiqian.node.configuration import Layout
from feiqian.node.faults import DONE, FAULT
from feiqian.state.store import Store
from feiqian.testing.faulty_node import CHEATS
from feiqian.testing.links import DEAF, Links, lossy
from feiqian.testing.loads import BATCH, Known, Load, check
from feiqian.testing.ports import free_ports
from feiqian.testing.turned_clock import turned_clock
from feiqian.testing.validators import PORTS_EACH, Network, Validator, await_that

ENVIRONMENT = {"FEIQIAN_COMET_SNAPSHOT_BLOCKS": "20"}
"""Of every validator: snapshots as often as a short test needs them."""

DISK_BYTES = 400 * 2**20
DISK_WORDS = {"the ledger": "must stay free. Make room and start again", "CometBFT": "CometBFT's disk is full"}
"""Who may meet a full disk first, and what it says."""


REFUSALS = {
    "garbage": "MessagePack data is malformed",
    "oversized": "at most 262144 are accepted",
    "replayed": "was already taken",
    "repeated": "stands in this block already",
    "unauthorised": "the signatures weigh 0",
    "forged": "does not verify",
    "expired": "transaction expired at 1 ms",
}
"""What the log says of each cheat, in part."""

STILL_S = 3
"""So long no block may come where too few validators are left."""


class Stage:
    """A network with load on it, and what is known of it from outside."""

    def __init__(self, network: Network, known: Known, load: Load) -> None:
        self.network = network
        self.known = known
        self.load = load
        self.first, self.second, self.third, self.fourth = network.validators

    @property
    def links(self) -> Links:
        """The links of a network that has any."""
        assert self.network.links is not None
        return self.network.links

    def others(self, *than: Validator) -> list[Validator]:
        """Return the validators but these."""
        return [validator for validator in self.network.validators if validator not in than]

    def next_block(self, *without: Validator) -> float:
        """Return the seconds to a block that begins now, of the validators but these."""
        return self.network.seconds_to_next(self.others(*without))

    def replace(self, validator: Validator, fault: str = "", **environment: str) -> None:
        """Stop a validator and start it with a fault or in another environment; return when it is as far as others."""
        assert validator.stop() == DONE, validator.log_text()[-2000:]
        validator.start(fault=fault, environment=environment)
        if not fault.startswith("kill"):
            validator.await_gateway()
            validator.await_height(self.network.height(self.others(validator)))


class Outcome(NamedTuple):
    """What a case showed."""

    next_s: float
    """Seconds from the fault, or where the chain had to stand still from its end, to the end of the next block."""
    note: str


def kill_one(stage: Stage) -> Outcome:
    """SIGKILL of all processes of one validator."""
    stage.second.kill()
    next_s = stage.next_block(stage.second)
    stage.load.await_more()
    stage.second.start().await_gateway()
    return Outcome(next_s, "three went on")


def kill_two(stage: Stage) -> Outcome:
    """SIGKILL of two of four: no block without more than two thirds; it goes on with the third."""
    stage.second.kill()
    stage.third.kill()
    _await_still(stage, stage.first, stage.fourth)
    stage.third.start()
    next_s = stage.next_block(stage.second, stage.third)
    stage.load.await_more()
    stage.second.start().await_gateway()
    stage.third.await_gateway()
    return Outcome(next_s, f"no block for {STILL_S} s, then on with three")


def kill_all(stage: Stage) -> Outcome:
    """SIGKILL of all at once."""
    height = stage.network.height()
    for validator in stage.network.validators:
        validator.kill()
    for validator in stage.network.validators:
        validator.start()
    next_s = await_that("a block after all were killed", lambda: stage.network.height() > height + 1)
    stage.network.start()
    stage.load.await_more()
    return Outcome(next_s, "counted from the start of the last")


def kill_node(stage: Stage) -> Outcome:
    """SIGKILL of the Python node alone: its CometBFT and gateway end with it."""
    stage.second.kill_part("node")
    next_s = stage.next_block(stage.second)
    assert stage.second.await_exit() == FAULT
    assert not stage.second.leftovers()
    stage.second.start().await_gateway()
    return Outcome(next_s, "the whole validator ended with status 3, nothing left over")


def kill_cometbft(stage: Stage) -> Outcome:
    """SIGKILL of CometBFT alone: it is started again beside the same node."""
    node, comet = stage.second.part("node"), stage.second.part("cometbft")
    stage.second.kill_part("cometbft")
    next_s = stage.next_block(stage.second)
    again_s = await_that("CometBFT runs again", lambda: stage.second.parts().get("cometbft", comet) != comet)
    stage.second.await_height(stage.network.height() + 2)
    assert stage.second.part("node") == node
    return Outcome(next_s, f"started again after {again_s:.1f} s beside the same node")


def killed_at(call: str, when: str) -> Callable[[Stage], Outcome]:
    """Return the case of a node that is killed at a step of a block with transactions."""

    def case(stage: Stage) -> Outcome:
        stage.replace(stage.second, f"kill:{call}:{when}")
        assert stage.second.await_exit() == FAULT
        next_s = stage.next_block(stage.second)
        assert not stage.second.leftovers()
        stage.second.start().await_gateway()
        stage.second.await_height(stage.network.height())
        return Outcome(next_s, "ran the block again or had it, and went on")

    return case


def proposes(what: str) -> Callable[[Stage], Outcome]:
    """Return the case of a proposer that adds what no block may hold."""

    def case(stage: Stage) -> Outcome:
        before = {each.name: len(each.log_lines("proposal_refused")) for each in stage.others(stage.second)}
        stage.replace(stage.second, f"propose:{what}")
        cheated = len(stage.second.log_lines("cheated"))
        await_that("it cheated twice", lambda: len(stage.second.log_lines("cheated")) >= cheated + 2)
        next_s = stage.next_block(stage.second)
        reasons: list[str] = []
        for each in stage.others(stage.second):
            await_that(f"{each.name} refused", lambda e=each: len(e.log_lines("proposal_refused")) > before[e.name])
            reasons.append(each.log_lines("proposal_refused")[-1]["reason"])
        assert all(REFUSALS[what] in reason for reason in reasons), reasons
        stage.replace(stage.second)
        return Outcome(next_s, f"refused by all: {REFUSALS[what]}")

    return case


def errs(fault: str) -> Callable[[Stage], Outcome]:
    """Return the case of a validator that works out another state root than the others: it stops itself."""

    def case(stage: Stage) -> Outcome:
        assert stage.second.stop() == DONE
        # It has something to catch up with.
        _blocks(stage, 10)
        stage.second.start(fault=fault)
        await_that("it erred", lambda: bool(stage.second.log_lines("erred")))
        next_s = stage.next_block(stage.second)
        since = time.monotonic()
        assert stage.second.await_exit() == FAULT
        took_s = time.monotonic() - since
        assert not stage.second.leftovers()
        said = stage.second.log_text()
        assert "run `feiqian audit` on the directory" in said, said[-4000:]
        who = "by the node's watch" if stage.second.log_lines("fault") else "by CometBFT's word"
        stage.load.await_more()
        wipe(stage.second)
        stage.second.log.unlink()
        stage.second.start().await_gateway()
        return Outcome(next_s, f"stopped with advice {who} after {took_s:.0f} s; wiped, it ran all blocks again")

    return case


def stranger(stage: Stage) -> Outcome:
    """A node that is not registered connects to all: each refuses it."""
    source = stage.first.layout.directory
    layout = Layout(source.with_name("stranger"))
    layout.sign_state.parent.mkdir(parents=True)
    layout.sign_state.write_bytes(NOTHING_SIGNED)
    shutil.copy(source / "genesis.json", layout.genesis)
    SoloSigner.create(layout.validator_key)
    NodeKey.create(layout.node_key)
    (endpoints,) = endpoints_here(1, free_ports(PORTS_EACH))
    peers = ",".join(f"{each.made.node_id}@{each.made.endpoints.p2p}" for each in stage.network.validators)
    layout.settings.write_text(
        f'[node]\nengine = "comet"\n[comet]\npersistent_peers = "{peers}"\nrpc_port = {endpoints.rpc_port}\n'
        f'p2p_listen = "tcp://{endpoints.p2p}"\n[gateway]\nport = {endpoints.gateway_port}\n',
        "utf-8",
    )
    made = stage.first.made._replace(directory=layout.directory, member="stranger", endpoints=endpoints)
    intruder = Validator(made, 0, None, {})
    intruder.start()
    try:
        for each in stage.network.validators:
            await_that(f"{each.name} refused the stranger", lambda e=each: bool(e.log_lines("peer_refused")))
        next_s = stage.next_block()
        assert intruder.height < 1
        ids = {each.made.node_id for each in stage.network.validators}
        for each in stage.network.validators:
            assert {peer["node_info"]["id"] for peer in each.rpc("net_info")["peers"]} <= ids
    finally:
        intruder.kill()
        shutil.rmtree(layout.directory)
    return Outcome(next_s, "refused by all four; it saw no block")


def sent_to_all(stage: Stage) -> Outcome:
    """The same transactions are sent to every node: each is applied once."""
    orders = [stage.network.ledger.transfer("treasury", "south", 1) for _ in range(BATCH)]
    for signed in orders:
        stage.known.send(signed)
    heights: set[tuple[str, int]] = set()
    for validator in stage.network.validators:
        for outcome in _submit(validator, orders):
            heights.add((outcome.tx_id, outcome.height))
            stage.known.acknowledge(outcome.tx_id, outcome.height)
    assert len(heights) == len(orders)
    return Outcome(stage.next_block(), f"{len(orders)} sent four times, each in one block")


def silent(stage: Stage) -> Outcome:
    """A node tells its peers of no transaction: what it took in is committed when it proposes."""
    stage.replace(stage.second, "silent")
    orders = [stage.network.ledger.transfer("treasury", "south", 1) for _ in range(BATCH)]
    for signed in orders:
        stage.known.send(signed)
    started = time.monotonic()
    for outcome in _submit(stage.second, orders):
        stage.known.acknowledge(outcome.tx_id, outcome.height)
    took_s = time.monotonic() - started
    next_s = stage.next_block()
    stage.replace(stage.second)
    return Outcome(next_s, f"committed after {took_s:.1f} s all the same")


def disk_full(left_bytes: int) -> Callable[[Stage], Outcome]:
    """Return the case of a validator whose disk has so little room left: it stops, and goes on once there is more."""

    def case(stage: Stage) -> Outcome:
        directory = stage.second.layout.directory
        assert stage.second.stop() == DONE
        with _small_disk(directory):
            stage.second.start().await_gateway()
            stage.second.await_height(stage.network.height())
            ballast = directory / "ballast"
            _fill(ballast, left_bytes)
            assert stage.second.await_exit() == FAULT
            next_s = stage.next_block(stage.second)
            assert not stage.second.leftovers()
            said = stage.second.log_text()
            ballast.unlink()
            stage.second.start().await_gateway()
            stage.second.await_height(stage.network.height())
            assert stage.second.stop() == DONE
        stage.second.start().await_gateway()
        who = next(name for name, words in DISK_WORDS.items() if words in said)
        stage.second.log.unlink()
        return Outcome(next_s, f"stopped with status 3, {who} first; went on when there was room")

    return case


def clock_off(shift_ms: int) -> Callable[[Stage], Outcome]:
    """Return the case of a validator whose clock is off, its node's and its CometBFT's."""

    def case(stage: Stage) -> Outcome:
        stage.replace(stage.second, **turned_clock(shift_ms))
        height = stage.network.height()
        next_s = stage.next_block()
        # It has had its turn as a proposer when there are as many blocks more as validators.
        stage.first.await_height(height + len(stage.network.validators) + 1)
        latest = stage.first.rpc("status")["sync_info"]["latest_block_time"]
        off_s = datetime.fromisoformat(latest[:19] + "+00:00").timestamp() - time.time()
        assert abs(off_s) < abs(shift_ms) / 2000, f"block time is {off_s:.1f} s off the clock of the others"
        assert _signs(stage.second, stage.first), "its votes are not in the chain"
        stage.replace(stage.second)
        return Outcome(next_s, f"block time {-off_s:.1f} s behind the true one; its votes count")

    return case


def state_synced(stage: Stage) -> Outcome:
    """A validator is wiped and brought back from a snapshot of its peers."""
    await_that(
        "two members have a snapshot",
        lambda: sum(any(each.layout.snapshots.glob("*")) for each in stage.others(stage.second)) >= 2,
    )
    assert stage.second.stop() == DONE
    wipe(stage.second)
    stage.second.start(environment=state_sync_from((stage.first, stage.third))).await_gateway()
    next_s = stage.next_block(stage.second)
    stage.second.await_height(stage.network.height())
    store = Store.open(stage.second.layout.ledger, read_only=True)
    first = store.head.first_block
    store.close()
    assert first > 1, "it has run every block instead"
    stage.replace(stage.second)
    return Outcome(next_s, f"its first block is {first}")


def link_cut(stage: Stage) -> Outcome:
    """Nothing goes through one validator's link; then it is healed."""
    links = stage.links
    links.cut(stage.second.number)
    next_s = stage.next_block(stage.second)
    stage.load.await_more()
    behind = stage.network.height(stage.others(stage.second)) - stage.second.height
    links.heal(stage.second.number)
    healed_s = stage.second.await_height(stage.network.height(stage.others(stage.second)))
    return Outcome(next_s, f"{behind} heights behind; had them {healed_s:.1f} s after it was healed")


def link_split(stage: Stage) -> Outcome:
    """Two links are cut: no block; healed, it goes on."""
    links = stage.links
    for each in (stage.second, stage.third):
        links.cut(each.number)
    _await_still(stage, *stage.network.validators)
    for each in (stage.second, stage.third):
        links.heal(each.number)
    return Outcome(stage.next_block(), f"no block for {STILL_S} s; counted from the healing")


def link_deaf(stage: Stage) -> Outcome:
    """One validator sends and hears nothing."""
    links = stage.links
    links.filter(stage.second.number, DEAF)
    next_s = stage.next_block(stage.second)
    stage.load.await_more()
    links.heal(stage.second.number)
    healed_s = stage.second.await_height(stage.network.height(stage.others(stage.second)))
    return Outcome(next_s, f"had all {healed_s:.1f} s after it was healed")


def link_lossy(stage: Stage) -> Outcome:
    """Each link loses five packets of a hundred."""
    links = stage.links
    for each in stage.network.validators:
        links.filter(each.number, lossy(5))
    next_s = stage.next_block()
    took_s = _blocks(stage, 10)
    for each in stage.network.validators:
        links.heal(each.number)
    return Outcome(next_s, f"all four links; {took_s / 10:.2f} s a block")


def link_slow(stage: Stage) -> Outcome:
    """Each link takes 200 ms longer, in either direction."""
    links = stage.links
    for each in stage.network.validators:
        links.slow(each.number, 100)
    next_s = stage.next_block()
    took_s = _blocks(stage, 10)
    for each in stage.network.validators:
        links.heal(each.number)
    return Outcome(next_s, f"200 ms from any to any, by a relay over TAP; {took_s / 10:.2f} s a block")


def link_unheard(stage: Stage) -> Outcome:
    """Transactions taken in by a validator whose link is cut, so that no peer hears of them."""
    links = stage.links
    links.cut(stage.second.number)
    orders = [stage.network.ledger.transfer("treasury", "south", 1) for _ in range(BATCH)]
    for signed in orders:
        stage.known.send(signed)
    url = stage.second.gateway_url
    taken = stage.second.inside(lambda: Client(url).submit(orders, wait=None))
    assert {outcome.status for outcome in taken} == {"accepted"}
    next_s = stage.next_block(stage.second)
    assert stage.second.is_running
    links.heal(stage.second.number)
    for outcome in _submit(stage.second, orders):
        stage.known.acknowledge(outcome.tx_id, outcome.height)
    return Outcome(next_s, "committed once the link was healed")


def state_sync_from(servers: Sequence[Validator]) -> dict[str, str]:
    """Return what a validator without a ledger is started with, to begin with a snapshot; it trusts the first one."""
    trusted = servers[0].height - 5
    block = servers[0].rpc("commit", height=str(trusted))["signed_header"]["commit"]["block_id"]["hash"]
    addresses = [f"http://127.0.0.1:{each.made.endpoints.rpc_port}" for each in servers]
    return {
        "FEIQIAN_COMET_STATE_SYNC": "true",
        "FEIQIAN_COMET_STATE_SYNC_SERVERS": ",".join(addresses),
        "FEIQIAN_COMET_TRUST_HEIGHT": str(trusted),
        "FEIQIAN_COMET_TRUST_HASH": block,
    }


def wipe(validator: Validator) -> None:
    """Take from a validator what it can get again; what it signed last stays."""
    layout = validator.layout
    shutil.rmtree(layout.data)
    for path in (layout.comet / "data").iterdir():
        if path != layout.sign_state:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextmanager
def _small_disk(directory: Path) -> Iterator[None]:
    """Let a stopped validator's directory lie on a small disk of its own for a while."""
    aside = directory.with_name(directory.name + ".aside")
    directory.rename(aside)
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", directory], check=True)
    try:
        _copy(aside, directory)
        shutil.rmtree(aside)
        yield
        _copy(directory, aside)
    finally:
        subprocess.run(["umount", "--lazy", directory], check=True)
    directory.rmdir()
    aside.rename(directory)


def _copy(source: Path, target: Path) -> None:
    shutil.copytree(source, target, dirs_exist_ok=True, symlinks=True, ignore=shutil.ignore_patterns("*.sock"))


def _fill(path: Path, left_bytes: int) -> None:
    """Write a file until there is no more room than that on its disk."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while shutil.disk_usage(path).free > left_bytes:
            file.write(bytes(2**16))


def _signs(validator: Validator, seen_from: Validator) -> bool:
    """Say whether a validator's vote stands in one of the last commits."""
    height = seen_from.height
    return any(
        each["validator_address"].lower() == validator.made.validator_address and each["signature"]
        for at in range(height - 3, height)
        for each in seen_from.rpc("commit", height=str(at))["signed_header"]["commit"]["signatures"]
    )


def _blocks(stage: Stage, count: int) -> float:
    """Return the seconds that so many blocks take."""
    height, started = stage.network.height(), time.monotonic()
    await_that(f"{count} blocks", lambda: stage.network.height() >= height + count)
    return time.monotonic() - started


def _submit(validator: Validator, orders: list[bytes]) -> list:
    outcomes = validator.inside(lambda: Client(validator.gateway_url).submit_all(orders))
    for outcome in outcomes:
        outcome.raise_if_refused()
    return outcomes


def _await_still(stage: Stage, *left: Validator) -> None:
    """Return when those that are left have made no block for a while; one may still have been on its way."""
    height, since = stage.network.height(left), time.monotonic()
    deadline = since + 10 * STILL_S
    while time.monotonic() - since < STILL_S:
        assert time.monotonic() < deadline, "blocks were made without two thirds of the power"
        if stage.network.height(left) != height:
            height, since = stage.network.height(left), time.monotonic()
        time.sleep(0.1)


CASES: Mapping[str, Callable[[Stage], Outcome]] = {
    "kill-one": kill_one,
    "kill-two": kill_two,
    "kill-all": kill_all,
    "kill-node": kill_node,
    "kill-cometbft": kill_cometbft,
    "killed-before-finalize": killed_at("finalize_block", "before"),
    "killed-after-finalize": killed_at("finalize_block", "after"),
    "killed-before-commit": killed_at("commit", "before"),
    "killed-inside-commit": killed_at("commit", "inside"),
    "killed-after-commit": killed_at("commit", "after"),
    "stranger": stranger,
    "sent-to-all": sent_to_all,
    "silent": silent,
    **{f"proposes-{what}": proposes(what) for what in CHEATS},
    "wrong-root": errs("errs"),
    "wrong-root-syncing": errs("errs-syncing"),
    "disk-full": disk_full(0),
    "disk-reserve": disk_full(48 * 2**20),
    "clock-ahead": clock_off(10_000),
    "clock-behind": clock_off(-10_000),
    "state-synced": state_synced,
}
"""By name, in the order in which they run, all on one network."""

LINK_CASES: Mapping[str, Callable[[Stage], Outcome]] = {
    "link-cut": link_cut,
    "links-split": link_split,
    "link-deaf": link_deaf,
    "links-lossy": link_lossy,
    "links-slow": link_slow,
    "link-unheard": link_unheard,
}
"""Those on a network whose validators stand in network namespaces."""


class Played(NamedTuple):
    """A case that the network survived, everything checked."""

    name: str
    height: int
    next_s: float
    acknowledged: int
    note: str


def play(network: Network, known: Known, name: str) -> Played:
    """Play a case on a running network and check everything.

    Raises:
        AssertionError: the network did not survive it.
    """
    before = len(known.acknowledged)
    with Load(network, known) as load:
        load.await_more()
        outcome = {**CASES, **LINK_CASES}[name](Stage(network, known, load))
        load.await_more()
    height = check(network, known)
    return Played(name, height, outcome.next_s, len(known.acknowledged) - before, outcome.note)
