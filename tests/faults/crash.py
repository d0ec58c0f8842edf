"""Kills the node at random moments under load, restarts it, and counts what was acknowledged before and after.

`python tests/faults/crash.py --kills 200 [--seed N]`. The seed is printed; it decides when each kill comes, and what is
sent, but not how far the node has got by then.
"""

import argparse
import random
import select
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from feiqian.consensus.audit import audit
from feiqian.consensus.genesis_file import load_genesis
from feiqian.core.transactions import decode_signed, transaction_id
from feiqian.core.wire import Committed, Stored, Submit, Submitted
from feiqian.execution.blocks import RESULT, RESULTS_CODEC
from feiqian.execution.registry import Registry, discover
from feiqian.ledger.balances import BALANCES, balance_key
from feiqian.modules.assets.messages import Issue
from feiqian.node.configuration import Layout
from feiqian.state.store import Store
from feiqian.testing.ledgers import ASSET, SampleLedger
from feiqian.testing.processes import Channel, NodeProcess

BATCH = 40
MAX_UNANSWERED = 4
LONGEST_RUN_S = 0.4
STARTING_SHARE = 0.15
"""So many of the kills come while the node is still starting."""


class Report(NamedTuple):
    """What a run counted."""

    kills: int
    height: int
    acknowledged: int
    sent_again: int
    committed: int


class Known:
    """What the outside saw before a kill: what was committed, the roots of what was stored, and what was sent."""

    def __init__(self) -> None:
        self.height = 0
        self.roots: dict[int, bytes] = {}
        self.acknowledged: dict[bytes, int] = {}
        self.sent: dict[bytes, bytes] = {}

    def note(self, block: Committed | Stored) -> None:
        """Take down a block that was told of."""
        self.height = max(self.height, block.height)
        if isinstance(block, Stored):
            assert self.roots.setdefault(block.height, block.app_hash) == block.app_hash, "a height had two roots"
        for entry in RESULTS_CODEC.decode(block.results):
            assert self.acknowledged.setdefault(entry.id, block.height) == block.height, "a result stands in two blocks"

    @property
    def open(self) -> list[bytes]:
        """What was sent and not acknowledged."""
        return [signed for tx_id, signed in self.sent.items() if tx_id not in self.acknowledged]


def run(
    directory: Path, kills: int, seed: int, registry: Registry, told: Callable[[str], None] = lambda _: None
) -> Report:
    """Kill the node so many times; raise AssertionError as soon as anything acknowledged is not as it was."""
    chance = random.Random(seed)
    ledger = SampleLedger(directory, registry)
    known = Known()
    again = 0
    for kill in range(kills):
        again += _run_and_kill(ledger, known, chance)
        if (kill + 1) % 10 == 0:
            told(f"{kill + 1} kills, height {known.height}, {len(known.acknowledged)} acknowledged")
    with NodeProcess(directory) as node:
        node.await_ready()
        assert node.terminate() == 0, node.log_text()[-2000:]
    return _check_everything(ledger, known, kills, again)


def _run_and_kill(ledger: SampleLedger, known: Known, chance: random.Random) -> int:
    """Start the node, check what it still knows, load it, and kill it; return how many orders were sent again."""
    environment = {"FEIQIAN_NODE_BLOCK_INTERVAL_MS": str(chance.choice([1, 5, 20]))}
    with NodeProcess(ledger.directory, environment) as node:
        if chance.random() < STARTING_SHARE:
            _wait(node, chance.uniform(0, 2 * LONGEST_RUN_S))
            node.kill()
            return 0
        node.await_ready()
        with node.connect() as channel, node.connect() as follower:
            status = channel.status()
            assert status.height >= known.height, f"height {status.height}, and {known.height} was acknowledged"
            assert known.roots.get(status.height, status.app_hash) == status.app_hash
            # The last block of which the root is known comes again, with the root that it had.
            follower.subscribe(max(known.roots, default=0))
            follower.follow_committed(known.height)
            resent = known.open[-BATCH:]
            _load(ledger, known, channel, follower, chance, resent)
            node.kill()
            _read_the_rest(follower, known)
            return len(resent)


def _wait(node: NodeProcess, seconds: float) -> None:
    select.select([node.ready_descriptor], [], [], seconds)


