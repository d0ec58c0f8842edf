"""Every call of the HTTP interface as a value, for the synchronous and the asynchronous client alike; no I/O here."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import msgspec

from feiqian.client.errors import Refused
from feiqian.core.addresses import to_text
from feiqian.core.signatures import PublicKey

PREFIX = "/api/v1"
MSGPACK = "application/msgpack"
JSON = "application/json"
OCTETS = "application/octet-stream"


READ_TRIES = 20
"""How often a read is tried while the gateway says that it is not ready yet: its index begins after it does."""


class Call(NamedTuple):
    """One request; `body` with its `content_type`, `parameters` without None."""

    method: str
    path: str
    parameters: dict[str, Any]
    body: bytes | None = None
    content_type: str = JSON


class Outcome(msgspec.Struct, frozen=True):
    """What became of one submitted transaction.

    `status`: `refused`, `later` (send the same again after `retry_after_ms`), `accepted`, `dropped` (was accepted, and
    left the pool for no block), `committed` at `height`, `provable`. `error` names the rule that refused it, before or
    on the ledger, or for which it was dropped.
    """

    tx_id: str
    status: str
    height: int = 0
    error: dict[str, Any] | None = None
    retry_after_ms: int = 0

    @property
    def is_done(self) -> bool:
        """Say whether the transaction is on the ledger and no rule refused it."""
        return self.status in ("committed", "provable") and self.error is None

    def raise_if_refused(self) -> None:
        """Raise `Refused` with the rule that refused it, if one did."""
        if self.error is not None:
            raise Refused(self.error["codespace"], self.error["number"], self.error["message"])


def submit(transactions: Sequence[bytes], wait: str | None) -> Call:
    """Submit signed transactions; `wait` is None, `committed` or `provable`."""
    body = msgspec.msgpack.encode(list(transactions))
    return Call("POST", f"{PREFIX}/transactions", _given(wait=wait), body, MSGPACK)


def dry_run(transactions: Sequence[bytes]) -> Call:
    """Ask what submitting transactions would be answered with; they are left unsigned."""
    body = msgspec.msgpack.encode(list(transactions))
    return Call("POST", f"{PREFIX}/transactions/dry-run", {}, body, MSGPACK)


def get(path: str, **parameters: Any) -> Call:
    """Read a path below `/api/v1`."""
    return Call("GET", PREFIX + path, _given(**parameters))


def challenge(account: bytes) -> Call:
    """Ask for a sign-in challenge for an account."""
    body = msgspec.json.encode({"account": to_text(account)})
    return Call("POST", f"{PREFIX}/session/challenge", {}, body)


def session(challenge_text: str, key: PublicKey, signature: bytes) -> Call:
    """Open a session with a signed challenge."""
    body = {
        "challenge": challenge_text,
        "scheme": key.scheme,
        "key": key.data.hex(),
        "signature": signature.hex(),
    }
    return Call("POST", f"{PREFIX}/session", {}, msgspec.json.encode(body))


def vault_put(commitment: bytes, envelope: bytes) -> Call:
    """Store a sealed document."""
    return Call("PUT", f"{PREFIX}/vault/{commitment.hex()}", {}, envelope, OCTETS)


def vault_get(commitment: bytes) -> Call:
    """Fetch a sealed document."""
    return Call("GET", f"{PREFIX}/vault/{commitment.hex()}", {})


def vault_erase(commitment: bytes) -> Call:
    """Erase a document's content, keys and salt."""
    return Call("DELETE", f"{PREFIX}/vault/{commitment.hex()}", {})


def host_of(base_url: str) -> str:
    """Return the host, with its port where one is named, that a gateway reached at this address calls itself."""
    return urlsplit(base_url).netloc


def segment(text: str) -> str:
    """Return text as one segment of a path."""
    return quote(text, safe="")


def read_outcomes(body: bytes) -> list[Outcome]:
    """Return the outcomes of a submission, in its order."""
    return msgspec.json.decode(body, type=list[Outcome])


def refusal(status: int, body: bytes, retry_after: str | None) -> Refused:
    """Return what a problem+json answer says, or its status where it says nothing."""
    retry_after_s = int(retry_after) if retry_after and retry_after.isdigit() else 0
    try:
        problem = msgspec.json.decode(body, type=dict[str, Any])
        return Refused(
            str(problem.get("codespace", "http")),
            int(problem.get("number", status)),
            str(problem.get("detail") or problem.get("title") or f"HTTP status {status}"),
            status,
            retry_after_s,
        )
    except (msgspec.MsgspecError, ValueError, TypeError):
        return Refused("http", status, f"the gateway answered with HTTP status {status}", status, retry_after_s)


def pause_before_again(call: Call, refused: Refused, tries: int) -> float | None:
    """Return how many seconds to wait before a read, or a dry run, is tried again, None where it is not to be."""
    is_dry_run = call.path.endswith("/dry-run") and refused.status == 429
    if not is_dry_run and (call.method != "GET" or refused.status != 503 or tries >= READ_TRIES):
        return None
    return float(max(refused.retry_after_s, 1))


def _given(**parameters: Any) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}
