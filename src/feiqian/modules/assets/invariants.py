"""What holds of assets after every block, beside the ledger's own invariants (zero sum, available, holds)."""

from collections.abc import Iterator

from feiqian.core.addresses import ADDRESS_BYTES
from feiqian.ledger.accounts import ACCOUNTS
from feiqian.ledger.assets import ASSETS
from feiqian.ledger.balances import BALANCES
from feiqian.ledger.holds import HOLDS
from feiqian.ledger.invariants import Scope
from feiqian.modules import Invariant
from feiqian.modules.assets.state import NAME


def definitions_stand(scope: Scope) -> Iterator[str]:
    """An asset, once defined, is never changed or removed, and its limits lie within its supply cap."""
    for key, asset, former in scope.changes(ASSETS):
        code = key.decode()
        if former is not None and asset != former:
            yield f"asset {code}: its definition changed"
        if asset is None:
            continue
        daily_minor = asset.supply_cap_minor if asset.daily_limit_minor is None else asset.daily_limit_minor
        if daily_minor > asset.supply_cap_minor or (asset.transfer_limit_minor or 0) > daily_minor:
            yield f"asset {code}: a limit above its supply cap or daily limit"


def flags_bind(scope: Scope) -> Iterator[str]:
    """Accounts are frozen in freezable assets only, and listed in allow-listed assets only."""
    for key, balance, _ in scope.changes(BALANCES):
        if balance is None or not (balance.is_frozen or balance.is_listed):
            continue
        asset = ASSETS.get(scope.after, key[ADDRESS_BYTES:])
        if asset is None or balance.is_frozen > asset.is_freezable or balance.is_listed > asset.is_allow_listed:
            yield f"balance {key.hex()}: frozen or listed, which its asset does not provide for"


def holds_have_beneficiaries(scope: Scope) -> Iterator[str]:
    """A hold of this module is for another open account than its own, and neither is the issuance account."""
    for key, hold, _ in scope.changes(HOLDS):
        if hold is None or hold.controller != NAME:
            continue
        beneficiary = hold.beneficiary
        asset = ASSETS.get(scope.after, hold.asset.encode())
        if beneficiary is None or not ACCOUNTS.has(scope.after, beneficiary) or beneficiary == hold.account:
            yield f"hold {key.hex()}: its beneficiary is no other open account"
        if asset is None or asset.issuance_account in (beneficiary, hold.account):
            yield f"hold {key.hex()}: from or to an issuance account"


INVARIANTS: tuple[Invariant, ...] = (definitions_stand, flags_bind, holds_have_beneficiaries)