def _load(
    ledger: SampleLedger,
    known: Known,
    channel: Channel,
    follower: Channel,
    chance: random.Random,
    resent: list[bytes],
) -> None:
    """Send batches and note blocks until a random moment."""
    until = time.monotonic() + chance.uniform(0, LONGEST_RUN_S)
    unanswered = 0
    request = 0
    while (left_s := until - time.monotonic()) > 0:
        if unanswered < MAX_UNANSWERED:
            batch = [*resent, *(_order(ledger, chance) for _ in range(BATCH))]
            resent = []
            known.sent |= {transaction_id(decode_signed(signed).body): signed for signed in batch}
            request += 1
            channel.send(Submit(request, tuple(batch)))
            unanswered += 1
        ready, _, _ = select.select([channel.socket, follower.socket], [], [], 0 if unanswered < 2 else left_s)
        if channel.socket in ready:
            assert isinstance(channel.read(), Submitted)
            unanswered -= 1
        if follower.socket in ready:
            known.note(_next_block(follower))


def _order(ledger: SampleLedger, chance: random.Random) -> bytes:
    if chance.random() < 0.3:
        return ledger.issue("treasury", chance.randrange(1, 1000))
    payer, payee = chance.sample(["treasury", "lantern", "south"], 2)
    return ledger.transfer(payer, payee, chance.randrange(1, 500))


def _next_block(follower: Channel) -> Committed | Stored:
    frame = follower.read()
    assert isinstance(frame, Committed | Stored)
    return frame


def _read_the_rest(follower: Channel, known: Known) -> None:
    """Note what the node had acknowledged before it died and nobody had read yet."""
    while isinstance(frame := follower.read(), Committed | Stored):
        known.note(frame)


def _check_everything(ledger: SampleLedger, known: Known, kills: int, again: int) -> Report:
    layout = Layout(ledger.directory)
    genesis = load_genesis(layout.genesis)
    store = Store.open(layout.ledger, read_only=True)
    places: Counter[bytes] = Counter()
    for height in range(1, store.height + 1):
        block = store.block(height)
        assert block is not None, f"height {height} has no block"
        if height in known.roots:
            assert block.app_hash == known.roots[height], f"height {height} had another root before a kill"
        ids = [entry.id for entry in RESULTS_CODEC.decode(block.results)]
        places.update(ids)
        for tx_id in ids:
            assert known.acknowledged.get(tx_id, height) == height
    twice = [tx_id.hex() for tx_id, count in places.items() if count > 1]
    assert not twice, f"in two blocks: {twice}"
    missing = [tx_id.hex() for tx_id in known.acknowledged if not places[tx_id]]
    assert not missing, f"acknowledged and not there: {missing}"
    unknown = [tx_id.hex() for tx_id in places if tx_id not in known.sent]
    assert not unknown, f"nobody sent: {unknown}"
    _check_money(ledger, known, store)
    report = audit(store, ledger.registry, genesis)
    assert report.is_clean, report.problems
    height = store.height
    store.close()
    return Report(kills, height, len(known.acknowledged), again, len(places))


def _check_money(ledger: SampleLedger, known: Known, store: Store) -> None:
    """Each order that was done moved its amount once: add them up by hand and compare every balance."""
    expected: Counter[bytes] = Counter()
    for tx_id, signed in known.sent.items():
        found = store.result(tx_id)
        if found is None or RESULT.decode(found[2]).number:
            continue
        transaction = ledger.registry.transaction_codec.decode(decode_signed(signed).body)
        for message in transaction.messages:
            payer = message.issuance_account if isinstance(message, Issue) else message.payer
            expected[payer] -= message.amount_minor
            expected[message.payee] += message.amount_minor
    for name, address in ledger.addresses.items():
        data = store.get(BALANCES.prefix + balance_key(address, ASSET))
        posted_minor = 0 if data is None else BALANCES.codec.decode(data).posted_minor
        assert posted_minor == expected[address], f"{name} holds {posted_minor}, its orders come to {expected[address]}"


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="kill the node at random moments under load")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="feiqian-crash-") as directory:
        report = run(
            Path(directory) / "ledger", options.kills, options.seed, discover(), lambda line: print(line, flush=True)
        )
    print(
        f"{report.kills} kills: height {report.height}, {report.acknowledged} acknowledged, all there; "
        f"{report.sent_again} sent again, {report.committed} committed, none twice; every root the same; audit clean"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
