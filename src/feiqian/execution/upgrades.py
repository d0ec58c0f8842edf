"""Upgrade heights: the old binary stops before the height, the new one migrates as that height's first step."""

import msgspec

from feiqian.execution.errors import WrongRelease
from feiqian.execution.registry import Registry
from feiqian.ledger.context import BlockInfo, Context, Dispatcher
from feiqian.ledger.parameters import get_parameters, set_parameters
from feiqian.ledger.upgrades import UPGRADE_KEY, UPGRADES, scheduled_upgrade
from feiqian.state.tables import BlockState, Overlay

APP_VERSION = 1
"""The version of the rules in this release."""


def run_upgrade(
    registry: Registry, state: BlockState, block: BlockInfo, dispatch: Dispatcher, app_version: int = APP_VERSION
) -> bool:
    """Run the migrations of an upgrade that is due at this height; say whether there was one.

    `app_version` is the version of the rules that this binary runs.

    Raises:
        WrongRelease: the ledger's rules are of another version than this binary's, or an upgrade to another one is due.
    """
    if not check_release(state, block.height, app_version):
        return False
    parameters = get_parameters(state)
    overlay = Overlay(state)
    ctx = Context(overlay, block, block.height.to_bytes(32, "big"), None, frozenset(), dispatch)
    for version in range(parameters.app_version + 1, app_version + 1):
        for module in registry.modules:
            if version in module.migrations:
                module.migrations[version](ctx)
    set_parameters(ctx, msgspec.structs.replace(get_parameters(overlay), app_version=app_version))
    UPGRADES.delete(overlay, UPGRADE_KEY)
    overlay.keep()
    return True


def check_release(state: BlockState, height: int, app_version: int = APP_VERSION) -> bool:
    """Say whether an upgrade to this binary's rules is due at a height; refuse one that other rules hold at.

    Raises:
        WrongRelease: the ledger's rules are of another version than this binary's, or an upgrade to another one is due.
    """
    parameters = get_parameters(state)
    upgrade = scheduled_upgrade(state)
    if upgrade is None or height < upgrade.height:
        if parameters.app_version != app_version:
            raise WrongRelease(
                f"the ledger's rules are version {parameters.app_version}, this release runs {app_version}; "
                f"start the release for version {parameters.app_version}"
            )
        return False
    if upgrade.app_version != app_version:
        raise WrongRelease(
            f"the members agreed to run version {upgrade.app_version} from height {upgrade.height}; "
            f"this release runs {app_version}: install that release and start again"
        )
    return True
