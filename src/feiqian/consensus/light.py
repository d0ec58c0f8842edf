"""Light verification: from a genesis or a known block to a later one, by signatures of validators already trusted.

CometBFT v0.40's rules (light/verifier.go, types/validation.go) at trust level 1/3, with two differences. Every
signature present is checked, nil votes too, so that no byte of a trail can be changed unseen. And there is no clock
here: a trail is judged years later and offline, so the trusting period is not enforced; whoever verifies decides
whether validators that have since left still deserve trust, or names a newer block with `--trusted`.

A signature counts where CometBFT counts it (ZIP 215), also one that libsodium refuses: only a malicious validator makes
such, and must not be able to part those who verify from the network.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from feiqian.consensus import comet_json, zip215
from feiqian.consensus.comet_json import LightBlockJson
from feiqian.consensus.genesis_file import Genesis
from feiqian.consensus.headers import (
    BLOCK_PROTOCOL,
    MAX_TOTAL_POWER,
    BlockIDFlag,
    Commit,
    Header,
    ValidatorSet,
)
from feiqian.core.signatures import ED25519, PublicKey, verify
from feiqian.state.archive import ArchiveRow

MAX_TRAIL_BLOCKS = 1_000


class InvalidTrail(Exception):
    """A light block or trail that proves nothing; the message names height and rule."""


class LightBlock(NamedTuple):
    """A height's header, the commit that decided it and the validators whose commit it is."""

    header: Header
    commit: Commit
    validators: ValidatorSet


class KnownBlock(NamedTuple):
    """A block that the verifier trusts already, by height and header hash."""

    height: int
    hash: bytes


class Trust(NamedTuple):
    """What a later block is judged by: the validators at one height, and the hash of those of the next."""

    chain_id: str
    height: int
    time_ns: int
    validators: ValidatorSet
    next_validators_hash: bytes


class Walk(NamedTuple):
    """Where a verified trail ended, and how it began in words."""

    last: LightBlock
    trusted: str


def trust_in_genesis(genesis: Genesis) -> Trust:
    """Return the trust that a genesis file gives; its first block may bear the genesis time itself."""
    validators = genesis.validator_set()
    return Trust(genesis.chain_id, genesis.initial_height - 1, genesis.time_ns - 1, validators, validators.hash())


def trust_in_block(block: LightBlock) -> Trust:
    """Return the trust that a verified block gives."""
    header = block.header
    return Trust(header.chain_id, header.height, header.time_ns, block.validators, header.next_validators_hash)


def verify_block(trust: Trust, block: LightBlock) -> Trust:
    """Verify a later block and return the trust in it: adjacent if it is the next height, otherwise skipping.

    Raises:
        InvalidTrail: the rule that the block breaks.
    """
    check_block(trust.chain_id, block)
    _check_after(trust, block.header)
    if not reaches(trust, block):
        raise InvalidTrail(_unreached(trust, block.header))
    return trust_in_block(block)


def check_block(chain_id: str, block: LightBlock) -> None:
    """Check all that needs no earlier block: header, commit and validators belong together, every signature, over 2/3.

    Raises:
        InvalidTrail: the rule that is broken.
    """
    header = block.header
    if header.chain_id != chain_id:
        raise InvalidTrail(f"height {header.height}: the header is of chain {header.chain_id!r}, not {chain_id!r}")
    if header.block_version != BLOCK_PROTOCOL:
        raise InvalidTrail(f"height {header.height}: block protocol {header.block_version}; expected {BLOCK_PROTOCOL}")
    _check_validators(header, block.validators)
    commit = block.commit
    if commit.height != header.height:
        raise InvalidTrail(f"height {header.height}: the commit is of height {commit.height}")
    if commit.block_id.hash != header.hash():
        raise InvalidTrail(f"height {header.height}: the commit signs another header than this one")
    _check_signatures(chain_id, commit, block.validators)


def reaches(trust: Trust, block: LightBlock) -> bool:
    """Say whether trust leads to a block that is sound in itself.

    To the next height by the validators announced for it; further by more than 1/3 of the trusted power among those
    who signed.
    """
    if block.header.height == trust.height + 1:
        return block.header.validators_hash == trust.next_validators_hash
    trusted_power = {validator.public_key: validator.power for validator in trust.validators.validators}
    pairs = zip(block.validators.validators, block.commit.signatures, strict=False)
    signed = sum(
        trusted_power.get(validator.public_key, 0)
        for validator, signature in pairs
        if signature.flag == BlockIDFlag.COMMIT
    )
    return signed * 3 > trust.validators.total_power


