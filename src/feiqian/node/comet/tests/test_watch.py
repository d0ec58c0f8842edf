"""A ledger that stands still: a Fault where more peers than may lie are beyond the next height, else only a word of it.

The peers are those of CometBFT's own recorded answer: two, which vote on height 18.
"""

import asyncio
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from feiqian.consensus.comet.rpc import CometRpc
from feiqian.core.errors import Fault
from feiqian.node.comet.watch import Watch
from feiqian.testing.comet_rpc import RecordedRpc, recorded_chain

VOTED_ON = 18
PEERS = len(recorded_chain()["dump_consensus_state"]["peers"])


def watch(height: Callable[[], int], nodes: int, looks: int, *, still_s: float = 0, is_there: bool = True) -> list[str]:
    """Let a watch look so many times; return the events that it logged."""
    asked = 0

    def counted() -> int:
        nonlocal asked
        asked += 1
        if asked > looks + 1:
            raise asyncio.CancelledError
        return height()

    async def test() -> None:
        async with RecordedRpc() as server:
            rpc = CometRpc(server.url if is_there else "http://127.0.0.1:9")
            try:
                await Watch(rpc, counted, lambda: nodes, still_s=still_s, look_s=0).run()
            except asyncio.CancelledError:
                assert asked == looks + 2
            finally:
                await rpc.close()

    with capture_logs() as logs:
        asyncio.run(test())
    return [line["event"] for line in logs]


@pytest.mark.parametrize("nodes", [1, 2, 3, 3 * PEERS])
def test_peers_beyond_the_next_height_that_are_more_than_a_third_are_a_fault(nodes: int) -> None:
    with pytest.raises(Fault, match=f"stands still at height {VOTED_ON - 2} while {PEERS} of {PEERS} peers"):
        watch(lambda: VOTED_ON - 2, nodes, 3)


def test_so_few_that_all_may_lie_stop_nobody() -> None:
    assert watch(lambda: VOTED_ON - 2, 3 * PEERS + 1, 3) == ["height_still"]


def test_peers_that_vote_on_the_next_height_are_no_further() -> None:
    assert watch(lambda: VOTED_ON - 1, 3, 3) == ["height_still"]


def test_a_height_that_grows_asks_nobody() -> None:
    heights = iter(range(100))
    assert watch(lambda: next(heights), 3, 3) == []


def test_one_that_stands_still_for_a_moment_asks_nobody() -> None:
    assert watch(lambda: VOTED_ON - 2, 3, 3, still_s=3_600) == []


def test_a_cometbft_that_does_not_answer_is_the_supervisors_to_see_to() -> None:
    assert watch(lambda: VOTED_ON - 2, 3, 2, is_there=False) == ["height_still"]
