"""The audit: runs every block again from the base and compares whatever the node recorded with what comes out.

Checked at each height: results, state root, header, commit, each signature, that every posting sums to zero, and every
invariant over what the height touched; at the last height all invariants over all state, and each record of the store.
It stops at the first height that is wrong, for whatever follows from that would be wrong as well.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol

from feiqian.consensus import headers, light, merkle
from feiqian.consensus.audit_state import AuditState, Base
from feiqian.consensus.comet_json import MalformedJson
from feiqian.consensus.genesis_file import Genesis
from feiqian.consensus.headers import NO_COMMIT, Commit, Header
from feiqian.consensus.light import InvalidTrail, LightBlock, Trust
from feiqian.consensus.signature_pool import CHUNK, SignaturePool, wait_for
from feiqian.core.encoding import Codec, encode
from feiqian.core.errors import Fault, InvalidTransaction
from feiqian.execution.admission import Prepared, check_form, prepare
from feiqian.execution.blocks import (
    BLOCK,
    BUNDLE,
    RESULT,
    Block,
    Outcome,
    Unprepared,
    bundle_results,
    execute_block,
)
from feiqian.execution.genesis import genesis_changes
from feiqian.execution.registry import Registry
from feiqian.ledger.context import BlockInfo
from feiqian.ledger.events import Posted
from feiqian.ledger.invariants import Scope
from feiqian.ledger.parameters import get_parameters
from feiqian.process.memory import rare_collections
from feiqian.process.native import mute_native_output
from feiqian.state.archive import ArchiveRow
from feiqian.state.errors import OutsideWindow
from feiqian.state.layered import Layered
from feiqian.state.snapshots import Snapshot
from feiqian.state.store import StoredBlock
from feiqian.state.tables import BlockState

MAX_PROBLEMS = 20
_AHEAD_BYTES = 8 << 20
"""Blocks so large are read, and their signatures under way, beyond the block that runs."""

_LEAST_BLOCK_BYTES = 4 << 10
"""What an empty block counts for among them."""

_POSTED_CODEC: Codec[Posted] = Codec(Posted, "posting")
_POSTED = encode(Posted(()))[:-1]
"""How an encoded posting begins: array and tag."""

_NS_PER_MS = 1_000_000

Progress = Callable[[int, int], None]
"""Told the height that was done and the last one."""


class Problem(NamedTuple):
    """Something that is not as it should be, after a height."""

    height: int
    what: str


class AuditReport(NamedTuple):
    """What an audit went through and found; clean where there is no problem.

    `transactions` counts those in blocks, `postings` the entries booked, `signatures` those of transactions that were
    checked (0: not asked for); `last_height` is the last one that held, or the one with the problem.
    """

    base: str
    first_height: int
    last_height: int
    blocks: int
    transactions: int
    postings: int
    signatures: int
    records: int
    app_hash: bytes
    problems: tuple[Problem, ...]

    @property
    def is_clean(self) -> bool:
        """Whether everything held."""
        return not self.problems


class AuditedStore(Protocol):
    """What the audit reads of a store; a running node's, opened read-only, will do."""

    @property
    def height(self) -> int: ...

    @property
    def plain_tables(self) -> frozenset[str]: ...

    def block(self, height: int) -> StoredBlock | None: ...

    def archive_row(self, height: int) -> ArchiveRow | None: ...

    def app_hash_at(self, height: int) -> bytes: ...

    def get_at(self, height: int, key: bytes) -> bytes | None: ...

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]: ...


class _Given(NamedTuple):
    """A block of the store with its transactions, whose signatures are being verified."""

    height: int
    stored: StoredBlock
    block: Block
    bundles: tuple[tuple[bytes, ...], ...]
    transactions: tuple[bytes, ...]
    answers: tuple[Future[tuple[bool, ...]], ...]

    @property
    def size_bytes(self) -> int:
        """What it counts for among the blocks that were read ahead."""
        return max(len(self.stored.block), _LEAST_BLOCK_BYTES)


