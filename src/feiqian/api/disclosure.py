"""What of a transaction or event one reader is shown: the one place where the gateway decides that.

A regulator reads all, and so does a reader for whom every message of the transaction acts: it asked for all that
followed. Any other party reads those messages that act for its own accounts, of the others the kind alone, and of each
event that concerns it what `Event.for_reader` leaves it. Which accounts are a reader's own, `Reader.reads_for` says.
"""

from typing import Any, NamedTuple

from feiqian.api.access import Reader
from feiqian.api.ledger_view import FoundTransaction, LedgerView
from feiqian.core.plain import to_plain
from feiqian.execution.registry import tag_of
from feiqian.ledger.context import Event, Message
from feiqian.ledger.events import Posted


class Shown(NamedTuple):
    """A transaction as one reader sees it; `is_whole` says that nothing is left out."""

    messages: list[dict[str, Any]]
    events: list[Event]
    is_whole: bool


class Disclosure:
    """One reader's view, for as long as one answer takes: it remembers whose the accounts are."""

    def __init__(self, ledger: LedgerView, reader: Reader) -> None:
        self._ledger = ledger
        self._reader = reader
        self._members: dict[bytes, str | None] = {}

    def event(self, event: Event) -> Event:
        """Return what the reader, who is party to the event, may read of it."""
        return event if self._reader.is_regulator else event.for_reader(self._is_own)

    def transaction(self, found: FoundTransaction) -> Shown:
        """Return what the reader, who is party to the transaction, may read of it."""
        transaction = None if found.asked is None else found.asked.transaction
        messages = () if transaction is None else transaction.messages
        acting = [self._acts_for_reader(message) for message in messages]
        if self._reader.is_regulator or (messages and all(acting)):
            return Shown([to_plain(message) for message in messages], found.events, True)
        return Shown(
            [
                to_plain(message) if is_own else {"type": tag_of(type(message))}
                for message, is_own in zip(messages, acting, strict=True)
            ],
            [self.event(event) for event in found.events if self._concerns(event)],
            False,
        )

    def may_prove(self, found: FoundTransaction) -> bool:
        """Say whether the reader may have the result proved: a proof shows every event of it, and nothing less.

        Who does not read all may, where the events tell it all the same: each that a module or the ledger emitted is
        its to read in full, and they name everyone in the entries. An event that names no account, of a payment's
        document for one, is told to every account of the members that it names, beside those that do.
        """
        return self.transaction(found).is_whole or self._reads_all(found.events)

    def _reads_all(self, events: list[Event]) -> bool:
        told = [event for event in events if not isinstance(event, Posted)]
        if not all(self._is_told(event) and self.event(event) == event for event in told):
            return False
        accounts = {account for event in told for account in event.accounts()}
        members = {member for event in told for member in event.members()}
        return all(
            self._is_own(leg.account) or leg.account in accounts or self._member_of(leg.account) in members
            for event in events
            if isinstance(event, Posted)
            for leg in event.legs
        )

    def _acts_for_reader(self, message: Message) -> bool:
        return any(self._is_own(claim.account) for claim in message.claims())

    def _is_told(self, event: Event) -> bool:
        return self._concerns(event) or (not event.accounts() and self._reader.member in event.members())

    def _concerns(self, event: Event) -> bool:
        members, accounts = event.members(), event.accounts()
        if not members and not accounts:
            return True  # Nobody's in particular: consensus parameters, an upgrade.
        is_named = self._reader.is_administration and self._reader.member in members
        return is_named or any(self._is_own(account) for account in accounts)

    def _is_own(self, address: bytes) -> bool:
        member = self._member_of(address)
        return member is not None and self._reader.reads_for(address, member)

    def _member_of(self, address: bytes) -> str | None:
        if address not in self._members:
            self._members[address] = self._ledger.member_of(address)
        return self._members[address]
