"""The CometBFT that tests run: what `make cometbft` built."""

import os
import shutil
from pathlib import Path

import pytest

from feiqian.core.settings import SettingsError
from feiqian.node.comet.binary import find_binary


def require_cometbft() -> Path:
    """Return the binary. A test is skipped where it is missing and there is no Go to build it with, never in CI."""
    try:
        return find_binary("")
    except SettingsError as error:
        if shutil.which("go") or os.environ.get("CI"):
            pytest.fail(f"this test runs CometBFT: {error}")
        pytest.skip(f"this test runs CometBFT, and there is no Go on this machine to build it with: {error}")
