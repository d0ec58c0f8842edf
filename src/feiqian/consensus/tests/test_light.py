"""Light verification agrees with CometBFT's verdict on sound and forged steps; trails refuse what they do not need."""

import base64
import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import pytest

from feiqian.consensus import headers, light
from feiqian.consensus.comet_json import LightBlockJson, MalformedJson, parse
from feiqian.consensus.genesis_file import ConsensusParams, Genesis, GenesisValidator
from feiqian.consensus.headers import (
    ABSENT_SIGNATURE,
    MAX_TOTAL_POWER,
    NIL_BLOCK,
    BlockID,
    BlockIDFlag,
    Commit,
    CommitSig,
    Header,
    PartSetHeader,
    Validator,
    ValidatorSet,
)
from feiqian.consensus.light import InvalidTrail, KnownBlock, LightBlock, build_trail, verify_trail
from feiqian.consensus.solo import SoloSigner

CHAIN_ID = "sample-1"
START_NS = 1_767_225_600_000_000_000
SECOND_NS = 1_000_000_000


class Signers(NamedTuple):
    """Validators with their keys, in the set's order."""

    keys: tuple[SoloSigner, ...]
    powers: tuple[int, ...]

    def validators(self) -> ValidatorSet:
        return ValidatorSet(
            tuple(Validator(key.public_key, power) for key, power in zip(self.keys, self.powers, strict=True))
        )


def signers(*seeds: int, powers: Sequence[int] | None = None) -> Signers:
    """Keys of equal power unless given, in CometBFT's order."""
    given = dict(zip([SoloSigner(bytes([seed]) * 32) for seed in seeds], powers or [1] * len(seeds), strict=True))
    ordered = sorted(given, key=lambda key: (-given[key], key.address))
    return Signers(tuple(ordered), tuple(given[key] for key in ordered))


def make_header(height: int, now: Signers, after: Signers | None = None, chain_id: str = CHAIN_ID) -> Header:
    return Header(
        block_version=11,
        app_version=1,
        chain_id=chain_id,
        height=height,
        time_ns=START_NS + height * SECOND_NS,
        last_block_id=BlockID(b"\x01" * 32, PartSetHeader(1, b"\x02" * 32)),
        last_commit_hash=b"\x03" * 32,
        data_hash=b"\x04" * 32,
        validators_hash=now.validators().hash(),
        next_validators_hash=(after or now).validators().hash(),
        consensus_hash=b"\x05" * 32,
        app_hash=height.to_bytes(32, "big"),
        last_results_hash=b"\x06" * 32,
        evidence_hash=b"\x07" * 32,
        proposer_address=now.keys[0].address,
    )


def sign(header: Header, by: Signers, flags: Sequence[BlockIDFlag] | None = None, chain_id: str = CHAIN_ID) -> Commit:
    block_id = BlockID(header.hash(), PartSetHeader(1, b"\x08" * 32))
    signatures = []
    for key, flag in zip(by.keys, flags or [BlockIDFlag.COMMIT] * len(by.keys), strict=True):
        if flag == BlockIDFlag.ABSENT:
            signatures.append(ABSENT_SIGNATURE)
            continue
        voted = block_id if flag == BlockIDFlag.COMMIT else NIL_BLOCK
        message = headers.vote_sign_bytes(chain_id, header.height, 0, voted, header.time_ns)
        signatures.append(CommitSig(flag, key.address, header.time_ns, key.sign(message)))
    return Commit(header.height, 0, block_id, tuple(signatures))


def make_block(
    height: int, now: Signers, after: Signers | None = None, flags: Sequence[BlockIDFlag] | None = None
) -> LightBlock:
    header = make_header(height, now, after)
    return LightBlock(header, sign(header, now, flags), now.validators())


def make_genesis(first: Signers) -> Genesis:
    validators = tuple(
        GenesisValidator(validator.public_key, validator.power, "node") for validator in first.validators().validators
    )
    return Genesis(START_NS, CHAIN_ID, 1, ConsensusParams(4_194_304), validators, b"", {})


