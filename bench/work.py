"""`make bench-work`: milliseconds of this machine for 1,000 units of work, so that members can set a block's limit.

A block of each mix is prepared (decoded, verified), executed, staged and committed in one process, one stage after the
other; `max_block_work` for half a second a block follows from the slowest machine's dearest mix.
"""

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from feiqian.core.encoding import Record, encode
from feiqian.execution.admission import Prepared, encode_bundle, prepare
from feiqian.execution.blocks import Block, execute_block
from feiqian.execution.registry import Registry, discover
from feiqian.ledger.accounts import open_account
from feiqian.ledger.assets import define_asset
from feiqian.ledger.authority import single_key_policy
from feiqian.ledger.balances import BALANCES, balance_key
from feiqian.ledger.context import BlockInfo, Context
from feiqian.ledger.members import add_member
from feiqian.ledger.records import Asset, Balance, Member
from feiqian.modules.assets.messages import BatchLeg, BatchTransfer, PlaceHold, Transfer
from feiqian.state.store import HeightWrites, Store
from feiqian.state.tables import BlockState, Overlay
from feiqian.wallet.keys import Ed25519Key
from feiqian.wallet.signing import build_transaction, sign_transaction

ACCOUNTS = 20_000
BLOCKS = 3
CHAIN_ID = "bench-1"
ASSET = "EUR.bench"
START_MS = 1_800_000_000_000
OPENING_MINOR = 10**9
HALF_A_SECOND_MS = 500


class Mix(NamedTuple):
    """A kind of transaction: its name, how many make a block, and how to make one for a payer's place."""

    name: str
    transactions: int
    messages: Callable[[Sequence[bytes], int], list[Record]]


class Figures(NamedTuple):
    """What one mix cost a block: milliseconds by stage, and its units of work."""

    name: str
    prepare_ms: float
    execute_ms: float
    stage_ms: float
    commit_ms: float
    work: int

    @property
    def ms_per_1000(self) -> float:
        """Milliseconds for 1,000 units, all stages."""
        total = self.prepare_ms + self.execute_ms + self.stage_ms + self.commit_ms
        return total * 1000 / self.work


def transfer(accounts: Sequence[bytes], place: int) -> list[Record]:
    return [Transfer(accounts[place], accounts[place * 7919 % ACCOUNTS - 1], ASSET, 1, b"")]


def ten_transfers(accounts: Sequence[bytes], place: int) -> list[Record]:
    return [
        Transfer(accounts[place], accounts[(place + step * 101 + 1) % ACCOUNTS], ASSET, 1, b"") for step in range(10)
    ]


def batch(accounts: Sequence[bytes], place: int) -> list[Record]:
    legs = tuple(BatchLeg(accounts[(place * 1_009 + step + 1) % ACCOUNTS], 1, b"") for step in range(1_000))
    return [BatchTransfer(accounts[place], ASSET, legs)]


def hold(accounts: Sequence[bytes], place: int) -> list[Record]:
    return [PlaceHold(accounts[place], accounts[place - 1], ASSET, 1, START_MS + 86_400_000, b"")]


MIXES = (
    Mix("single transfers", 3_000, transfer),
    Mix("ten transfers each", 400, ten_transfers),
    Mix("batches of 1,000 legs", 10, batch),
    Mix("holds", 2_000, hold),
)


