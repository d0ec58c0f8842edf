"""Verifies signatures in processes of their own, so that no signature waits for the interpreter's lock.

Beside one busy thread, a pool of two threads verified 450 signatures a second in place of 36,000: each native call
gives the lock up and waits a switch interval to have it back (docs/decisions, "Signatures are verified in processes").
"""

import asyncio
import os
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from io import BufferedRWPair

import msgspec

from feiqian.core.encoding import encode
from feiqian.core.errors import Fault
from feiqian.core.signatures import verify
from feiqian.core.transactions import decode_signed, signing_bytes, transaction_id
from feiqian.node.faults import guard_task

CHUNK = 64
"""Transactions handed to a worker at once."""
OUTSTANDING = 2
"""Chunks that a worker holds, so that it never waits for the next."""

ALL_VERIFIED = -1
_LENGTH = struct.Struct(">I")
_CHUNK_DECODER = msgspec.msgpack.Decoder(tuple[bytes, ...])
_ANSWER_DECODER = msgspec.msgpack.Decoder(tuple[int, ...])


def first_bad_signature(signed: bytes) -> int:
    """Return the place of the first signature that does not verify, or `ALL_VERIFIED`."""
    envelope = decode_signed(signed)
    message = signing_bytes(transaction_id(envelope.body))
    for place, signature in enumerate(envelope.signatures):
        if not verify(signature.key, message, signature.signature):
            return place
    return ALL_VERIFIED


class Verifiers:
    """Worker processes and the queue before them. Belongs to one event loop."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self._chunks: asyncio.Queue[tuple[tuple[bytes, ...], asyncio.Future[tuple[int, ...]]]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, count: int) -> None:
        """Start the workers and return when all are ready to work."""
        channels: list[socket.socket] = []
        for _ in range(count):
            process, ours = _start_worker()
            self.processes.append(process)
            channels.append(ours)
        for number, ours in enumerate(channels):
            reader, writer = await asyncio.open_connection(sock=ours, limit=2**20)
            await _read_answer(reader)
            task = asyncio.create_task(self._serve(reader, writer), name=f"verifier-{number}")
            self._tasks.append(guard_task(task))

    async def verify(self, signed: Sequence[bytes]) -> list[int]:
        """Return, for each well-formed signed transaction, the place of its first bad signature or `ALL_VERIFIED`."""
        answers: list[asyncio.Future[tuple[int, ...]]] = []
        for start in range(0, len(signed), CHUNK):
            answer = asyncio.get_running_loop().create_future()
            self._chunks.put_nowait((tuple(signed[start : start + CHUNK]), answer))
            answers.append(answer)
        return [place for answer in answers for place in await answer]

    async def stop(self) -> None:
        """End the workers; what they still hold is not answered."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for process in self.processes:
            process.terminate()
            process.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        room = asyncio.Semaphore(OUTSTANDING)
        sent: deque[asyncio.Future[tuple[int, ...]]] = deque()

        async def receive() -> None:
            # Always reading, so that a worker's death is noticed even when it has nothing to do.
            while True:
                places = await _read_answer(reader)
                answer = sent.popleft()
                if not answer.cancelled():
                    answer.set_result(places)
                room.release()

        receiving = guard_task(asyncio.create_task(receive(), name="verifier-answers"))
        try:
            while True:
                await room.acquire()
                chunk, answer = await self._chunks.get()
                data = encode(chunk)
                sent.append(answer)
                writer.write(_LENGTH.pack(len(data)) + data)
                await writer.drain()
        finally:
            receiving.cancel()
            writer.close()


def _start_worker() -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "feiqian.node.verifier"]
        return subprocess.Popen(command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL), ours


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, ...]:
    try:
        size = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))[0]
        return _ANSWER_DECODER.decode(await reader.readexactly(size))
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise Fault("a process that verifies signatures has died") from error


def run_worker(channel: socket.socket) -> None:
    """Say that it is there, with an empty answer, then answer chunks until the node closes its end."""
    stream = channel.makefile("rwb")
    _write_answer(stream, ())
    while len(head := stream.read(_LENGTH.size)) == _LENGTH.size:
        size = _LENGTH.unpack(head)[0]
        chunk = _CHUNK_DECODER.decode(stream.read(size))
        _write_answer(stream, tuple([first_bad_signature(signed) for signed in chunk]))


def _write_answer(stream: BufferedRWPair, places: tuple[int, ...]) -> None:
    answer = encode(places)
    stream.write(_LENGTH.pack(len(answer)) + answer)
    stream.flush()


if __name__ == "__main__":
    # The terminal's Ctrl-C reaches every process; a worker ends when its node closes the channel, not before.
    os.setpgid(0, 0)
    try:
        run_worker(socket.socket(fileno=0))
    except (ConnectionError, BrokenPipeError):
        sys.exit(0)
