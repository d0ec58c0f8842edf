"""Key files: one signing or vault key a file, its secret encrypted under a passphrase.

Argon2id makes the key from the passphrase, XSalsa20-Poly1305 encrypts (libsodium's secretbox). The public key lies in
clear, so that a policy can be written without opening the file.
"""

import os
from pathlib import Path
from typing import Annotated

import msgspec
from nacl import pwhash, secret
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey
from nacl.utils import random

from feiqian.wallet.keys import KEY_CLASSES, SigningKey, generate_secret

VERSION = 1
VAULT_SCHEME = "x25519"
PASSPHRASE_VARIABLE = "FEIQIAN_PASSPHRASE"


class KeyFileError(ValueError):
    """A key file that is missing, damaged, in the way, or not opened by this passphrase."""


class KeyFile(msgspec.Struct, forbid_unknown_fields=True):
    """What lies on disk, as JSON; binary values in hex. `ops` and `memory_bytes` are Argon2id's costs."""

    version: int
    scheme: str
    public_key: str
    salt: str
    ops: Annotated[int, msgspec.Meta(ge=1, le=20)]
    memory_bytes: Annotated[int, msgspec.Meta(ge=8192, le=2**31)]
    sealed: str


def create(path: Path, scheme: str, passphrase: bytes, *, is_quick: bool = False) -> str:
    """Make a fresh key, write its file (mode 0600) and return the public key as `"scheme:hex"`.

    `scheme` is ed25519, p256, sm2 or x25519 (for the vault). `is_quick` takes Argon2id's smallest costs, for tests
    and demonstrations only.

    Raises:
        KeyFileError: the file exists, or the scheme is unknown.
    """
    return store(path, scheme, _generate(scheme), passphrase, is_quick=is_quick)


def store(path: Path, scheme: str, secret_bytes: bytes, passphrase: bytes, *, is_quick: bool = False) -> str:
    """Write the file of a key that exists already; otherwise as `create`."""
    public = _public_of(scheme, secret_bytes)
    salt = random(pwhash.argon2id.SALTBYTES)
    ops = pwhash.argon2id.OPSLIMIT_MIN if is_quick else pwhash.argon2id.OPSLIMIT_MODERATE
    memory = pwhash.argon2id.MEMLIMIT_MIN if is_quick else pwhash.argon2id.MEMLIMIT_MODERATE
    sealed = _box(passphrase, salt, ops, memory).encrypt(secret_bytes)
    file = KeyFile(VERSION, scheme, public.hex(), salt.hex(), ops, memory, bytes(sealed).hex())
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyFileError(f"{path.name} exists; a key file is never overwritten") from None
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(msgspec.json.format(msgspec.json.encode(file)) + b"\n")
    return f"{scheme}:{public.hex()}"


def public_text(path: Path) -> str:
    """Return the key's public half as `"scheme:hex"`, without opening it.

    Raises:
        KeyFileError: missing or damaged.
    """
    file = _read(path)
    return f"{file.scheme}:{file.public_key}"


def open_signing_key(path: Path, passphrase: bytes) -> SigningKey:
    """Return the signing key in a file.

    Raises:
        KeyFileError: missing, damaged, a vault key, or another passphrase.
    """
    file = _read(path)
    if file.scheme not in KEY_CLASSES:
        raise KeyFileError(
            f"{path.name} holds a {file.scheme} key; signing takes one of {', '.join(sorted(KEY_CLASSES))}"
        )
    key = KEY_CLASSES[file.scheme](_open(file, path, passphrase))
    if key.public.data.hex() != file.public_key:
        raise KeyFileError(f"{path.name}: the public key in clear is not the secret's; the file was altered")
    return key


def open_vault_key(path: Path, passphrase: bytes) -> PrivateKey:
    """Return the X25519 private key in a file.

    Raises:
        KeyFileError: missing, damaged, a signing key, or another passphrase.
    """
    file = _read(path)
    if file.scheme != VAULT_SCHEME:
        raise KeyFileError(f"{path.name} holds a {file.scheme} key; the vault takes {VAULT_SCHEME}")
    return PrivateKey(_open(file, path, passphrase))


def _generate(scheme: str) -> bytes:
    if scheme in KEY_CLASSES:
        return generate_secret(scheme)
    return bytes(PrivateKey.generate())


def _public_of(scheme: str, secret_bytes: bytes) -> bytes:
    if scheme == VAULT_SCHEME:
        return bytes(PrivateKey(secret_bytes).public_key)
    if scheme not in KEY_CLASSES:
        raise KeyFileError(f"key scheme {scheme!r}; known are {sorted([*KEY_CLASSES, VAULT_SCHEME])}")
    return KEY_CLASSES[scheme](secret_bytes).public.data


def _read(path: Path) -> KeyFile:
    try:
        file = msgspec.json.decode(path.read_bytes(), type=KeyFile)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from None
    except msgspec.MsgspecError as error:
        raise KeyFileError(f"{path.name} is no key file: {error}") from None
    if file.version != VERSION:
        raise KeyFileError(f"{path.name}: key file version {file.version}; this release reads {VERSION}")
    return file


def _open(file: KeyFile, path: Path, passphrase: bytes) -> bytes:
    try:
        box = _box(passphrase, bytes.fromhex(file.salt), file.ops, file.memory_bytes)
        return box.decrypt(bytes.fromhex(file.sealed))
    except (CryptoError, ValueError):
        raise KeyFileError(f"{path.name} does not open: another passphrase, or the file was altered") from None


def _box(passphrase: bytes, salt: bytes, ops: int, memory_bytes: int) -> secret.SecretBox:
    return secret.SecretBox(pwhash.argon2id.kdf(secret.SecretBox.KEY_SIZE, passphrase, salt, ops, memory_bytes))
