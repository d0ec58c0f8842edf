"""Chooses what a block may hold: cuts the pool, returns what had no room, drops what may stand in no block."""

from collections.abc import Callable, Sequence

from feiqian.core.errors import InvalidTransaction
from feiqian.core.wire import MAX_DROP_ACCOUNTS, Drop
from feiqian.execution.admission import Prepared, encode_bundle
from feiqian.execution.blocks import MAX_BUNDLE_BYTES, Outcome, has_room_later
from feiqian.ledger.context import BlockInfo
from feiqian.ledger.errors import TransactionReplayed
from feiqian.ledger.records import Parameters
from feiqian.node.mempool import BUNDLING_BYTES, Left, Mempool
from feiqian.node.metrics import Metrics

EVICT_EVERY_MS = 5_000


class Proposals:
    """For the one thread that makes blocks. `dropped` is told what was accepted and may stand in no block any more."""

    def __init__(
        self,
        pool: Mempool,
        metrics: Metrics,
        initial_height: int,
        clock_ms: Callable[[], int],
        dropped: Callable[[Sequence[Drop]], None],
    ) -> None:
        self._pool = pool
        self._metrics = metrics
        self._initial_height = initial_height
        self._clock_ms = clock_ms
        self._dropped = dropped
        self._evicted_at_ms = 0
        self._work_permille = 1000
        self.full_count = 2**31
        """How many transactions the last block that left some behind was cut from."""

    def cut(self, block: BlockInfo, parameters: Parameters, max_bytes: int) -> list[Prepared]:
        """Return what the pool gives for a block whose bundles take at most `max_bytes`; then hand all to `choose`."""
        self.evict(block.time_ms)
        if block.height == self._initial_height:
            return []
        candidates = self._pool.cut(block.time_ms, max_bytes, parameters.max_block_work * 1000 // self._work_permille)
        if self._pool.waiting:
            self.full_count = len(candidates)
        return candidates

    def evict(self, time_ms: int) -> None:
        """Drop what expired before the time of a block, now and then: a node that proposes nothing must do so too."""
        if time_ms - self._evicted_at_ms >= EVICT_EVERY_MS:
            self._evicted_at_ms = time_ms
            self._pool.evict_expired(time_ms)

    def choose(self, candidates: Sequence[Prepared], outcome: Outcome) -> tuple[Prepared, ...]:
        """Return what the block holds; what had no room returns to the pool, what may stand in no block is dropped."""
        refusals = dict(outcome.left_out)
        chosen = tuple([entry for place, entry in enumerate(candidates[: outcome.taken]) if place not in refusals])
        admitted_work = sum([entry.admission_work for entry in chosen])
        if admitted_work:
            # What running adds to the work of taking in, as a guide to how much the next block is cut from.
            self._work_permille = max(1000, outcome.work * 950 // admitted_work)
        if outcome.taken < len(candidates):
            self._pool.put_back(candidates[outcome.taken :])
        if not refusals:
            return chosen
        served = {entry.transaction.sponsor for entry in chosen}
        later: list[Prepared] = []
        dropped: list[Left] = []
        for place, refusal in refusals.items():
            entry = candidates[place]
            if has_room_later(refusal, entry.transaction.sponsor, served):
                later.append(entry)
            else:
                dropped.append(Left(entry, refusal))
        self._pool.put_back(later)
        self._pool.drop(dropped)
        return chosen

    def tell_of_dropped(self) -> None:
        """Tell of what was dropped, but for copies of what is on the ledger or still has a chance."""
        left = self._pool.take_left()
        if not left:
            return
        self._metrics.left_out.inc(len(left))
        now_ms, held = self._clock_ms(), self._pool.held_ids()
        drops = {
            prepared.tx_id: _drop_of(prepared, refusal, now_ms)
            for prepared, refusal in left
            if prepared.tx_id not in held and not isinstance(refusal, TransactionReplayed)
        }
        if drops:
            self._dropped(tuple(drops.values()))


def cut_bundles(chosen: Sequence[Prepared]) -> tuple[list[int], list[bytes]]:
    """Return how many transactions each bundle of a block holds, and the bundles, none over `MAX_BUNDLE_BYTES`."""
    bundles: list[list[bytes]] = []
    left_bytes = 0
    for prepared in chosen:
        size_bytes = len(prepared.signed) + BUNDLING_BYTES
        if size_bytes > left_bytes:
            bundles.append([])
            left_bytes = MAX_BUNDLE_BYTES - BUNDLING_BYTES
        bundles[-1].append(prepared.signed)
        left_bytes -= size_bytes
    return [len(bundle) for bundle in bundles], [encode_bundle(tuple(bundle)) for bundle in bundles]


def _drop_of(prepared: Prepared, refusal: InvalidTransaction, now_ms: int) -> Drop:
    transaction = prepared.transaction
    accounts = dict.fromkeys(claim.account for message in transaction.messages for claim in message.claims())
    return Drop(
        prepared.tx_id,
        now_ms,
        transaction.sponsor,
        tuple(accounts)[:MAX_DROP_ACCOUNTS],
        refusal.codespace,
        refusal.number,
        refusal.message[:500],
    )
