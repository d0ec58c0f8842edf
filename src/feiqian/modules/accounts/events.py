"""This module emits no events of its own: what it does is recorded by the ledger's (`feiqian.ledger.events`)."""

from feiqian.ledger.context import Event

EVENTS: tuple[type[Event], ...] = ()