def verify_trail(genesis: Genesis, trail: Sequence[LightBlock], known: KnownBlock | None = None) -> Walk:
    """Verify each block of a trail by the one before it, the first by the genesis or as the known block itself.

    Raises:
        InvalidTrail: a block fails, the trail is empty or too long, or it has a block that it could do without.
    """
    return verify_trail_from(trust_in_genesis(genesis), name_of(genesis), trail, known)


def name_of(genesis: Genesis) -> str:
    """Return how people tell a genesis from others."""
    return f"the genesis of {genesis.chain_id} (SHA-256 {genesis.digest().hex()})"


def verify_trail_from(trust: Trust, trusted: str, trail: Sequence[LightBlock], known: KnownBlock | None = None) -> Walk:
    """Verify a trail by the trust in what is before a chain's first block, called `trusted`. See `verify_trail`.

    Raises:
        InvalidTrail: see `verify_trail`.
    """
    if not 1 <= len(trail) <= MAX_TRAIL_BLOCKS:
        raise InvalidTrail(f"a trail of {len(trail)} blocks; expected 1 to {MAX_TRAIL_BLOCKS}")
    steps = trail
    if known is not None:
        _check_known(trust.chain_id, trail[0], known)
        trusted = f"block {known.height} of {trust.chain_id} (header hash {known.hash.hex()})"
        trust = trust_in_block(trail[0])
        steps = trail[1:]
    for place, block in enumerate(steps):
        before = trust
        trust = verify_block(before, block)
        follower = steps[place + 1] if place + 1 < len(steps) else None
        if follower is not None and follower.header.height > block.header.height and reaches(before, follower):
            raise InvalidTrail(f"height {block.header.height}: the trail does without this block; leave it out")
    return Walk(trail[-1], trusted)


def build_trail(
    fetch: Callable[[int], LightBlock | None], genesis: Genesis, height: int, known_height: int | None = None
) -> list[LightBlock]:
    """Return the trail to `height` that `verify_trail` accepts, of blocks that this node archived itself.

    `fetch` returns the last archived block up to a height, None where there is none: of those long past only some are
    kept. `known_height` starts the trail at a block that the verifier knows.

    Raises:
        InvalidTrail: the known block lies beyond `height`, or the archive's own blocks do not lead there.
    """
    trail: list[LightBlock] = []
    trust = trust_in_genesis(genesis)
    if known_height is not None:
        if known_height > height:
            raise InvalidTrail(f"the trusted block {known_height} lies after block {height}; name an earlier one")
        trail.append(_archived(fetch, known_height))
        trust = trust_in_block(trail[0])
    start = len(trail)
    while trust.height < height:
        block = _furthest(fetch, trust, height)
        trail.append(block)
        trust = trust_in_block(block)
    return trail[:start] + _without_needless(trail, start, genesis)


def light_block(row: ArchiveRow) -> LightBlock:
    """Return the light block that an archive row holds.

    Raises:
        MalformedJson: the row was damaged.
    """
    header = comet_json.parse(row.header, comet_json.HeaderJson, "header")
    commit = comet_json.parse(row.commit, comet_json.CommitJson, "commit")
    validators = comet_json.parse(row.validators, comet_json.ValidatorSetJson, "validators")
    return LightBlock(
        comet_json.read_header(header), comet_json.read_commit(commit), comet_json.read_validators(validators)
    )


def archive_row(block: LightBlock) -> ArchiveRow:
    """Return the archive row that holds a light block."""
    return ArchiveRow(
        block.header.height,
        msgspec.json.encode(comet_json.write_header(block.header)),
        msgspec.json.encode(comet_json.write_commit(block.commit)),
        msgspec.json.encode(comet_json.write_validators(block.validators)),
    )


def write_light_block(block: LightBlock) -> LightBlockJson:
    """Return the JSON form of a light block."""
    signed_header = comet_json.SignedHeaderJson(
        comet_json.write_header(block.header), comet_json.write_commit(block.commit)
    )
    return LightBlockJson(signed_header, comet_json.write_validators(block.validators))


def read_light_block(value: LightBlockJson) -> LightBlock:
    """Return the light block of its JSON form.

    Raises:
        MalformedJson: see `comet_json`.
    """
    return LightBlock(
        comet_json.read_header(value.signed_header.header),
        comet_json.read_commit(value.signed_header.commit),
        comet_json.read_validators(value.validator_set),
    )


