"""The synchronous client of a gateway: submit, read, prove, follow."""

import time
from collections.abc import Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any

import httpx
import msgspec

from feiqian.client import calls
from feiqian.client.calls import Call, Outcome
from feiqian.client.errors import Refused, Unreachable
from feiqian.client.events import ServerEvent, parse_event_stream
from feiqian.client.resubmission import Resubmission
from feiqian.core.addresses import to_text
from feiqian.wallet.keys import SigningKey
from feiqian.wallet.sign_in import sign_challenge

DEFAULT_TIMEOUT_S = 60.0


class Client:
    """Talks to one gateway. Reads return the interface's JSON values (see `/schema`); errors are `Refused`.

    Use as a context manager, or `close` it. Safe for use by several threads.
    """

    def __init__(self, base_url: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, transport: Any = None) -> None:
        """`base_url` is the gateway's address, such as `http://127.0.0.1:8080`; `transport` is httpx's, for tests."""
        self._http = httpx.Client(base_url=base_url, timeout=timeout_s, transport=transport, trust_env=False)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def submit(self, transactions: Sequence[bytes], *, wait: str | None = "committed") -> list[Outcome]:
        """Submit signed transactions in one request and return an outcome for each, in order.

        `wait`: None returns when they are in the pool, `committed` or `provable` when they are that.

        Raises:
            Refused: the request as a whole; `is_busy` says that the same may be sent again.
            Unreachable: no answer; the same may be sent again, it is applied once.
        """
        return calls.read_outcomes(self.call(calls.submit(transactions, wait)))

    def submit_all(self, transactions: Sequence[bytes], *, wait: str | None = "committed") -> list[Outcome]:
        """Submit any number, and send again what found no room or is still on its way, until each has an outcome.

        Raises:
            Refused, Unreachable: as `submit`, but never for being busy.
        """
        round_ = Resubmission(transactions, wait)
        while batch := round_.next_batch():
            try:
                pause_s = round_.take(self.submit(batch, wait=wait))
            except Refused as refusal:
                pause_s = round_.put_back(refusal)
            if pause_s:
                time.sleep(pause_s)
        return round_.outcomes()

    def dry_run(self, transactions: Sequence[bytes]) -> list[Outcome]:
        """Return what submitting these, one after another, would be answered with; nothing is submitted.

        Each is made by `wallet.signing.leave_unsigned` and acts for accounts that the session may read; at most 20,000.
        An outcome is `refused`, or `committed` without a height.

        Raises:
            Refused, Unreachable: as `submit`, but never for being busy.
        """
        return calls.read_outcomes(self.call(calls.dry_run(transactions)))

    def sign_in(self, account: bytes, key: SigningKey) -> dict[str, Any]:
        """Sign in for an account with a key of its policy; later calls carry the session.

        Raises:
            Refused: the key is in no policy of that account.
            ChallengeSuspicious: the gateway asked to sign something else.
        """
        asked = self.json(calls.challenge(account))
        chain_id = self.status()["chain_id"]
        to_sign = bytes.fromhex(asked["bytes_to_sign"])
        host = calls.host_of(str(self._http.base_url))
        signature = sign_challenge(to_sign, chain_id, host, key)
        opened = self.json(calls.session(asked["challenge"], key.public, signature))
        self._http.headers["Authorization"] = f"Bearer {opened['token']}"
        return opened

    def status(self) -> dict[str, Any]:
        """Return how the ledger stands: chain id, height, block time, app hash, provable height."""
        return self.get("/status")

    def genesis(self) -> bytes:
        """Return the genesis file as it lies in the ledger's directory."""
        return self.call(calls.get("/genesis"))

    def block(self, height: int) -> dict[str, Any]:
        """Return a block."""
        return self.get(f"/blocks/{height}")

    def transaction(self, tx_id: str) -> dict[str, Any]:
        """Return a transaction with its result and events; `tx_id` is hex."""
        return self.get(f"/transactions/{calls.segment(tx_id)}")

    def account(self, address: bytes) -> dict[str, Any]:
        """Return an account with its policy."""
        return self.get(f"/accounts/{to_text(address)}")

    def balances(self, address: bytes) -> list[dict[str, Any]]:
        """Return every balance of an account."""
        return list(self.pages(f"/accounts/{to_text(address)}/balances"))

    def entries(self, address: bytes, **filters: Any) -> Iterator[dict[str, Any]]:
        """Yield an account's entries, newest first."""
        return self.pages(f"/accounts/{to_text(address)}/entries", **filters)

    def prove_balance(self, address: bytes, asset: str, height: int | None = None) -> bytes:
        """Return the proof file of a balance, or of its absence."""
        return self.call(calls.get("/proofs/balance", address=to_text(address), asset=asset, height=height))

    def prove_transaction(self, tx_id: str) -> bytes:
        """Return the proof file of a transaction's result."""
        return self.call(calls.get(f"/proofs/transaction/{calls.segment(tx_id)}"))

    def prove_record(self, table: str, key: bytes) -> bytes:
        """Return the proof file of any record, or of its absence."""
        return self.call(calls.get("/proofs/record", table=table, key=key.hex()))

    def vault_put(self, commitment: bytes, envelope: bytes) -> None:
        """Store a sealed document for its readers; the same one twice is stored once."""
        self.call(calls.vault_put(commitment, envelope))

    def vault_get(self, commitment: bytes) -> bytes:
        """Return a sealed document; only its readers may."""
        return self.call(calls.vault_get(commitment))

    def vault_erase(self, commitment: bytes) -> None:
        """Erase a document's content, keys and salt for good."""
        self.call(calls.vault_erase(commitment))

    def events(self, *, last_event_id: str | None = None) -> Iterator[ServerEvent]:
        """Yield what happens, as it happens, from after `last_event_id`; ends when the gateway closes."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_event_id} if last_event_id else {})
        try:
            with self._http.stream("GET", calls.PREFIX + "/events", headers=headers, timeout=None) as response:
                if response.status_code >= 400:
                    raise calls.refusal(response.status_code, response.read(), response.headers.get("Retry-After"))
                yield from parse_event_stream(response.iter_lines())
        except httpx.TransportError as error:
            raise Unreachable(f"the event stream broke off: {error}") from error

    def get(self, path: str, **parameters: Any) -> Any:
        """Return the JSON value at a path below `/api/v1`."""
        return self.json(calls.get(path, **parameters))

    def pages(self, path: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Yield the items of a list, page by page."""
        cursor: str | None = None
        while True:
            page = self.get(path, cursor=cursor, **parameters)
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def json(self, call: Call) -> Any:
        """Make a call and return its JSON value."""
        return msgspec.json.decode(self.call(call))

    def call(self, call: Call) -> bytes:
        """Make a call and return the body of its answer.

        Raises:
            Refused: the gateway answered with an error.
            Unreachable: it did not answer.
        """
        tries = 0
        while True:
            try:
                return self._call_once(call)
            except Refused as refused:
                tries += 1
                pause_s = calls.pause_before_again(call, refused, tries)
                if pause_s is None:
                    raise
                time.sleep(pause_s)

    def _call_once(self, call: Call) -> bytes:
        headers = {"Content-Type": call.content_type} if call.body is not None else {}
        send = partial(
            self._http.request,
            call.method,
            call.path,
            params=call.parameters,
            content=call.body,
            headers=headers,
        )
        try:
            try:
                response = send()
            except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                # The gateway closed a connection that was kept open; every call may be made twice (see `submit`).
                response = send()
        except httpx.TransportError as error:
            raise Unreachable(f"no gateway answers at {self._http.base_url}: {error}") from error
        if response.status_code >= 400:
            raise calls.refusal(response.status_code, response.content, response.headers.get("Retry-After"))
        return response.content