def genesis_base(registry: Registry, genesis: Genesis) -> Base:
    """Return the state that a genesis stands for, to audit from the first block."""
    height = genesis.initial_height - 1
    name = f"the genesis of {genesis.chain_id} (SHA-256 {genesis.digest().hex()})"
    return Base(name, height, genesis.time_ms, genesis_changes(registry, genesis.app_state, genesis.time_ms, height))


def snapshot_base(snapshot: Snapshot) -> Base:
    """Return the state of a snapshot, which was checked against a trusted app hash when it was read."""
    manifest = snapshot.manifest
    name = f"the snapshot of {manifest.chain_id} after block {manifest.height} (app hash {manifest.app_hash.hex()})"
    used_ids = frozenset(tx_id for _, ids in snapshot.used_ids.values() for tx_id in ids)
    return Base(name, manifest.height, manifest.time_ms, snapshot.staged.writes.changes, used_ids)


def audit(
    store: AuditedStore,
    registry: Registry,
    genesis: Genesis,
    progress: Progress = lambda height, last: None,
    *,
    base: Base | None = None,
    check_signatures: bool = True,
    workers: int | None = None,
) -> AuditReport:
    """Run the ledger again from `base` (the genesis unless given) to the store's height and compare.

    Without `check_signatures` those of transactions are taken as valid; commits are checked all the same.

    Raises:
        Fault: this release cannot run a height (another era's rules), the store cannot be read, or a running node went
            on so far that it no longer holds the audited height.
    """
    run = _Audit(store, registry, genesis, base or genesis_base(registry, genesis), check_signatures=check_signatures)
    with rare_collections(), SignaturePool(workers) as pool:
        run.go(pool, progress)
    return run.report()


