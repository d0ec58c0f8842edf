"""Between CometBFT's messages and this ledger's values: times, validators, parameters, results, misbehaviour."""

from collections.abc import Iterable
from typing import Literal, NamedTuple

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from feiqian.consensus.comet import abci_pb2 as pb
from feiqian.consensus.genesis_file import MAX_BLOCK_BYTES, ConsensusParams
from feiqian.core.errors import Fault

NS_PER_SECOND = 1_000_000_000
KEY_BYTES = 32

_KINDS: dict[int, Literal["duplicate-vote", "light-client-attack"]] = {
    pb.DUPLICATE_VOTE: "duplicate-vote",
    pb.LIGHT_CLIENT_ATTACK: "light-client-attack",
}


class Misbehaviour(NamedTuple):
    """What a validator (20-byte address) did at a height, with the power it had there."""

    kind: Literal["duplicate-vote", "light-client-attack"]
    address: bytes
    height: int
    time_ns: int
    power: int


def time_ns(timestamp: Timestamp) -> int:
    """Return nanoseconds since 1970, negative before."""
    return timestamp.seconds * NS_PER_SECOND + timestamp.nanos


def timestamp(time_ns: int) -> Timestamp:
    """Return the protobuf form of nanoseconds since 1970."""
    seconds, nanos = divmod(time_ns, NS_PER_SECOND)
    return Timestamp(seconds=seconds, nanos=nanos)


def exec_result(digest: bytes) -> pb.ExecTxResult:
    """Return what a bundle did: done, with the digest of its results. `headers.results_hash` hashes the same."""
    return pb.ExecTxResult(data=digest)


def validator_update(key: bytes, power: int) -> pb.ValidatorUpdate:
    """Return an Ed25519 validator with the power it has from now on; 0 takes it out."""
    return pb.ValidatorUpdate(pub_key=pb.PublicKey(ed25519=key), power=power)


def validators(updates: Iterable[pb.ValidatorUpdate]) -> tuple[tuple[bytes, int], ...]:
    """Return key and power of each.

    Raises:
        Fault: a key that is not Ed25519.
    """
    return tuple([(_ed25519(update.pub_key), update.power) for update in updates])


def misbehaviour(given: pb.Misbehavior) -> Misbehaviour:
    """Return what CometBFT found a validator to have done.

    Raises:
        Fault: a kind that CometBFT v0.40 does not have.
    """
    kind = _KINDS.get(given.type)
    if kind is None:
        raise Fault(f"CometBFT tells of misbehaviour of kind {given.type}; known are {sorted(_KINDS)}")
    return Misbehaviour(kind, given.validator.address, given.height, time_ns(given.time), given.validator.power)


def params(given: pb.ConsensusParams) -> ConsensusParams:
    """Return the parameters; all of them are present, as in InitChain."""
    age = given.evidence.max_age_duration
    return ConsensusParams(
        block_max_bytes=given.block.max_bytes,
        block_max_gas=given.block.max_gas,
        evidence_max_age_blocks=given.evidence.max_age_num_blocks,
        evidence_max_age_ns=age.seconds * NS_PER_SECOND + age.nanos,
        evidence_max_bytes=given.evidence.max_bytes,
        pub_key_types=tuple(given.validator.pub_key_types),
        app_version=given.version.app,
        vote_extensions_enable_height=given.abci.vote_extensions_enable_height,
        authority=given.authority.authority,
    )


def consensus_params(params: ConsensusParams) -> pb.ConsensusParams:
    """Return all of the parameters."""
    return pb.ConsensusParams(
        block=_block(params),
        evidence=_evidence(params),
        validator=pb.ValidatorParams(pub_key_types=params.pub_key_types),
        version=pb.VersionParams(app=params.app_version),
        abci=pb.AbciParams(vote_extensions_enable_height=params.vote_extensions_enable_height),
        authority=pb.AuthorityParams(authority=params.authority),
    )


def param_updates(
    genesis_params: ConsensusParams, max_block_bytes: int | None, app_version: int | None
) -> pb.ConsensusParams | None:
    """Return what changes the parameters as a block decided, None for nothing; whatever is not given stays.

    Evidence in a block may not be larger than the block (CometBFT ends itself otherwise): it shrinks with it.
    """
    if max_block_bytes is None and app_version is None:
        return None
    updates = pb.ConsensusParams()
    if max_block_bytes is not None:
        bound_bytes = MAX_BLOCK_BYTES if max_block_bytes == -1 else max_block_bytes
        changed = genesis_params._replace(
            block_max_bytes=max_block_bytes, evidence_max_bytes=min(genesis_params.evidence_max_bytes, bound_bytes)
        )
        updates.block.CopyFrom(_block(changed))
        updates.evidence.CopyFrom(_evidence(changed))
    if app_version is not None:
        updates.version.CopyFrom(pb.VersionParams(app=app_version))
    return updates


def _block(params: ConsensusParams) -> pb.BlockParams:
    return pb.BlockParams(max_bytes=params.block_max_bytes, max_gas=params.block_max_gas)


def _evidence(params: ConsensusParams) -> pb.EvidenceParams:
    seconds, nanos = divmod(params.evidence_max_age_ns, NS_PER_SECOND)
    return pb.EvidenceParams(
        max_age_num_blocks=params.evidence_max_age_blocks,
        max_age_duration=Duration(seconds=seconds, nanos=nanos),
        max_bytes=params.evidence_max_bytes,
    )


def _ed25519(key: pb.PublicKey) -> bytes:
    if len(key.ed25519) != KEY_BYTES:
        raise Fault("CometBFT names a validator whose key is not Ed25519; the genesis allows no other")
    return key.ed25519
