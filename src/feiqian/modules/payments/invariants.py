"""What holds of payments after every block."""

from collections.abc import Iterator

from feiqian.ledger.assets import ASSETS
from feiqian.ledger.invariants import Scope
from feiqian.modules.payments.state import AGENTS, ALIASES, CUSTOMERS, PAYMENTS, UETRS, entry_key

_INSTRUCTION_BYTES = 32
_ADDRESS_BYTES = 32


def payments_have_references(scope: Scope) -> Iterator[str]:
    """Every payment stands under its UETR, and never changes in amount or parties once it is settled."""
    for key, payment, earlier in scope.changes(PAYMENTS):
        if payment is None:
            continue
        reference = UETRS.get(scope.after, payment.uetr + key[:_ADDRESS_BYTES])
        if reference is None or reference.instruction_id != key[-_INSTRUCTION_BYTES:]:
            yield f"payment {key.hex()} is not found under its UETR {payment.uetr.hex()}"
        if key[:_ADDRESS_BYTES] != payment.debtor_account:
            yield f"payment {key.hex()} stands under another debtor's account"
        if earlier is not None and earlier != payment:
            yield f"payment {key.hex()} was changed after it settled"


def customers_count_aliases(scope: Scope) -> Iterator[str]:
    """A customer record counts exactly the open account numbers that mean it."""
    if not scope.reaches(ALIASES, CUSTOMERS):
        return
    counted: dict[bytes, int] = {}
    for key, alias in ALIASES.scan(scope.after):
        if not alias.is_closed:
            customer = entry_key(key.partition(b"/")[0].decode(), alias.account)
            counted[customer] = counted.get(customer, 0) + 1
    stored = {key: customer.open_aliases for key, customer in CUSTOMERS.scan(scope.after)}
    for key in sorted(counted.keys() | stored.keys()):
        if counted.get(key, 0) != stored.get(key, 0):
            yield f"customer {key.hex()} has {counted.get(key, 0)} open account numbers, {stored.get(key, 0)} counted"


def agents_are_banks_own(scope: Scope) -> Iterator[str]:
    """An agent's issuance account is its deposit asset's."""
    for key, agent, _ in scope.changes(AGENTS):
        if agent is None:
            continue
        asset = ASSETS.get(scope.after, key)
        if asset is None or asset.issuer != agent.member or asset.issuance_account != agent.issuance_account:
            yield f"agent {key.decode()} does not issue its deposit asset"


INVARIANTS = (payments_have_references, customers_count_aliases, agents_are_banks_own)
