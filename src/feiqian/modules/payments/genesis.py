"""The payments table of `consortium.toml`: agents from the start, and who reads every payment's particulars."""

from collections.abc import Mapping
from typing import Any

from feiqian.core.encoding import Codec, encode
from feiqian.ledger.context import Context
from feiqian.ledger.documents import check_readers
from feiqian.modules.payments.handlers import register_agent
from feiqian.modules.payments.messages import ClearingNumber, RegisterAgent
from feiqian.modules.payments.state import SETTINGS, SETTINGS_KEY, Settings

_REGISTER_AGENT: Codec[RegisterAgent] = Codec(RegisterAgent, "agent at genesis")


def genesis(ctx: Context, table: Mapping[str, Any]) -> None:
    """Write the module's first records.

    `table["required_readers"]` is a list of member ids, `table["agents"]` a list of tables with the fields of
    `RegisterAgent`, accounts as 32-byte addresses.

    Raises:
        InvalidTransaction: an agent breaks a rule of `register_agent`; a reader is no member.
    """
    readers = tuple(sorted(table.get("required_readers", ())))
    if readers:
        check_readers(ctx, readers)
    SETTINGS.put(ctx.state, SETTINGS_KEY, Settings(readers or None))
    for agent in table.get("agents", ()):
        register_agent(ctx, _agent(agent))


def _agent(fields: Mapping[str, Any]) -> RegisterAgent:
    clearing = fields.get("clearing")
    number = None if clearing is None else ClearingNumber(clearing["system"], clearing["member"])
    # Values from a file written by hand pass the same constraints as decoded ones.
    return _REGISTER_AGENT.decode(encode(RegisterAgent(**{**fields, "clearing": number})))
