"""A ledger under simulation: real blocks on real state, each compared with the model in every result and record."""

import os
import tempfile
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from feiqian.core.encoding import encode
from feiqian.core.errors import Fault, InvalidTransaction
from feiqian.core.signatures import PublicKey
from feiqian.core.transactions import SignedTransaction, decode_signed
from feiqian.execution.admission import Prepared, encode_bundle, prepare
from feiqian.execution.blocks import RESULT, Block, Outcome, Result, Unprepared, execute_block
from feiqian.execution.genesis import genesis_changes
from feiqian.execution.registry import Registry, discover
from feiqian.ledger.context import BlockInfo, Message
from feiqian.ledger.events import Posted
from feiqian.ledger.invariants import Scope
from feiqian.ledger.validators import Misbehaviour
from feiqian.state.block_log import MAX_BEYOND
from feiqian.state.layered import Layered, ReplayingReader
from feiqian.state.store import HeightWrites, Store
from feiqian.state.tables import BlockState, Changes
from feiqian.testing.simulation import Simulation, consortium, reference, simulations
from feiqian.testing.simulation.model import (
    LEDGER_TRIGGERS,
    MEANINGS,
    Model,
    Refusal,
    Rule,
    Run,
    charge,
    check_authority,
    refuse,
    wanted_signers,
)
from feiqian.testing.simulation.records import LEDGER_RECORDS
from feiqian.wallet.signing import build_transaction, sign_transaction

MEMORY, STORE, LAYERED = "memory", "store", "layered"
WORK_PER_SIGNATURE = 1_000
RESULTS_KEPT = 600
"""Heights after which the digests of a block leave state: `proof_window` at its least, of which no run makes more."""


class Sent(NamedTuple):
    """A transaction as it was sent. `fault` is what it is refused with before state is asked, if anything."""

    signed: bytes
    body: bytes
    messages: tuple[Message, ...]
    sponsor: str
    expires_at_ms: int
    signers: frozenset[PublicKey]
    fault: tuple[str, int] | None = None

    def __repr__(self) -> str:
        signers = sorted(consortium.NAME_OF.get(key, "somebody") for key in self.signers)
        shown = ", ".join(repr(message)[:400] for message in self.messages)
        return f"<{self.sponsor} by {signers} until {self.expires_at_ms} {self.fault or ''}: {shown}>"


class Answer(NamedTuple):
    """What the model expects of one result: its id, and the refusal or ("", 0)."""

    id: bytes
    codespace: str
    number: int


class MemoryState:
    """Committed state in a dict."""

    def __init__(self, changes: Changes) -> None:
        self.records: dict[bytes, bytes] = {}
        self.keys: list[bytes] = []
        self.used: set[bytes] = set()
        self.commit(changes, ())

    def commit(self, changes: Changes, replay_ids: Iterable[tuple[int, bytes]]) -> None:
        """Take a block's writes over."""
        for key, data in changes.items():
            if data is None:
                self.records.pop(key, None)
            else:
                self.records[key] = data
        self.keys = sorted(self.records)
        self.used.update(tx_id for _, tx_id in replay_ids)

    def get(self, key: bytes, /) -> bytes | None:
        """Return the record's bytes under a full key, or None."""
        return self.records.get(key)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield (full key, record bytes) in key order for keys with `prefix`, those > `after` only."""
        for place in range(bisect_right(self.keys, after, bisect_left(self.keys, prefix)), len(self.keys)):
            key = self.keys[place]
            if not key.startswith(prefix):
                return
            yield key, self.records[key]

    def has_replay_id(self, expires_at_ms: int, tx_id: bytes) -> bool:
        """Say whether a transaction with this id was used up."""
        return tx_id in self.used


@cache
def registry() -> Registry:
    """Return the registry of all modules, made once."""
    return discover()


@cache
def parts() -> dict[str, Simulation]:
    """Return what each module brings, found once."""
    return simulations(registry())


@cache
def rules() -> dict[type[Message], Rule]:
    """Return the rule of each message type."""
    return {type_: rule for part in parts().values() for type_, rule in part.rules.items()}


@cache
def genesis_state() -> dict[str, Any]:
    """Return the genesis app state of the simulation's consortium."""
    return consortium.app_state({name: part.genesis for name, part in parts().items()})


