"""Reads the settings file of a ledger's directory, which both processes share."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

from feiqian.core.settings import SettingsError

RPC_PORT = 26_657
"""Of CometBFT, unless set otherwise; CometBFT's own default."""


def settings_text(directory: Path) -> str:
    """Return what `feiqian.toml` in a ledger's directory says.

    Raises:
        SettingsError: there is none, or it cannot be read.
    """
    try:
        return (directory / "feiqian.toml").read_text("utf-8")
    except FileNotFoundError:
        raise SettingsError(f"{directory} holds no feiqian.toml; make a ledger with `feiqian init`") from None
    except OSError as error:
        raise SettingsError(f"feiqian.toml in {directory} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"feiqian.toml in {directory} is not UTF-8; write it anew") from None


def comet_rpc_port(text: str, environment: Mapping[str, str]) -> int | None:
    """Return the port of CometBFT's RPC on loopback; None: no CometBFT orders this ledger.

    The node, whose settings these are, has checked them.
    """
    document = tomllib.loads(text)
    if environment.get("FEIQIAN_NODE_ENGINE", document.get("node", {}).get("engine")) != "comet":
        return None
    return int(environment.get("FEIQIAN_COMET_RPC_PORT", document.get("comet", {}).get("rpc_port", RPC_PORT)))