FOUR = signers(1, 2, 3, 4)
GENESIS = make_genesis(FOUR)
C, N, A = BlockIDFlag.COMMIT, BlockIDFlag.NIL, BlockIDFlag.ABSENT


def moving_chain(length: int) -> dict[int, LightBlock]:
    """Each height drops the oldest of four validators and takes in a new one."""
    sets = [signers(*range(height, height + 4)) for height in range(1, length + 2)]
    return {height: make_block(height, sets[height - 1], sets[height]) for height in range(1, length + 1)}


def test_verdicts_are_cometbfts(cometbft: Callable[..., bytes]) -> None:
    accepted = refused = 0
    for step in json.loads(cometbft("judge", "20260201", "1200")):
        blocks = []
        for name in ("trusted", "untrusted"):
            data = json.dumps(step[name], separators=(",", ":")).encode()
            blocks.append(light.read_light_block(parse(data, LightBlockJson, name)))
        try:
            light.verify_block(light.trust_in_block(blocks[0]), blocks[1])
            verdict = ""
            accepted += 1
        except InvalidTrail as error:
            verdict = str(error)
            refused += 1
        assert bool(verdict) == bool(step["verdict"]), (step["forgery"], step["verdict"], verdict)
    assert accepted > 200
    assert refused > 200


def test_a_trail_of_one_block_reaches_far_with_unchanged_validators() -> None:
    walk = verify_trail(GENESIS, [make_block(1_000, FOUR)])
    assert walk.last.header.height == 1_000
    assert walk.trusted.startswith("the genesis of sample-1 (SHA-256 ")


def test_the_first_block_may_bear_the_genesis_time() -> None:
    header = make_header(1, FOUR)._replace(time_ns=START_NS)
    verify_trail(GENESIS, [LightBlock(header, sign(header, FOUR), FOUR.validators())])
    early = make_header(1, FOUR)._replace(time_ns=START_NS - 1)
    with pytest.raises(InvalidTrail, match="not after"):
        verify_trail(GENESIS, [LightBlock(early, sign(early, FOUR), FOUR.validators())])


def test_the_first_block_has_the_genesis_validators() -> None:
    other = signers(1, 2, 3, 5)
    with pytest.raises(InvalidTrail, match="announced"):
        verify_trail(GENESIS, [make_block(1, other)])


@pytest.mark.parametrize("flags", [(C, C, C, C), (C, C, C, A), (C, C, C, N), (N, C, C, C)])
def test_more_than_two_thirds_suffice(flags: tuple[BlockIDFlag, ...]) -> None:
    verify_trail(GENESIS, [make_block(9, FOUR, flags=flags)])


@pytest.mark.parametrize("flags", [(C, C, A, A), (C, C, N, N), (A, A, A, A), (N, N, N, N)])
def test_fewer_do_not(flags: tuple[BlockIDFlag, ...]) -> None:
    with pytest.raises(InvalidTrail, match="more than 2/3"):
        verify_trail(GENESIS, [make_block(9, FOUR, flags=flags)])


def test_exactly_two_thirds_do_not() -> None:
    three = signers(1, 2, 3)
    with pytest.raises(InvalidTrail, match="power 2 of 3"):
        verify_trail(make_genesis(three), [make_block(9, three, flags=(C, C, A))])


def test_exactly_one_third_of_trusted_power_does_not() -> None:
    # Of the three trusted, one is left: 1/3 is not more than 1/3.
    with pytest.raises(InvalidTrail, match="more than 1/3"):
        verify_trail(make_genesis(signers(1, 2, 3)), [make_block(9, signers(1, 5, 6))])
    verify_trail(make_genesis(signers(1, 2, 3)), [make_block(9, signers(1, 2, 6))])


def test_trusted_power_counts_not_the_new_one() -> None:
    # Key 1 has 1 of 10 trusted, though it has 100 of 101 in the new set.
    first = signers(1, 2, powers=(1, 9))
    with pytest.raises(InvalidTrail, match="more than 1/3"):
        verify_trail(make_genesis(first), [make_block(9, signers(1, 3, powers=(100, 1)))])


