"""Triggers: what runs by itself when block time reaches it, in the order of (due time, sequence)."""

from itertools import islice

from feiqian.core.encoding import encode
from feiqian.core.errors import Fault
from feiqian.ledger.context import Context, Trigger
from feiqian.ledger.errors import TriggerNotAhead
from feiqian.ledger.records import ScheduledTrigger, Sequence
from feiqian.state.tables import Overlay, Table

SCHEDULED: Table[ScheduledTrigger] = Table("ledger.triggers", ScheduledTrigger)
SEQUENCES: Table[Sequence] = Table("ledger.trigger_sequence", Sequence)
TIME_MAX_MS = 2**53

_NEXT = b"next"


def schedule(ctx: Context, due_ms: int, trigger: Trigger) -> bytes:
    """Have the trigger run in the first block whose time is at or after `due_ms`; return its key.

    Raises:
        TriggerNotAhead: due at or before this block, where it would overtake what is due already, or beyond 2^53.
    """
    if not ctx.block.time_ms < due_ms <= TIME_MAX_MS:
        raise TriggerNotAhead(f"due at {due_ms} ms; it must be after block time {ctx.block.time_ms} and at most 2^53")
    counter = SEQUENCES.get(ctx.state, _NEXT)
    sequence = 0 if counter is None else counter.next
    key = due_ms.to_bytes(8, "big") + sequence.to_bytes(8, "big")
    tag = type(trigger).__struct_config__.tag
    assert isinstance(tag, str), f"{type(trigger).__name__} has no tag"
    SCHEDULED.put(ctx.state, key, ScheduledTrigger(tag, encode(trigger)))
    SEQUENCES.put(ctx.state, _NEXT, Sequence(sequence + 1))
    return key


def cancel(ctx: Context, key: bytes) -> None:
    """Take a scheduled trigger back, before it ran; see `remove`."""
    remove(ctx.state, key)


def remove(state: Overlay, key: bytes) -> None:
    """Take a trigger out of the table, for `execution` before it runs it.

    Raises:
        Fault: it ran or was cancelled before; whoever keeps a trigger's key forgets it then.
    """
    if SCHEDULED.get(state, key) is None:
        raise Fault(f"trigger {key.hex()} is not scheduled; it ran or was cancelled before")
    SCHEDULED.delete(state, key)


def due(state: Overlay, now_ms: int, limit: int) -> list[tuple[bytes, ScheduledTrigger]]:
    """Return (key, trigger) of the first `limit` that are due at or before `now_ms`, in order.

    The rest wait for the next block; none is overtaken, since what is scheduled falls due after the block that
    schedules it.
    """
    found: list[tuple[bytes, ScheduledTrigger]] = []
    for key, trigger in islice(SCHEDULED.scan(state), limit):
        if due_at_ms(key) > now_ms:
            break
        found.append((key, trigger))
    return found


def next_due_ms(state: Overlay) -> int | None:
    """Return when the next trigger falls due, None where none waits."""
    for key, _ in SCHEDULED.scan(state):
        return due_at_ms(key)
    return None


def due_at_ms(key: bytes) -> int:
    """Return the due time in a trigger's key."""
    return int.from_bytes(key[:8], "big")
