"""The Python SDK: what a member's own program imports."""

from feiqian.client.asynchronous import AsyncClient
from feiqian.client.calls import Outcome
from feiqian.client.client import Client
from feiqian.client.errors import Refused, Unreachable

__all__ = ["AsyncClient", "Client", "Outcome", "Refused", "Unreachable"]
