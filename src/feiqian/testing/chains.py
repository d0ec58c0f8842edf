"""A network's chain without CometBFT, for tests: real blocks in a real store, signed by several validators.

What CometBFT does to a chain is done here by hand: times in nanoseconds, votes that are missing, validators that change
two heights after the block that changed them.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

from feiqian.consensus import headers, light, merkle
from feiqian.consensus.genesis_file import ConsensusParams, Genesis, GenesisValidator
from feiqian.consensus.headers import (
    ABSENT_SIGNATURE,
    BLOCK_PROTOCOL,
    NO_COMMIT,
    BlockID,
    BlockIDFlag,
    Commit,
    CommitSig,
    Header,
    Validator,
    ValidatorSet,
)
from feiqian.consensus.light import LightBlock
from feiqian.consensus.solo import SoloSigner
from feiqian.core.encoding import Record, encode
from feiqian.execution.admission import encode_bundle, prepare
from feiqian.execution.blocks import Outcome, execute_block
from feiqian.execution.genesis import account_names, compile_consortium, genesis_changes
from feiqian.execution.registry import Registry
from feiqian.ledger.context import BlockInfo
from feiqian.ledger.records import ValidatorRecord
from feiqian.ledger.validators import VALIDATORS
from feiqian.modules.assets.messages import Issue, Transfer
from feiqian.node.executed import assemble
from feiqian.node.initialise import plain_tables
from feiqian.state.store import HeightWrites, Store
from feiqian.state.tables import Changes
from feiqian.testing.ledgers import ASSET, CHAIN_ID, MEMBERS, consortium_text, key_of
from feiqian.wallet.signing import build_transaction, sign_transaction

START_MS = 1_767_225_600_000
LIFETIME_MS = 500_000
OFFSET_NS = 123_456
"""Block times of a network are no whole milliseconds."""

POWER = 10


class NetworkChain:
    """A chain of one-second blocks in a store at `path`, of four validators unless told otherwise."""

    def __init__(self, path: Path, registry: Registry, validators: int = 4, more: Changes | None = None) -> None:
        """`more` are records that the state begins with beside the ledger's own."""
        consortium = path.with_name(path.name + ".toml")
        consortium.write_text(consortium_text(), "utf-8")
        self.registry = registry
        self.signers = [SoloSigner(bytes([number + 1]) * 32) for number in range(validators)]
        self.genesis = Genesis(
            START_MS * 1_000_000 + OFFSET_NS,
            CHAIN_ID,
            1,
            ConsensusParams(4 * 1024 * 1024),
            tuple([GenesisValidator(each.public_key, POWER, f"v{place}") for place, each in enumerate(self.signers)]),
            b"",
            compile_consortium(consortium, registry),
        )
        self.addresses = account_names(self.genesis.app_state)
        self.members = {entry["name"]: entry["member"] for entry in self.genesis.app_state["accounts"]}
        powers = dict.fromkeys(range(validators), POWER)
        changes = genesis_changes(registry, self.genesis.app_state, START_MS, 0)
        changes |= {**self._records(powers), **(more or {})}
        self.store = Store.create(
            path,
            CHAIN_ID,
            1,
            changes,
            START_MS,
            plain_tables=plain_tables(registry),
            map_bytes=1 << 28,
            reserve_bytes=1 << 20,
        )
        self._powers: Mapping[int, int] = powers
        self._sets = {1: self._set(powers), 2: self._set(powers)}
        self._time_ns = self.genesis.time_ns
        self._results: tuple[bytes, ...] = ()
        self._made = 0

    def issue(self, payee: str, amount_minor: int) -> bytes:
        """Return a signed order that brings new units into being."""
        message = Issue(self.addresses["issuance"], self.addresses[payee], ASSET, amount_minor, b"")
        return self._sign("issuance", message)

    def pay(self, payer: str, payee: str, amount_minor: int) -> bytes:
        """Return a signed transfer."""
        return self._sign(payer, Transfer(self.addresses[payer], self.addresses[payee], ASSET, amount_minor, b""))

    def block(
        self,
        *signed: bytes,
        after_ms: int = 1_000,
        absent: Collection[int] = (),
        powers: Mapping[int, int] | None = None,
        writes: Changes | None = None,
    ) -> int:
        """Commit the next block of these transactions and return its height.

        `absent` are the places of signers that do not vote; `powers` by place those that the block changes, 0 removes;
        `writes` what it writes without being run here, as a block of another release.
        """
        store, height = self.store, self.store.height + 1
        self._time_ns += 0 if height == 1 else after_ms * 1_000_000 + 1
        info = BlockInfo(CHAIN_ID, height, self._time_ns // 1_000_000)
        prepared = [prepare(self.registry, CHAIN_ID, each) for each in signed]
        if writes is None:
            outcome = execute_block(self.registry, store, store, info, prepared)
        else:
            outcome = Outcome((), writes, (), 0, 0, 0, (), is_empty=False)
        bundles = [encode_bundle(signed)] if signed else []
        changes = {**outcome.changes, **self._records(powers or {})}
        executed = assemble(info, bundles, [len(signed)] if signed else [], outcome, 1)
        self._powers = {**self._powers, **(powers or {})}
        self._sets[height + 2] = self._set(self._powers)
        row = light.archive_row(self._light_block(height, bundles, absent))
        written = HeightWrites(height, info.time_ms, executed.block, outcome.results, changes, outcome.replay_ids, row)
        store.commit(store.stage(written))
        self._results = executed.bundle_results
        return height

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def _light_block(self, height: int, bundles: list[bytes], absent: Collection[int]) -> LightBlock:
        before = self.store.archive_row(height - 1)
        last_commit = NO_COMMIT if before is None else light.light_block(before).commit
        validators = self._sets[height]
        header = Header(
            BLOCK_PROTOCOL,
            1,
            CHAIN_ID,
            height,
            self._time_ns,
            last_commit.block_id,
            last_commit.hash(),
            headers.data_hash(bundles),
            validators.hash(),
            self._sets[height + 1].hash(),
            self.genesis.params.hash(),
            self.store.app_hash,
            headers.results_hash(self._results),
            merkle.EMPTY_HASH,
            validators.validators[height % len(validators.validators)].address,
        )
        block_id = BlockID(header.hash(), headers.part_set_header(header, bundles, last_commit))
        missing = {self.signers[place].public_key for place in absent}
        signatures = [
            ABSENT_SIGNATURE if each.public_key in missing else self._vote(each, header, block_id)
            for each in validators.validators
        ]
        return LightBlock(header, Commit(height, 0, block_id, tuple(signatures)), validators)

    def _vote(self, validator: Validator, header: Header, block_id: BlockID) -> CommitSig:
        signer = next(each for each in self.signers if each.public_key == validator.public_key)
        voted_ns = header.time_ns + 7 + self.signers.index(signer)
        message = headers.vote_sign_bytes(CHAIN_ID, header.height, 0, block_id, voted_ns)
        return CommitSig(BlockIDFlag.COMMIT, signer.address, voted_ns, signer.sign(message))

    def _set(self, powers: Mapping[int, int]) -> ValidatorSet:
        return ValidatorSet.ordered(
            [Validator(self._signer(place).public_key, power) for place, power in powers.items() if power]
        )

    def _records(self, powers: Mapping[int, int]) -> Changes:
        member = next(iter(MEMBERS))
        changes: Changes = {}
        for place, power in powers.items():
            record = encode(ValidatorRecord(member, f"v{place}", power)) if power else None
            changes[VALIDATORS.prefix + self._signer(place).public_key] = record
        return changes

    def _signer(self, place: int) -> SoloSigner:
        while len(self.signers) <= place:
            self.signers.append(SoloSigner(bytes([len(self.signers) + 1]) * 32))
        return self.signers[place]

    def _sign(self, account: str, message: Record) -> bytes:
        self._made += 1
        expires_at_ms = self.store.time_ms + LIFETIME_MS
        salt = self._made.to_bytes(8, "big")
        transaction = build_transaction(CHAIN_ID, self.members[account], [message], expires_at_ms, salt)
        return sign_transaction(transaction, [key_of(account)])
