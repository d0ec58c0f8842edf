"""The socket's frames, order and limits: CometBFT's own client makes every call, and what no client should send."""

import asyncio
import contextlib
import json
import stat
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvloop
from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from feiqian.consensus import protobuf
from feiqian.consensus.comet import abci_pb2 as pb
from feiqian.consensus.comet.server import MAX_CONNECTIONS, AbciServer
from feiqian.testing.cometbft import Judge

CALLS = {field.name: field.message_type.name for field in pb.Request.DESCRIPTOR.fields if field.message_type}
WAIT_S = 30
"""How long a test waits for what must come."""


class Recorder:
    """An application that keeps what it was asked and answers with every field set; `during` may hold a call up."""

    def __init__(self, during: dict[str, Callable[[], Awaitable[object]]] | None = None) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.answered: dict[str, Message] = {}
        self._during = during or {}

    def names(self) -> list[str]:
        return [name for name, _ in self.asked]

    def __getattr__(self, name: str) -> Any:
        async def call(request: Any) -> Message:
            self.asked.append((name, request))
            if name in self._during:
                await self._during[name]()
            answer = filled(getattr(pb, CALLS[name].replace("Request", "Response")))
            if name == "check_tx":
                answer.data = request.tx[::-1]
            self.answered[name] = answer
            return answer

        return call


def filled(message_type: Any) -> Any:
    """Return a message each of whose fields has a value of its own."""
    message = message_type()
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated and field.message_type:
            getattr(message, field.name).extend([filled(field.message_type._concrete_class) for _ in range(2)])
        elif field.is_repeated:
            getattr(message, field.name).extend([value_of(field), value_of(field)])
        elif field.message_type:
            getattr(message, field.name).CopyFrom(filled(field.message_type._concrete_class))
        else:
            setattr(message, field.name, value_of(field))
    return message


def value_of(field: FieldDescriptor) -> Any:
    match field.type:
        case FieldDescriptor.TYPE_BYTES:
            return field.name.encode() * 20_000
        case FieldDescriptor.TYPE_STRING:
            return f"{field.name} 飞钱"
        case FieldDescriptor.TYPE_ENUM:
            return max(value.number for value in field.enum_type.values) if field.enum_type else 0
        case _:
            return 1_000_000 + field.number


class Peer:
    """A client that says what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, *requests: pb.Request) -> None:
        """Send whole requests without waiting for anything."""
        self.send_bytes(b"".join(framed(request) for request in requests))

    def send_bytes(self, data: bytes) -> None:
        self._writer.write(data)

    async def receive(self) -> pb.Response:
        size_bytes = shift = 0
        while True:
            octet = (await self._reader.readexactly(1))[0]
            size_bytes |= (octet & 0x7F) << shift
            shift += 7
            if octet < 0x80:
                break
        return pb.Response.FromString(await self._reader.readexactly(size_bytes))

    async def receive_names(self, count: int) -> list[str | None]:
        return [(await self.receive()).WhichOneof("value") for _ in range(count)]

    async def closed(self) -> None:
        """Return when the server has closed; fail if it says anything more."""
        with contextlib.suppress(ConnectionResetError):
            assert await self._reader.read() == b""

    def close(self) -> None:
        self._writer.close()


class Served:
    """A server that listens, with what it was told to report."""

    def __init__(self, path: Path, application: Any) -> None:
        self.path = path
        self.recorded: list[str] = []
        self.faults: list[tuple[str, str]] = []
        self.server = AbciServer(path, application, fault=self._fault, record=self.recorded.append)

    async def connect(self) -> Peer:
        return Peer(*await asyncio.open_unix_connection(self.path))

    def _fault(self, where: str, error: BaseException) -> None:
        self.faults.append((where, str(error)))


@asynccontextmanager
async def _serve(path: Path, application: Any):
    served = Served(path, application)
    await served.server.start()
    try:
        async with asyncio.timeout(WAIT_S):
            yield served
    finally:
        # A call that a failed test holds up would hold this up as well.
        async with asyncio.timeout(WAIT_S):
            await served.server.stop()


def serve(path: Path, application: Any) -> AbstractAsyncContextManager[Served]:
    """Serve while the `async with` block runs, which must end in time."""
    return _serve(path / "abci.sock", application)


def run(main: Any) -> None:
    """Run a test on the node's own event loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def framed(request: pb.Request) -> bytes:
    data = request.SerializeToString()
    return protobuf.varint(len(data)) + data


