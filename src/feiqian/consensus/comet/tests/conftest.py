"""CometBFT itself, built from its pinned module."""

import json

import pytest

from feiqian.testing.cometbft import Judge, build_judge


@pytest.fixture(scope="session")
def cometbft() -> Judge:
    """CometBFT's own code."""
    return build_judge()


@pytest.fixture(scope="session")
def vectors(cometbft: Judge) -> dict:
    """What CometBFT made of random structures."""
    return json.loads(cometbft("generate", "20260201", "120"))
