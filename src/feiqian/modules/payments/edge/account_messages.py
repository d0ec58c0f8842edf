"""Messages of the module `accounts` that payments' commands send, made by name: modules do not import one another."""

from feiqian.core.encoding import Record
from feiqian.execution.registry import Registry
from feiqian.ledger.records import Policy

PROPOSAL_DAYS = 5


class AccountMessages:
    """Makes them from a registry."""

    def __init__(self, registry: Registry) -> None:
        self._types = registry.message_types

    def open_account(self, account: bytes, policy: Policy, salt: bytes) -> Record:
        """Return the message by which `account` opens another of its member."""
        return self._types["accounts.Open"](account=account, policy=policy, salt=salt)  # pyright: ignore

    def propose(self, account: bytes, message: bytes) -> Record:
        """Return the message that puts an encoded one up for approval on behalf of `account`."""
        return self._types["accounts.Propose"](account=account, messages=(message,), days=PROPOSAL_DAYS)  # pyright: ignore

    def approve(self, account: bytes, pending: bytes) -> Record:
        """Return the message that approves what is pending on behalf of `account`."""
        return self._types["accounts.Approve"](account=account, pending=pending)  # pyright: ignore
