"""Signing keys in memory: one class a scheme, each giving the 64-byte signatures that `core.signatures` accepts."""

import secrets
from typing import Protocol

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from gmssl_pyx import sm2_key_generate, sm2_sign
from nacl.signing import SigningKey as NaclSigningKey

from feiqian.core.signatures import ED25519, P256, P256_ORDER, SM2, SM2_SIGNER_ID, PublicKey

SECRET_BYTES = 32


class SigningKey(Protocol):
    """What signs: a key in memory, an HSM slot, a passkey."""

    @property
    def public(self) -> PublicKey:
        """The key as policies name it."""
        ...

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over `message`."""
        ...


class Ed25519Key:
    """An Ed25519 key from its 32-byte seed (RFC 8032)."""

    scheme = ED25519

    def __init__(self, secret: bytes) -> None:
        self._key = NaclSigningKey(secret)
        self.public = PublicKey(ED25519, bytes(self._key.verify_key))

    def sign(self, message: bytes) -> bytes:
        """Return R‖S."""
        return self._key.sign(message).signature


class P256Key:
    """A P-256 key from its 32-byte scalar; signs with SHA-256, raw r‖s, low s."""

    scheme = P256

    def __init__(self, secret: bytes) -> None:
        self._key = ec.derive_private_key(int.from_bytes(secret, "big"), ec.SECP256R1())
        point = self._key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
        )
        self.public = PublicKey(P256, point)

    def sign(self, message: bytes) -> bytes:
        """Return r‖s with s at most half the group's order."""
        r, s = decode_dss_signature(self._key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + min(s, P256_ORDER - s).to_bytes(32, "big")


class Sm2Key:
    """An SM2 key; signs with SM3 and the default identity (GB/T 32918.2, GB/T 35276).

    The secret is 96 bytes: the scalar and the public point x‖y, since the library derives no point from a scalar.
    """

    scheme = SM2

    def __init__(self, secret: bytes) -> None:
        self._scalar, public = secret[:SECRET_BYTES], secret[SECRET_BYTES:]
        self.public = PublicKey(SM2, public)

    def sign(self, message: bytes) -> bytes:
        """Return r‖s."""
        r, s = decode_dss_signature(sm2_sign(self._scalar, self.public.data, message, signer_id=SM2_SIGNER_ID))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


KEY_CLASSES = {"ed25519": Ed25519Key, "p256": P256Key, "sm2": Sm2Key}


def generate_secret(scheme: str) -> bytes:
    """Return a fresh secret for a scheme named in `KEY_CLASSES`."""
    if scheme == "sm2":
        public, scalar = sm2_key_generate()
        return scalar + public
    while True:
        secret = secrets.token_bytes(SECRET_BYTES)
        if 0 < int.from_bytes(secret, "big") < P256_ORDER:
            return secret
