"""`feiqian key`: make key files and read their public halves, those of validators and nodes too."""

import getpass
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from cyclopts import App

from feiqian.cli.output import EXIT_USAGE, Output, fail
from feiqian.consensus.comet.gossip import NodeKey
from feiqian.consensus.solo import SoloSigner
from feiqian.core.errors import Fault
from feiqian.wallet import files
from feiqian.wallet.sign_in import answer_text, read_challenge, sign_challenge

app = App(name="key", help="Make key files and read their public halves.")

K = TypeVar("K")

Scheme = Literal["ed25519", "p256", "sm2", "x25519"]


@app.command
def new(path: Path, *, scheme: Scheme = "ed25519", json: bool = False) -> None:
    """Make a fresh key in PATH, encrypted under a passphrase (asked for, or FEIQIAN_PASSPHRASE).

    Args:
        path: where the key file goes; an existing file is never overwritten.
        scheme: ed25519, p256 or sm2 to sign with, x25519 to read private documents.
        json: print one JSON value.
    """
    public = files.create(path, scheme, read_passphrase(is_new=True))
    Output(is_json=json).value({"file": path.name, "public_key": public})


@app.command
def show(path: Path, *, json: bool = False) -> None:
    """Print the public key of a key file, as policies name it. Asks for no passphrase.

    Args:
        path: the key file.
        json: print one JSON value.
    """
    Output(is_json=json).value({"file": path.name, "public_key": files.public_text(path)})


@app.command
def validator(path: Path, *, new: bool = False, json: bool = False) -> None:
    """Print the public key of a validator's key file, as governance names it.

    Args:
        path: the validator_key.json.
        new: make the file first, with a fresh key; an existing one is never overwritten. It is not encrypted: the
            validator signs without anyone at hand.
        json: print one JSON value.
    """
    if new:
        _make(path, SoloSigner.create)
    signer = _read(path, SoloSigner.load)
    Output(is_json=json).value(
        {"file": path.name, "public_key": signer.public_key.hex(), "address": signer.address.hex()}
    )


@app.command
def node(path: Path, *, new: bool = False, json: bool = False) -> None:
    """Print the public key of a node's key file, as governance names it, and the id by which peers dial it.

    Args:
        path: the node_key.json.
        new: make the file first, with a fresh key; an existing one is never overwritten. It is not encrypted.
        json: print one JSON value.
    """
    if new:
        _make(path, NodeKey.create)
    key = _read(path, NodeKey.load)
    Output(is_json=json).value({"file": path.name, "public_key": key.public_key.hex(), "node_id": key.node_id})


@app.command(name="sign-in")
def sign_in(challenge: str, *, key: Path, json: bool = False) -> None:
    """Answer the sign-in challenge of a console with a key file. Only such a challenge can be signed by this.

    Says on standard error to which host, ledger and account it signs in: stop if that is not what you meant.

    Args:
        challenge: the challenge, as the sign-in page shows it.
        key: a key file of the account's policy.
        json: print one JSON value.
    """
    said = read_challenge(challenge)
    sys.stderr.write(f"Signing in at {said.audience} to ledger {said.chain_id} for account {said.account}\n")
    if said.expires_at_ms <= time.time_ns() // 1_000_000:
        fail("the challenge has expired; ask the sign-in page for another", EXIT_USAGE)
    opened = files.open_signing_key(key, read_passphrase())
    answer = answer_text(opened, sign_challenge(said.bytes_to_sign, said.chain_id, said.audience, opened))
    Output(is_json=json).value({"answer": answer}, lambda console: console.print(answer, markup=False, soft_wrap=True))


def _make(path: Path, create: Callable[[Path], object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        create(path)
    except FileExistsError:
        fail(f"{path} exists; a key is never overwritten", EXIT_USAGE)


def _read(path: Path, load: Callable[[Path], K]) -> K:
    try:
        return load(path)
    except Fault as error:
        # Of a running node this is ours; here it is whoever named the file.
        fail(str(error), EXIT_USAGE)


def read_passphrase(*, is_new: bool = False) -> bytes:
    """Return the passphrase of FEIQIAN_PASSPHRASE, or ask at the terminal, twice for a new key."""
    given = os.environ.get(files.PASSPHRASE_VARIABLE)
    if given is not None:
        return given.encode()
    if not sys.stdin.isatty():
        fail(f"no terminal to ask for a passphrase at; set {files.PASSPHRASE_VARIABLE}", EXIT_USAGE)
    passphrase = getpass.getpass("Passphrase: ")
    if is_new and getpass.getpass("The same again: ") != passphrase:
        fail("the two passphrases differ; nothing was written", EXIT_USAGE)
    return passphrase.encode()
