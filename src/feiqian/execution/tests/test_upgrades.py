"""At the agreed height the old release stops and the new one migrates first."""

from dataclasses import replace

import pytest

from feiqian.core.encoding import Record, encode
from feiqian.core.errors import Fault
from feiqian.execution.registry import Registry, RegistryDispatcher
from feiqian.execution.upgrades import run_upgrade
from feiqian.ledger.context import BlockInfo, Context
from feiqian.ledger.members import MEMBERS, add_member, require_member
from feiqian.ledger.parameters import get_parameters
from feiqian.ledger.records import Member, Upgrade
from feiqian.ledger.upgrades import UPGRADE_KEY, UPGRADES, scheduled_upgrade
from feiqian.state.tables import BlockState


def schedule(ledger, height: int, version: int) -> None:
    ledger.records[UPGRADES.prefix + UPGRADE_KEY] = encode(Upgrade(height, version))


def member(name: str) -> Member:
    return Member(name, None, None, None, (), None, False)


def upgrade(ledger, registry: Registry, height: int, binary: int) -> tuple[bool, BlockState]:
    state = BlockState(ledger)
    has_run = run_upgrade(registry, state, BlockInfo("feiqian-test-1", height, 1), RegistryDispatcher(registry), binary)
    return has_run, state


@pytest.fixture
def migrating(registry: Registry) -> Registry:
    """A release of version 3 whose steps build on one another."""

    def to_2(ctx: Context) -> None:
        add_member(ctx, "second", member("Made by version 2"))

    def to_3(ctx: Context) -> None:
        add_member(ctx, "third", member(require_member(ctx.state, "second").legal_name + " and 3"))

    newer = Registry([replace(registry.modules[0], migrations={2: to_2, 3: to_3}), *registry.modules[1:]])
    assert newer.message_types.keys() == registry.message_types.keys()
    return newer


def test_before_the_height_the_old_release_runs_and_the_new_one_refuses(ledger, registry: Registry) -> None:
    schedule(ledger, 10, 3)
    assert upgrade(ledger, registry, 9, 1)[0] is False
    with pytest.raises(Fault, match="rules are version 1, this release runs 3"):
        upgrade(ledger, registry, 9, 3)


def test_at_the_height_the_old_release_stops(ledger, registry: Registry) -> None:
    schedule(ledger, 10, 3)
    with pytest.raises(Fault, match="version 3 from height 10"):
        upgrade(ledger, registry, 10, 1)


def test_at_the_height_the_new_release_runs_each_step_in_order(ledger, migrating: Registry) -> None:
    schedule(ledger, 10, 3)
    has_run, state = upgrade(ledger, migrating, 10, 3)
    assert has_run
    third = MEMBERS.get(state, b"third")
    assert third is not None
    assert third.legal_name == "Made by version 2 and 3"
    assert get_parameters(state).app_version == 3
    assert scheduled_upgrade(state) is None


def test_a_block_with_an_upgrade_is_not_empty(ledger) -> None:
    schedule(ledger, ledger.height + 1, 1)
    outcome = ledger.block([])
    assert not outcome.is_empty
    assert UPGRADES.prefix + UPGRADE_KEY in outcome.changes
    assert isinstance(get_parameters(BlockState(ledger)), Record)
