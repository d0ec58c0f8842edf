"""What a block became by running it, as the committer is handed it."""

from collections.abc import Sequence

from feiqian.core.encoding import Hash32, Height, Record, TimeMs, Uint32, Uint63, encode
from feiqian.execution.blocks import Block, Outcome, bundle_results
from feiqian.ledger.context import BlockInfo
from feiqian.ledger.validators import Misbehaviour


class Executed(Record):
    """All that a height is, as execution left it. `app_version` goes into its header."""

    height: Height
    time_ms: TimeMs
    app_version: Uint32
    block: bytes
    bundle_results: tuple[Hash32, ...]
    results: tuple[tuple[bytes, bytes], ...]
    changes: tuple[tuple[bytes, bytes | None], ...]
    replay_ids: tuple[tuple[Uint63, bytes], ...]


def assemble(
    block: BlockInfo,
    bundles: Sequence[bytes],
    counts: Sequence[int],
    outcome: Outcome,
    app_version: int,
    misbehaviour: Sequence[Misbehaviour] = (),
) -> Executed:
    """Return a block of these encoded bundles, of so many transactions each, with what running it gave."""
    digests: list[bytes] = []
    place = outcome.unasked
    for count in counts:
        digests.append(bundle_results(outcome.results[place : place + count]))
        place += count
    return Executed(
        block.height,
        block.time_ms,
        app_version,
        encode(Block(block.height, block.time_ms, tuple(bundles), tuple(misbehaviour))),
        tuple(digests),
        outcome.results,
        tuple(outcome.changes.items()),
        outcome.replay_ids,
    )
