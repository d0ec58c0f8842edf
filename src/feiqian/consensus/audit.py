"""The audit: runs every block again from the base and compares whatever the node recorded with what comes out.

Checked at each height: results, state root, header, commit, each signature, that every posting sums to zero, and every
invariant over what the height touched; at the last height all invariants over all state, and each record of the store.
It stops at the first height that is wrong, for whatever follows from that would be wrong as well.

Of a network's headers it also checks that the validators are those of the ledger's own state two heights before, and
the limits those of the parameters. What a block holds of evidence is known by its hash only: there the part set that
the validators signed is not rebuilt.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol

from feiqian.consensus import hand_over, headers, light, merkle
from feiqian.consensus.audit_state import AuditState, Base
from feiqian.consensus.comet_json import MalformedJson
from feiqian.consensus.genesis_file import ConsensusParams, Genesis
from feiqian.consensus.headers import NO_COMMIT, Commit, Header, Validator, ValidatorSet
from feiqian.consensus.light import InvalidTrail, LightBlock, Trust
from feiqian.consensus.signature_pool import CHUNK, SignaturePool, wait_for
from feiqian.core.encoding import Codec, encode
from feiqian.core.errors import Fault, InvalidTransaction
from feiqian.execution.admission import Prepared, check_form, prepare
from feiqian.execution.blocks import (
    BLOCK,
    RESULT,
    Block,
    Outcome,
    Unprepared,
    bundle_results,
    execute_block,
    open_bundle,
)
from feiqian.execution.errors import WrongRelease
from feiqian.execution.genesis import genesis_changes
from feiqian.execution.registry import Registry
from feiqian.execution.upgrades import check_release
from feiqian.ledger.context import BlockInfo
from feiqian.ledger.events import Posted
from feiqian.ledger.invariants import Scope
from feiqian.ledger.parameters import get_parameters
from feiqian.ledger.validators import validator_set
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
    checked (0: not asked for); `last_height` is the last one that held, or the one with the problem. Where the blocks
    after it are another release's to run, `goes_on` says which.
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
    goes_on: str
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

    def archived_heights(self) -> tuple[int, int] | None: ...

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


def hand_over_base(snapshot: Snapshot, genesis: Genesis) -> Base:
    """Return the state with which a network begins that was handed a ledger; `hand_over.read_state` read it."""
    handed_over = hand_over.of_genesis(genesis)
    assert handed_over is not None, "`read_state` has found it"
    manifest = snapshot.manifest
    name = (
        f"the state of {handed_over.origin.chain_id} after block {handed_over.height}, which the genesis of "
        f"{genesis.chain_id} begins with (SHA-256 {genesis.digest().hex()})"
    )
    return Base(name, manifest.height, manifest.time_ms, snapshot.staged.writes.changes)


def snapshot_base(snapshot: Snapshot, trust: Trust | None = None) -> Base:
    """Return the state of a snapshot, which was checked against a trusted app hash when it was read.

    `trust` is that in its own signed block; without it the genesis must reach that block.
    """
    manifest = snapshot.manifest
    name = f"the snapshot of {manifest.chain_id} after block {manifest.height} (app hash {manifest.app_hash.hex()})"
    used_ids = frozenset(tx_id for _, ids in snapshot.used_ids.values() for tx_id in ids)
    return Base(name, manifest.height, manifest.time_ms, snapshot.staged.writes.changes, used_ids, trust)


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
        self.checks_signatures = check_signatures
        self.problems: list[Problem] = []
        self.goes_on = ""
        self.blocks = self.transactions = self.postings = self.signatures = 0
        plain_tables = frozenset(name for name, table in registry.tables.items() if table.is_plain)
        self.state = AuditState(base, plain_tables)
        self.time_ms = base.time_ms
        self.last = self._last_height()
        self.trust: Trust = base.trust or light.trust_in_genesis(genesis)
        self.last_commit: Commit | None = None
        self.results_before: tuple[bytes, ...] | None = None

    def go(self, pool: SignaturePool, progress: Progress) -> None:
        """Check the base, each height and the end; stop at the first height with a problem."""
        self._check_base()
        for given in () if self.problems else self._blocks(pool):
            if isinstance(given, Problem):
                self.problems.append(given)
            elif self._ends_before(given.height):
                break
            else:
                self._check_height(given)
                progress(given.height, self.last)
            if self.problems:
                return
        if not self.problems:
            self._check_end()

    def _ends_before(self, height: int) -> bool:
        """Say whether a height that follows audited ones is for another release to run: then the audit ends there.

        Raises:
            WrongRelease: it is the first one, so that this release cannot audit anything from this base.
        """
        try:
            check_release(BlockState(self.state), height)
        except WrongRelease as error:
            if height == self.base.height + 1:
                raise
            self.last, self.goes_on = height - 1, str(error)
        return bool(self.goes_on)

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
            goes_on=self.goes_on,
            problems=tuple(self.problems[:MAX_PROBLEMS]),
        )

    def _last_height(self) -> int:
        """Return the height to end with: the store's, or of a network the last that its members' signatures are on.

        They come a moment after the block. What is not signed yet is nothing that a stranger could hold to anyone.
        """
        height = self.store.height
        archived = self.store.archived_heights()
        if archived is None or not self._is_network():
            return height
        return min(height, max(archived[1], self.base.height))

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
        """Begin with the base's own header where that is held, else without: the next header must follow."""
        row = self.store.archive_row(height)
        if row is None:
            return
        try:
            block = light.light_block(row)
            if self.base.trust is None:
                self.trust = light.verify_block(self.trust, block)
            elif light.trust_in_block(block) != self.trust:
                self._say(height, "archive: the header is not that of the snapshot's block")
            light.check_block(self.genesis.chain_id, block)
            self.last_commit = block.commit
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
            bundles = tuple([open_bundle(bundle) for bundle in block.bundles])
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
        # Of a network two blocks may stand in one millisecond, as its times are finer: headers are compared by those.
        is_late = block.time_ms > self.time_ms or (block.time_ms == self.time_ms and self._is_network())
        if not is_late and height > self.genesis.initial_height:
            self._say(height, f"block time {block.time_ms} ms is not after {self.time_ms} ms")
        info = BlockInfo(self.genesis.chain_id, height, block.time_ms)
        prepared = self._prepared(given)
        outcome = execute_block(
            self.registry,
            self.state,
            self.state,
            info,
            prepared,
            misbehaviour=block.misbehaviour,
            is_in_memory=True,
        )
        self._check_outcome(given, outcome)
        self._check_archive(given)
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

    def _check_archive(self, given: _Given) -> None:
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
        self._check_header(given, block)
        self.last_commit = block.commit

    def _check_header(self, given: _Given, block: LightBlock) -> None:
        header, bundles = block.header, given.block.bundles
        expected = self._expected(given, header)
        for name in Header._fields:
            if getattr(header, name) != getattr(expected, name):
                self._say(given.height, f"header: {name} is not what the block gives")
        if given.block.misbehaviour and header.evidence_hash == merkle.EMPTY_HASH:
            self._say(given.height, "header: it shows no evidence, and the block holds misbehaviour")
        addresses = [validator.address for validator in block.validators.validators]
        if header.proposer_address not in addresses:
            self._say(given.height, "header: proposer_address is no validator's")
        if self.last_commit is not None and header.evidence_hash == merkle.EMPTY_HASH:
            parts = headers.part_set_header(header, bundles, self.last_commit)
            if parts != block.commit.block_id.parts:
                self._say(given.height, "commit: block_id.parts are not those of the block")

    def _expected(self, given: _Given, header: Header) -> Header:
        """Return what a header must be; `self.state` is still that of the height before."""
        state = BlockState(self.state)
        parameters, validators = get_parameters(state), validator_set(state)
        expected = header._replace(
            app_version=parameters.app_version,
            height=given.height,
            data_hash=headers.data_hash(given.block.bundles),
            app_hash=self.state.root,
        )
        if validators:
            expected = _of_network(expected, given.block, validators, self.genesis.params, parameters.max_block_bytes)
        else:
            expected = expected._replace(
                time_ns=given.block.time_ms * _NS_PER_MS,
                next_validators_hash=self.genesis.validator_set().hash(),
                consensus_hash=self.genesis.params.hash(),
                evidence_hash=merkle.EMPTY_HASH,
            )
        if self.results_before is not None:
            expected = expected._replace(last_results_hash=headers.results_hash(self.results_before))
        if self.last_commit is not None:
            expected = expected._replace(
                last_block_id=self.last_commit.block_id, last_commit_hash=self.last_commit.hash()
            )
        return expected

    def _is_network(self) -> bool:
        return bool(validator_set(BlockState(self.state)))

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


def _of_network(
    header: Header,
    block: Block,
    validators: tuple[tuple[bytes, int], ...],
    params: ConsensusParams,
    max_block_bytes: int,
) -> Header:
    """Return what a network's header must be, as far as the state before it and the block say.

    Its time is finer than the block's. Evidence shows by its hash alone, and may name nobody in particular.
    """
    next_validators = ValidatorSet.ordered([Validator(key, power) for key, power in validators])
    time_ns = header.time_ns if header.time_ns // _NS_PER_MS == block.time_ms else block.time_ms * _NS_PER_MS
    return header._replace(
        time_ns=time_ns,
        next_validators_hash=next_validators.hash(),
        consensus_hash=params._replace(block_max_bytes=max_block_bytes).hash(),
    )


def _refuse_signatures(registry: Registry, chain_id: str, signed: bytes) -> Prepared:
    with mute_native_output():
        return prepare(registry, chain_id, signed)


def _bundle_results(bundles: Sequence[Sequence[bytes]], outcome: Outcome) -> tuple[bytes, ...]:
    digests: list[bytes] = []
    place = outcome.unasked
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
