"""A solo chain is a CometBFT chain: CometBFT's light client and block rules accept what is made here."""

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from feiqian.consensus.genesis_file import ConsensusParams, Genesis, GenesisValidator, write_genesis
from feiqian.consensus.solo import SoloSigner, make_archive_row
from feiqian.core.errors import Fault
from feiqian.state.archive import ArchiveRow

START_MS = 1_767_225_600_000


class SoloBlock(NamedTuple):
    row: ArchiveRow
    bundles: tuple[bytes, ...]
    results_before: tuple[bytes, ...]


def digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def solo_genesis(signer: SoloSigner, initial_height: int = 1) -> Genesis:
    validator = GenesisValidator(signer.public_key, 10, "node-a")
    params = ConsensusParams(4 * 1024 * 1024)
    return Genesis(START_MS * 1_000_000, "sample-1", initial_height, params, (validator,), b"", {"members": []})


def solo_chain(signer: SoloSigner, genesis: Genesis, count: int) -> list[SoloBlock]:
    """Blocks with none to three bundles, some larger than a part of 64 KiB."""
    blocks: list[SoloBlock] = []
    previous, results = None, ()
    for height in range(genesis.initial_height, genesis.initial_height + count):
        place = height - genesis.initial_height
        bundles = tuple(digest(height, number) * (1 + 2_500 * number) for number in range(place % 4))
        row = make_archive_row(
            genesis,
            signer,
            previous,
            height=height,
            time_ms=START_MS + place * 1_001,
            bundles=bundles,
            app_hash_before=digest("root", height - 1),
            results_before=results,
            app_version=1,
        )
        blocks.append(SoloBlock(row, bundles, results))
        previous, results = row, tuple(digest(bundle) for bundle in bundles)
    return blocks


def chain_json(genesis: Genesis, key_file: Path | None, blocks: list[SoloBlock]) -> bytes:
    def encoded(values: tuple[bytes, ...]) -> list[str]:
        return [base64.b64encode(value).decode() for value in values]

    listed = [
        {
            "header": json.loads(block.row.header),
            "commit": json.loads(block.row.commit),
            "validators": json.loads(block.row.validators),
            "bundles": encoded(block.bundles),
            "results_before": encoded(block.results_before),
        }
        for block in blocks
    ]
    chain = {"genesis": json.loads(write_genesis(genesis)), "key_file": str(key_file or ""), "blocks": listed}
    return json.dumps(chain).encode()


@pytest.mark.parametrize("initial_height", [1, 41])
def test_cometbft_verifies_a_solo_chain(initial_height: int, cometbft: Callable[..., bytes], tmp_path: Path) -> None:
    key_file = tmp_path / "validator_key.json"
    signer = SoloSigner.create(key_file)
    genesis = solo_genesis(signer, initial_height)
    given = chain_json(genesis, key_file, solo_chain(signer, genesis, 12))
    assert cometbft("verify", given=given) == b"12 blocks verified\n"


def test_cometbft_refuses_a_chain_with_one_bundle_changed(cometbft: Callable[..., bytes]) -> None:
    signer = SoloSigner(b"\x07" * 32)
    genesis = solo_genesis(signer)
    blocks = solo_chain(signer, genesis, 4)
    blocks[3] = blocks[3]._replace(bundles=(*blocks[3].bundles[:-1], b"other"))
    with pytest.raises(AssertionError, match="height 4: CometBFT makes block"):
        cometbft("verify", given=chain_json(genesis, None, blocks))


def test_the_same_input_gives_the_same_row() -> None:
    signer = SoloSigner(b"\x07" * 32)
    genesis = solo_genesis(signer)
    assert solo_chain(signer, genesis, 5) == solo_chain(signer, genesis, 5)


def make(genesis: Genesis, signer: SoloSigner, previous: ArchiveRow | None, height: int) -> ArchiveRow:
    return make_archive_row(
        genesis,
        signer,
        previous,
        height=height,
        time_ms=START_MS,
        bundles=(),
        app_hash_before=b"\x01" * 32,
        results_before=(),
        app_version=1,
    )


def test_another_validators_key_is_a_fault() -> None:
    genesis = solo_genesis(SoloSigner(b"\x07" * 32))
    with pytest.raises(Fault, match="another key"):
        make(genesis, SoloSigner(b"\x08" * 32), None, 1)


def test_a_row_that_does_not_come_before_is_a_fault() -> None:
    signer = SoloSigner(b"\x07" * 32)
    genesis = solo_genesis(signer)
    first = make(genesis, signer, None, 1)
    with pytest.raises(Fault, match="row of block 1"):
        make(genesis, signer, first, 3)
    with pytest.raises(Fault, match="needs the archive row of block 1"):
        make(genesis, signer, None, 2)