class World:
    """One run. `mode`: state in a dict; in a store, committed block by block; or in one that lags behind, layered."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.model = Model()
        self.names = consortium.found(self.model)
        for part in parts().values():
            if part.found is not None:
                part.found(self.model, self.names)
        MEANINGS.clear()
        self.used: set[bytes] = set()
        self.time_ms = consortium.GENESIS_MS
        self.height = 0
        self.has_stopped = False
        self.salts = 0
        self.sums: dict[tuple[bytes, str], int] = {}
        self.answers: list[Answer] = []
        self._expected_replay: set[bytes] = set()
        self.app_hash = b""
        changes = genesis_changes(registry(), genesis_state(), self.time_ms, 0)
        self.memory = MemoryState(changes)
        self._ahead: deque[tuple[HeightWrites, Outcome]] = deque()
        self._directory = None if mode == MEMORY else tempfile.TemporaryDirectory(prefix="simulation-", dir=_scratch())
        self.store = None if self._directory is None else self._create(Path(self._directory.name), changes)
        self.seen = MemoryState(changes)
        self._compare_state(self.seen)

    def _create(self, path: Path, changes: Changes) -> Store:
        plain = frozenset(name for name, table in registry().tables.items() if table.is_plain)
        return Store.create(
            path / "ledger.lmdb", consortium.CHAIN_ID, 1, changes, self.time_ms, plain_tables=plain, reserve_bytes=0
        )

    def open_business(self) -> None:
        """Run a block of every module's opening."""
        openings = [part.opening(self.names) for part in parts().values() if part.opening is not None]
        self.run_block([self.send([message]) for messages in openings for message in messages], 1_000)
        assert not any(answer.number for answer in self.answers), self.answers

    def close(self) -> None:
        """Commit what is ahead and let go of the store."""
        if self.store is not None:
            self._commit_down_to(0)
            self.store.close()
        if self._directory is not None:
            self._directory.cleanup()

    # Sending.

    def send(
        self,
        messages: Sequence[Message],
        signers: Iterable[PublicKey] | None = None,
        *,
        sponsor: str | None = None,
        expires_in_ms: int = 30_000,
    ) -> Sent:
        """Return a signed transaction; without signers and sponsor, those that the model would choose."""
        keys = wanted_signers(self.model, rules(), messages) if signers is None else list(signers)
        keys = keys or [consortium.KEYS["spare"].public]
        if sponsor is None:
            claims = rules()[type(messages[0])].claims(messages[0])
            account = self.model.accounts.get(claims[0][0])
            sponsor = "mint" if account is None else account.member
        self.salts += 1
        salt = self.salts.to_bytes(8, "big")
        expires_at_ms = self.time_ms + expires_in_ms
        transaction = build_transaction(consortium.CHAIN_ID, sponsor, messages, expires_at_ms, salt)
        return self._signed(Sent(b"", encode(transaction), tuple(messages), sponsor, expires_at_ms, frozenset(keys)))

    def signed_by(self, sent: Sent, signers: Iterable[PublicKey]) -> Sent:
        """Return the same transaction with other signatures, as an observer or a colleague would send it."""
        return self._signed(sent._replace(signers=frozenset(signers), fault=None))

    def forged(self, sent: Sent) -> Sent:
        """Return the transaction with one bit of its first signature changed."""
        sent = self.signed_by(sent, sent.signers)
        envelope = decode_signed(sent.signed)
        first = envelope.signatures[0]
        bad = type(first)(first.key, first.signature[:40] + bytes([first.signature[40] ^ 1]) + first.signature[41:])
        signed = encode(SignedTransaction(envelope.body, (bad, *envelope.signatures[1:])))
        return sent._replace(signed=signed, fault=("execution", 3))

    def _signed(self, sent: Sent) -> Sent:
        keys = [consortium.KEYS[consortium.NAME_OF[key]] for key in sent.signers]
        transaction = registry().transaction_codec.decode(sent.body)
        return sent._replace(signed=sign_transaction(transaction, keys))

    # Blocks.

    def run_block(
        self,
        queue: Sequence[Sent],
        after_ms: int,
        *,
        misbehaviour: tuple[Misbehaviour, ...] = (),
        is_proposed: bool = False,
    ) -> None:
        """Run a block of these transactions and check all that can be checked; `is_proposed` chooses them first."""
        if self.has_stopped:
            return
        self.has_stopped = True  # until all of the block was as it should be
        self.height += 1
        self.time_ms += after_ms
        block = BlockInfo(consortium.CHAIN_ID, self.height, self.time_ms)
        before = self._reader()
        prepared = [_prepared(sent) for sent in queue]
        if self.model.upgrade and self.model.upgrade["height"] <= self.height:
            with pytest.raises(Fault, match="install that release"):
                execute_block(registry(), before, before, block, prepared)
            return
        outcome = execute_block(registry(), before, before, block, prepared, misbehaviour=misbehaviour)
        after = Layered(before, outcome.changes, outcome.replay_ids)
        results = [(id_, RESULT.decode(data)) for id_, data in outcome.results]
        self._predict(queue, misbehaviour, results)
        answers = [Answer(id_, result.codespace, result.number) for id_, result in results]
        assert answers == self.answers, _difference(answers, self.answers, results)
        self._compare_digests(outcome)
        found = MemoryState(dict(after.scan(b"")))
        self._compare_state(found)
        self._check_invariants(found, outcome.changes)
        self._check_postings([result for _, result in results])
        if is_proposed:
            self._check_proposal(before, block, prepared, misbehaviour, outcome)
        self._commit(queue, misbehaviour, outcome)
        self.has_stopped = False

    def _predict(
        self, queue: Sequence[Sent], misbehaviour: Sequence[Misbehaviour], results: Sequence[tuple[bytes, Result]]
    ) -> None:
        """Write into `answers` what the model expects. Of the real results it takes only the work they report."""
        self.answers = []
        start = self.model.copy()
        max_work = start.parameters["max_block_work"]
        self.model.powers_at_start = {key: facts.power for key, facts in self.model.validators.items()}
        work = 0
        for place, proved in enumerate(misbehaviour):
            work += self._predict_misbehaviour(place, proved, results)
        due = sorted(key for key in self.model.triggers if key[0] <= self.time_ms)
        for key in due[: start.parameters["max_triggers_per_block"]]:
            work += self._predict_trigger(key, results)
        used_here: set[bytes] = set()
        for place, sent in enumerate(queue):
            tx_id = reference.transaction_id(sent.body)
            admission = len(sent.signers) * WORK_PER_SIGNATURE + len(sent.signed)
            try:
                if sent.fault is not None:
                    raise Refusal(*sent.fault)
                refuse(work >= max_work, "execution", 6)
                refuse(tx_id in used_here, "ledger", 40)
                self._predict_admission(start, sent, tx_id)
                size = len(sent.signed)
                charge(self.model, sent.sponsor, size, admission, self.height, self.time_ms, start.parameters)
            except Refusal as refusal:
                refused_id = reference.refused_id(self.height, place, sent.signed)
                self.answers.append(Answer(refused_id, refusal.codespace, refusal.number))
                continue
            used_here.add(tx_id)
            refusal = self._run(tx_id, sent.signers).atomically(sent.messages)
            done = results[len(self.answers)][1].work if len(self.answers) < len(results) else 0
            work += done
            charge(self.model, sent.sponsor, 0, done - admission, self.height, self.time_ms)
            self.answers.append(Answer(tx_id, *(("", 0) if refusal is None else (refusal.codespace, refusal.number))))
        self.used |= used_here
        self._expected_replay = used_here

    def _predict_misbehaviour(self, place: int, proved: Misbehaviour, results: Sequence[tuple[bytes, Result]]) -> int:
        own_id = reference.misbehaviour_id(self.height, place)
        run = self._run(own_id, frozenset())
        for part in parts().values():
            if part.misbehaviour is not None:
                part.misbehaviour(run, proved)
        self.answers.append(Answer(own_id, "", 0))
        return results[place][1].work if place < len(results) else 0

    def _predict_trigger(self, key: tuple[int, int], results: Sequence[tuple[bytes, Result]]) -> int:
        trigger = self.model.triggers.pop(key)
        trigger_id = reference.trigger_id(*key)
        run = self._run(trigger_id, frozenset())
        handler = trigger_rules()[type(trigger)]
        handler(run, trigger)
        place = len(self.answers)
        self.answers.append(Answer(trigger_id, "", 0))
        return results[place][1].work if place < len(results) else 0

    def _predict_admission(self, start: Model, sent: Sent, tx_id: bytes) -> None:
        window_ms = start.parameters["replay_window_ms"]
        refuse(sent.expires_at_ms < self.time_ms, "ledger", 38)
        refuse(sent.expires_at_ms > self.time_ms + window_ms, "ledger", 39)
        refuse(tx_id in self.used, "ledger", 40)
        members, wanted = check_authority(start, rules(), sent.messages, sent.signers)
        refuse(sent.sponsor not in members, "ledger", 12)
        refuse(bool(sent.signers - wanted) and len(sent.signers) > 1, "ledger", 11)

    def _run(self, origin: bytes, signers: frozenset[PublicKey]) -> Run:
        return Run(self.model, rules(), self.time_ms, self.height, origin, signers)

    # What is compared after each block.

    def _compare_digests(self, outcome: Outcome) -> None:
        assert outcome.is_empty == (not outcome.results)
        assert {tx_id for _, tx_id in outcome.replay_ids} == self._expected_replay
        if outcome.is_empty:
            assert outcome.changes == {}
            return
        roots, digests = self.model.table("execution.results"), self.model.table("execution.replay")
        roots[self.height] = reference.results_root(dict(outcome.results))
        digests[self.height] = reference.replay_digest(self._expected_replay)
        assert self.height < RESULTS_KEPT, "longer runs than the proof window need its deletions in the model"

    def _compare_state(self, after: MemoryState) -> None:
        """Every record that state holds is the model's, byte for byte, and none is missing."""
        expected, found = self.expected_records(), after.records
        if found != expected:
            for key in sorted(found.keys() | expected.keys()):
                table = registry().table_of(key)
                shown = [
                    None if data is None else table.codec.decode(data) for data in (found.get(key), expected.get(key))
                ]
                assert shown[0] == shown[1], f"{table.name} {key[len(table.prefix) :].hex()}: ledger, then model"
        assert found == expected

    def expected_records(self) -> dict[bytes, bytes]:
        """Return all state as the model has it: full key → encoded record."""
        expected: dict[bytes, bytes] = {}
        for name, records in record_rules().items():
            prefix = name.encode() + b"/"
            expected.update({prefix + key: encode(record) for key, record in records(self.model).items()})
        return expected

    def _check_invariants(self, found: MemoryState, changes: Changes) -> None:
        """Every invariant holds over what the block touched, and over all state."""
        before, after = BlockState(self.seen), BlockState(found)
        for scope in (Scope(before, after, changes), Scope(before, after, None)):
            for claim in registry().invariants:
                assert list(claim(scope)) == []
        self.seen = found

    def _check_postings(self, results: Sequence[Result]) -> None:
        """The `Posted` events alone give every balance, so that an index that follows them has the ledger's figures."""
        for result in results:
            for data in result.events:
                event = registry().event_codec.decode(data)
                for leg in event.legs if isinstance(event, Posted) else ():
                    key = (leg.account, leg.asset)
                    self.sums[key] = self.sums.get(key, 0) + leg.amount_minor
        moved = {key: total for key, total in self.sums.items() if total}
        assert moved == {key: facts.posted for key, facts in self.model.balances.items() if facts.posted}

    def _check_proposal(
        self,
        before: Any,
        block: BlockInfo,
        prepared: Sequence[Any],
        misbehaviour: tuple[Misbehaviour, ...],
        outcome: Outcome,
    ) -> None:
        """A proposer leaves out exactly what would be refused at the door, and its block does the same thing."""
        offered = [entry for entry in prepared if isinstance(entry, Prepared)]
        proposal = execute_block(
            registry(), before, before, block, offered, misbehaviour=misbehaviour, is_proposal=True
        )
        left_out = {place for place, _ in proposal.left_out}
        chosen = [entry for place, entry in enumerate(offered[: proposal.taken]) if place not in left_out]
        validated = execute_block(registry(), before, before, block, chosen, misbehaviour=misbehaviour)
        assert validated.results == proposal.results
        assert validated.changes == proposal.changes
        assert validated.replay_ids == proposal.replay_ids == outcome.replay_ids

    # Committing.

    def _reader(self) -> ReplayingReader:
        if self.store is None:
            return self.memory
        reader: ReplayingReader = self.store
        for _, outcome in self._ahead:
            reader = Layered(reader, outcome.changes, outcome.replay_ids)
        return reader

    def _commit(self, queue: Sequence[Sent], misbehaviour: tuple[Misbehaviour, ...], outcome: Outcome) -> None:
        if self.store is None:
            self.memory.commit(outcome.changes, outcome.replay_ids)
            return
        bundles = (encode_bundle(tuple(sent.signed for sent in queue)),) if queue else ()
        block = encode(Block(self.height, self.time_ms, bundles, misbehaviour))
        writes = HeightWrites(
            self.height, self.time_ms, block, outcome.results, outcome.changes, outcome.replay_ids, None
        )
        self._ahead.append((writes, outcome))
        self._commit_down_to(MAX_BEYOND if self.mode == LAYERED else 0)

    def _commit_down_to(self, ahead: int) -> None:
        assert self.store is not None
        while len(self._ahead) > ahead:
            writes, _ = self._ahead[0]
            staged = self.store.stage(writes)
            self.store.commit(staged)
            self._ahead.popleft()
            root = reference.state_root(dict(self.store.scan(b"")), self.store.plain_tables)
            assert self.store.app_hash == staged.app_hash == root, f"root of height {writes.height}"
            self.app_hash = staged.app_hash


