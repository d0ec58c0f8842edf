"""CometBFT v0.40's headers, commits and validator sets: structure, hashes, sign bytes. Only Ed25519 validators.

Times are whole nanoseconds since 1970 (negative before), so that nothing of a CometBFT timestamp is lost.
Source: github.com/cometbft/cometbft v0.40.0, types/ and proto/tendermint/types/.
"""

import hashlib
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from feiqian.consensus import merkle, protobuf
from feiqian.core.hashing import VALIDATOR_ADDRESS_BYTES, validator_address

BLOCK_PROTOCOL = 11
BLOCK_PART_BYTES = 65536
MAX_TOTAL_POWER = (2**63 - 1) // 8
ADDRESS_BYTES = VALIDATOR_ADDRESS_BYTES
ZERO_TIME_NS = -62_135_596_800_000_000_000
"""Go's zero time, 0001-01-01T00:00:00Z, which stands in absent signatures."""

_PRECOMMIT = 2


class PartSetHeader(NamedTuple):
    """How many 64 KiB parts the encoded block has, and their Merkle root."""

    total: int = 0
    hash: bytes = b""

    def encode(self) -> bytes:
        """Return the protobuf form."""
        return protobuf.integer(1, self.total) + protobuf.data(2, self.hash)


class BlockID(NamedTuple):
    """The header's hash and the block's part set; both empty for nil."""

    hash: bytes = b""
    parts: PartSetHeader = PartSetHeader()

    def encode(self) -> bytes:
        """Return the protobuf form (the canonical form has the same fields)."""
        return protobuf.data(1, self.hash) + protobuf.message(2, self.parts.encode())


NIL_BLOCK = BlockID()


class Header(NamedTuple):
    """A block's header. `app_hash` and `last_results_hash` are those that the block before left."""

    block_version: int
    app_version: int
    chain_id: str
    height: int
    time_ns: int
    last_block_id: BlockID
    last_commit_hash: bytes
    data_hash: bytes
    validators_hash: bytes
    next_validators_hash: bytes
    consensus_hash: bytes
    app_hash: bytes
    last_results_hash: bytes
    evidence_hash: bytes
    proposer_address: bytes

    def hash(self) -> bytes:
        """Return the block hash: the Merkle root of the header's fields, each encoded by itself."""
        hashes = (
            self.last_commit_hash,
            self.data_hash,
            self.validators_hash,
            self.next_validators_hash,
            self.consensus_hash,
            self.app_hash,
            self.last_results_hash,
            self.evidence_hash,
            self.proposer_address,
        )
        return merkle.root(
            [
                self._encode_version(),
                protobuf.data(1, self.chain_id.encode()),
                protobuf.integer(1, self.height),
                protobuf.timestamp(self.time_ns),
                self.last_block_id.encode(),
                *(protobuf.data(1, value) for value in hashes),
            ]
        )

    def encode(self) -> bytes:
        """Return the protobuf form, as it stands in the encoded block."""
        return b"".join(
            (
                protobuf.message(1, self._encode_version()),
                protobuf.data(2, self.chain_id.encode()),
                protobuf.integer(3, self.height),
                protobuf.message(4, protobuf.timestamp(self.time_ns)),
                protobuf.message(5, self.last_block_id.encode()),
                protobuf.data(6, self.last_commit_hash),
                protobuf.data(7, self.data_hash),
                protobuf.data(8, self.validators_hash),
                protobuf.data(9, self.next_validators_hash),
                protobuf.data(10, self.consensus_hash),
                protobuf.data(11, self.app_hash),
                protobuf.data(12, self.last_results_hash),
                protobuf.data(13, self.evidence_hash),
                protobuf.data(14, self.proposer_address),
            )
        )

    def _encode_version(self) -> bytes:
        return protobuf.integer(1, self.block_version) + protobuf.integer(2, self.app_version)


class BlockIDFlag(IntEnum):
    """What a validator's precommit was for."""

    ABSENT = 1
    COMMIT = 2
    NIL = 3


class CommitSig(NamedTuple):
    """One validator's precommit inside a commit."""

    flag: BlockIDFlag
    validator_address: bytes
    timestamp_ns: int
    signature: bytes

    def encode(self) -> bytes:
        """Return the protobuf form."""
        return (
            protobuf.integer(1, self.flag)
            + protobuf.data(2, self.validator_address)
            + protobuf.message(3, protobuf.timestamp(self.timestamp_ns))
            + protobuf.data(4, self.signature)
        )


ABSENT_SIGNATURE = CommitSig(BlockIDFlag.ABSENT, b"", ZERO_TIME_NS, b"")


