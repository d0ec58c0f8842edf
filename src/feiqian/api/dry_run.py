"""Runs transactions as the ledger would run them next, and keeps nothing: what a dry run is answered with.

The rules are the ledger's own, on state as it is committed now. Nobody signs for a dry run, so that nobody who sees
one can submit it: a transaction carries the keys that would sign, each with zeros for a signature.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from feiqian.api.ledger_view import LedgerView
from feiqian.api.problems import BadParameter
from feiqian.api.submission import ErrorBody, Outcome
from feiqian.core.errors import InvalidTransaction
from feiqian.core.transactions import NO_SIGNATURE, decode_signed
from feiqian.execution.admission import Prepared, check_form
from feiqian.execution.blocks import RESULT, execute_block, has_room_later
from feiqian.execution.blocks import Outcome as BlockOutcome
from feiqian.ledger.context import BlockInfo
from feiqian.state.layered import Layered, ReplayingReader

MAX_DRY_RUN_TRANSACTIONS = 20_000
"""As many as a payment file may hold: what depends on what came before is decided in one run."""

BLOCK_TRANSACTIONS = 1_000
"""Each block runs in one view of the store, which is to be short."""


class _Waiting(NamedTuple):
    place: int
    prepared: Prepared


def prepare_dry_run(ledger: LedgerView, batch: Sequence[bytes]) -> list[Prepared | InvalidTransaction]:
    """Return each transaction checked but for signatures, or the rule of form that it breaks.

    Raises:
        BadParameter: one is signed.
    """
    prepared: list[Prepared | InvalidTransaction] = []
    for data in batch:
        try:
            if any(each.signature != NO_SIGNATURE for each in decode_signed(data).signatures):
                raise BadParameter("a dry run takes no signatures: give each key that would sign 64 zero bytes")
            prepared.append(check_form(ledger.registry, ledger.genesis.chain_id, data))
        except InvalidTransaction as refusal:
            prepared.append(refusal)
    return prepared


def dry_run(ledger: LedgerView, prepared: Sequence[Prepared | InvalidTransaction], now_ms: int) -> list[Outcome]:
    """Return what submitting these, one after another from `now_ms` on, would be answered with; takes long for many.

    Statuses are `refused` and `committed`, the latter with the rule that refuses it on the ledger, where one does.
    """
    outcomes: dict[int, Outcome] = {}
    waiting: list[_Waiting] = []
    for place, entry in enumerate(prepared):
        if isinstance(entry, Prepared):
            waiting.append(_Waiting(place, entry))
        else:
            outcomes[place] = Outcome("", "refused", error=_error_of(entry))
    head = ledger.store.head
    block = BlockInfo(ledger.genesis.chain_id, head.height + 1, max(now_ms, head.time_ms + 1))
    above: list[Layered] = []
    while waiting:
        chosen, rest = waiting[:BLOCK_TRANSACTIONS], waiting[BLOCK_TRANSACTIONS:]
        with ledger.store.view() as view:
            reader: ReplayingReader = view
            for layer in above:
                reader = layer.on(reader)
            ran = execute_block(
                ledger.registry, reader, reader, block, [each.prepared for each in chosen], is_proposal=True
            )
        above.append(Layered(ledger.store, ran.changes, ran.replay_ids))
        waiting = _decide(ran, chosen, outcomes) + rest
        block = block._replace(height=block.height + 1, time_ms=block.time_ms + 1)
    return [outcomes[place] for place in range(len(prepared))]


def _decide(ran: BlockOutcome, chosen: Sequence[_Waiting], outcomes: dict[int, Outcome]) -> list[_Waiting]:
    """Note what became of a block's transactions; return those that would stand in the next one."""
    refusals: Mapping[int, InvalidTransaction] = dict(ran.left_out)
    stood = [each for number, each in enumerate(chosen[: ran.taken]) if number not in refusals]
    for each, (_, encoded) in zip(stood, ran.results[ran.unasked :], strict=True):
        result = RESULT.decode_trusted(encoded)
        error = ErrorBody(result.codespace, result.number, result.message) if result.number else None
        outcomes[each.place] = Outcome(each.prepared.tx_id.hex(), "committed", error=error)
    served = {each.prepared.transaction.sponsor for each in stood}
    later: list[_Waiting] = []
    for number, refusal in refusals.items():
        each = chosen[number]
        if has_room_later(refusal, each.prepared.transaction.sponsor, served):
            later.append(each)
        else:
            outcomes[each.place] = Outcome(each.prepared.tx_id.hex(), "refused", error=_error_of(refusal))
    return [*later, *chosen[ran.taken :]]


def _error_of(refusal: InvalidTransaction) -> ErrorBody:
    return ErrorBody(refusal.codespace, refusal.number, refusal.message[:500])
