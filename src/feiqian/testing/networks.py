"""A made-up network of several validators, run block by block into a real store, its headers signed as CometBFT would.

The archive gets its rows afterwards, as the follower puts them. `twist` makes a header that the members should never
have signed, and signs it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from feiqian.consensus import headers, light, merkle
from feiqian.consensus.genesis_file import ConsensusParams, Genesis, GenesisValidator
from feiqian.consensus.headers import (
    ABSENT_SIGNATURE,
    NIL_BLOCK,
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
from feiqian.core.encoding import Record, Uint63, encode
from feiqian.execution.admission import encode_bundle, prepare
from feiqian.execution.blocks import Block, bundle_results, execute_block
from feiqian.execution.genesis import account_names, compile_consortium, genesis_changes
from feiqian.execution.registry import Registry, discover
from feiqian.ledger.context import BlockInfo, Claim, Context, Message
from feiqian.ledger.parameters import get_parameters, set_parameters
from feiqian.ledger.records import ValidatorRecord
from feiqian.ledger.validators import Misbehaviour, put_validator, remove_validator, validator_set
from feiqian.modules import Module
from feiqian.modules.assets.messages import Issue
from feiqian.state.store import HeightWrites, Store
from feiqian.state.tables import BlockState
from feiqian.testing.ledgers import ASSET, CHAIN_ID, consortium_text, key_of
from feiqian.wallet.signing import build_transaction, sign_transaction

START_NS = 1_767_225_600_000_250_007
NS_PER_MS = 1_000_000
FIRST = 5
C, A, N = BlockIDFlag.COMMIT, BlockIDFlag.ABSENT, BlockIDFlag.NIL


class Appointment(Record):
    """A validator's power from now on; 0: none."""

    public_key: bytes
    power: Uint63


class Appoint(Message, tag="sample.Appoint"):
    """Give validators other powers, whatever they were."""

    account: bytes
    appointments: tuple[Appointment, ...]

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account),)


class Limit(Message, tag="sample.Limit"):
    """Set how large a block may be."""

    account: bytes
    max_block_bytes: Uint63

    def claims(self) -> tuple[Claim, ...]:
        return (Claim(self.account),)


def appoint(ctx: Context, message: Appoint) -> None:
    """Carry out `Appoint`."""
    for key, power in [(each.public_key, each.power) for each in message.appointments]:
        if power:
            put_validator(ctx, key, ValidatorRecord("north-bank", f"v-{key.hex()[:8]}", power))
        else:
            remove_validator(ctx, key)


def limit(ctx: Context, message: Limit) -> None:
    """Carry out `Limit`."""
    parameters = get_parameters(ctx.state)
    set_parameters(ctx, msgspec.structs.replace(parameters, max_block_bytes=message.max_block_bytes))


def network_registry() -> Registry:
    """Return the release's registry with the messages above."""
    return Registry((*discover().modules, Module("sample", {Appoint: appoint, Limit: limit})))


