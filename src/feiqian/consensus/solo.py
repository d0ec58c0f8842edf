"""The solo chain's signatures: a one-validator CometBFT chain, header and commit made in this process.

What it makes, CometBFT's own light client accepts. One thing differs from a CometBFT chain: a commit's time is its own
block's, since the next block's is not known yet, so a header's time is not the median of the commit before it.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from feiqian.consensus import comet_json, headers, light, merkle
from feiqian.consensus.comet_json import KeyJson, MalformedJson
from feiqian.consensus.genesis_file import ConsensusParams, Genesis
from feiqian.consensus.headers import (
    BLOCK_PROTOCOL,
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
from feiqian.consensus.key_files import read_private_key, write_key_file
from feiqian.consensus.light import LightBlock
from feiqian.core.errors import Fault
from feiqian.state.archive import ArchiveRow

_NS_PER_MS = 1_000_000


class _KeyFileJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    address: str
    pub_key: KeyJson
    priv_key: KeyJson


class SoloSigner:
    """A node's validator key. Its file is CometBFT's `priv_validator_key.json`, readable by its owner only."""

    __slots__ = ("_private_key", "address", "public_key")

    def __init__(self, seed: bytes) -> None:
        """`seed`: the 32 secret bytes of an Ed25519 key (RFC 8032)."""
        self.public_key, self._private_key = crypto_sign_seed_keypair(seed)
        self.address = headers.validator_address(self.public_key)

    @classmethod
    def create(cls, path: Path) -> "SoloSigner":
        """Make a new key and write its file, whole or not at all.

        Raises:
            FileExistsError: there is a file already; a validator's key is never overwritten.
        """
        signer = cls(os.urandom(32))
        write_key_file(path, signer._encode())
        return signer

    @classmethod
    def load(cls, path: Path) -> "SoloSigner":
        """Read a key file.

        Raises:
            Fault: not CometBFT's form, not Ed25519, or address, public and private key do not belong together.
        """
        try:
            value = msgspec.json.decode(path.read_bytes(), type=_KeyFileJson)
            private_key = read_private_key(value.priv_key)
            public_key = comet_json.read_public_key(value.pub_key, "pub_key")
            address = comet_json.read_hex(value.address, "address", (headers.ADDRESS_BYTES,))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MalformedJson) as error:
            raise Fault(f"validator key file {path.name}: {error}") from None
        signer = cls(private_key[:32])
        if (signer._private_key, signer.public_key, signer.address) != (private_key, public_key, address):
            raise Fault(f"validator key file {path.name}: address, public and private key do not belong together")
        return signer

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature of a message."""
        return crypto_sign(message, self._private_key)[:64]

    def _encode(self) -> bytes:
        public_key = KeyJson(comet_json.PUBLIC_KEY_TYPE, comet_json.write_base64(self.public_key))
        private_key = KeyJson(comet_json.PRIVATE_KEY_TYPE, comet_json.write_base64(self._private_key))
        value = _KeyFileJson(comet_json.write_hex(self.address), public_key, private_key)
        return msgspec.json.format(msgspec.json.encode(value), indent=2)


def make_archive_row(
    genesis: Genesis,
    signer: SoloSigner,
    previous: ArchiveRow | None,
    *,
    height: int,
    time_ms: int,
    bundles: Sequence[bytes],
    app_hash_before: bytes,
    results_before: Sequence[bytes],
    app_version: int,
    params: ConsensusParams | None = None,
) -> ArchiveRow:
    """Return header, commit and validators of a height, signed.

    `previous` is the row of `height` - 1, None for the first block; `app_hash_before` the state root and
    `results_before` the bundle results that `height` - 1 left (none before the first); `params` those in force at
    `height`, the genesis' own unless given.

    Raises:
        Fault: the genesis names another validator, or `previous` is not the row before.
    """
    validators = ValidatorSet((Validator(signer.public_key, genesis.validators[0].power),))
    if validators != genesis.validator_set():
        raise Fault("a solo ledger has one validator; the genesis names another key than this node's")
    last_commit = _last_commit(genesis, previous, height)
    header = make_header(
        genesis,
        validators,
        signer.address,
        last_commit,
        height=height,
        time_ms=time_ms,
        bundles=bundles,
        app_hash_before=app_hash_before,
        results_before=results_before,
        app_version=app_version,
        params=params or genesis.params,
    )
    block_id = BlockID(header.hash(), headers.part_set_header(header, bundles, last_commit))
    return light.archive_row(LightBlock(header, _sign(signer, header, block_id), validators))


def make_header(
    genesis: Genesis,
    validators: ValidatorSet,
    proposer_address: bytes,
    last_commit: Commit,
    *,
    height: int,
    time_ms: int,
    bundles: Sequence[bytes],
    app_hash_before: bytes,
    results_before: Sequence[bytes],
    app_version: int,
    params: ConsensusParams,
) -> Header:
    """Return the header of a block without evidence, whose validators stay as they are. See `make_archive_row`."""
    validators_hash = validators.hash()
    return Header(
        block_version=BLOCK_PROTOCOL,
        app_version=app_version,
        chain_id=genesis.chain_id,
        height=height,
        time_ns=time_ms * _NS_PER_MS,
        last_block_id=last_commit.block_id,
        last_commit_hash=last_commit.hash(),
        data_hash=headers.data_hash(bundles),
        validators_hash=validators_hash,
        next_validators_hash=validators_hash,
        consensus_hash=params.hash(),
        app_hash=app_hash_before,
        last_results_hash=headers.results_hash(results_before),
        evidence_hash=merkle.EMPTY_HASH,
        proposer_address=proposer_address,
    )


def _last_commit(genesis: Genesis, previous: ArchiveRow | None, height: int) -> Commit:
    if previous is None:
        if height != genesis.initial_height:
            raise Fault(f"block {height} needs the archive row of block {height - 1}")
        return NO_COMMIT
    if previous.height != height - 1:
        raise Fault(f"block {height} was given the archive row of block {previous.height}")
    return comet_json.read_commit(comet_json.parse(previous.commit, comet_json.CommitJson, "commit"))


def _sign(signer: SoloSigner, header: Header, block_id: BlockID) -> Commit:
    message = headers.vote_sign_bytes(header.chain_id, header.height, 0, block_id, header.time_ns)
    signature = CommitSig(BlockIDFlag.COMMIT, signer.address, header.time_ns, signer.sign(message))
    assert block_id != NIL_BLOCK
    return Commit(header.height, 0, block_id, (signature,))
