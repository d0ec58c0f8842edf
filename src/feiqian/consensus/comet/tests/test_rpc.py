"""The RPC client reads what CometBFT really answers, and says of anything else what is wrong with it."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from feiqian.consensus import headers, light
from feiqian.consensus.comet import rpc as comet_rpc
from feiqian.consensus.comet.rpc import BlockParams, CometRpc, NotThere, Peer, RoundState, RpcAway, RpcMalformed, Status
from feiqian.consensus.headers import BlockIDFlag, Validator, ValidatorSet
from feiqian.consensus.light import InvalidTrail, LightBlock, build_trail, verify_trail
from feiqian.testing.comet_rpc import FIRST, LAST, RecordedRpc, recorded_chain, recorded_genesis

T = TypeVar("T")
C, A = BlockIDFlag.COMMIT, BlockIDFlag.ABSENT


def ask(
    question: Callable[[CometRpc], Awaitable[T]], change: Callable[[str, bytes], bytes] | None = None, **options: Any
) -> T:
    """Ask a server of the recorded chain one question."""

    async def run() -> T:
        async with RecordedRpc(**options) as server:
            server.change = change or server.change
            client = CometRpc(server.url, timeout_s=5.0)
            try:
                return await question(client)
            finally:
                await client.close()

    return asyncio.run(run())


async def read_chain(rpc: CometRpc) -> dict[int, LightBlock]:
    chain: dict[int, LightBlock] = {}
    for height in range(FIRST, LAST + 1):
        found = await rpc.commit(height)
        chain[height] = LightBlock(found.header, found.commit, await rpc.validators(height))
    return chain


def test_a_real_chain_of_changing_validators_is_verified_from_its_genesis():
    chain, genesis = ask(read_chain, tip=LAST + 1), recorded_genesis()
    verify_trail(genesis, [chain[height] for height in (FIRST,)])
    trust = light.trust_in_genesis(genesis)
    for block in chain.values():
        trust = light.verify_block(trust, block)
    powers = [[validator.power for validator in chain[height].validators.validators] for height in (9, 10, 14, 15)]
    assert powers == [[10] * 4, [12, 10, 10, 10, 5], [12, 10, 10, 10, 5], [12, 10, 10, 10]]
    flags = [[signature.flag for signature in chain[height].commit.signatures] for height in (9, 10, 15)]
    assert flags == [[C, C, C, C], [C, C, C, A, A], [C, C, C, A]]
    for height in range(FIRST, LAST):
        after = chain[height + 1].header
        assert after.last_commit_hash == chain[height].commit.hash()
        assert after.last_block_id == chain[height].commit.block_id
    trail = build_trail(lambda height: chain.get(height), genesis, LAST)
    assert [block.header.height for block in trail] == [LAST]
    assert verify_trail(genesis, trail).last == chain[LAST]


def test_a_real_block_gives_the_hashes_of_its_header_and_parts():
    recorded = recorded_chain()
    chain = ask(read_chain, tip=LAST + 1)
    for height in (5, 8, 9, 10):
        transactions = [base64.b64decode(each) for each in recorded["block"][str(height)]["block"]["data"]["txs"]]
        block = chain[height]
        assert headers.data_hash(transactions) == block.header.data_hash
        before = headers.NO_COMMIT if height == FIRST else chain[height - 1].commit
        parts = headers.part_set_header(block.header, transactions, before)
        assert parts == block.commit.block_id.parts
    params = ask(lambda rpc: rpc.params(LAST))
    assert params == BlockParams(55_600_190, -1, 0)
    assert headers.consensus_hash(params.max_bytes, params.max_gas) == chain[LAST].header.consensus_hash


def test_a_forged_step_of_the_real_chain_is_refused():
    chain, genesis = ask(read_chain, tip=LAST + 1), recorded_genesis()
    others = chain[10]._replace(validators=chain[9].validators)
    with pytest.raises(InvalidTrail, match="validator set is not the one"):
        light.check_block(genesis.chain_id, others)
    absent = chain[10].commit.signatures[:2] + (headers.ABSENT_SIGNATURE,) * 3
    with pytest.raises(InvalidTrail, match="power 22 of 47 signed"):
        light.check_block(genesis.chain_id, chain[10]._replace(commit=chain[10].commit._replace(signatures=absent)))


def test_the_last_commit_is_what_the_node_saw_and_an_earlier_one_is_canonical():
    assert [ask(lambda rpc, at=at: rpc.commit(at), tip=9).is_canonical for at in (8, 9)] == [True, False]


def test_what_is_not_there_is_said_to_be_not_there():
    for height in (4, 900):
        for question in (CometRpc.commit, CometRpc.validators, CometRpc.params):
            with pytest.raises(NotThere, match="height"):
                ask(lambda rpc, question=question, height=height: question(rpc, height))
    # CometBFT's answer where the height's block was pruned: no result at all.
    with pytest.raises(NotThere, match="height 5 is not held"):
        ask(lambda rpc: rpc.commit(5), lambda method, body: b'{"jsonrpc":"2.0","id":1,"result":null}')


def test_status_peers_and_what_is_voted_on_are_read():
    recorded = recorded_chain()
    status = ask(lambda rpc: rpc.status())
    assert status == Status(recorded["status"]["node_info"]["id"], "vector-1", 5, 17, is_catching_up=False)
    peers = ask(lambda rpc: rpc.peers())
    shown = [peer["node_info"] for peer in recorded["net_info"]["peers"]]
    assert peers == tuple(
        Peer(each["id"], each["moniker"], "127.0.0.1", peers[at].is_outbound) for at, each in enumerate(shown)
    )
    state = ask(lambda rpc: rpc.consensus_state())
    assert state.own.height == 18
    assert {peer.node_id for peer in state.peers} == {peer.node_id for peer in peers}
    assert {peer.state.height for peer in state.peers} == {18}
    assert isinstance(state.peers[0].state, RoundState)


def test_validators_are_read_page_by_page():
    chain = recorded_chain()
    keys = [bytes([number, 2]) * 16 for number in range(250)]
    given = ValidatorSet(tuple(Validator(key, 1) for key in keys))
    shown = [
        {
            "address": headers.validator_address(key).hex().upper(),
            "pub_key": {"type": "tendermint/PubKeyEd25519", "value": comet_rpc.comet_json.write_base64(key)},
            "voting_power": "1",
            "proposer_priority": "-7",
        }
        for key in keys
    ]
    chain["validators"]["5"] = {"block_height": "5", "validators": shown, "count": "250", "total": "250"}
    assert ask(lambda rpc: rpc.validators(5), chain=chain) == given


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"height":"8","time"', b'"height":"7","time"', "height 8 was asked for; header 7"),
        (b'"canonical":true', b'"canonical":1', "Expected `bool`"),
        (b'"canonical":true', b'"canonical":true,"more":1', "unknown field `more`"),
        (b'"chain_id":"vector-1",', b"", "missing required field `chain_id`"),
        (b'"round":0', b'"round":-1', "Expected `int` >= 0"),
        (b'"block_id_flag":2', b'"block_id_flag":4', "Expected `int` <= 3"),
        (b'"jsonrpc":"2.0"', b'"jsonrpc":2', "Expected `str`"),
        (b"}", b"", "truncated"),
    ],
)
def test_an_answer_out_of_form_is_refused(old: bytes, new: bytes, message: str):
    def change(method: str, body: bytes) -> bytes:
        assert old in body
        return body.replace(old, new, 1)

    with pytest.raises(RpcMalformed, match=message):
        ask(lambda rpc: rpc.commit(8), change)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"total":"4"', b'"total":"5"', "8 given, 5 announced"),
        (b'"total":"4"', b'"total":"3"', "4 given, 3 announced"),
        (b'"total":"4"', b'"total":"0"', "not between 1 and"),
        (b'"block_height":"8"', b'"block_height":"9"', "not the page of height 8"),
        (b'"voting_power":"10"', b'"voting_power":"0"', "not between 1 and"),
        (b'"voting_power":"10"', b'"voting_power":10', "Expected `str`"),
    ],
)
def test_validators_out_of_form_are_refused(old: bytes, new: bytes, message: str):
    with pytest.raises(RpcMalformed, match=message):
        ask(lambda rpc: rpc.validators(8), lambda method, body: body.replace(old, new, 1))


def test_what_is_no_rpc_and_what_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(RpcMalformed, match="status"):
        ask(lambda rpc: rpc.status(), lambda method, body: b"<html>Not Found</html>")
    monkeypatch.setattr(comet_rpc, "MAX_ANSWER_BYTES", 1_000)
    with pytest.raises(RpcMalformed, match="over 1000 bytes"):
        ask(lambda rpc: rpc.commit(8))


def test_who_does_not_answer_is_away():
    async def run(rpc: CometRpc) -> None:
        async with RecordedRpc() as server:
            url = server.url
        client = CometRpc(url)
        with pytest.raises(RpcAway, match="status: ConnectError"):
            await client.status()
        await client.close()

    ask(run)


def test_who_does_not_answer_in_time_is_away():
    async def run() -> None:
        asked = asyncio.Event()

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asked.wait()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        client = CometRpc(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout_s=0.1)
        with pytest.raises(RpcAway, match="ReadTimeout"):
            await client.status()
        asked.set()
        await client.close()
        server.close()

    asyncio.run(run())
