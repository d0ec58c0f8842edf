"""Governance: members join, leave and are suspended, parameters and rules change, by vote of the governors."""

from feiqian.modules import Module
from feiqian.modules.governance.errors import ERRORS
from feiqian.modules.governance.events import EVENTS
from feiqian.modules.governance.genesis import genesis
from feiqian.modules.governance.handlers import HANDLERS, TRIGGERS
from feiqian.modules.governance.invariants import INVARIANTS
from feiqian.modules.governance.misbehaviour import misbehaviour
from feiqian.modules.governance.state import NAME, TABLES

MODULE = Module(
    name=NAME,
    handlers=HANDLERS,
    tables=TABLES,
    events=EVENTS,
    errors=ERRORS,
    triggers=TRIGGERS,
    invariants=INVARIANTS,
    genesis=genesis,
    misbehaviour=misbehaviour,
)
