"""Who may read the files that a process makes."""

import os

_OWNER_ONLY = 0o077


def keep_files_private() -> None:
    """Let only this process's own user read what it makes from here on: an index or a vault holds members' affairs."""
    os.umask(_OWNER_ONLY)
