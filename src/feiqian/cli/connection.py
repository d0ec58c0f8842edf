"""Which gateway a command speaks to, and as whom."""

import os
from pathlib import Path
from typing import Annotated

import httpx
from cyclopts import Parameter

from feiqian.cli.keys import read_passphrase
from feiqian.client import Client
from feiqian.core.addresses import from_text
from feiqian.core.settings import SettingsError
from feiqian.wallet.files import open_signing_key

URL_VARIABLE = "FEIQIAN_URL"
DEFAULT_URL = "http://127.0.0.1:8270"

Url = Annotated[str | None, Parameter(name="--url")]
KeyPaths = Annotated[list[Path] | None, Parameter(name="--key")]


def connect(url: str | None, account: str | None = None, key: Path | None = None) -> Client:
    """Return a client of the gateway, signed in where an account and a key file are given.

    Raises:
        SettingsError: `url` is no address of a gateway.
        KeyFileError, MalformedAddress: the key file or account.
        Refused, Unreachable: signing in.
    """
    client = Client(_checked(url or os.environ.get(URL_VARIABLE) or DEFAULT_URL))
    if account is not None and key is not None:
        client.sign_in(from_text(account), open_signing_key(key, read_passphrase()))
    return client


def _checked(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise SettingsError(f"{url!r} is no gateway's address; write it as {DEFAULT_URL} (--url, {URL_VARIABLE})")
    return url