def check_tx(tx: bytes = b"one") -> pb.Request:
    return pb.Request(check_tx=pb.RequestCheckTx(tx=tx))


INSERT = pb.Request(insert_tx=pb.RequestInsertTx(tx=b"two"))
REAP = pb.Request(reap_txs=pb.RequestReapTxs())
FLUSH = pb.Request(flush=pb.RequestFlush())
INFO = pb.Request(info=pb.RequestInfo())
FINALIZE = pb.Request(finalize_block=pb.RequestFinalizeBlock())
COMMIT = pb.Request(commit=pb.RequestCommit())


def echo(message: str) -> pb.Request:
    return pb.Request(echo=pb.RequestEcho(message=message))


async def reached(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for is inside the server
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_cometbft_makes_every_call(loop_factory: Any, cometbft: Judge, tmp_path: Path) -> None:
    recorder = Recorder()

    async def main() -> dict:
        async with serve(tmp_path, recorder) as served:
            told = await asyncio.to_thread(cometbft, "drive", str(served.path), "1000")
            await served.server.lost()
            assert not served.faults
            return json.loads(told)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        told = runner.run(main())
    assert told["echo"] == "are you there? 在吗"
    expected = {snake(call["call"]) for call in told["calls"]}
    assert expected == set(CALLS) - {"echo", "flush"}
    for call, (name, received) in zip(told["calls"], recorder.asked, strict=False):
        assert name == snake(call["call"])
        sent = json_format.ParseDict(call["request"], type(received)(), ignore_unknown_fields=True)
        received.DiscardUnknownFields()
        assert len(received.ListFields()) == len(received.DESCRIPTOR.fields)
        assert received == sent
        if name != "check_tx":
            answered = recorder.answered[name]
            assert json_format.ParseDict(call["response"], type(answered)()) == answered
    transactions = [b"transaction %d" % at for at in range(1000)]
    assert [request.tx for _, request in recorder.asked[len(CALLS) - 2 :]] == transactions
    assert told["pipelined"] == [json_format.MessageToDict(answer_to(tx))["data"] for tx in transactions]


def answer_to(tx: bytes) -> pb.ResponseCheckTx:
    return pb.ResponseCheckTx(data=tx[::-1])


def snake(name: str) -> str:
    """Return CometBFT's name of a call as Python writes it."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)[1:]


def test_a_slow_check_holds_up_answers_only(tmp_path: Path) -> None:
    async def main() -> None:
        checked = asyncio.Event()
        recorder = Recorder({"check_tx": checked.wait})
        async with serve(tmp_path, recorder) as served:
            peer = await served.connect()
            peer.send(check_tx(), INSERT, REAP, echo("hello"), FLUSH)
            await reached(lambda: recorder.names() == ["check_tx", "insert_tx", "reap_txs"])
            await reached(lambda: {"insert_tx", "reap_txs"} <= set(recorder.answered))
            assert "check_tx" not in recorder.answered
            checked.set()
            assert await peer.receive_names(5) == ["check_tx", "insert_tx", "reap_txs", "echo", "flush"]

    run(main())


def test_an_answer_is_not_held_back_for_the_next_one(tmp_path: Path) -> None:
    async def main() -> None:
        never = asyncio.Event()
        async with serve(tmp_path, Recorder({"check_tx": never.wait})) as served:
            peer = await served.connect()
            peer.send(INFO, INSERT, check_tx())
            assert await peer.receive_names(2) == ["info", "insert_tx"]
            never.set()

    run(main())


def test_a_block_is_run_when_all_before_it_is_answered(tmp_path: Path) -> None:
    async def main() -> None:
        finalised = asyncio.Event()
        recorder = Recorder({"finalize_block": finalised.wait})
        async with serve(tmp_path, recorder) as served:
            peer, other = await served.connect(), await served.connect()
            peer.send(FINALIZE, COMMIT)
            await reached(lambda: recorder.names() == ["finalize_block"])
            other.send(INFO)
            assert await other.receive_names(1) == ["info"]
            assert recorder.names() == ["finalize_block", "info"]
            finalised.set()
            assert await peer.receive_names(2) == ["finalize_block", "commit"]

    run(main())


def test_a_thousand_requests_at_once_from_four_connections(tmp_path: Path) -> None:
    async def main() -> None:
        async with serve(tmp_path, Recorder()) as served:
            peers = [await served.connect() for _ in range(4)]
            for peer in peers:
                peer.send(*(request for at in range(1000) for request in (check_tx(b"%d" % at), FLUSH)))
            for peer in peers:
                for at in range(1000):
                    assert (await peer.receive()).check_tx.data == (b"%d" % at)[::-1]
                    assert (await peer.receive()).WhichOneof("value") == "flush"

    run(main())


def test_a_large_message_comes_whole(tmp_path: Path) -> None:
    chunk = bytes(range(256)) * 2**18
    recorder = Recorder()

    async def main() -> None:
        async with serve(tmp_path, recorder) as served:
            peer = await served.connect()
            peer.send(pb.Request(apply_snapshot_chunk=pb.RequestApplySnapshotChunk(chunk=chunk)))
            assert await peer.receive_names(1) == ["apply_snapshot_chunk"]

    run(main())
    assert recorder.asked[0][1].chunk == chunk


# A Request of nothing; of field 4, which ABCI 2.0 no longer has; of field 23, which comes after its last.
UNKNOWN_CALLS = [b"", b"\x22\x00", b"\xba\x01\x00"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        *((bytes([len(call)]) + call, "not of ABCI 2.0") for call in UNKNOWN_CALLS),
        (b"\x03\x1a\x7f\x00", "no request"),  # An info that claims 127 bytes.
        (b"\x01\xff", "no request"),
        (b"\x06\x0a\x04\x0a\x02\xff\xfe", "no request"),  # An echo of bytes that are no UTF-8.
        (protobuf.varint(128 * 2**20 + 1), "more than 134217728 bytes"),
        (b"\xff" * 9 + b"\x01", "more than 134217728 bytes"),
        (b"\x80" * 20, "more than 134217728 bytes"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + bytes(100), "no request"),
    ],
)
def test_what_is_no_request_closes_its_connection_only(data: bytes, reason: str, tmp_path: Path) -> None:
    recorder = Recorder()

    async def main() -> None:
        async with serve(tmp_path, recorder) as served:
            bad, good = await served.connect(), await served.connect()
            good.send(echo("before"))
            assert (await good.receive()).echo.message == "before"
            bad.send_bytes(data)
            await bad.closed()
            good.send(INFO)
            assert await good.receive_names(1) == ["info"]
            assert not served.faults

    with structlog.testing.capture_logs() as log:
        run(main())
    assert recorder.names() == ["info"]
    (line,) = log
    assert (line["event"], line["log_level"]) == ("abci_closed", "error")
    assert reason in line["reason"]


@pytest.mark.parametrize("cut", [b"\x80", b"\x04", framed(INFO)[:-1] or b"\x02", framed(check_tx(b"x" * 5000))[:-1]])
def test_a_connection_that_ends_inside_a_message(cut: bytes, tmp_path: Path) -> None:
    recorder = Recorder()

    async def main() -> None:
        async with serve(tmp_path, recorder) as served:
            peer = await served.connect()
            peer.send(INFO)
            await peer.receive()
            peer.send_bytes(cut)
            peer.close()
            await served.server.lost()

    with structlog.testing.capture_logs() as log:
        run(main())
    assert [line["reason"] for line in log] == ["the connection ended inside a message"]
    assert recorder.names() == ["info"]


def test_cometbft_is_lost_when_its_last_connection_ends(tmp_path: Path) -> None:
    async def main() -> None:
        async with serve(tmp_path, Recorder()) as served:
            for _ in range(2):
                lost = asyncio.create_task(served.server.lost())
                peers = [await served.connect() for _ in range(4)]
                for peer in peers:
                    peer.send(INFO)
                    await peer.receive()
                for peer in peers[:3]:
                    peer.close()
                peers[3].send(INFO)
                await peers[3].receive()
                assert not lost.done()
                peers[3].close()
                await lost

    with structlog.testing.capture_logs() as log:
        run(main())
    assert not log


def test_what_the_application_raises_is_a_fault_and_no_answer(tmp_path: Path) -> None:
    async def broken() -> None:
        raise ArithmeticError("the sum is not zero")

    async def main() -> None:
        recorder = Recorder({"finalize_block": broken})
        async with serve(tmp_path, recorder) as served:
            peer = await served.connect()
            peer.send(FINALIZE, COMMIT)
            await peer.closed()
            assert served.faults == [("abci finalize_block", "the sum is not zero")]
            assert recorder.names() == ["finalize_block"]

    run(main())


def test_closing_at_any_moment_is_no_fault(tmp_path: Path) -> None:
    async def main() -> None:
        steps = iter(range(10**9))

        async def turns() -> None:
            for _ in range(next(steps) % 7):
                await asyncio.sleep(0)

        recorder = Recorder({"check_tx": turns, "info": turns})
        async with serve(tmp_path, recorder) as served:
            for at in range(600):
                peer = await served.connect()
                peer.send(check_tx(b"x" * (at % 3) * 50_000), INFO)
                for _ in range(at % 11):
                    await asyncio.sleep(0)
                peer.close()
                await served.server.lost()
            assert not served.faults

    run(main())


def test_a_block_that_runs_when_cometbft_dies_is_finished_before_it_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        committed = asyncio.Event()
        recorder = Recorder({"commit": committed.wait})
        async with serve(tmp_path, recorder) as served:
            peer = await served.connect()
            peer.send(COMMIT)
            await reached(lambda: recorder.names() == ["commit"])
            peer.close()
            await served.server.lost()
            peers = [await served.connect() for _ in range(4)]
            for again in peers:
                again.send(INFO)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(peers[3].receive()), 0.05)
            assert recorder.names() == ["commit"]
            committed.set()
            for again in peers[:3]:
                assert await again.receive_names(1) == ["info"]
            assert set(recorder.answered) == {"commit", "info"}

    run(main())


def test_stopping_waits_for_the_call_that_runs(tmp_path: Path) -> None:
    async def main() -> None:
        committed = asyncio.Event()
        recorder = Recorder({"commit": committed.wait})
        async with serve(tmp_path, recorder) as served:
            peer = await served.connect()
            peer.send(COMMIT)
            await reached(lambda: recorder.names() == ["commit"])
            lost = asyncio.create_task(served.server.lost())
            stopping = asyncio.create_task(served.server.stop())
            await peer.closed()
            assert not stopping.done()
            committed.set()
            await stopping
            assert "commit" in recorder.answered
            assert not lost.done()
            lost.cancel()

    run(main())


def test_calls_of_consensus_are_recorded_and_others_not(tmp_path: Path) -> None:
    async def main() -> None:
        async with serve(tmp_path, Recorder()) as served:
            peer = await served.connect()
            requests = [pb.Request() for _ in CALLS]
            for request, name in zip(requests, CALLS, strict=True):
                getattr(request, name).SetInParent()
            peer.send(*requests)
            assert await peer.receive_names(len(CALLS)) == list(CALLS)
            assert served.recorded == [
                name for name in CALLS if name not in {"echo", "flush", "check_tx", "insert_tx", "reap_txs", "query"}
            ]

    run(main())


def test_the_application_may_be_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        first, second = Recorder(), Recorder()
        async with serve(tmp_path, first) as served:
            peer = await served.connect()
            peer.send(INFO)
            await peer.receive()
            application: Any = second
            served.server.application = application
            peer.send(INFO)
            await peer.receive()
        assert (first.names(), second.names()) == (["info"], ["info"])

    run(main())


def test_the_socket_is_its_owners_and_replaces_a_dead_one(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "abci.sock").write_bytes(b"left by a dead process")
        async with serve(tmp_path, Recorder()) as served:
            mode = served.path.stat().st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o600
            peer = await served.connect()
            peer.send(echo("here"))
            assert (await peer.receive()).echo.message == "here"

    run(main())


def test_one_connection_too_many_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        async with serve(tmp_path, Recorder()) as served:
            peers = [await served.connect() for _ in range(MAX_CONNECTIONS)]
            for peer in peers:
                peer.send(INFO)
                await peer.receive()
            await (await served.connect()).closed()
            peers[0].close()
            peers[1].send(INFO)
            assert await peers[1].receive_names(1) == ["info"]

    with structlog.testing.capture_logs() as log:
        run(main())
    assert log == [{"event": "abci_refused", "open": MAX_CONNECTIONS, "log_level": "warning"}]