class _Audit:
    """One run of the audit; lives for that run."""

    def __init__(
        self, store: AuditedStore, registry: Registry, genesis: Genesis, base: Base, *, check_signatures: bool
    ) -> None:
        self.store = store
        self.registry = registry
        self.genesis = genesis
        self.base = base
        self.last = store.height
        self.checks_signatures = check_signatures
        self.problems: list[Problem] = []
        self.blocks = self.transactions = self.postings = self.signatures = 0
        plain_tables = frozenset(name for name, table in registry.tables.items() if table.is_plain)
        self.state = AuditState(base, plain_tables)
        self.time_ms = base.time_ms
        self.trust: Trust = light.trust_in_genesis(genesis)
        self.last_commit: Commit | None = None
        self.results_before: tuple[bytes, ...] | None = None

    def go(self, pool: SignaturePool, progress: Progress) -> None:
        """Check the base, each height and the end; stop at the first height with a problem."""
        self._check_base()
        for given in () if self.problems else self._blocks(pool):
            if isinstance(given, Problem):
                self.problems.append(given)
            else:
                self._check_height(given)
                progress(given.height, self.last)
            if self.problems:
                return
        if not self.problems:
            self._check_end()

    def report(self) -> AuditReport:
        """Return what was gone through and found."""
        return AuditReport(
            base=self.base.name,
            first_height=self.base.height + 1,
            last_height=self.state.height,
            blocks=self.blocks,
            transactions=self.transactions,
            postings=self.postings,
            signatures=self.signatures,
            records=len(self.state.records),
            app_hash=self.state.root,
            problems=tuple(self.problems[:MAX_PROBLEMS]),
        )

    def _say(self, height: int, what: str) -> None:
        self.problems.append(Problem(height, what))

    def _check_base(self) -> None:
        height = self.base.height
        if height > self.last:
            self._say(height, f"the store ends at block {self.last}, before the base")
            return
        if height == self.genesis.initial_height - 1:
            self.last_commit = NO_COMMIT
            self.results_before = ()
        else:
            self._trust_base(height)
        self._check_invariants(height, self._all_state())

    def _trust_base(self, height: int) -> None:
        """Begin with the base's own header where that is held, else with the genesis: the next header must follow."""
        row = self.store.archive_row(height)
        if row is None:
            return
        try:
            block = light.light_block(row)
            self.trust, self.last_commit = light.verify_block(self.trust, block), block.commit
        except (MalformedJson, InvalidTrail) as error:
            self._say(height, f"archive: {error}")

    def _blocks(self, pool: SignaturePool) -> Iterator[_Given | Problem]:
        """Yield the blocks in order, signatures of those to come already being verified; last what cannot be read."""
        ahead: deque[_Given] = deque()
        ahead_bytes = 0
        for height in range(self.base.height + 1, self.last + 1):
            given = self._read(height, pool)
            if isinstance(given, Problem):
                yield from ahead
                yield given
                return
            ahead.append(given)
            ahead_bytes += given.size_bytes
            while ahead_bytes - ahead[0].size_bytes >= _AHEAD_BYTES:
                ahead_bytes -= ahead[0].size_bytes
                yield ahead.popleft()
        yield from ahead

    def _read(self, height: int, pool: SignaturePool) -> _Given | Problem:
        stored = self.store.block(height)
        if stored is None:
            return Problem(height, "the store does not hold this block; audit from a later base")
        try:
            block = BLOCK.decode(stored.block)
            bundles = tuple([BUNDLE.decode(bundle) for bundle in block.bundles])
        except InvalidTransaction as error:
            return Problem(height, f"the stored block is malformed: {error.message}")
        transactions = tuple([signed for bundle in bundles for signed in bundle])
        answers: tuple[Future[tuple[bool, ...]], ...] = ()
        if self.checks_signatures:
            starts = range(0, len(transactions), CHUNK)
            answers = tuple([pool.submit(transactions[start : start + CHUNK]) for start in starts])
        return _Given(height, stored, block, bundles, transactions, answers)

    def _check_height(self, given: _Given) -> None:
        height, block = given.height, given.block
        if (block.height, block.time_ms) != (height, given.stored.time_ms):
            self._say(height, f"the stored block says height {block.height}, time {block.time_ms} ms")
        if block.time_ms <= self.time_ms and height > self.genesis.initial_height:
            self._say(height, f"block time {block.time_ms} ms is not after {self.time_ms} ms")
        info = BlockInfo(self.genesis.chain_id, height, block.time_ms)
        app_version = get_parameters(BlockState(self.state)).app_version
        prepared = self._prepared(given)
        outcome = execute_block(self.registry, self.state, self.state, info, prepared, is_in_memory=True)
        self._check_outcome(given, outcome)
        self._check_archive(given, app_version)
        self._move_on(given, outcome)

    def _prepared(self, given: _Given) -> list[Prepared | Unprepared]:
        holds = [is_good for answer in given.answers for is_good in wait_for(answer)]
        prepared: list[Prepared | Unprepared] = []
        for place, signed in enumerate(given.transactions):
            try:
                check = check_form if not holds or holds[place] else _refuse_signatures
                accepted = check(self.registry, self.genesis.chain_id, signed)
                self.signatures += len(accepted.signers) if holds else 0
                prepared.append(accepted)
            except InvalidTransaction as error:
                prepared.append(Unprepared(signed, error.with_traceback(None)))
        return prepared

    def _check_outcome(self, given: _Given, outcome: Outcome) -> None:
        height = given.height
        if encode(outcome.results) != given.stored.results:
            self._say(height, "running the block gives other results than the stored ones")
        self._check_postings(height, outcome)
        before = BlockState(self.state)
        after = BlockState(Layered(self.state, outcome.changes, outcome.replay_ids))
        self._check_invariants(height, Scope(before, after, outcome.changes))

    def _check_postings(self, height: int, outcome: Outcome) -> None:
        for _, result in outcome.results:
            for event in RESULT.decode_trusted(result).events:
                if event.startswith(_POSTED):
                    self.postings += 1
                    sums: dict[str, int] = {}
                    for leg in _POSTED_CODEC.decode_trusted(event).legs:
                        sums[leg.asset] = sums.get(leg.asset, 0) + leg.amount_minor
                    for asset, total in sums.items():
                        if total:
                            self._say(height, f"a posting of {asset} sums to {total}, not 0")

    def _check_invariants(self, height: int, scope: Scope) -> None:
        for invariant in self.registry.invariants:
            for what in invariant(scope):
                self._say(height, what)

    def _all_state(self) -> Scope:
        return Scope(BlockState(_NOTHING), BlockState(self.state), None)

    def _check_archive(self, given: _Given, app_version: int) -> None:
        height = given.height
        row = self.store.archive_row(height)
        if row is None:
            self._say(height, "header and commit are not archived")
            return
        try:
            block = light.light_block(row)
            light.check_block(self.genesis.chain_id, block)
            self.trust = light.verify_block(self.trust, block)
        except (MalformedJson, InvalidTrail) as error:
            self._say(height, f"archive: {error}")
            return
        self._check_header(given, block, app_version)
        self.last_commit = block.commit

    def _check_header(self, given: _Given, block: LightBlock, app_version: int) -> None:
        """Compare the header with what it must be; `self.state` is still that of the height before."""
        header, bundles = block.header, given.block.bundles
        expected = header._replace(
            app_version=app_version,
            height=given.height,
            time_ns=given.block.time_ms * _NS_PER_MS,
            data_hash=headers.data_hash(bundles),
            consensus_hash=self.genesis.params.hash(),
            app_hash=self.state.root,
            evidence_hash=merkle.EMPTY_HASH,
        )
        if self.results_before is not None:
            expected = expected._replace(last_results_hash=headers.results_hash(self.results_before))
        if self.last_commit is not None:
            expected = expected._replace(
                last_block_id=self.last_commit.block_id, last_commit_hash=self.last_commit.hash()
            )
        for name in Header._fields:
            if getattr(header, name) != getattr(expected, name):
                self._say(given.height, f"header: {name} is not what the block gives")
        addresses = [validator.address for validator in block.validators.validators]
        if header.proposer_address not in addresses:
            self._say(given.height, "header: proposer_address is no validator's")
        if self.last_commit is not None:
            parts = headers.part_set_header(header, bundles, self.last_commit)
            if parts != block.commit.block_id.parts:
                self._say(given.height, "commit: block_id.parts are not those of the block")

    def _move_on(self, given: _Given, outcome: Outcome) -> None:
        self.state.apply(given.height, given.block.time_ms, outcome.changes, outcome.replay_ids)
        if self.state.root != given.stored.app_hash:
            self._say(given.height, f"state root is {self.state.root.hex()}, stored {given.stored.app_hash.hex()}")
        self.time_ms = given.block.time_ms
        self.results_before = _bundle_results(given.bundles, outcome)
        self.blocks += 1
        self.transactions += len(given.transactions)

    def _check_end(self) -> None:
        height = self.last
        self._check_invariants(height, self._all_state())
        unseen = dict(self.state.records)
        for key, record in self.store.scan(b""):
            if unseen.pop(key, None) != record and self._differs(height, key):
                self._say(height, f"the store's record {_key_text(key)} is not what the blocks give")
        for key in unseen:
            if self._differs(height, key):
                self._say(height, f"the store lacks record {_key_text(key)}")
        if self.store.app_hash_at(height) != self.state.root:
            self._say(height, "the store's own root is not what the blocks give")

    def _differs(self, height: int, key: bytes) -> bool:
        """Ask again for the record as of the audited height: the node may have gone on meanwhile.

        Raises:
            Fault: it has gone on so far that it no longer holds that height.
        """
        if self.store.height == height:
            return True
        try:
            return self.store.get_at(height, key) != self.state.records.get(key)
        except OutsideWindow:
            raise Fault(f"the node no longer holds the state of block {height}; audit while it stands still") from None


def _refuse_signatures(registry: Registry, chain_id: str, signed: bytes) -> Prepared:
    with mute_native_output():
        return prepare(registry, chain_id, signed)


def _bundle_results(bundles: Sequence[Sequence[bytes]], outcome: Outcome) -> tuple[bytes, ...]:
    digests: list[bytes] = []
    place = outcome.triggers
    for bundle in bundles:
        digests.append(bundle_results(outcome.results[place : place + len(bundle)]))
        place += len(bundle)
    return tuple(digests)


def _key_text(key: bytes) -> str:
    table, _, own = key.partition(b"/")
    return f"{table.decode('ascii', 'replace')}/{own.hex()}"


class _Nothing:
    """State that holds nothing: what was before the base."""

    def get(self, key: bytes, /) -> bytes | None:
        return None

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        yield from ()


_NOTHING = _Nothing()
