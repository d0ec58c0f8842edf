"""`feiqian key`: make key files and read their public halves."""

import getpass
import os
import sys
from pathlib import Path
from typing import Literal

from cyclopts import App

from feiqian.cli.output import EXIT_USAGE, Output, fail
from feiqian.wallet import files

app = App(name="key", help="Make key files and read their public halves.")

Scheme = Literal["ed25519", "p256", "sm2", "x25519"]


@app.command
def new(path: Path, *, scheme: Scheme = "ed25519", json: bool = False) -> None:
    """Make a fresh key in PATH, encrypted under a passphrase (asked for, or FEIQIAN_PASSPHRASE).

    Parameters
    ----------
    path: where the key file goes; an existing file is never overwritten.
    scheme: ed25519, p256 or sm2 to sign with, x25519 to read private documents.
    json: print one JSON value.
    """
    public = files.create(path, scheme, read_passphrase(is_new=True))
    Output(is_json=json).value({"file": path.name, "public_key": public})


@app.command
def show(path: Path, *, json: bool = False) -> None:
    """Print the public key of a key file, as policies name it. Asks for no passphrase.

    Parameters
    ----------
    path: the key file.
    json: print one JSON value.
    """
    Output(is_json=json).value({"file": path.name, "public_key": files.public_text(path)})


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
