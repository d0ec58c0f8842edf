"""What a block became by running it, as the committer is handed it."""

from collections.abc import Sequence

from feiqian.core.encoding import Hash32, Height, Record, TimeMs, Uint32, Uint63, encode
from feiqian.execution.admission import encode_bundle
from feiqian.execution.blocks import Block, Outcome, bundle_results
from feiqian.ledger.context import BlockInfo


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


def assemble(block: BlockInfo, bundles: Sequence[tuple[bytes, ...]], outcome: Outcome, app_version: int) -> Executed:
    """Return a block of these bundles of signed transactions with what running it gave."""
    digests: list[bytes] = []
    place = outcome.triggers
    for bundle in bundles:
        digests.append(bundle_results(outcome.results[place : place + len(bundle)]))
        place += len(bundle)
    return Executed(
        block.height,
        block.time_ms,
        app_version,
        encode(Block(block.height, block.time_ms, tuple([encode_bundle(bundle) for bundle in bundles]))),
        tuple(digests),
        outcome.results,
        tuple(outcome.changes.items()),
        outcome.replay_ids,
    )
