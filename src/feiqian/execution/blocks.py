"""Runs a block: a pure function of committed state and the block to results, events and writes.

Order: upgrade step, what consensus proved of validators, due triggers, then transactions. Each runs on an overlay that
is kept or dropped whole.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from msgspec import Meta

from feiqian.core.encoding import Codec, Hash32, Height, Record, TimeMs, Uint32, Uint63, encode
from feiqian.core.errors import Fault, InvalidTransaction
from feiqian.core.hashing import Domain
from feiqian.core.signatures import PublicKey
from feiqian.execution.admission import Prepared, admit
from feiqian.execution.errors import BlockLimitReached, WorkLimitReached
from feiqian.execution.registry import Registry, RegistryDispatcher
from feiqian.execution.tables import RESULTS, ResultsRoot, height_key
from feiqian.execution.upgrades import run_upgrade
from feiqian.ledger import metering, triggers
from feiqian.ledger.authority import ACCOUNTS
from feiqian.ledger.balances import BALANCES, balance_key
from feiqian.ledger.context import BlockInfo, Context
from feiqian.ledger.errors import SponsorOverLimit, TransactionReplayed
from feiqian.ledger.parameters import get_parameters
from feiqian.ledger.records import Parameters
from feiqian.ledger.replay import ReplayReader
from feiqian.ledger.validators import Misbehaviour
from feiqian.modules import Handler
from feiqian.state.replay import REPLAY_DIGESTS, ReplayDigest, replay_digest
from feiqian.state.rows import BUNDLE, open_bundle
from feiqian.state.tables import BlockState, Changes, Overlay, Reader
from feiqian.state.tree import root_of

__all__ = [
    "BLOCK",
    "BUNDLE",
    "MAX_BUNDLE_BYTES",
    "RESULT",
    "RESULTS_CODEC",
    "Block",
    "Outcome",
    "Result",
    "StoredResult",
    "Unprepared",
    "bundle_results",
    "execute_block",
    "has_due_triggers",
    "has_room_later",
    "open_bundle",
]

MAX_BUNDLE_BYTES = 256 * 1024
_REFUSED_ID = Domain("feiqian/refused-transaction/v1")
_TRIGGER_ID = Domain("feiqian/trigger/v1")
_MISBEHAVIOUR_ID = Domain("feiqian/misbehaviour/v1")
_BUNDLE_RESULTS = Domain("feiqian/bundle-results/v1")
_NO_SIGNERS: frozenset[PublicKey] = frozenset()


class Block(Record):
    """What consensus decided: the bundles in order; height and time stand in the header too.

    `misbehaviour` is what it proved of validators. A bundle is read with `open_bundle`.
    """

    height: Height
    time_ms: TimeMs
    bundles: tuple[bytes, ...]
    misbehaviour: tuple[Misbehaviour, ...]


class Result(Record):
    """What became of a transaction, trigger or misbehaviour. `number` 0: done; else the rule that refused it."""

    codespace: str
    number: Uint32
    message: Annotated[str, Meta(max_length=500)]
    work: Uint63
    events: tuple[bytes, ...]


class StoredResult(Record):
    """A result with the id that it stands under in the block's results tree."""

    id: Hash32
    result: bytes


BLOCK: Codec[Block] = Codec(Block, "block")
RESULT: Codec[Result] = Codec(Result, "result")
RESULTS_CODEC: Codec[tuple[StoredResult, ...]] = Codec(tuple[StoredResult, ...], "results")


class Unprepared(NamedTuple):
    """Bytes in a block that are no acceptable transaction, and why. Only blocks that arrive by sync can hold one."""

    signed: bytes
    error: InvalidTransaction


class Outcome(NamedTuple):
    """All that a block does.

    `results` are (id, encoded Result), the first `unasked` of them of misbehaviour and triggers, then one for each
    transaction. Of a block that is being proposed, `left_out` are the places of transactions that may not stand in it,
    with the reason, and those from place `taken` on did not fit; otherwise none is left out and all are taken.
    """

    results: tuple[tuple[bytes, bytes], ...]
    changes: Changes
    replay_ids: tuple[tuple[int, bytes], ...]
    work: int
    unasked: int
    taken: int
    left_out: tuple[tuple[int, InvalidTransaction], ...]
    is_empty: bool


@dataclass(frozen=True, slots=True)
class _Run:
    """What one block's execution shares; lives for that block."""

    registry: Registry
    state: BlockState
    start: Overlay
    replay: ReplayReader
    block: BlockInfo
    parameters: Parameters
    dispatcher: RegistryDispatcher
    meter: metering.Meter


