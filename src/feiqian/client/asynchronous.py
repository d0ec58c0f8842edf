"""The asynchronous client of a gateway: the same calls as `Client`, awaited."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any

import httpx
import msgspec

from feiqian.client import calls
from feiqian.client.calls import Call, Outcome
from feiqian.client.client import DEFAULT_TIMEOUT_S
from feiqian.client.errors import Refused, Unreachable
from feiqian.client.events import EventParser, ServerEvent
from feiqian.client.resubmission import Resubmission
from feiqian.core.addresses import to_text
from feiqian.wallet.keys import SigningKey
from feiqian.wallet.sign_in import sign_challenge


class AsyncClient:
    """Talks to one gateway. What each call does, returns and raises is said at its twin in `Client`."""

    def __init__(self, base_url: str, *, timeout_s: float = DEFAULT_TIMEOUT_S, transport: Any = None) -> None:
        self._http = httpx.AsyncClient(base_url=base_url, timeout=timeout_s, transport=transport, trust_env=False)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def submit(self, transactions: Sequence[bytes], *, wait: str | None = "committed") -> list[Outcome]:
        """Submit signed transactions in one request and return an outcome for each, in order."""
        return calls.read_outcomes(await self.call(calls.submit(transactions, wait)))

    async def submit_all(self, transactions: Sequence[bytes], *, wait: str | None = "committed") -> list[Outcome]:
        """Submit any number, and send again what found no room or is still on its way, until each has an outcome."""
        round_ = Resubmission(transactions, wait)
        while batch := round_.next_batch():
            try:
                pause_s = round_.take(await self.submit(batch, wait=wait))
            except Refused as refusal:
                pause_s = round_.put_back(refusal)
            if pause_s:
                await asyncio.sleep(pause_s)
        return round_.outcomes()

    async def dry_run(self, transactions: Sequence[bytes]) -> list[Outcome]:
        """Return what submitting these, one after another, would be answered with; nothing is submitted."""
        return calls.read_outcomes(await self.call(calls.dry_run(transactions)))

    async def sign_in(self, account: bytes, key: SigningKey) -> dict[str, Any]:
        """Sign in for an account with a key of its policy; later calls carry the session."""
        asked = await self.json(calls.challenge(account))
        chain_id = (await self.status())["chain_id"]
        signature = sign_challenge(
            bytes.fromhex(asked["bytes_to_sign"]), chain_id, calls.host_of(str(self._http.base_url)), key
        )
        opened = await self.json(calls.session(asked["challenge"], key.public, signature))
        self._http.headers["Authorization"] = f"Bearer {opened['token']}"
        return opened

    async def status(self) -> dict[str, Any]:
        """Return how the ledger stands."""
        return await self.get("/status")

    async def transaction(self, tx_id: str) -> dict[str, Any]:
        """Return a transaction with its result and events."""
        return await self.get(f"/transactions/{calls.segment(tx_id)}")

    async def balances(self, address: bytes) -> list[dict[str, Any]]:
        """Return every balance of an account."""
        return [item async for item in self.pages(f"/accounts/{to_text(address)}/balances")]

    async def prove_balance(self, address: bytes, asset: str, height: int | None = None) -> bytes:
        """Return the proof file of a balance, or of its absence."""
        return await self.call(calls.get("/proofs/balance", address=to_text(address), asset=asset, height=height))

    async def prove_transaction(self, tx_id: str) -> bytes:
        """Return the proof file of a transaction's result."""
        return await self.call(calls.get(f"/proofs/transaction/{calls.segment(tx_id)}"))

    async def events(self, *, last_event_id: str | None = None) -> AsyncIterator[ServerEvent]:
        """Yield what happens, as it happens, from after `last_event_id`."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_event_id} if last_event_id else {})
        parser = EventParser()
        try:
            async with self._http.stream("GET", calls.PREFIX + "/events", headers=headers, timeout=None) as response:
                if response.status_code >= 400:
                    body = await response.aread()
                    raise calls.refusal(response.status_code, body, response.headers.get("Retry-After"))
                async for line in response.aiter_lines():
                    event = parser.feed(line)
                    if event is not None:
                        yield event
        except httpx.TransportError as error:
            raise Unreachable(f"the event stream broke off: {error}") from error

    async def get(self, path: str, **parameters: Any) -> Any:
        """Return the JSON value at a path below `/api/v1`."""
        return await self.json(calls.get(path, **parameters))

    async def pages(self, path: str, **parameters: Any) -> AsyncIterator[dict[str, Any]]:
        """Yield the items of a list, page by page."""
        cursor: str | None = None
        while True:
            page = await self.get(path, cursor=cursor, **parameters)
            for item in page["items"]:
                yield item
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def json(self, call: Call) -> Any:
        """Make a call and return its JSON value."""
        return msgspec.json.decode(await self.call(call))

    async def call(self, call: Call) -> bytes:
        """Make a call and return the body of its answer."""
        tries = 0
        while True:
            try:
                return await self._call_once(call)
            except Refused as refused:
                tries += 1
                pause_s = calls.pause_before_again(call, refused, tries)
                if pause_s is None:
                    raise
                await asyncio.sleep(pause_s)

    async def _call_once(self, call: Call) -> bytes:
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
                response = await send()
            except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                # The gateway closed a connection that was kept open; every call may be made twice (see `submit`).
                response = await send()
        except httpx.TransportError as error:
            raise Unreachable(f"no gateway answers at {self._http.base_url}: {error}") from error
        if response.status_code >= 400:
            raise calls.refusal(response.status_code, response.content, response.headers.get("Retry-After"))
        return response.content
