"""A node of a network that dies at a chosen step, cheats as a proposer, or errs: `faulty_node FAULT DIR`.

`kill:CALL:WHEN` dies in a block that holds transactions: before or after `finalize_block` or `commit`, or inside
`commit`, while the committer writes. `propose:WHAT` adds to its proposals what no block may hold, and votes for them.
`errs` answers another state root than its ledger has once it votes, `errs-syncing` from its first block on. `silent`
tells its peers of no transaction. `records` does all as it should, and writes down what CometBFT calls.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from feiqian.consensus.comet import abci_pb2 as pb
from feiqian.consensus.comet.server import AbciServer, Application
from feiqian.core.encoding import encode
from feiqian.core.transactions import Signature, Transaction, decode_signed, encode_signed
from feiqian.execution.blocks import BUNDLE
from feiqian.node import main as node
from feiqian.node.comet import main as network
from feiqian.node.comet.application import NetworkApplication
from feiqian.node.comet.committer import NetworkCommitter
from feiqian.testing.ledgers import key_of
from feiqian.wallet.signing import sign_transaction

SOUND_BLOCKS = 2
"""So many blocks with transactions are run as they should be before a fault."""

MID_WRITE_S = 0.001
OVERSIZED_BYTES = 300 * 1024
CALLS_SUFFIX = ".calls"


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _Dies(NetworkApplication):
    """Dies at a call of a block with transactions."""

    call = ""
    when = ""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._sound = 0
        self._is_due = False

    async def finalize_block(self, request: pb.RequestFinalizeBlock) -> pb.ResponseFinalizeBlock:
        self._sound += bool(request.txs)
        self._is_due = bool(request.txs) and self._sound > SOUND_BLOCKS
        self._reach("finalize_block", "before")
        response = await super().finalize_block(request)
        self._reach("finalize_block", "after")
        return response

    async def commit(self, request: pb.RequestCommit) -> pb.ResponseCommit:
        self._reach("commit", "before")
        _DiesWriting.is_due = self._is_due
        response = await super().commit(request)
        self._reach("commit", "after")
        return response

    def _reach(self, call: str, when: str) -> None:
        if self._is_due and (call, when) == (self.call, self.when):
            _die()


class _DiesWriting(NetworkCommitter):
    """Dies, and the committer's process with it, while that writes the height."""

    is_due = False

    async def write(self, height: int, metrics: Any) -> None:
        writing = asyncio.create_task(super().write(height, metrics))
        if self.is_due:
            await asyncio.sleep(MID_WRITE_S)
            os.kill(self.pid, signal.SIGKILL)
            _die()
        await writing


