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


class Meter:
    """What sponsors use while one block runs; `write` puts it into state at the block's end. Lives for that block."""

    def __init__(self, state: Overlay, block: BlockInfo, parameters: Parameters) -> None:
        self._state = state
        self._block = block
        self._parameters = parameters
        self._used: dict[str, list[int]] = {}

    def charge(self, sponsor: str, size_bytes: int, work: int) -> None:
        """Count bytes and work against a sponsor, if all fits its limits.

        Raises:
            SponsorOverLimit: naming the limit; nothing is counted.
        """
        used = self._used.get(sponsor) or self._before(sponsor)
        block_bytes, block_work = used[0] + size_bytes, used[1] + work
        day_bytes, day_work = used[2] + size_bytes, used[3] + work
        limits = self._parameters
        if block_bytes > limits.sponsor_block_bytes:
            raise _over(sponsor, block_bytes, "bytes in one block", limits.sponsor_block_bytes)
        if block_work > limits.sponsor_block_work:
            raise _over(sponsor, block_work, "units of work in one block", limits.sponsor_block_work)
        if day_bytes > limits.sponsor_day_bytes:
            raise _over(sponsor, day_bytes, "bytes on one UTC day", limits.sponsor_day_bytes)
        if day_work > limits.sponsor_day_work:
            raise _over(sponsor, day_work, "units of work on one UTC day", limits.sponsor_day_work)
        self._used[sponsor] = [block_bytes, block_work, day_bytes, day_work]

    def add_work(self, sponsor: str, work: int) -> None:
        """Count work that only running could tell; what it carries over a limit keeps the sponsor's next one out."""
        used = self._used.get(sponsor)
        if used is None:
            used = self._used[sponsor] = self._before(sponsor)
        used[1] += work
        used[3] += work

    def write(self) -> None:
        """Put every sponsor's usage into state."""
        height, day = self._block.height, self._block.time_ms // DAY_MS
        for sponsor, used in self._used.items():
            usage = Usage(height, used[0], used[1], day, used[2], used[3])
            USAGE.put(self._state, sponsor.encode(), usage)

    def _before(self, sponsor: str) -> list[int]:
        """Return what the sponsor used on this day in earlier blocks: bytes and work of this block, then of the day."""
        usage = USAGE.get(self._state, sponsor.encode())
        if usage is None or usage.day != self._block.time_ms // DAY_MS:
            return [0, 0, 0, 0]
        return [0, 0, usage.day_bytes, usage.day_work]


def _over(sponsor: str, amount: int, what: str, limit: int) -> SponsorOverLimit:
    return SponsorOverLimit(f"sponsor {sponsor!r} would have used {amount} {what}; at most {limit}")