def execute_block(
    registry: Registry,
    reader: Reader,
    replay: ReplayReader,
    block: BlockInfo,
    transactions: Sequence[Prepared | Unprepared],
    *,
    misbehaviour: Sequence[Misbehaviour] = (),
    is_proposal: bool = False,
    is_in_memory: bool = False,
) -> Outcome:
    """Run a block on committed state.

    `is_proposal`: the caller is choosing what goes in, so what may not stand in the block is left out, and running
    stops at the work limit; otherwise each such transaction is recorded as refused. `is_in_memory`: `reader` finds any
    record as fast as the next one, so nothing is read ahead.

    Raises:
        Fault: this binary is not the one that may run this height, or state is broken.
    """
    state = BlockState(reader)
    parameters = get_parameters(state)
    dispatcher = RegistryDispatcher(registry)
    run = _Run(
        registry, state, state.start(), replay, block, parameters, dispatcher, metering.Meter(state, block, parameters)
    )
    results: list[tuple[bytes, bytes]] = []
    has_upgraded = run_upgrade(registry, state, block, dispatcher)
    if not (has_upgraded or is_in_memory):
        # What lies in the store may be of the shape before an upgrade, which only its migrations read.
        _read_ahead(state, transactions)
    unasked_work = _run_misbehaviour(run, misbehaviour, results) + _run_triggers(run, results)
    unasked = len(results)
    taken, left_out, replay_ids, work = _run_transactions(
        run, transactions, results, unasked_work, is_proposal=is_proposal
    )
    is_empty = not (results or has_upgraded)
    if not is_empty:
        run.meter.write()
        _record_digests(run, results, replay_ids)
    return Outcome(tuple(results), state.changes(), tuple(replay_ids), work, unasked, taken, tuple(left_out), is_empty)


def has_room_later(refusal: InvalidTransaction, sponsor: str, served: Collection[str]) -> bool:
    """Say whether what was left out of a block may stand in the next: it was over a limit of this one.

    `served` are the sponsors of what the block took. With nothing of its own taken it is over the day's, or too large.
    """
    return isinstance(refusal, SponsorOverLimit) and sponsor in served


def has_due_triggers(reader: Reader, now_ms: int) -> bool:
    """Say whether a block at this time would run a trigger; an idle solo ledger makes a block then."""
    return bool(triggers.due(BlockState(reader), now_ms, 1))


