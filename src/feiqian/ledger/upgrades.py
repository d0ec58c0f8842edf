"""The one upgrade that members may have scheduled: set by governance, carried out by `execution` at its height."""

from feiqian.ledger.records import Upgrade
from feiqian.state.tables import Overlay, Table

UPGRADES: Table[Upgrade] = Table("ledger.upgrades", Upgrade)
UPGRADE_KEY = b"next"


def scheduled_upgrade(state: Overlay) -> Upgrade | None:
    """Return the upgrade that is scheduled, None where none is."""
    return UPGRADES.get(state, UPGRADE_KEY)
