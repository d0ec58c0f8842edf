"""Verifies transactions' signatures in processes of their own, ahead of the audit that needs the answers.

Threads would not do: beside one that computes, each native call waits a switch interval for the interpreter's lock.
"""

import os
import signal
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context

from feiqian.core.errors import Fault, InvalidTransaction
from feiqian.core.signatures import verify
from feiqian.core.transactions import decode_signed, signing_bytes, transaction_id
from feiqian.process.native import mute_native_output

CHUNK = 512
"""Transactions that a worker takes at once."""

_FEW = 2_048
"""So many transactions are verified in this process before workers are worth their start."""


class SignaturePool:
    """Worker processes; use it as a context manager."""

    def __init__(self, workers: int | None = None) -> None:
        """`workers`: unless given, one for each processor but that on which the audit itself runs."""
        self.workers = workers or max(1, (os.cpu_count() or 1) - 1)
        self._executor: ProcessPoolExecutor | None = None
        self._submitted = 0

    def __enter__(self) -> "SignaturePool":
        return self

    def __exit__(self, *_: object) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)

    def submit(self, signed: tuple[bytes, ...]) -> Future[tuple[bool, ...]]:
        """Begin to verify signed transactions; `wait_for` the answer: of each, whether all its signatures hold."""
        self._submitted += len(signed)
        if self._submitted <= _FEW:
            answer: Future[tuple[bool, ...]] = Future()
            answer.set_result(check_signatures(signed))
            return answer
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                self.workers, mp_context=get_context("spawn"), initializer=_begin_worker, initargs=(os.getpid(),)
            )
        return self._executor.submit(check_signatures, signed)


def wait_for(answer: Future[tuple[bool, ...]]) -> tuple[bool, ...]:
    """Return a pool's answer when it is there.

    Raises:
        Fault: a worker died.
    """
    try:
        return answer.result()
    except BrokenProcessPool:
        raise Fault("a process that verifies signatures has died") from None


def check_signatures(signed: tuple[bytes, ...]) -> tuple[bool, ...]:
    """Say of each signed transaction whether it decodes and all its signatures hold."""
    with mute_native_output():
        return tuple([_holds(data) for data in signed])


def _holds(data: bytes) -> bool:
    try:
        envelope = decode_signed(data)
    except InvalidTransaction:
        return False
    message = signing_bytes(transaction_id(envelope.body))
    return all(verify(signature.key, message, signature.signature) for signature in envelope.signatures)


def _begin_worker(parent: int) -> None:
    # Ctrl-C reaches every process of the terminal; the audit ends its workers itself, and if it was killed they end.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
