"""A validator whose key is behind CometBFT's remote-signer socket: it votes, and waits for a signer that is away."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from feiqian.execution.registry import discover
from feiqian.testing.comet_binary import require_cometbft
from feiqian.testing.remote_signer import RemoteSigner
from feiqian.testing.validators import Network, Validator, await_that


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    require_cometbft()
    with Network(tmp_path / "n", discover(), 2) as network:
        yield network


def height_signed(signer: RemoteSigner) -> int:
    return int(json.loads(signer.state.read_bytes())["height"])


def signs(validator: Validator, seen_from: Validator, height: int) -> bool:
    """Say whether the commit on a height holds a validator's vote."""
    commit = seen_from.rpc("commit", height=str(height))["signed_header"]["commit"]
    voted = [each["validator_address"].lower() for each in commit["signatures"] if each["signature"]]
    return validator.made.validator_address in voted


@pytest.mark.campaign
def test_a_validator_votes_with_a_key_that_its_machine_does_not_hold(network: Network, tmp_path: Path) -> None:
    first, second = network.validators
    vault = tmp_path / "vault"
    vault.mkdir()
    second.layout.validator_key.rename(vault / "key.json")
    second.layout.sign_state.rename(vault / "state.json")
    socket = tmp_path / "signer.sock"
    settings = second.layout.settings.read_text("utf-8")
    setting = f'\n[comet]\nremote_signer = "unix://{socket}"\n'
    second.layout.settings.write_text(settings.replace("\n[comet]\n", setting), "utf-8")
    signer = RemoteSigner(vault, network.genesis.chain_id, f"unix://{socket}").start()
    try:
        network.start()
        first.await_height(5)
        # Of two validators neither decides alone: each block has both votes.
        assert signs(second, first, 3)
        assert height_signed(signer) >= 5
        assert not second.layout.validator_key.exists()

        # Killed, CometBFT leaves its socket behind; the next one listens there all the same.
        height = network.height()
        second.kill_part("cometbft")
        signer.kill()
        signer.start()
        first.await_height(height + 3)

        signer.kill()
        height = network.height()
        signed = height_signed(signer)
        assert signed <= height + 1
        signer.start()
        first.await_height(height + 5)
        await_that("it signs again", lambda: height_signed(signer) > signed)
        assert not second.log_lines("found conflicting vote from ourselves; did you unsafe_reset a validator?")
    finally:
        signer.kill()
