"""A gateway as an importer asks it over HTTP: its directory, and where it files what was rejected."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from feiqian.client import Client
from feiqian.client.calls import PREFIX, Call, get
from feiqian.core.addresses import from_text, to_text
from feiqian.modules.payments.edge.importer import ImportResult
from feiqian.modules.payments.edge.pain002 import REJECTED, Outcome
from feiqian.modules.payments.edge.resolution import AgentEntry, AliasEntry
from feiqian.modules.payments.edge.shapes import (
    MAX_REJECTED,
    AgentBody,
    AliasBody,
    ReaderBody,
    RejectedBody,
    RejectedPayment,
)


class RemoteDirectory:
    """Asks the gateway that a signed-in client speaks to."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def agents(self) -> list[AgentEntry]:
        """Return every agent."""
        bodies = msgspec.json.decode(self._client.call(get("/payments/agents")), type=list[AgentBody])
        return [agent_entry(body) for body in bodies]

    def look_up(self, aliases: Sequence[tuple[str, bytes]]) -> list[AliasEntry | None]:
        """Return what each (deposit asset, alias digest) means."""
        asked = {"aliases": [{"deposit_asset": asset, "alias": alias.hex()} for asset, alias in aliases]}
        bodies = msgspec.json.decode(self._post("/payments/look-up", asked), type=list[AliasBody | None])
        return [None if body is None else alias_entry(body) for body in bodies]

    def paid(self, keys: Sequence[bytes]) -> list[bool]:
        """Say of each debtor account ‖ instruction id whether it is paid."""
        asked = {"keys": [key.hex() for key in keys]}
        return msgspec.json.decode(self._post("/payments/paid", asked), type=list[bool])

    def required_readers(self) -> Mapping[str, bytes]:
        """Return the vault keys of those who read every payment's particulars."""
        bodies = msgspec.json.decode(self._client.call(get("/payments/readers")), type=list[ReaderBody])
        return {body.member: bytes.fromhex(body.vault_key) for body in bodies}

    def _post(self, path: str, value: object) -> bytes:
        return self._client.call(Call("POST", PREFIX + path, {}, msgspec.json.encode(value)))


def file_rejected(client: Client, account: str, result: ImportResult) -> None:
    """Tell the gateway what a file sent for an account was told is rejected, for its payments page.

    Raises:
        Refused, Unreachable: it does not take it.
    """
    found = [_rejected(outcome) for outcome in result.outcomes if outcome.status == REJECTED]
    if result.refusal is not None:
        refusal = result.refusal
        count = max(1, len(result.file.instructions))
        found = [RejectedPayment(None, None, count, "", "", refusal.reason, refusal.codespace, refusal.number, None)]
    for start in range(0, len(found), MAX_REJECTED):
        body = RejectedBody(account, result.file.message_id, found[start : start + MAX_REJECTED])
        client.call(Call("POST", f"{PREFIX}/payments/rejected", {}, msgspec.json.encode(body)))


def _rejected(outcome: Outcome) -> RejectedPayment:
    assert outcome.reason is not None, "what is rejected has a reason"
    return RejectedPayment(
        uetr=outcome.uetr,
        debtor_account=None if outcome.debtor_account is None else to_text(outcome.debtor_account),
        payments=1,
        # xs:decimal also writes +1, 1. and .5.
        amount=format(abs(Decimal(outcome.instruction.amount_text)), "f"),
        currency=outcome.instruction.currency,
        reason=outcome.reason,
        codespace=outcome.codespace or "",
        number=outcome.number or 0,
        tx_id=None if outcome.tx_id is None else outcome.tx_id.hex(),
    )


def agent_entry(body: AgentBody) -> AgentEntry:
    """Return an agent from its JSON form."""
    return AgentEntry(
        deposit_asset=body.deposit_asset,
        member=body.member,
        legal_name=body.legal_name,
        currency=body.currency,
        scale=body.scale,
        bic=body.bic,
        clearing_system=body.clearing_system,
        clearing_member=body.clearing_member,
        limit_minor=body.limit_minor,
        vault_key=_key(body.vault_key),
    )


def alias_entry(body: AliasBody) -> AliasEntry:
    """Return what an account number means from its JSON form."""
    return AliasEntry(
        account=from_text(body.account),
        holder_name=bytes.fromhex(body.holder_name),
        is_closed=body.is_closed,
        member=body.member,
        vault_key=_key(body.vault_key),
    )


def _key(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)