class NetworkLedger:
    """A ledger whose blocks several validators sign. It begins at height 5."""

    def __init__(self, path: Path, registry: Registry, seeds: Sequence[int] = (1, 2, 3, 4), power: int = 10) -> None:
        consortium = path.with_name(path.name + ".toml")
        consortium.write_text(consortium_text(), "utf-8")
        self.registry = registry
        self.signers = {signer.public_key: signer for signer in map(signer_of, range(1, 60))}
        founders = [signer_of(seed) for seed in seeds]
        app_state = compile_consortium(consortium, registry)
        app_state["validators"] = [
            {"name": f"v-{seed}", "member": "north-bank", "public_key": f"ed25519:{key_hex(seed)}", "power": power}
            for seed in seeds
        ]
        self.genesis = Genesis(
            START_NS,
            CHAIN_ID,
            FIRST,
            ConsensusParams(4 * 1024 * 1024, app_version=1),
            tuple(GenesisValidator(founder.public_key, power, "node") for founder in founders),
            b"",
            app_state,
        )
        self.addresses = account_names(app_state)
        changes = genesis_changes(registry, app_state, self.genesis.time_ms, FIRST - 1)
        self.store = Store.create(
            path,
            CHAIN_ID,
            FIRST,
            changes,
            self.genesis.time_ms,
            plain_tables=frozenset(name for name, table in registry.tables.items() if table.is_plain),
            map_bytes=1 << 28,
            reserve_bytes=1 << 20,
        )
        self.time_ns = START_NS
        self.validators = self.next_validators = self.genesis.validator_set()
        self.last_commit = NO_COMMIT
        self.results: tuple[bytes, ...] = ()
        self.blocks: dict[int, LightBlock] = {}
        self.made = 0

    def sign(self, *messages: Record) -> bytes:
        """Return messages signed by the issuer's key; each transaction is another."""
        self.made += 1
        expires_at_ms = self.store.time_ms + 60_000
        transaction = build_transaction(CHAIN_ID, "north-bank", messages, expires_at_ms, self.made.to_bytes(8, "big"))
        return sign_transaction(transaction, [key_of("issuance")])

    def issue(self, amount_minor: int) -> bytes:
        """Return an order that brings money into being."""
        return self.sign(Issue(self.addresses["issuance"], self.addresses["treasury"], ASSET, amount_minor, b""))

    def appoint(self, powers: Mapping[int, int]) -> bytes:
        """Return an order that gives the validators of these seeds other powers."""
        appointments = tuple(Appointment(signer_of(seed).public_key, power) for seed, power in powers.items())
        return self.sign(Appoint(self.addresses["issuance"], appointments))

    def limit(self, max_block_bytes: int) -> bytes:
        """Return an order that sets how large a block may be."""
        return self.sign(Limit(self.addresses["issuance"], max_block_bytes))

    def block(
        self,
        *transactions: bytes,
        after_ns: int = 1_000_000_123,
        flags: Mapping[int, BlockIDFlag] | None = None,
        misbehaviour: tuple[Misbehaviour, ...] = (),
        evidence_hash: bytes = merkle.EMPTY_HASH,
        twist: Callable[[Header], Header] = lambda header: header,
        is_archived: bool = True,
    ) -> LightBlock:
        """Make, run, commit and archive the next block; `flags` tells by place which validators did not sign it."""
        store, height = self.store, self.store.height + 1
        time_ns = START_NS if height == FIRST else self.time_ns + after_ns
        bundles = (encode_bundle(transactions),) if transactions else ()
        prepared = [prepare(self.registry, CHAIN_ID, signed) for signed in transactions]
        info = BlockInfo(CHAIN_ID, height, time_ns // NS_PER_MS)
        parameters = get_parameters(BlockState(store))
        outcome = execute_block(self.registry, store, store, info, prepared, misbehaviour=misbehaviour)
        header = twist(
            Header(
                block_version=11,
                app_version=1,
                chain_id=CHAIN_ID,
                height=height,
                time_ns=time_ns,
                last_block_id=self.last_commit.block_id,
                last_commit_hash=self.last_commit.hash(),
                data_hash=headers.data_hash(bundles),
                validators_hash=self.validators.hash(),
                next_validators_hash=self.next_validators.hash(),
                consensus_hash=headers.consensus_hash(parameters.max_block_bytes, -1),
                app_hash=store.app_hash,
                last_results_hash=headers.results_hash(self.results),
                evidence_hash=evidence_hash,
                proposer_address=self.validators.validators[height % len(self.validators.validators)].address,
            )
        )
        data = encode(Block(height, info.time_ms, bundles, misbehaviour))
        writes = HeightWrites(height, info.time_ms, data, outcome.results, outcome.changes, outcome.replay_ids, None)
        store.commit(store.stage(writes))
        block_id = BlockID(header.hash(), headers.part_set_header(header, bundles, self.last_commit))
        block = LightBlock(header, self.commit(header, block_id, flags or {}), self.validators)
        if is_archived:
            store.put_archive(light.archive_row(block))
        self.time_ns, self.last_commit, self.blocks[height] = time_ns, block.commit, block
        self.results = (bundle_results(outcome.results[outcome.unasked :]),) if bundles else ()
        self.validators, self.next_validators = self.next_validators, self._set_in_state()
        return block

    def commit(self, header: Header, block_id: BlockID, flags: Mapping[int, BlockIDFlag]) -> Commit:
        """Return the signatures of the validators of now, each a little later than the one before."""
        signatures: list[CommitSig] = []
        for place, validator in enumerate(self.validators.validators):
            flag, time_ns = flags.get(place, C), header.time_ns + 1_000_000 * (place + 1)
            if flag == A:
                signatures.append(ABSENT_SIGNATURE)
                continue
            voted = block_id if flag == C else NIL_BLOCK
            message = headers.vote_sign_bytes(CHAIN_ID, header.height, 1, voted, time_ns)
            signature = self.signers[validator.public_key].sign(message)
            signatures.append(CommitSig(flag, validator.address, time_ns, signature))
        return Commit(header.height, 1, block_id, tuple(signatures))

    def close(self) -> None:
        """Let go of the store."""
        self.store.close()

    def _set_in_state(self) -> ValidatorSet:
        return ValidatorSet.ordered([Validator(*each) for each in validator_set(BlockState(self.store))])


def signer_of(seed: int) -> SoloSigner:
    """Return the validator of a seed."""
    return SoloSigner(bytes([seed]) * 32)


def key_hex(seed: int) -> str:
    """Return the public key of a seed's validator."""
    return signer_of(seed).public_key.hex()
