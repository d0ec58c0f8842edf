"""Whatever Ed25519 signature CometBFT counts is counted here, and no other."""

import base64
import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_core_ed25519_scalar_reduce,
    crypto_scalarmult_ed25519_base_noclamp,
    crypto_sign_seed_keypair,
)

from feiqian.consensus import light, zip215
from feiqian.consensus.light import InvalidTrail, LightBlock
from feiqian.consensus.solo import SoloSigner
from feiqian.core.signatures import ED25519, PublicKey, verify
from feiqian.testing.networks import NetworkLedger, network_registry, signer_of

ORDER = 2**252 + 27742317777372353535851937790883648493

SMALL = [
    bytes.fromhex(text)
    for text in (
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    )
]
"""Each encoding of a point whose order divides 8; six are not canonical. ZIP 215 accepts any two of them with S = 0."""

Signed = tuple[bytes, bytes, bytes]


def sign_oddly(seed: bytes, message: bytes, torsion: bytes, nonce: int = 7) -> bytes:
    """Sign so that the commitment has a part of small order: CometBFT counts it and libsodium does not."""
    public_key, _ = crypto_sign_seed_keypair(seed)
    digest = hashlib.sha512(seed).digest()
    secret = int.from_bytes(digest[:32], "little") & (2**254 - 8) | 2**254
    plain = crypto_scalarmult_ed25519_base_noclamp(nonce.to_bytes(32, "little"))
    commitment = crypto_core_ed25519_add(plain, torsion)
    hashed = crypto_core_ed25519_scalar_reduce(hashlib.sha512(commitment + public_key + message).digest())
    scalar = (nonce + int.from_bytes(hashed, "little") * secret) % ORDER
    return commitment + scalar.to_bytes(32, "little")


def cases() -> list[Signed]:
    generator = random.Random(215)
    found: list[Signed] = [(key, b"Zcash", commitment + bytes(32)) for key in SMALL for commitment in SMALL]
    for number in range(40):
        seed, message = generator.randbytes(32), generator.randbytes(number)
        key, signature = SoloSigner(seed).public_key, SoloSigner(seed).sign(message)
        odd = sign_oddly(seed, message, SMALL[number % 8], generator.randrange(1, ORDER))
        above = (int.from_bytes(signature[32:], "little") + ORDER).to_bytes(32, "little")
        place = generator.randrange(64)
        found += [
            (key, message, signature),
            (key, message, odd),
            (key, message + b".", odd),
            (key, message, signature[:32] + above),
            (key, message, signature[:place] + bytes([signature[place] ^ 1]) + signature[place + 1 :]),
            (generator.randbytes(32), message, signature),
            (key, message, generator.randbytes(32) + signature[32:]),
            (SMALL[number % 14], message, signature),
        ]
    return found


def test_every_verdict_is_cometbfts(cometbft: Callable[..., bytes]) -> None:
    given = cases()
    listed = [
        {"key": base64.b64encode(key).decode(), "message": base64.b64encode(message).decode(),
         "signature": base64.b64encode(signature).decode()}
        for key, message, signature in given
    ]  # fmt: skip
    verdicts = json.loads(cometbft("signatures", given=json.dumps(listed).encode()))
    assert [zip215.verify(*each) for each in given] == verdicts
    strict = [verify(PublicKey(ED25519, key), message, signature) for key, message, signature in given]
    assert sum(verdicts) > sum(strict) + 200
    assert all(verdict or not is_strict for verdict, is_strict in zip(verdicts, strict, strict=True))
    assert all(verdicts[:196])


def test_a_vote_signed_oddly_parts_nobody_from_the_network(tmp_path: Path) -> None:
    network = NetworkLedger(tmp_path / "ledger", network_registry())
    block, chain_id = network.block(), network.genesis.chain_id
    network.close()
    signer = network.signers[block.validators.validators[2].public_key]
    seed = next(bytes([number]) * 32 for number in range(1, 5) if signer_of(number).address == signer.address)
    odd = sign_oddly(seed, block.commit.sign_bytes(chain_id, 2), SMALL[4])
    assert not verify(PublicKey(ED25519, signer.public_key), block.commit.sign_bytes(chain_id, 2), odd)
    light.check_block(chain_id, with_signature(block, odd))
    with pytest.raises(InvalidTrail, match="signature 2 does not verify"):
        light.check_block(chain_id, with_signature(block, odd[:40] + bytes([odd[40] ^ 1]) + odd[41:]))


def with_signature(block: LightBlock, signature: bytes) -> LightBlock:
    signatures = list(block.commit.signatures)
    signatures[2] = signatures[2]._replace(signature=signature)
    return block._replace(commit=block.commit._replace(signatures=tuple(signatures)))