@cache
def trigger_rules() -> dict[Any, Any]:
    """Return what each trigger type does to the model."""
    own = {type_: rule for part in parts().values() for type_, rule in part.triggers.items()}
    return {**LEDGER_TRIGGERS, **own}


@cache
def record_rules() -> Mapping[str, Any]:
    """Return for each table of state what it must hold."""
    own = {name: rule for part in parts().values() for name, rule in part.records.items()}
    return {**LEDGER_RECORDS, **own}


def _scratch() -> str | None:
    """Return a directory in memory where there is one: what is simulated is the store's logic, not the disk."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _prepared(sent: Sent) -> Prepared | Unprepared:
    try:
        prepared = prepare(registry(), consortium.CHAIN_ID, sent.signed)
    except InvalidTransaction as refusal:
        if (refusal.codespace, refusal.number) != sent.fault:
            raise
        return Unprepared(sent.signed, refusal)
    assert sent.fault is None, f"prepared, where {sent.fault} was to come"
    return prepared


def _difference(found: list[Answer], expected: list[Answer], results: Sequence[tuple[bytes, Result]]) -> str:
    lines = ["result: ledger | model"]
    for place in range(max(len(found), len(expected))):
        left = found[place] if place < len(found) else None
        right = expected[place] if place < len(expected) else None
        if left != right:
            message = results[place][1].message if place < len(results) else ""
            lines.append(f"{place}: {left} | {right} {message}")
    return "\n".join(lines)
