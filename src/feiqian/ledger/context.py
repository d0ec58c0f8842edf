"""What a rule is given: state, block, who asked, and the ways to emit events, count work and make ids."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, Self

import msgspec

from feiqian.core.encoding import Record
from feiqian.core.hashing import Domain
from feiqian.core.signatures import PublicKey
from feiqian.state.tables import Overlay

_OBJECT_ID = Domain("feiqian/object-id/v1")


class Claim(msgspec.Struct, frozen=True, gc=False):
    """One account that a message acts for, with what its policy weighs: asset and amount, None where none moves."""

    account: bytes
    asset: str | None = None
    amount_minor: int | None = None


class Message(Record):
    """What someone asks for. Tagged `"module.Name"`; names the accounts it acts for."""

    def claims(self) -> tuple[Claim, ...]:
        """Return each account whose policy must be met for this message; at least one."""
        raise NotImplementedError

    def touches(self) -> tuple[tuple[bytes, str | None], ...]:
        """Return the accounts, each with the asset where one moves, whose records will be read when this runs.

        Only a hint, by which a block reads ahead: what is left out here is read when it is asked for.
        """
        return tuple([(claim.account, claim.asset) for claim in self.claims()])


IsOwn = Callable[[bytes], bool]
"""Says whether the account at an address is one that the reader reads for: its own, or any of its member's."""


class Event(Record):
    """What happened. Tagged `"module.Name"`; hashed into the result; names the parties who may read it."""

    def accounts(self) -> tuple[bytes, ...]:
        """Return the addresses of the accounts concerned: who reads for one of them may read the event."""
        return ()

    def members(self) -> tuple[str, ...]:
        """Return the ids of further members concerned: who speaks for one of them may read the event."""
        return ()

    def for_reader(self, is_own: IsOwn) -> Self:
        """Return what of it a party may read: all, unless it tells of several who need not know of one another.

        A part is an event of the same type with less in it. Regulators, and whom all messages act for, read all.
        """
        return self


class Trigger(Record):
    """What is to run by itself at a time; tagged `"module.Name"`."""


class BlockInfo(NamedTuple):
    """The block that runs: `time_ms` is the only clock that a rule may read."""

    chain_id: str
    height: int
    time_ms: int


class Dispatcher(Protocol):
    """Reads and runs messages that were approved on the ledger; wired by `execution`."""

    def decode(self, messages: tuple[bytes, ...]) -> "tuple[Message, ...]":
        """Decode each message; raises `Undecodable` or `NonCanonical`."""
        ...

    def __call__(self, ctx: "Context", messages: tuple[bytes, ...]) -> None:
        """Decode each message and run its handler in order; raises what the handler raises."""
        ...


class Context:
    """One run of a transaction or trigger. Lives for that run only.

    `origin` is the transaction's id, or a hash of the trigger's key; `signers` are the keys whose signatures were
    verified (none for a trigger).
    """

    __slots__ = ("_ids_made", "block", "dispatch", "events", "origin", "signers", "sponsor", "state", "work")

    def __init__(
        self,
        state: Overlay,
        block: BlockInfo,
        origin: bytes,
        sponsor: str | None,
        signers: frozenset[PublicKey],
        dispatch: Dispatcher,
    ) -> None:
        self.state = state
        self.block = block
        self.origin = origin
        self.sponsor = sponsor
        self.signers = signers
        self.dispatch = dispatch
        self.events: list[Event] = []
        self.work = 0
        self._ids_made = 0

    def emit(self, event: Event) -> None:
        """Record what happened; dropped with the state if the transaction is refused."""
        self.events.append(event)

    def new_id(self) -> bytes:
        """Return 32 bytes that no other object of this ledger has, the same on every node."""
        self._ids_made += 1
        return _OBJECT_ID.hash(self.origin + self._ids_made.to_bytes(4, "big"))
