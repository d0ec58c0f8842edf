"""A node's key files in CometBFT's own JSON: written once, for their owner only; read strictly."""

import os
import tempfile
from pathlib import Path

from feiqian.consensus import comet_json
from feiqian.consensus.comet_json import KeyJson, MalformedJson

_PRIVATE_KEY_BYTES = 64


def write_key_file(path: Path, data: bytes) -> None:
    """Write a key file, whole or not at all, readable by its owner only.

    Raises:
        FileExistsError: there is a file already; a key is never overwritten.
    """
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(beside, path)
    finally:
        os.unlink(beside)


def read_private_key(value: KeyJson) -> bytes:
    """Return the 64 bytes of an Ed25519 private key: its seed and its public key.

    Raises:
        MalformedJson: another kind of key, or not 64 bytes.
    """
    if value.type != comet_json.PRIVATE_KEY_TYPE:
        raise MalformedJson(f"priv_key: only {comet_json.PRIVATE_KEY_TYPE} is accepted")
    private_key = comet_json.read_base64(value.value, "priv_key")
    if len(private_key) != _PRIVATE_KEY_BYTES:
        raise MalformedJson(f"priv_key has {len(private_key)} bytes; expected {_PRIVATE_KEY_BYTES}")
    return private_key
