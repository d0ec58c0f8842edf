"""A member's own accounts: opening, policies, freezes, credit limits, pending approvals. Start with README.md."""

from feiqian.modules import Module
from feiqian.modules.accounts.errors import ERRORS
from feiqian.modules.accounts.events import EVENTS
from feiqian.modules.accounts.handlers import HANDLERS

MODULE = Module(name="accounts", handlers=HANDLERS, events=EVENTS, errors=ERRORS)