class Bench:
    """A store with accounts, and blocks run on it."""

    def __init__(self, directory: Path) -> None:
        self.registry: Registry = discover()
        self.keys = [Ed25519Key(place.to_bytes(32, "big")) for place in range(max(mix.transactions for mix in MIXES))]
        self.accounts: list[bytes] = []
        self.height = 0
        self.store = Store.create(directory / "ledger.lmdb", CHAIN_ID, 1, self._genesis(), START_MS)

    def run(self, mix: Mix) -> Figures:
        """Return the median block of a mix."""
        blocks = sorted((self._block(mix) for _ in range(BLOCKS)), key=lambda figures: figures.ms_per_1000)
        return blocks[len(blocks) // 2]

    def _block(self, mix: Mix) -> Figures:
        self.height += 1
        block = BlockInfo(CHAIN_ID, self.height, START_MS + self.height)
        signed = [self._sign(mix, place) for place in range(mix.transactions)]
        started = time.perf_counter()
        prepared: list[Prepared] = [prepare(self.registry, CHAIN_ID, data) for data in signed]
        verified = time.perf_counter()
        outcome = execute_block(self.registry, self.store, self.store, block, prepared)
        executed = time.perf_counter()
        bundle = encode_bundle(tuple(signed))
        data = encode(Block(block.height, block.time_ms, (bundle,), ()))
        writes = HeightWrites(
            block.height, block.time_ms, data, outcome.results, outcome.changes, outcome.replay_ids, None
        )
        staged = self.store.stage(writes)
        tree_made = time.perf_counter()
        self.store.commit(staged)
        ended = time.perf_counter()
        refused = [result for _, result in outcome.results if not result.startswith(b"\x95\xa0\x00")]
        if refused:
            sys.exit(f"{mix.name}: {len(refused)} transactions were refused; the figures would mean nothing")
        stamps = (started, verified, executed, tree_made, ended)
        stages = [1000 * (after - before) for before, after in pairwise(stamps)]
        return Figures(mix.name, stages[0], stages[1], stages[2], stages[3], outcome.work)

    def _sign(self, mix: Mix, place: int) -> bytes:
        expires_at_ms = START_MS + 60_000 + self.height
        messages = mix.messages(self.accounts, place)
        return sign_transaction(build_transaction(CHAIN_ID, "bench", messages, expires_at_ms), [self.keys[place]])

    def _genesis(self) -> dict[bytes, bytes | None]:
        state = BlockState(_Nothing())
        overlay = Overlay(state)
        ctx = Context(overlay, BlockInfo(CHAIN_ID, 0, START_MS), bytes(32), None, frozenset(), _Nothing())  # pyright: ignore
        add_member(ctx, "bench", Member("Bench of Nowhere", None, None, None, ("bank",), None, False))
        for place in range(ACCOUNTS):
            key = self.keys[place % len(self.keys)].public
            self.accounts.append(open_account(ctx, "bench", single_key_policy(key), place.to_bytes(8, "big")))
        issuance = open_account(ctx, "bench", single_key_policy(self.keys[0].public), b"issuance")
        asset = Asset(2, "bench", issuance, 2**60, False, False, None, None, None, "Euro of Nowhere", "EUR")
        define_asset(ctx, ASSET, asset)
        for account in self.accounts:
            BALANCES.put(overlay, balance_key(account, ASSET), Balance(OPENING_MINOR, 0, 0, False, False))
        supply = Balance(-OPENING_MINOR * ACCOUNTS, 0, 2**60, False, False)
        BALANCES.put(overlay, balance_key(issuance, ASSET), supply)
        overlay.keep()
        return state.changes()


class _Nothing:
    def get(self, key: bytes, /) -> None:
        return None

    def scan(self, prefix: bytes, after: bytes = b""):
        return iter(())


def main() -> None:
    """Print the table and its JSON."""
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print(f"{ACCOUNTS} accounts; median of {BLOCKS} blocks; milliseconds a block\n")
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory))
        figures = [bench.run(mix) for mix in MIXES]
    print(f"{'mix':<24}{'prepare':>9}{'execute':>9}{'tree':>9}{'commit':>9}{'work':>12}{'ms/1000':>9}")
    for row in figures:
        print(
            f"{row.name:<24}{row.prepare_ms:>9.1f}{row.execute_ms:>9.1f}{row.stage_ms:>9.1f}{row.commit_ms:>9.1f}"
            f"{row.work:>12,}{row.ms_per_1000:>9.3f}"
        )
    dearest = max(row.ms_per_1000 for row in figures)
    limit = int(HALF_A_SECOND_MS / dearest * 1000)
    print(f"\nHalf a second of this machine: max_block_work = {limit:,}")
    values = {row.name: round(row.ms_per_1000, 4) for row in figures}
    print(json.dumps({"ms_per_1000": values, "half_second_work": limit}))


if __name__ == "__main__":
    main()
