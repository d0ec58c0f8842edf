"""What the gateway passes on to CometBFT's RPC, and all that it does not."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from feiqian.testing.comet_rpc import FIRST, LAST, RecordedRpc, recorded_chain
from feiqian.testing.gateways import GatewayProcess
from feiqian.testing.ledgers import SampleLedger
from feiqian.testing.processes import NodeProcess

from .conftest import World


def call(method: str = "commit", **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}


def test_a_light_client_reads_through_the_gateway(
    start: Callable[..., GatewayProcess], fresh_ledger: SampleLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = recorded_chain()

    async def ask_all() -> None:
        async with RecordedRpc() as rpc:
            monkeypatch.setenv("FEIQIAN_NODE_ENGINE", "comet")
            monkeypatch.setenv("FEIQIAN_COMET_RPC_PORT", str(rpc.port))
            gateway = await asyncio.to_thread(start, fresh_ledger)

            def ask(body: Any) -> tuple[int, Any]:
                with gateway.client() as client:
                    answer = client.post("/comet", json=body)
                return answer.status_code, answer.json()

            status, answer = await asyncio.to_thread(ask, call(height=str(FIRST)))
            assert (status, answer["id"], answer["result"]) == (200, 7, chain["commit"][str(FIRST)])
            status, answer = await asyncio.to_thread(
                ask, call("validators", height=str(FIRST), page="1", per_page="100")
            )
            assert (status, answer["result"]["total"]) == (200, "4")
            assert rpc.asked[-1] == ("validators", {"height": str(FIRST), "page": "1", "per_page": "100"})
            status, answer = await asyncio.to_thread(ask, call("consensus_params", height=str(FIRST)))
            assert answer["result"] == chain["consensus_params"]
            # What CometBFT answers of a height that is not there is for its client to read.
            status, answer = await asyncio.to_thread(ask, call(height=str(LAST + 9)))
            assert (status, "result" in answer) == (200, False)
            assert "must be less than or equal to" in answer["error"]["data"]

            asked = len(rpc.asked)
            for refused in (
                *(
                    call(method)
                    for method in ("status", "genesis", "abci_query", "broadcast_tx_sync", "unsafe_dial_peers")
                ),
                *(call(height=height) for height in ("0", "-1", "1" * 19, 5, "5 ", "")),
                call(tx="00"),
                {**call(), "jsonrpc": "1.0"},
                {**call(), "id": -1},
                [call()],
            ):
                status, answer = await asyncio.to_thread(ask, refused)
                assert (status, answer["number"]) == (400, 4), refused
            status, answer = await asyncio.to_thread(ask, call(height="1" * 3_000))
            assert (status, answer["number"]) == (413, 6)
            assert len(rpc.asked) == asked

            await rpc.stop()
            status, answer = await asyncio.to_thread(ask, call())
            assert (status, answer["number"]) == (503, 9)
            await rpc.start()

    with NodeProcess(fresh_ledger.directory).await_ready():
        asyncio.run(ask_all())


def test_a_solo_ledger_has_no_cometbft(world: World) -> None:
    with world.client() as client:
        answer = client.post("/comet", json=call())
    assert (answer.status_code, answer.json()["number"]) == (404, 3)
