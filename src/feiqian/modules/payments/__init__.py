"""Customer credit transfers between accounts at member institutions. Start with README.md."""

from feiqian.modules import Module
from feiqian.modules.payments.errors import ERRORS
from feiqian.modules.payments.events import EVENTS
from feiqian.modules.payments.genesis import genesis
from feiqian.modules.payments.handlers import HANDLERS
from feiqian.modules.payments.invariants import INVARIANTS
from feiqian.modules.payments.state import TABLES

MODULE = Module(
    name="payments",
    handlers=HANDLERS,
    tables=TABLES,
    events=EVENTS,
    errors=ERRORS,
    invariants=INVARIANTS,
    genesis=genesis,
)
