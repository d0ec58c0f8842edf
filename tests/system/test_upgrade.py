"""Four real validators under load go over to the next release's rules at a height, one of them late."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from feiqian.execution.registry import discover
from feiqian.ledger.parameters import get_parameters
from feiqian.modules.governance.messages import ScheduleUpgrade
from feiqian.node.faults import FAULT
from feiqian.state.store import Store
from feiqian.state.tables import BlockState
from feiqian.testing.assemblies import enact, governed_banks
from feiqian.testing.comet_binary import require_cometbft
from feiqian.testing.loads import Known, Load, check, fund
from feiqian.testing.next_release import MAX_BLOCK_WORK
from feiqian.testing.validators import Network, Validator, await_that

THIS, NEXT = "feiqian.cli.main", "feiqian.testing.next_release"
NOTICE_BLOCKS = 25


def run(release: str, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", release, *map(str, arguments), "--json"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def stands(validator: Validator) -> tuple[int, int, int]:
    """Return height, version of the rules and limit of work in a validator's store."""
    store = Store.open(validator.layout.ledger, read_only=True)
    try:
        parameters = get_parameters(BlockState(store))
        return store.height, parameters.app_version, parameters.max_block_work
    finally:
        store.close()


def version_at(validator: Validator, height: int) -> str:
    return validator.rpc("commit", height=str(height))["signed_header"]["header"]["version"]["app"]


@pytest.mark.campaign
def test_an_upgrade_at_a_height_with_one_validator_late(tmp_path: Path) -> None:
    require_cometbft()
    with Network(tmp_path / "n", discover(), text=governed_banks()) as network:
        network.start()
        known = Known()
        fund(network, known)
        *early, late = network.validators
        with Load(network, known, early) as load:
            load.await_more()
            upgrade = network.height() + NOTICE_BLOCKS
            enact(network, known, ScheduleUpgrade(upgrade, 2))
            # The first two whose turn it is to propose the height stop, and without them nobody else has a turn.
            await_that("two have stopped", lambda: sum(not each.is_running for each in network.validators) >= 2)
            for validator in early:
                if validator.is_running:
                    validator.stop()
                validator.start(is_next_release=True)
            assert late.await_exit() == FAULT
            assert f"the members agreed to run version 2 from height {upgrade}" in late.log_text()
            height, version, _ = stands(late)
            assert (height, version) == (upgrade - 1, 1)
            for validator in early:
                validator.await_gateway().await_height(upgrade + 2)
            load.await_more()
            # This release refuses to go on, and leaves the ledger as it is.
            assert late.start().await_exit() == FAULT
            assert stands(late)[0] == upgrade - 1
            late.start(is_next_release=True).await_gateway().await_height(network.height(early))
            load.await_more()
        known_height = check(network, known, is_audited=False)
        assert known_height > upgrade + 2
        for validator in network.validators:
            assert stands(validator)[1:] == (2, MAX_BLOCK_WORK)
            assert [version_at(validator, height) for height in (upgrade, upgrade + 1)] == ["1", "2"]
    for validator in (early[0], late):
        directory = validator.layout.directory
        first = run(THIS, "audit", directory)
        assert (first["is_clean"], first["first_height"], first["last_height"]) == (True, 1, upgrade - 1)
        assert "version 2" in first["goes_on"]
        snapshot = tmp_path / f"{validator.name}.snapshot"
        run(THIS, "snapshot", directory, "--height", upgrade - 1, "--out", snapshot)
        second = run(NEXT, "audit", directory, "--snapshot", snapshot)
        assert (second["is_clean"], second["first_height"], "goes_on" in second) == (True, upgrade, False)
        assert second["last_height"] >= known_height