def test_only_votes_for_the_block_count_as_trusted() -> None:
    # Trusted 1 and 2 vote nil or are absent; the strangers alone make 2/3 of the new set.
    later = signers(1, 2, 5, 6, 7, 8, 9)
    flags = [
        {1: N, 2: A}.get(seed, C) for key in later.keys for seed in range(1, 10) if key.address == address_of(seed)
    ]
    with pytest.raises(InvalidTrail, match="more than 1/3"):
        verify_trail(make_genesis(signers(1, 2)), [make_block(9, later, flags=flags)])


def address_of(seed: int) -> bytes:
    return SoloSigner(bytes([seed]) * 32).address


def replaced(block: LightBlock, place: int, **fields: object) -> LightBlock:
    signatures = list(block.commit.signatures)
    signatures[place] = signatures[place]._replace(**fields)  # type: ignore[arg-type]
    return block._replace(commit=block.commit._replace(signatures=tuple(signatures)))


def forged_signature(block: LightBlock) -> LightBlock:
    return replaced(block, 3, signature=bytes(64))


def forged_nil_vote(block: LightBlock) -> LightBlock:
    return replaced(block, 3, flag=N)


def signature_twice(block: LightBlock) -> LightBlock:
    first = block.commit.signatures[0]
    return block._replace(commit=block.commit._replace(signatures=(first, first, first, first)))


def places_swapped(block: LightBlock) -> LightBlock:
    first, second, *rest = block.commit.signatures
    return block._replace(commit=block.commit._replace(signatures=(second, first, *rest)))


def high_s(block: LightBlock) -> LightBlock:
    # S + L signs the same under a lax verifier; RFC 8032 5.1.7 refuses S >= L.
    order = 2**252 + 27742317777372353535851937790883648493
    signature = block.commit.signatures[0].signature
    s = int.from_bytes(signature[32:], "little") + order
    return replaced(block, 0, signature=signature[:32] + s.to_bytes(32, "little"))


def one_validator_twice(block: LightBlock) -> LightBlock:
    one = signers(1)
    twice = Signers(one.keys * 4, one.powers * 4)
    return make_block(block.header.height, twice)


def other_chain(block: LightBlock) -> LightBlock:
    header = make_header(block.header.height, FOUR, chain_id="sample-2")
    return LightBlock(header, sign(header, FOUR, chain_id="sample-2"), block.validators)


def signed_for_other_chain(block: LightBlock) -> LightBlock:
    return block._replace(commit=sign(block.header, FOUR, chain_id="sample-2"))


def overflowing_power(block: LightBlock) -> LightBlock:
    return make_block(block.header.height, signers(1, 2, 3, 4, powers=(MAX_TOTAL_POWER, 1, 1, 1)))


def later_protocol(block: LightBlock) -> LightBlock:
    header = block.header._replace(block_version=12)
    return LightBlock(header, sign(header, FOUR), block.validators)


def commit_of_another_header(block: LightBlock) -> LightBlock:
    return block._replace(header=block.header._replace(app_hash=b"\xff" * 32))


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        (forged_signature, "signature 3 does not verify"),
        (forged_nil_vote, "signature 3 does not verify"),
        (signature_twice, "names another validator"),
        (places_swapped, "names another validator"),
        (high_s, "signature 0 does not verify"),
        (one_validator_twice, "stands twice"),
        (other_chain, "of chain 'sample-2'"),
        (signed_for_other_chain, "signature 0 does not verify"),
        (overflowing_power, "total power"),
        (later_protocol, "block protocol 12"),
        (commit_of_another_header, "signs another header"),
    ],
)
def test_forgeries(forge: Callable[[LightBlock], LightBlock], said: str) -> None:
    with pytest.raises(InvalidTrail, match=said):
        verify_trail(GENESIS, [forge(make_block(9, FOUR))])


def test_a_trail_through_changing_validators() -> None:
    chain = moving_chain(20)
    trail = build_trail(chain.__getitem__, make_genesis(signers(1, 2, 3, 4)), 20)
    # Of four trusted, two are enough (1/2 > 1/3): two changes a step, from the genesis set of height 1.
    assert [block.header.height for block in trail] == [3, 5, 7, 9, 11, 13, 15, 17, 19, 20]
    verify_trail(make_genesis(signers(1, 2, 3, 4)), trail)


