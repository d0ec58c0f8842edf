"""Finds the modules and knows every message, event, trigger, table and error of this ledger by its name."""

import importlib
import pkgutil
from collections.abc import Iterable
from functools import reduce
from operator import or_
from typing import Any

import feiqian.ledger as ledger
import feiqian.modules as modules_package
from feiqian.core import errors as core_errors
from feiqian.core.encoding import Codec
from feiqian.core.errors import Fault, InvalidTransaction
from feiqian.core.transactions import Transaction
from feiqian.execution.errors import ERRORS as EXECUTION_ERRORS
from feiqian.execution.tables import TABLES as EXECUTION_TABLES
from feiqian.ledger.context import Context, Event, Message, Trigger
from feiqian.ledger.validators import Misbehaviour
from feiqian.modules import Handler, Invariant, Module
from feiqian.state.tables import Table


class Registry:
    """Everything that execution looks up by type or name. Made once; never changes.

    Raises:
        Fault: two declarations share a tag, a table name, or a codespace and number.
    """

    def __init__(self, modules: Iterable[Module]) -> None:
        self.modules: tuple[Module, ...] = tuple(modules)
        self.handlers: dict[type[Message], Handler] = {}
        self.triggers: dict[type[Trigger], Handler] = dict(ledger.TRIGGERS)
        self.misbehaviour: dict[type[Misbehaviour], Handler] = {Misbehaviour: self._take_misbehaviour}
        self.tables: dict[str, Table[Any]] = {}
        self.errors: dict[tuple[str, int], type[InvalidTransaction]] = {}
        self.invariants: tuple[Invariant, ...] = tuple(ledger.INVARIANTS)
        self.event_types: dict[str, type[Event]] = {}
        self._add_tables((*EXECUTION_TABLES, *ledger.TABLES))
        self._add_errors((*_subclasses(core_errors.CoreError), *EXECUTION_ERRORS, *ledger.ERRORS))
        self._add_events(ledger.EVENTS)
        for module in self.modules:
            self._add_module(module)
        self.message_types: dict[str, type[Message]] = {tag_of(type_): type_ for type_ in self.handlers}
        message_union = _union(self.handlers)
        self.message_codec: Codec[Message] = Codec(message_union, "message")
        self.transaction_codec: Codec[Transaction[Any]] = Codec(Transaction[message_union], "transaction")
        self.event_codec: Codec[Event] = Codec(_union(self.event_types.values()), "event")
        self.trigger_codec: Codec[Trigger] = Codec(_union(self.triggers), "trigger")

    def table_of(self, full_key: bytes) -> Table[Any]:
        """Return the table that a full state key belongs to.

        Raises:
            Fault: no table has this key's name.
        """
        name = full_key.partition(b"/")[0].decode("ascii", "replace")
        table = self.tables.get(name)
        if table is None:
            raise Fault(f"state holds a key of table {name!r}, which this release does not know")
        return table

    def _add_module(self, module: Module) -> None:
        for message_type, handler in module.handlers.items():
            _refuse_twice(tag_of(message_type), [tag_of(known) for known in self.handlers])
            self.handlers[message_type] = handler
        for trigger_type, handler in module.triggers.items():
            _refuse_twice(tag_of(trigger_type), [tag_of(known) for known in self.triggers])
            self.triggers[trigger_type] = handler
        self._add_tables(module.tables)
        self._add_errors(module.errors)
        self._add_events(module.events)
        self.invariants += module.invariants

    def _take_misbehaviour(self, ctx: Context, misbehaviour: Misbehaviour) -> None:
        for module in self.modules:
            if module.misbehaviour is not None:
                module.misbehaviour(ctx, misbehaviour)

    def _add_tables(self, tables: Iterable[Table[Any]]) -> None:
        for table in tables:
            _refuse_twice(table.name, self.tables)
            self.tables[table.name] = table

    def _add_errors(self, errors: Iterable[type[InvalidTransaction]]) -> None:
        for error in errors:
            _refuse_twice((error.codespace, error.number), self.errors)
            self.errors[(error.codespace, error.number)] = error

    def _add_events(self, events: Iterable[type[Event]]) -> None:
        for event in events:
            _refuse_twice(tag_of(event), self.event_types)
            self.event_types[tag_of(event)] = event


class RegistryDispatcher:
    """Runs messages that were approved on the ledger; what rules are given as `Context.dispatch`."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def decode(self, messages: tuple[bytes, ...]) -> tuple[Message, ...]:
        """Decode each message.

        Raises:
            Undecodable, NonCanonical: see `Codec.decode`.
        """
        return tuple([self._registry.message_codec.decode(data) for data in messages])

    def __call__(self, ctx: Context, messages: tuple[bytes, ...]) -> None:
        """Decode each message and run its handler in order; raises what the handler raises."""
        for message in self.decode(messages):
            self._registry.handlers[type(message)](ctx, message)


def discover() -> Registry:
    """Return the registry of every folder below `feiqian.modules` that declares a `MODULE`, in name order."""
    names = sorted(found.name for found in pkgutil.iter_modules(modules_package.__path__) if found.ispkg)
    return Registry(importlib.import_module(f"{modules_package.__name__}.{name}").MODULE for name in names)


def tag_of(type_: type[Any]) -> str:
    """Return the tag of a message, event or trigger type: `"module.Name"`."""
    return type_.__struct_config__.tag


def _union(types: Iterable[type[Any]]) -> Any:
    return reduce(or_, types)


def _subclasses(root: type[InvalidTransaction]) -> list[type[InvalidTransaction]]:
    return sorted(root.__subclasses__(), key=lambda error: error.number)


def _refuse_twice(name: object, known: Iterable[object]) -> None:
    if name in known:
        raise Fault(f"{name!r} is declared twice; each tag, table and error number stands once")
