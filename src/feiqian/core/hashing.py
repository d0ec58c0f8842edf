"""Domain-tagged SHA-256: a hash made for one purpose can never stand for another."""

import hashlib

VALIDATOR_ADDRESS_BYTES = 20


class Domain:
    """One purpose of hashing: SHA-256(SHA-256(tag) ‖ SHA-256(tag) ‖ data), the construction of BIP 340."""

    __slots__ = ("_prefix", "tag")

    def __init__(self, tag: str) -> None:
        self.tag = tag
        tag_digest = hashlib.sha256(tag.encode()).digest()
        self._prefix = hashlib.sha256(tag_digest + tag_digest)

    def hash(self, data: bytes) -> bytes:
        """Return the 32-byte digest of `data` in this domain."""
        state = self._prefix.copy()
        state.update(data)
        return state.digest()


def sha256(data: bytes) -> bytes:
    """Return the plain SHA-256 of `data`, where a published format asks for it."""
    return hashlib.sha256(data).digest()


def validator_address(public_key: bytes) -> bytes:
    """Return the 20-byte address by which CometBFT names the validator with this Ed25519 key."""
    return sha256(public_key)[:VALIDATOR_ADDRESS_BYTES]
