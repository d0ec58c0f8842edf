"""Metering: bytes and work that each sponsor uses, per block and per UTC day of block time. No fee; hard limits.

Work is counted from constants. One unit is about 50 ns of the machine that the architecture's figures come from: a
signature 50 µs, a posting 5 µs, a record written 10 µs (tree and commit), a byte 50 ns. `ctx.work` counts postings;
`execution` adds the rest.
"""

from feiqian.ledger.context import BlockInfo
from feiqian.ledger.errors import SponsorOverLimit
from feiqian.ledger.records import DAY_MS, Parameters, Usage
from feiqian.state.tables import Overlay, Table

WORK_PER_SIGNATURE = 1_000
WORK_PER_POSTING = 100
WORK_PER_RECORD = 200
WORK_PER_BYTE = 1

USAGE: Table[Usage] = Table("ledger.usage", Usage)


def admission_work(size_bytes: int, signatures: int) -> int:
    """Return the work of taking a transaction in, known before it runs."""
    return signatures * WORK_PER_SIGNATURE + size_bytes * WORK_PER_BYTE


def charge(state: Overlay, sponsor: str, size_bytes: int, work: int, block: BlockInfo, parameters: Parameters) -> None:
    """Count bytes and work against a sponsor, if all fits its limits.

    Raises:
        SponsorOverLimit: naming the limit; nothing is counted.
    """
    used = _used(state, sponsor, block, size_bytes, work)
    if used.block_bytes > parameters.sponsor_block_bytes:
        raise _over(sponsor, used.block_bytes, "bytes in one block", parameters.sponsor_block_bytes)
    if used.block_work > parameters.sponsor_block_work:
        raise _over(sponsor, used.block_work, "units of work in one block", parameters.sponsor_block_work)
    if used.day_bytes > parameters.sponsor_day_bytes:
        raise _over(sponsor, used.day_bytes, "bytes on one UTC day", parameters.sponsor_day_bytes)
    if used.day_work > parameters.sponsor_day_work:
        raise _over(sponsor, used.day_work, "units of work on one UTC day", parameters.sponsor_day_work)
    USAGE.put(state, sponsor.encode(), used)


def add_work(state: Overlay, sponsor: str, work: int, block: BlockInfo) -> None:
    """Count work that only running could tell; what it carries over a limit keeps the sponsor's next one out."""
    USAGE.put(state, sponsor.encode(), _used(state, sponsor, block, 0, work))


def _used(state: Overlay, sponsor: str, block: BlockInfo, size_bytes: int, work: int) -> Usage:
    """Return the sponsor's usage with this added; a new block or day starts from zero."""
    day = block.time_ms // DAY_MS
    block_bytes, block_work, day_bytes, day_work = size_bytes, work, size_bytes, work
    usage = USAGE.get(state, sponsor.encode())
    if usage is not None:
        if usage.height == block.height:
            block_bytes += usage.block_bytes
            block_work += usage.block_work
        if usage.day == day:
            day_bytes += usage.day_bytes
            day_work += usage.day_work
    return Usage(block.height, block_bytes, block_work, day, day_bytes, day_work)


def _over(sponsor: str, amount: int, what: str, limit: int) -> SponsorOverLimit:
    return SponsorOverLimit(f"sponsor {sponsor!r} would have used {amount} {what}; at most {limit}")
