"""Business capabilities, one folder each, and the declaration by which execution finds them.

A module's package exposes `MODULE`, a `Module`. Modules do not import one another.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from feiqian.core.errors import InvalidTransaction
from feiqian.ledger.context import Context, Event, Message, Trigger
from feiqian.ledger.invariants import Scope
from feiqian.ledger.validators import Misbehaviour
from feiqian.state.tables import Table

Handler = Callable[[Context, Any], None]
"""Runs one message or trigger; refuses by raising `InvalidTransaction` before its first write."""


class Invariant(Protocol):
    """A claim about state that holds after every block."""

    def __call__(self, scope: Scope, /) -> Iterator[str]:
        """Yield one sentence for each violation among the records that `scope` names."""
        ...


@dataclass(frozen=True)
class Module:
    """All that a capability brings to the ledger.

    `genesis` takes the module's table of `consortium.toml` (already plain Python values) and writes its first records;
    `misbehaviour` is told what consensus proved of a validator, before anything else in its block runs;
    `migrations` maps an app version to the step that brings records to it.
    """

    name: str
    handlers: Mapping[type[Message], Handler]
    tables: tuple[Table[Any], ...] = ()
    events: tuple[type[Event], ...] = ()
    errors: tuple[type[InvalidTransaction], ...] = ()
    triggers: Mapping[type[Trigger], Handler] = field(default_factory=dict[type[Trigger], Handler])
    invariants: tuple[Invariant, ...] = ()
    genesis: Callable[[Context, Mapping[str, Any]], None] | None = None
    misbehaviour: Callable[[Context, Misbehaviour], None] | None = None
    migrations: Mapping[int, Callable[[Context], None]] = field(default_factory=dict[int, Callable[[Context], None]])