class _Cheats(NetworkApplication):
    """Adds to its proposals what no block may hold, and says yes to them."""

    added: Callable[[tuple[bytes, ...], tuple[bytes, ...]], bytes]
    """Makes a bundle of transactions that wait and transactions that are in the chain."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._done: tuple[bytes, ...] = ()
        self._own: set[tuple[bytes, ...]] = set()

    async def prepare_proposal(self, request: pb.RequestPrepareProposal) -> pb.ResponsePrepareProposal:
        response = await super().prepare_proposal(request)
        if response.txs and self._done:
            response.txs.append(type(self).added(BUNDLE.decode(response.txs[0]), self._done))
            self._own.add(tuple(response.txs))
            structlog.get_logger().warning("cheated", height=request.height)
        return response

    async def process_proposal(self, request: pb.RequestProcessProposal) -> pb.ResponseProcessProposal:
        if tuple(request.txs) in self._own:
            return pb.ResponseProcessProposal(status=pb.ResponseProcessProposal.ACCEPT)
        return await super().process_proposal(request)

    async def finalize_block(self, request: pb.RequestFinalizeBlock) -> pb.ResponseFinalizeBlock:
        if request.txs:
            self._done = BUNDLE.decode(request.txs[0])
        return await super().finalize_block(request)


def _like(signed: bytes, expires_at_ms: int) -> Transaction[Any]:
    """Return an order that asks for what another does, under another id."""
    order = network.discover().transaction_codec.decode(decode_signed(signed).body)
    return msgspec.structs.replace(order, expires_at_ms=expires_at_ms or order.expires_at_ms - 1)


def _unauthorised(waiting: tuple[bytes, ...], _: tuple[bytes, ...]) -> bytes:
    """Return an order of the treasury that someone else signed, and rightly so."""
    return encode((sign_transaction(_like(waiting[0], 0), [key_of("south")]),))


def _forged(waiting: tuple[bytes, ...], _: tuple[bytes, ...]) -> bytes:
    """Return an order under the right key, with a signature that is none."""
    no_signature = Signature(key_of("treasury").public, bytes(64))
    return encode((encode_signed(encode(_like(waiting[0], 0)), (no_signature,)),))


def _expired(waiting: tuple[bytes, ...], _: tuple[bytes, ...]) -> bytes:
    """Return an order that was good until the first millisecond of 1970."""
    return encode((sign_transaction(_like(waiting[0], 1), [key_of("treasury")]),))


CHEATS: Mapping[str, Callable[[tuple[bytes, ...], tuple[bytes, ...]], bytes]] = {
    "garbage": lambda waiting, done: b"\xc1",
    "oversized": lambda waiting, done: encode((bytes(OVERSIZED_BYTES),)),
    "replayed": lambda waiting, done: encode((done[0],)),
    "repeated": lambda waiting, done: encode((waiting[0],)),
    "unauthorised": _unauthorised,
    "forged": _forged,
    "expired": _expired,
}
"""What a proposer may add that no block may hold."""


class _Errs(NetworkApplication):
    """Answers another state root than its ledger has, once it votes."""

    is_due = False

    async def process_proposal(self, request: pb.RequestProcessProposal) -> pb.ResponseProcessProposal:
        self.is_due = True
        return await super().process_proposal(request)

    async def finalize_block(self, request: pb.RequestFinalizeBlock) -> pb.ResponseFinalizeBlock:
        response = await super().finalize_block(request)
        if self.is_due and request.txs:
            response.app_hash = response.app_hash[::-1]
            structlog.get_logger().warning("erred", height=request.height)
        return response


class _ErrsSyncing(_Errs):
    """Answers another one from its first block on, while it still catches up."""

    is_due = True


class _IsSilent(NetworkApplication):
    """Tells its peers of no transaction."""

    async def reap_txs(self, request: pb.RequestReapTxs) -> pb.ResponseReapTxs:
        return pb.ResponseReapTxs()


class _Records(AbciServer):
    """Writes down the calls of consensus, handshake and snapshots beside its socket, a line each as it begins."""

    def __init__(
        self, path: Path, application: Application, *, fault: Callable[[str, BaseException], None], **_: object
    ) -> None:
        calls = path.with_suffix(CALLS_SUFFIX).open("a", buffering=1)
        super().__init__(path, application, fault=fault, record=lambda name: print(name, file=calls))


def arm(fault: str) -> None:
    """Make the node that this process is going to run a faulty one."""
    kind, *words = fault.split(":")
    if kind == "kill":
        _Dies.call, _Dies.when = words
        network.NetworkApplication = _Dies
        if words == ["commit", "inside"]:
            network.NetworkCommitter = _DiesWriting
    elif kind == "propose":
        _Cheats.added = staticmethod(CHEATS[words[0]])
        network.NetworkApplication = _Cheats
    elif kind == "records":
        network.AbciServer = _Records
    else:
        network.NetworkApplication = {"errs": _Errs, "errs-syncing": _ErrsSyncing, "silent": _IsSilent}[kind]


if __name__ == "__main__":
    arm(sys.argv[1])
    sys.exit(node.main(sys.argv[2:]))