def bundle_results(results: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Return what stands as `data` in a bundle's ExecTxResult: one digest over its transactions' results in order."""
    return _BUNDLE_RESULTS.hash(b"".join(id_ + _BUNDLE_RESULTS.hash(result) for id_, result in results))


def _read_ahead(state: BlockState, transactions: Sequence[Prepared | Unprepared]) -> None:
    """Read the accounts and balances that the block's messages touch before the first of them runs."""
    accounts: set[bytes] = set()
    balances: set[bytes] = set()
    for transaction in transactions:
        if isinstance(transaction, Prepared):
            for message in transaction.transaction.messages:
                for account, asset in message.touches():
                    accounts.add(account)
                    if asset is not None:
                        balances.add(balance_key(account, asset))
    state.read_ahead(ACCOUNTS, sorted(accounts))
    state.read_ahead(BALANCES, sorted(balances))


def _run_misbehaviour(run: _Run, misbehaviour: Sequence[Misbehaviour], results: list[tuple[bytes, bytes]]) -> int:
    total = 0
    for place, proved in enumerate(misbehaviour):
        own_id = _MISBEHAVIOUR_ID.hash(run.block.height.to_bytes(8, "big") + place.to_bytes(4, "big"))
        result = _attempt(run, _context(run, own_id, None, _NO_SIGNERS), run.registry.misbehaviour, (proved,), 0)
        results.append((own_id, encode(result)))
        total += result.work
    return total


def _run_triggers(run: _Run, results: list[tuple[bytes, bytes]]) -> int:
    total = 0
    for key, scheduled in triggers.due(run.state, run.block.time_ms, run.parameters.max_triggers_per_block):
        trigger = run.registry.trigger_codec.decode_trusted(scheduled.data)
        trigger_id = _TRIGGER_ID.hash(key)
        triggers.remove(run.state, key)
        ctx = _context(run, trigger_id, None, _NO_SIGNERS)
        result = _attempt(run, ctx, run.registry.triggers, (trigger,), 0)
        results.append((trigger_id, encode(result)))
        total += result.work
    return total


def _run_transactions(
    run: _Run,
    transactions: Sequence[Prepared | Unprepared],
    results: list[tuple[bytes, bytes]],
    work: int,
    *,
    is_proposal: bool,
) -> tuple[int, list[tuple[int, InvalidTransaction]], list[tuple[int, bytes]], int]:
    used: dict[bytes, int] = {}
    left_out: list[tuple[int, InvalidTransaction]] = []
    taken = len(transactions)
    for place, transaction in enumerate(transactions):
        refusal = _refusal(run, transaction, used, work)
        if refusal is None:
            assert isinstance(transaction, Prepared)
            result = _run_transaction(run, transaction)
            results.append((transaction.tx_id, encode(result)))
            used[transaction.tx_id] = transaction.transaction.expires_at_ms
            work += result.work
        elif not is_proposal:
            place_id = run.block.height.to_bytes(8, "big") + place.to_bytes(4, "big") + transaction.signed
            results.append((_REFUSED_ID.hash(place_id), encode(_refused(refusal, 0))))
        elif isinstance(refusal, BlockLimitReached):
            taken = place
            break
        else:
            left_out.append((place, refusal))
    return taken, left_out, [(expires_at_ms, tx_id) for tx_id, expires_at_ms in used.items()], work


def _refusal(
    run: _Run, transaction: Prepared | Unprepared, used: dict[bytes, int], work: int
) -> InvalidTransaction | None:
    """Return why a transaction may not stand in this block, or None. Its id stays unused then."""
    if isinstance(transaction, Unprepared):
        return transaction.error
    if work >= run.parameters.max_block_work:
        return BlockLimitReached(f"the block's work reached {work} of {run.parameters.max_block_work}")
    try:
        if transaction.tx_id in used:
            raise TransactionReplayed(f"transaction {transaction.tx_id.hex()} stands in this block already")
        admit(run.start, run.replay, transaction, run.block, run.parameters.replay_window_ms)
        sponsor = transaction.transaction.sponsor
        run.meter.charge(sponsor, len(transaction.signed), transaction.admission_work)
    except InvalidTransaction as refusal:
        # Kept by the caller, whose frame its traceback would keep in turn: the whole block, until a rare collection.
        return refusal.with_traceback(None)
    return None


def _run_transaction(run: _Run, prepared: Prepared) -> Result:
    transaction = prepared.transaction
    ctx = _context(run, prepared.tx_id, transaction.sponsor, prepared.signers)
    result = _attempt(run, ctx, run.registry.handlers, transaction.messages, prepared.admission_work)
    run.meter.add_work(transaction.sponsor, result.work - prepared.admission_work)
    return result


def _attempt(
    run: _Run, ctx: Context, handlers: Mapping[type[Any], Handler], messages: Sequence[Any], base_work: int
) -> Result:
    try:
        for message in messages:
            handlers[type(message)](ctx, message)
        work = base_work + ctx.work + metering.WORK_PER_RECORD * len(ctx.state.written)
        if work > run.parameters.max_block_work:
            raise WorkLimitReached(f"work {work}; a block holds {run.parameters.max_block_work}")
    except InvalidTransaction as refusal:
        return _refused(refusal, base_work + ctx.work)
    ctx.state.keep()
    return Result("", 0, "", work, tuple(map(encode, ctx.events)))


def _refused(refusal: InvalidTransaction, work: int) -> Result:
    if not refusal.number:
        raise Fault(f"{type(refusal).__name__} has no number; every rule needs a permanent one")
    return Result(refusal.codespace, refusal.number, refusal.message[:500], work, ())


def _context(run: _Run, origin: bytes, sponsor: str | None, signers: frozenset[PublicKey]) -> Context:
    return Context(Overlay(run.state), run.block, origin, sponsor, signers, run.dispatcher)


def _record_digests(run: _Run, results: list[tuple[bytes, bytes]], replay_ids: list[tuple[int, bytes]]) -> None:
    state, height, parameters = run.state, run.block.height, run.parameters
    key = height_key(height)
    RESULTS.put(state, key, ResultsRoot(root_of(dict(results))))
    REPLAY_DIGESTS.put(state, key, ReplayDigest(replay_digest([tx_id for _, tx_id in replay_ids])))
    last = height_key(max(0, height - parameters.proof_window))
    for table in (RESULTS, REPLAY_DIGESTS):
        old = []
        for old_key, _ in table.scan(run.start):
            if old_key >= last or len(old) == parameters.max_window_deletes:
                break
            old.append(old_key)
        for old_key in old:
            table.delete(state, old_key)
