"""What nodes tell one another: the transactions that one of them took in, in a bundle that it signs.

The key is the node's own, which CometBFT's peers know it by; whether it is registered on the ledger is for who reads
the bundle to say. A bundle's counter makes the same transactions other bytes when they are told again: CometBFT drops
bytes that it has seen.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta
from nacl.bindings import crypto_sign, crypto_sign_seed_keypair

from feiqian.consensus import comet_json
from feiqian.consensus.comet_json import KeyJson, MalformedJson
from feiqian.consensus.key_files import read_private_key, write_key_file
from feiqian.core.encoding import MAX_TRANSACTION_BYTES, Codec, Hash32, Record, Uint63, encode
from feiqian.core.errors import Fault, InvalidTransaction
from feiqian.core.hashing import Domain
from feiqian.core.signatures import ED25519, PublicKey, verify

MAX_GOSSIP_BYTES = 256 * 1024
MAX_GOSSIP_TRANSACTIONS = 10_000
NODE_ID_BYTES = 20

_DOMAIN = Domain("feiqian/gossip/v1")


class NetworkError(InvalidTransaction):
    """Root of the codespace."""

    codespace = "network"


class GossipTooLarge(NetworkError):
    """A bundle of a peer beyond 256 KiB."""

    number = 1


class GossipSignatureInvalid(NetworkError):
    """A bundle of a peer that the node key in it did not sign."""

    number = 2


class UnknownNode(NetworkError):
    """A bundle of a node that is not registered on the ledger."""

    number = 3


class _KeyFileJson(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    priv_key: KeyJson


class NodeKey:
    """A node's own key, which its peers know it by. Its file is CometBFT's `node_key.json`."""

    __slots__ = ("_private_key", "public_key")

    def __init__(self, seed: bytes) -> None:
        """`seed`: the 32 secret bytes of an Ed25519 key (RFC 8032)."""
        self.public_key, self._private_key = crypto_sign_seed_keypair(seed)

    @classmethod
    def create(cls, path: Path) -> "NodeKey":
        """Make a new key and write its file, whole or not at all.

        Raises:
            FileExistsError: there is a file already; a node's key is never overwritten.
        """
        key = cls(os.urandom(32))
        private_key = KeyJson(comet_json.PRIVATE_KEY_TYPE, comet_json.write_base64(key._private_key))
        write_key_file(path, msgspec.json.encode(_KeyFileJson(private_key)))
        return key

    @classmethod
    def load(cls, path: Path) -> "NodeKey":
        """Read a key file.

        Raises:
            Fault: not CometBFT's form, not Ed25519, or the private key does not belong to the public one in it.
        """
        try:
            private_key = read_private_key(msgspec.json.decode(path.read_bytes(), type=_KeyFileJson).priv_key)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, MalformedJson) as error:
            raise Fault(f"node key file {path.name}: {error}") from None
        key = cls(private_key[:32])
        if key._private_key != private_key:
            raise Fault(f"node key file {path.name}: private and public key do not belong together")
        return key

    @property
    def node_id(self) -> str:
        """What CometBFT calls the node."""
        return node_id(self.public_key)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte Ed25519 signature of a message."""
        return crypto_sign(message, self._private_key)[:64]


class GossipBundle(Record):
    """Signed transactions that a node took in. `counter` grows with each bundle of a node."""

    node_key: Hash32
    counter: Uint63
    transactions: Annotated[
        tuple[Annotated[bytes, Meta(min_length=1, max_length=MAX_TRANSACTION_BYTES)], ...],
        Meta(min_length=1, max_length=MAX_GOSSIP_TRANSACTIONS),
    ]
    signature: Annotated[bytes, Meta(min_length=64, max_length=64)]


_CODEC: Codec[GossipBundle] = Codec(GossipBundle, "gossip bundle")


def node_id(key: bytes) -> str:
    """Return what CometBFT calls the node of an Ed25519 key: hex of the first 20 bytes of SHA-256 of the key."""
    return hashlib.sha256(key).digest()[:NODE_ID_BYTES].hex()


def make_gossip(node_key: NodeKey, counter: int, transactions: Sequence[bytes]) -> bytes:
    """Return a bundle, signed and encoded; who calls keeps to the limits of `GossipBundle` and `MAX_GOSSIP_BYTES`."""
    entries = tuple(transactions)
    signature = node_key.sign(_digest(node_key.public_key, counter, entries))
    return encode(GossipBundle(node_key.public_key, counter, entries, signature))


def read_gossip(data: bytes) -> GossipBundle:
    """Return a bundle whose signature is that of the node key in it.

    Raises:
        GossipTooLarge: more than `MAX_GOSSIP_BYTES`.
        Undecodable, NonCanonical: see `Codec.decode`; also no transaction, too many, or one that is too large.
        GossipSignatureInvalid: the key in it did not sign it.
    """
    if len(data) > MAX_GOSSIP_BYTES:
        raise GossipTooLarge(f"a gossip bundle of {len(data)} bytes; at most {MAX_GOSSIP_BYTES} are accepted")
    bundle = _CODEC.decode(data)
    digest = _digest(bundle.node_key, bundle.counter, bundle.transactions)
    if not verify(PublicKey(ED25519, bundle.node_key), digest, bundle.signature):
        raise GossipSignatureInvalid(f"gossip bundle {bundle.counter}: not signed by node {node_id(bundle.node_key)}")
    return bundle


def _digest(node_key: bytes, counter: int, transactions: tuple[bytes, ...]) -> bytes:
    return _DOMAIN.hash(encode((node_key, counter, transactions)))
