"""What holds of payments after every block."""

from collections.abc import Iterator

from feiqian.ledger.assets import ASSETS
from feiqian.modules.payments.state import AGENTS, ALIASES, CUSTOMERS, PAYMENTS, UETRS, entry_key
from feiqian.state.tables import Overlay

_INSTRUCTION_BYTES = 32
_ADDRESS_BYTES = 32


def payments_have_references(before: Overlay, after: Overlay, touched: frozenset[bytes] | None) -> Iterator[str]:
    """Every payment stands under its UETR, and never changes in amount or parties once it is settled."""
    for key, payment in _touched_records(PAYMENTS, after, touched):
        reference = UETRS.get(after, payment.uetr + key[:_ADDRESS_BYTES])
        if reference is None or reference.instruction_id != key[-_INSTRUCTION_BYTES:]:
            yield f"payment {key.hex()} is not found under its UETR {payment.uetr.hex()}"
        if key[:_ADDRESS_BYTES] != payment.debtor_account:
            yield f"payment {key.hex()} stands under another debtor's account"
        earlier = PAYMENTS.get(before, key) if touched is not None else None
        if earlier is not None and earlier != payment:
            yield f"payment {key.hex()} was changed after it settled"


def customers_count_aliases(before: Overlay, after: Overlay, touched: frozenset[bytes] | None) -> Iterator[str]:
    """A customer record counts exactly the open account numbers that mean it."""
    if touched is not None and not any(key.startswith((ALIASES.prefix, CUSTOMERS.prefix)) for key in touched):
        return
    counted: dict[bytes, int] = {}
    for key, alias in ALIASES.scan(after):
        if not alias.is_closed:
            customer = entry_key(key.partition(b"/")[0].decode(), alias.account)
            counted[customer] = counted.get(customer, 0) + 1
    stored = {key: customer.open_aliases for key, customer in CUSTOMERS.scan(after)}
    for key in sorted(counted.keys() | stored.keys()):
        if counted.get(key, 0) != stored.get(key, 0):
            yield f"customer {key.hex()} has {counted.get(key, 0)} open account numbers, {stored.get(key, 0)} counted"


def agents_are_banks_own(before: Overlay, after: Overlay, touched: frozenset[bytes] | None) -> Iterator[str]:
    """An agent's issuance account is its deposit asset's."""
    for key, agent in _touched_records(AGENTS, after, touched):
        asset = ASSETS.get(after, key)
        if asset is None or asset.issuer != agent.member or asset.issuance_account != agent.issuance_account:
            yield f"agent {key.decode()} does not issue its deposit asset"


def _touched_records(table, after: Overlay, touched: frozenset[bytes] | None):
    if touched is None:
        yield from table.scan(after)
        return
    for full_key in sorted(touched):
        if full_key.startswith(table.prefix):
            record = table.get(after, full_key[len(table.prefix) :])
            if record is not None:
                yield full_key[len(table.prefix) :], record


INVARIANTS = (payments_have_references, customers_count_aliases, agents_are_banks_own)
