"""Unix sockets: how long a path one may have, and how one is reached that has no path any more."""

import os
from pathlib import Path

from feiqian.core.settings import SettingsError

MAX_SOCKET_PATH_BYTES = 107
"""Linux holds the path of a unix socket in 108 bytes with a final zero (unix(7))."""


def check_socket_path(path: Path, advice: str) -> None:
    """Refuse a path that no socket can have; `advice` says what the operator may do about it.

    Raises:
        SettingsError: it is too long.
    """
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise SettingsError(
            f"the path of {path} is too long for a socket: {MAX_SOCKET_PATH_BYTES} bytes at most; {advice}"
        )


def hold_socket(path: Path) -> Path:
    """Return another path of a socket, good for this process as long as it lives, also when the first is removed."""
    return Path(f"/proc/self/fd/{os.open(path, os.O_PATH)}")