def test_a_trail_over_the_few_blocks_that_are_kept_where_validators_changed() -> None:
    before, after = signers(1, 2, 3, 4), signers(5, 6, 7, 8)
    genesis = make_genesis(before)
    kept = {10: make_block(10, before, after), 11: make_block(11, after), 30: make_block(30, after)}

    def last_kept(height: int) -> LightBlock | None:
        found = [at for at in kept if at <= height]
        return kept[max(found)] if found else None

    trail = build_trail(last_kept, genesis, 30)
    assert [block.header.height for block in trail] == [10, 11, 30]
    assert verify_trail(genesis, trail).last == kept[30]
    del kept[10]
    with pytest.raises(InvalidTrail, match="a block between the two is missing"):
        build_trail(last_kept, genesis, 30)


@pytest.mark.parametrize("missing", range(9))
def test_a_trail_with_a_gap(missing: int) -> None:
    chain = moving_chain(20)
    genesis = make_genesis(signers(1, 2, 3, 4))
    trail = build_trail(chain.__getitem__, genesis, 20)
    with pytest.raises(InvalidTrail, match="a block between the two is missing"):
        verify_trail(genesis, trail[:missing] + trail[missing + 1 :])


def test_a_trail_with_a_block_it_does_not_need() -> None:
    with pytest.raises(InvalidTrail, match="leave it out"):
        verify_trail(GENESIS, [make_block(5, FOUR), make_block(9, FOUR)])


def test_a_trail_that_turns_back_or_repeats() -> None:
    for heights in ((9, 5), (9, 9)):
        with pytest.raises(InvalidTrail, match="does not come after"):
            verify_trail(GENESIS, [make_block(height, FOUR) for height in heights])


def test_an_empty_trail() -> None:
    with pytest.raises(InvalidTrail, match="a trail of 0 blocks"):
        verify_trail(GENESIS, [])


def test_from_a_known_block() -> None:
    chain = moving_chain(20)
    genesis = make_genesis(signers(90, 91))
    known = KnownBlock(10, chain[10].header.hash())
    trail = build_trail(chain.__getitem__, genesis, 12, 10)
    assert [block.header.height for block in trail] == [10, 12]
    walk = verify_trail(genesis, trail, known)
    assert walk.trusted == f"block 10 of sample-1 (header hash {known.hash.hex()})"
    assert verify_trail(genesis, trail[:1], known).last == chain[10]
    with pytest.raises(InvalidTrail, match="not at trusted block 10"):
        verify_trail(genesis, trail[1:], known)
    with pytest.raises(InvalidTrail, match="not the trusted"):
        verify_trail(genesis, trail, KnownBlock(10, b"\x00" * 32))
    with pytest.raises(InvalidTrail, match="signature 2 does not verify"):
        verify_trail(genesis, [replaced(trail[0], 2, signature=bytes(64)), trail[1]], known)
    with pytest.raises(InvalidTrail, match="lies after"):
        build_trail(chain.__getitem__, genesis, 9, 10)


def test_power_of_zero_and_odd_signatures_are_malformed() -> None:
    value = json.loads(json.dumps(to_plain(make_block(9, FOUR))))
    value["validator_set"]["validators"][0]["voting_power"] = "0"
    refuse(value, "voting_power")
    value = to_plain(make_block(9, FOUR))
    value["signed_header"]["commit"]["signatures"][0]["signature"] = base64.b64encode(bytes(65)).decode()
    refuse(value, "65 bytes")
    value = to_plain(make_block(9, FOUR))
    value["signed_header"]["commit"]["signatures"][0]["signature"] = None
    refuse(value, "missing")


def to_plain(block: LightBlock) -> dict:
    return json.loads(msgspec.json.encode(light.write_light_block(block)))


def refuse(value: dict, said: str) -> None:
    data = json.dumps(value, separators=(",", ":")).encode()
    with pytest.raises(MalformedJson, match=said):
        light.read_light_block(parse(data, LightBlockJson, "light block"))
