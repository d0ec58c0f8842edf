"""Assets: what can be held, how it comes into being, moves, is reserved, stopped and ends."""

from feiqian.modules import Module
from feiqian.modules.assets.errors import ERRORS
from feiqian.modules.assets.events import EVENTS
from feiqian.modules.assets.genesis import genesis
from feiqian.modules.assets.handlers import HANDLERS
from feiqian.modules.assets.invariants import INVARIANTS
from feiqian.modules.assets.state import NAME

MODULE = Module(
    name=NAME,
    handlers=HANDLERS,
    events=EVENTS,
    errors=ERRORS,
    invariants=INVARIANTS,
    genesis=genesis,
)