def _check_after(trust: Trust, header: Header) -> None:
    if header.height <= trust.height:
        raise InvalidTrail(f"height {header.height} does not come after trusted height {trust.height}")
    if header.time_ns <= trust.time_ns:
        raise InvalidTrail(f"height {header.height}: its time is not after that of height {trust.height}")


def _unreached(trust: Trust, header: Header) -> str:
    if header.height == trust.height + 1:
        return f"height {header.height}: its validators are not those that height {trust.height} announced"
    return (
        f"height {header.height}: not more than 1/3 of the power trusted at height {trust.height} signed it; "
        "a block between the two is missing"
    )


def _check_validators(header: Header, validators: ValidatorSet) -> None:
    if validators.hash() != header.validators_hash:
        raise InvalidTrail(f"height {header.height}: the validator set is not the one that the header names")
    keys = [validator.public_key for validator in validators.validators]
    if len(set(keys)) != len(keys):
        raise InvalidTrail(f"height {header.height}: a validator stands twice in its set")
    if validators.total_power > MAX_TOTAL_POWER:
        raise InvalidTrail(f"height {header.height}: total power {validators.total_power} is over {MAX_TOTAL_POWER}")


def _check_signatures(chain_id: str, commit: Commit, validators: ValidatorSet) -> None:
    if len(commit.signatures) != len(validators.validators):
        raise InvalidTrail(
            f"height {commit.height}: {len(commit.signatures)} signatures for {len(validators.validators)} validators"
        )
    signed = 0
    for place, (signature, validator) in enumerate(zip(commit.signatures, validators.validators, strict=True)):
        if signature.flag == BlockIDFlag.ABSENT:
            continue
        if signature.validator_address != validator.address:
            raise InvalidTrail(f"height {commit.height}: signature {place} names another validator than its place")
        if not _is_signed(validator.public_key, commit.sign_bytes(chain_id, place), signature.signature):
            raise InvalidTrail(f"height {commit.height}: signature {place} does not verify")
        if signature.flag == BlockIDFlag.COMMIT:
            signed += validator.power
    if signed * 3 <= validators.total_power * 2:
        raise InvalidTrail(
            f"height {commit.height}: power {signed} of {validators.total_power} signed; more than 2/3 is needed"
        )


def _is_signed(public_key: bytes, message: bytes, signature: bytes) -> bool:
    return verify(PublicKey(ED25519, public_key), message, signature) or zip215.verify(public_key, message, signature)


def _check_known(chain_id: str, block: LightBlock, known: KnownBlock) -> None:
    if block.header.height != known.height:
        raise InvalidTrail(f"the trail starts at height {block.header.height}, not at trusted block {known.height}")
    if block.header.hash() != known.hash:
        raise InvalidTrail(f"height {known.height}: the header's hash is not the trusted {known.hash.hex()}")
    check_block(chain_id, block)


def _archived(fetch: Callable[[int], LightBlock | None], height: int) -> LightBlock:
    block = fetch(height)
    if block is None or block.header.height != height:
        raise InvalidTrail(f"block {height} is not archived here")
    return block


def _furthest(fetch: Callable[[int], LightBlock | None], trust: Trust, height: int) -> LightBlock:
    """Return the block nearest to `height` that a bisection finds within reach of `trust`."""
    block = _archived(fetch, height)
    if reaches(trust, block):
        return block
    low, high, best = trust.height, block.header.height, None
    while low + 1 < high:
        middle = (low + high) // 2
        found = fetch(middle)
        if found is None or found.header.height <= trust.height:
            low = middle
        elif reaches(trust, found):
            low, best = middle, found
        else:
            high, block = found.header.height, found
    if best is None:
        raise InvalidTrail(_unreached(trust, block.header))
    return best


def _without_needless(trail: list[LightBlock], start: int, genesis: Genesis) -> list[LightBlock]:
    """Return the trail's blocks from `start` on, without those that the next one is reached without."""
    trust = trust_in_block(trail[start - 1]) if start else trust_in_genesis(genesis)
    kept: list[LightBlock] = []
    trusts = [trust]
    for block in trail[start:]:
        while kept and reaches(trusts[-2], block):
            kept.pop()
            trusts.pop()
        kept.append(block)
        trusts.append(trust_in_block(block))
    return kept
