"""Signature schemes behind one registry: Ed25519, P-256 with SHA-256, SM2 with SM3.

Verification only: signing keys live in `feiqian.wallet`. A signature is always 64 bytes; a key is the scheme's id and
its raw bytes. Each scheme accepts one encoding of each signature, so that signed bytes cannot be varied.
"""

from collections.abc import Callable
from typing import Annotated, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from gmssl_pyx import GmsslInnerError, normalize_sm2_public_key, sm2_verify
from msgspec import Meta
from nacl.bindings import crypto_core_ed25519_is_valid_point, crypto_sign_open
from nacl.exceptions import CryptoError

from feiqian.core.encoding import Record, Uint8
from feiqian.core.errors import MalformedKey, UnknownScheme

ED25519 = 1
P256 = 2
SM2 = 3

P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SM2_ORDER = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
SM2_SIGNER_ID = b"1234567812345678"
"""The default identity of GB/T 35276-2017 that goes into SM2's Z value."""


class PublicKey(Record):
    """A key as it stands in policies and signatures.

    32 bytes for Ed25519, 33 bytes (compressed point) for P-256, 64 bytes (x‖y) for SM2.
    """

    scheme: Uint8
    data: Annotated[bytes, Meta(min_length=32, max_length=64)]


class Scheme(NamedTuple):
    """How one kind of key is checked and used; `verify` takes key, message, 64-byte signature and never raises."""

    name: str
    key_bytes: int
    is_valid_key: Callable[[bytes], bool]
    verify: Callable[[bytes, bytes, bytes], bool]


def check_key(key: PublicKey) -> None:
    """Refuse a key that no policy may name.

    Raises:
        UnknownScheme: the scheme id is not registered.
        MalformedKey: wrong length, small order, non-canonical, or no point of the curve.
    """
    scheme = SCHEMES.get(key.scheme)
    if scheme is None:
        raise UnknownScheme(f"signature scheme {key.scheme}; known are {sorted(SCHEMES)}")
    if len(key.data) != scheme.key_bytes:
        raise MalformedKey(f"{scheme.name} keys have {scheme.key_bytes} bytes, not {len(key.data)}")
    if not scheme.is_valid_key(key.data):
        raise MalformedKey(f"not a valid {scheme.name} public key (off the curve, small order or non-canonical)")


def verify(key: PublicKey, message: bytes, signature: bytes) -> bool:
    """Say whether `signature` (64 bytes) over `message` was made by the owner of `key`. Never raises."""
    scheme = SCHEMES.get(key.scheme)
    if scheme is None or len(key.data) != scheme.key_bytes or len(signature) != 64:
        return False
    return scheme.verify(key.data, message, signature)


def _verify_ed25519(key: bytes, message: bytes, signature: bytes) -> bool:
    # libsodium refuses small-order keys and R, S >= L and non-canonical keys; the native call releases the GIL.
    try:
        crypto_sign_open(signature + message, key)
    except CryptoError:
        return False
    return True


def _p256_point(key: bytes) -> ec.EllipticCurvePublicKey | None:
    if key[0] not in (2, 3):
        return None
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key)
    except ValueError:
        return None


def _verify_p256(key: bytes, message: bytes, signature: bytes) -> bool:
    point = _p256_point(key)
    r, s = _split(signature)
    # Low S only: (r, n - s) would verify as well and vary the signed bytes.
    if point is None or not (1 <= r < P256_ORDER and 1 <= s <= P256_ORDER // 2):
        return False
    try:
        point.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _is_valid_sm2_key(key: bytes) -> bool:
    try:
        return normalize_sm2_public_key(b"\x04" + key) == key
    except (GmsslInnerError, ValueError):
        return False


def _verify_sm2(key: bytes, message: bytes, signature: bytes) -> bool:
    r, s = _split(signature)
    # GB/T 32918.2: r, s in [1, n-1] and r + s != n. SM2 has no twin signature, so no low-S rule is needed.
    if not (1 <= r < SM2_ORDER and 1 <= s < SM2_ORDER and r + s != SM2_ORDER):
        return False
    try:
        return bool(sm2_verify(key, message, encode_dss_signature(r, s), signer_id=SM2_SIGNER_ID))
    except GmsslInnerError:
        return False


def _split(signature: bytes) -> tuple[int, int]:
    return int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")


SCHEMES: dict[int, Scheme] = {
    ED25519: Scheme("Ed25519", 32, crypto_core_ed25519_is_valid_point, _verify_ed25519),
    P256: Scheme("P-256", 33, lambda key: _p256_point(key) is not None, _verify_p256),
    SM2: Scheme("SM2", 64, _is_valid_sm2_key, _verify_sm2),
}
