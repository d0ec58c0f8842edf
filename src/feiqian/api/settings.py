"""What an operator may set about a gateway: the table `[gateway]` of `feiqian.toml`, or `FEIQIAN_GATEWAY_…`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from feiqian.core.settings import read_settings
from feiqian.process.logs import LogLevel
from feiqian.process.settings import settings_text

Seconds = Annotated[int, Meta(ge=1, le=3600)]


class GatewaySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table `[gateway]` of `feiqian.toml`; each key also as `FEIQIAN_GATEWAY_…` in the environment."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8270
    """0 asks the system for a free one; the address is printed either way."""
    log_level: LogLevel = "info"
    """Of the gateway's log and the index's."""
    database: str = ""
    """`postgresql://…` for the index; empty is SQLite in the data directory."""
    is_behind_https: bool = False
    """The gateway is reached by HTTPS through a proxy, so cookies are marked Secure."""
    connections: Annotated[int, Meta(ge=16, le=200_000)] = 16_384
    connections_per_address: Annotated[int, Meta(ge=1, le=200_000)] = 256
    """Raise it to `connections` behind a proxy: all of its clients share one address."""
    requests: Annotated[int, Meta(ge=16, le=100_000)] = 4_096
    """Connections with a request on them; further ones wait."""
    first_request_s: Seconds = 10
    """How long a new connection may take to send the head of its first request."""
    header_s: Annotated[int, Meta(ge=1, le=60)] = 10
    """Also how long a connection may stay silent between two requests."""
    body_s: Seconds = 30
    slow_reader_s: Seconds = 30
    """How long a client may leave an answer unread before it is cut off."""
    body_bytes: Annotated[int, Meta(ge=2**16, le=2**26)] = 16 * 2**20
    header_bytes: Annotated[int, Meta(ge=1024, le=2**20)] = 16 * 2**10
    session_s: Annotated[int, Meta(ge=60, le=24 * 3600)] = 1800
    event_streams: Annotated[int, Meta(ge=1, le=100_000)] = 2_000
    vault_sweep_s: Annotated[int, Meta(ge=0, le=30 * 24 * 3600)] = 3600
    """Pause between two passes of the vault's sweep; 0: documents are erased by hand only."""
    vault_grace_hours: Annotated[int, Meta(ge=0, le=10 * 366 * 24)] = 24
    """How long a document is left after its retention has ended, or after no message can name it any more."""


def read_gateway_settings(directory: Path, environment: Mapping[str, str] = os.environ) -> GatewaySettings:
    """Return the settings of the gateway in this directory.

    Raises:
        SettingsError: no `feiqian.toml` there, or one that says what a gateway does not understand.
    """
    return read_settings(settings_text(directory), "gateway", GatewaySettings, environment)
