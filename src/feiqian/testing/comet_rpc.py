"""A recorded CometBFT chain, and a server that answers for it as CometBFT's RPC does.

The answers are CometBFT's own, v0.40.0, recorded by `tests/vectors/record_comet_chain.py`. Four validators of power 10
begin at height 5. Block 8 gives one 12 and adds a fifth, who never runs, with 5; after block 9 one stops; block 13
takes the fifth out.
"""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from feiqian.consensus.genesis_file import Genesis, read_genesis

CHAIN = Path(__file__).parents[3] / "tests" / "vectors" / "comet" / "chain.json"
FIRST, LAST = 5, 16
"""The recorded heights."""

METHOD_NOT_FOUND = {"code": -32601, "message": "Method not found"}


def recorded_chain() -> dict[str, Any]:
    """Return the recording: results by method and height."""
    return json.loads(CHAIN.read_bytes())


def recorded_genesis() -> Genesis:
    """Return the recorded chain's genesis."""
    return read_genesis(json.dumps(recorded_chain()["genesis"]).encode())


class RecordedRpc:
    """CometBFT's RPC over HTTP on a free port of loopback. Answers of heights above `tip` are errors, as CometBFT's."""

    def __init__(self, chain: dict[str, Any] | None = None, tip: int = LAST) -> None:
        self.chain = recorded_chain() if chain is None else chain
        self.tip = tip
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.change: Callable[[str, bytes], bytes] = lambda method, body: body
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen; on the same port as before where it was stopped."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Hang up."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def __aenter__(self) -> "RecordedRpc":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def answer(self, method: str, params: dict[str, str]) -> dict[str, Any]:
        """Return the answer to one question."""
        if method not in ("commit", "validators", "consensus_params", "status", "net_info", "dump_consensus_state"):
            return {"error": METHOD_NOT_FOUND}
        if "height" not in params:
            return {"result": self.chain[method]}
        height = int(params["height"])
        if height < FIRST:
            return {"error": self.chain["errors"]["commit 4"]}
        if height > self.tip + (method != "commit"):
            data = f"height {height} must be less than or equal to the current blockchain height {self.tip}"
            return {"error": self.chain["errors"]["commit 900"] | {"data": data}}
        if method == "consensus_params":
            return {"result": self.chain[method]}
        if method == "validators":
            return {"result": self._page(height, int(params.get("page", "1")), int(params.get("per_page", "30")))}
        return {"result": self._seen(height) if height == self.tip else self.chain["commit"][str(height)]}

    def _page(self, height: int, page: int, size: int) -> dict[str, Any]:
        found = self.chain["validators"][str(height)]
        shown = found["validators"][(page - 1) * size : page * size]
        return found | {"validators": shown, "count": str(len(shown))}

    def _seen(self, height: int) -> dict[str, Any]:
        """Return what a node that missed a vote saw: the last signature is absent where all are there."""
        found = json.loads(json.dumps(self.chain["commit"][str(height)])) | {"canonical": False}
        signatures = found["signed_header"]["commit"]["signatures"]
        if all(each["signature"] for each in signatures):
            absent = {"validator_address": "", "timestamp": "0001-01-01T00:00:00Z", "signature": None}
            signatures[-1] = {"block_id_flag": 1, **absent}
        return found

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while head := await _read_head(reader):
                size = int(next(line for line in head if line.startswith("content-length:")).split(":")[1])
                request = json.loads(await reader.readexactly(size))
                self.asked.append((request["method"], request["params"]))
                answer = {"jsonrpc": "2.0", "id": request["id"], **self.answer(request["method"], request["params"])}
                body = self.change(request["method"], json.dumps(answer, separators=(",", ":")).encode())
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


async def _read_head(reader: asyncio.StreamReader) -> list[str]:
    try:
        return (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    except asyncio.IncompleteReadError:
        return []
