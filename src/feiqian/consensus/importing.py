"""Another member's blocks from before a ledger's own first one: taken only where they lead to it, hash by hash.

Each header names the hash of the one before, so that a block which is held already vouches for all earlier headers;
these vouch for transactions, for their results and for every state root. What no transaction caused, such as what fell
due, is vouched for by the results' roots in the state of the snapshot, as far back as it holds them.
"""

from collections.abc import Iterable, Iterator, Mapping

from feiqian.consensus import headers, light, merkle
from feiqian.consensus.comet_json import MalformedJson
from feiqian.consensus.genesis_file import Genesis
from feiqian.consensus.headers import Header
from feiqian.consensus.light import InvalidTrail, LightBlock
from feiqian.core.errors import InvalidTransaction
from feiqian.execution.blocks import BLOCK, RESULTS_CODEC, Block, bundle_results, open_bundle
from feiqian.execution.tables import RESULTS, height_key
from feiqian.state.archive import ArchiveRow
from feiqian.state.errors import SegmentRefused
from feiqian.state.segments import SegmentRow
from feiqian.state.tables import Changes
from feiqian.state.tree import root_of

_NS_PER_MS = 1_000_000


def check_earlier(
    rows: Iterable[SegmentRow], genesis: Genesis, known: ArchiveRow, state: Changes
) -> Iterator[SegmentRow]:
    """Yield the blocks from the chain's first one up to the one before `known`, each checked by the header after it.

    `known` is the archived row of a block that is trusted. `state` are the records of a trusted state, for the roots in
    it. Until the last one was yielded nothing is proved: only then is it seen whether they lead to `known`.

    Raises:
        SegmentRefused: a block is missing, not signed, does not follow, or is not what its header and the next say.
    """
    trust = light.trust_in_genesis(genesis)
    before: tuple[SegmentRow, Header] | None = None
    expected = genesis.initial_height
    for row in _with_last(rows, known):
        if row.height != expected:
            raise SegmentRefused(f"segment: block {expected} should follow, and block {row.height} does")
        try:
            signed = _light_block(row)
            trust = light.verify_block(trust, signed)
        except (InvalidTrail, MalformedJson) as error:
            raise SegmentRefused(f"segment: {error}") from None
        if before is not None:
            _check(*before, signed.header, state)
            yield before[0]
        before = (row, signed.header)
        expected += 1
    if expected != known.height + 1:
        raise SegmentRefused(f"segment: block {expected} is missing; blocks up to {known.height - 1} are needed")


def _with_last(rows: Iterable[SegmentRow], known: ArchiveRow) -> Iterator[SegmentRow]:
    """Yield the rows below the known block, then the block itself, of which nothing but its header is looked at."""
    last = 0
    for row in rows:
        if row.height >= known.height:
            break
        last = row.height
        yield row
    if last == known.height - 1:
        yield SegmentRow(known.height, 0, bytes(32), b"", b"", known)


def _light_block(row: SegmentRow) -> LightBlock:
    if row.archive is None:
        raise InvalidTrail(f"height {row.height}: header and commit are missing")
    block = light.light_block(row.archive)
    if block.header.height != row.height:
        raise InvalidTrail(f"height {row.height}: its header says {block.header.height}")
    return block


def _check(row: SegmentRow, own: Header, following: Header, state: Changes) -> None:
    """Compare a block with its own header and with what the next one says of it."""
    try:
        block = BLOCK.decode(row.block)
        results = tuple([(entry.id, entry.result) for entry in RESULTS_CODEC.decode(row.results)])
    except InvalidTransaction as error:
        raise SegmentRefused(f"segment: block {row.height} is malformed: {error.message}") from None
    claims = {
        "height": (block.height, row.height),
        "time": ((block.time_ms, row.time_ms), (own.time_ns // _NS_PER_MS,) * 2),
        "transactions": (headers.data_hash(block.bundles), own.data_hash),
        "misbehaviour": (not block.misbehaviour, own.evidence_hash == merkle.EMPTY_HASH),
        "header": (own.hash(), following.last_block_id.hash),
        "state root": (row.app_hash, following.app_hash),
        "results": (headers.results_hash(_digests(block, results)), following.last_results_hash),
    }
    claims |= _root_in(state, row.height, results)
    for name, (found, expected) in claims.items():
        if found != expected:
            raise SegmentRefused(
                f"segment: block {row.height}: its {name} is not what signed headers and the state say"
            )


def _digests(block: Block, results: tuple[tuple[bytes, bytes], ...]) -> list[bytes]:
    """Return the digest of each bundle's results, which stand after those that no transaction caused."""
    counts = [len(open_bundle(bundle)) for bundle in block.bundles]
    place = len(results) - sum(counts)
    if place < 0:
        raise SegmentRefused(f"segment: block {block.height} has fewer results than transactions")
    digests: list[bytes] = []
    for count in counts:
        digests.append(bundle_results(results[place : place + count]))
        place += count
    return digests


def _root_in(
    state: Changes, height: int, results: tuple[tuple[bytes, bytes], ...]
) -> Mapping[str, tuple[object, object]]:
    record = state.get(RESULTS.prefix + height_key(height))
    if record is None:
        return {}
    return {"results' root": (root_of(dict(results)), RESULTS.codec.decode_trusted(record).digest)}
