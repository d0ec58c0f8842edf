"""The simulation: random valid and invalid messages of every module against a plain model of the whole ledger.

A module joins by one file, `modules/<name>/tests/simulation.py`, which declares `SIMULATION`. Nothing else is edited:
modules, messages and tables are found through the registry, and a test fails where one has no part in the simulation.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from feiqian.execution.registry import Registry
from feiqian.ledger.context import Message, Trigger
from feiqian.ledger.validators import Misbehaviour
from feiqian.testing.simulation.model import Model, Rule, Run
from feiqian.testing.simulation.records import Records

__all__ = ["Simulation", "simulations"]


@dataclass(frozen=True)
class Simulation:
    """What a module brings.

    `rules`: for each of its messages how to draw it, who must sign, and what it does to the model.
    `triggers`: what each of its triggers does to the model. `records`: what each of its tables must hold.
    `genesis`: its section of the consortium file; `found` writes what that means into the model.
    `opening`: messages that every run starts with, so that there is something to move; none may be refused.
    `misbehaviour`: what it does to the model when consensus proves that a validator broke its rules.
    `crowd`: a message as large as the module has, so that a few fill a block and their sponsor's share of it.
    `story`: transactions for the golden blocks, each message once done and once refused at least.
    """

    rules: Mapping[type[Message], Rule]
    triggers: Mapping[type[Trigger], Callable[[Run, Any], None]] = field(default_factory=dict)
    records: Mapping[str, Callable[[Model], Records]] = field(default_factory=dict)
    genesis: Any = None
    found: Callable[[Model, Mapping[str, bytes]], None] | None = None
    opening: Callable[[Mapping[str, bytes]], Sequence[Message]] | None = None
    misbehaviour: Callable[[Run, Misbehaviour], None] | None = None
    crowd: Callable[[Any], Message] | None = None
    story: Callable[[Any], None] | None = None


def simulations(registry: Registry) -> dict[str, Simulation]:
    """Return what each module of the registry brings, by name.

    Raises:
        ModuleNotFoundError: a module has no `tests/simulation.py`.
    """
    found: dict[str, Simulation] = {}
    for module in registry.modules:
        part = importlib.import_module(f"feiqian.modules.{module.name}.tests.simulation")
        found[module.name] = part.SIMULATION
    return found