class Commit(NamedTuple):
    """The precommits that decided a block, one place for each validator of its set, in the set's order."""

    height: int
    round: int
    block_id: BlockID
    signatures: tuple[CommitSig, ...]

    def hash(self) -> bytes:
        """Return what the next header calls `last_commit_hash`."""
        return merkle.root([signature.encode() for signature in self.signatures])

    def encode(self) -> bytes:
        """Return the protobuf form, as it stands in the next encoded block."""
        return (
            protobuf.integer(1, self.height)
            + protobuf.integer(2, self.round)
            + protobuf.message(3, self.block_id.encode())
            + b"".join(protobuf.message(4, signature.encode()) for signature in self.signatures)
        )

    def sign_bytes(self, chain_id: str, index: int) -> bytes:
        """Return what the validator at `index` signed; it must not be absent."""
        signature = self.signatures[index]
        block_id = self.block_id if signature.flag == BlockIDFlag.COMMIT else NIL_BLOCK
        return vote_sign_bytes(chain_id, self.height, self.round, block_id, signature.timestamp_ns)


NO_COMMIT = Commit(0, 0, NIL_BLOCK, ())
"""The last commit of a chain's first block."""


class Validator(NamedTuple):
    """A validator's Ed25519 key and voting power. The proposer's priority is no part: no hash covers it."""

    public_key: bytes
    power: int

    @property
    def address(self) -> bytes:
        """The first 20 bytes of SHA-256 of the key."""
        return validator_address(self.public_key)

    def encode(self) -> bytes:
        """Return the protobuf SimpleValidator, the leaf of the set's hash."""
        return protobuf.message(1, protobuf.data(1, self.public_key)) + protobuf.integer(2, self.power)


class ValidatorSet(NamedTuple):
    """The validators of one height, by power descending, then address ascending."""

    validators: tuple[Validator, ...]

    @classmethod
    def ordered(cls, validators: Sequence[Validator]) -> "ValidatorSet":
        """Return the set in CometBFT's order."""
        return cls(tuple(sorted(validators, key=lambda validator: (-validator.power, validator.address))))

    def hash(self) -> bytes:
        """Return what a header calls `validators_hash`."""
        return merkle.root([validator.encode() for validator in self.validators])

    @property
    def total_power(self) -> int:
        """The sum of all powers."""
        return sum(validator.power for validator in self.validators)


def vote_sign_bytes(chain_id: str, height: int, round_: int, block_id: BlockID, timestamp_ns: int) -> bytes:
    """Return what a precommit signs: the length-delimited protobuf CanonicalVote."""
    vote = (
        protobuf.integer(1, _PRECOMMIT)
        + protobuf.fixed(2, height)
        + protobuf.fixed(3, round_)
        + (b"" if block_id == NIL_BLOCK else protobuf.message(4, block_id.encode()))
        + protobuf.message(5, protobuf.timestamp(timestamp_ns))
        + protobuf.data(6, chain_id.encode())
    )
    return protobuf.varint(len(vote)) + vote


def data_hash(transactions: Sequence[bytes]) -> bytes:
    """Return a header's `data_hash`; what CometBFT calls a transaction is a bundle here."""
    return merkle.root([hashlib.sha256(transaction).digest() for transaction in transactions])


def results_hash(bundle_results: Sequence[bytes]) -> bytes:
    """Return the next header's `last_results_hash`: each bundle's ExecTxResult is code 0, gas 0 and this data."""
    return merkle.root([protobuf.data(2, data) for data in bundle_results])


def consensus_hash(max_bytes: int, max_gas: int) -> bytes:
    """Return a header's `consensus_hash`, which covers the block size and gas limits."""
    return hashlib.sha256(protobuf.integer(1, max_bytes) + protobuf.integer(2, max_gas)).digest()


def part_set_header(header: Header, transactions: Sequence[bytes], last_commit: Commit) -> PartSetHeader:
    """Return the part set of a block without evidence, cut from its protobuf encoding."""
    data = b"".join(piece for transaction in transactions for piece in (_data_prefix(transaction), transaction))
    commit = last_commit.encode()
    block = b"".join(
        (
            protobuf.message(1, header.encode()),
            b"\x12" + protobuf.varint(len(data)),
            data,
            b"\x1a\x00",
            b"\x22" + protobuf.varint(len(commit)),
            commit,
        )
    )
    view = memoryview(block)
    parts = [view[at : at + BLOCK_PART_BYTES] for at in range(0, len(block), BLOCK_PART_BYTES)]
    return PartSetHeader(len(parts), merkle.root(parts))


def _data_prefix(transaction: bytes) -> bytes:
    return b"\x0a" + protobuf.varint(len(transaction))
