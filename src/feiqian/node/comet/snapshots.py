"""Snapshots that a node of a network takes on a schedule and serves: by them a new member joins without the past.

A file is cut into pieces of one size. What CometBFT offers to a peer names every piece's hash, so that whoever joins
checks piece by piece; what the file says is checked by the state root alone. Members that take snapshots of the same
heights have the same file, byte for byte, and a newcomer fetches it from all of them at once.
"""

import asyncio
import time
from pathlib import Path
from typing import NamedTuple

import structlog

from feiqian.consensus.comet import abci_pb2 as pb
from feiqian.core.hashing import Domain
from feiqian.node.configuration import Layout
from feiqian.node.faults import DONE, REFUSED, guard_task
from feiqian.node.workers import Worker, start_worker
from feiqian.state.files import reason_of
from feiqian.state.store import Store

FORMAT = 1
"""How a file is cut and named to peers; the file's own form is `state.snapshots`'."""

PIECE_BYTES = 4 << 20
"""CometBFT carries 16 MB at most (statesync/messages.go), and waits ten seconds for a piece unless told otherwise."""

MAX_PIECES = 100_000
"""What CometBFT takes from a peer (config, `max_snapshot_chunks`): 400 GB, and 3.2 MB of hashes of the 4 MB allowed."""

SIGNED_AFTER_BLOCKS = 2
"""A snapshot holds its own block and the next, both with the commit that the block after them settled on."""

FETCHED_S = 60.0
"""A snapshot that was asked for within this time is being fetched, and stays until it is not."""

MOST_FETCHED = 2
"""So many more than are to be kept stay at most, whoever fetches what."""

_SUFFIX = ".snapshot"
_PIECE = Domain("feiqian/snapshot-piece/v1")
_PIECES = Domain("feiqian/snapshot-pieces/v1")


class Served(NamedTuple):
    """A snapshot file and the hash of each of its pieces."""

    height: int
    path: Path
    pieces: tuple[bytes, ...]


class Snapshots:
    """Belongs to one event loop; files are written by a process of its own and read on threads."""

    def __init__(self, layout: Layout, store: Store, *, every_blocks: int, keep: int) -> None:
        """Take one of each height that `every_blocks` divides, and keep the last `keep`; 0 takes and serves none."""
        self._layout = layout
        self._store = store
        self._every_blocks = every_blocks
        self._keep = keep
        self._heights = _heights_in(layout.snapshots) if every_blocks else []
        self._served: dict[int, Served] = {}
        self._fetched_s: dict[int, float] = {}
        self._reading = asyncio.Lock()
        self._due: int | None = None
        self._task: asyncio.Task[None] | None = None
        self._worker: Worker | None = None
        self._is_stopping = False
        self.last_seconds = 0.0
        """How long the last one took to write."""

    def oldest_height(self) -> int | None:
        """Return the height of the oldest snapshot that is served, None where there is none."""
        return self._heights[0] if self._heights else None

    def newest_height(self) -> int | None:
        """Return the height of the newest snapshot that is served, None where there is none."""
        return self._heights[-1] if self._heights else None

    def archived(self, height: int) -> None:
        """Take note that the signed header of a height is archived: a snapshot may be due, and is then taken."""
        due = height - SIGNED_AFTER_BLOCKS
        if not self._every_blocks or due < self._store.initial_height or due % self._every_blocks:
            return
        if not self._heights or due > self._heights[-1]:
            # Where one still goes on, the last that falls due meanwhile follows it.
            self._due = due
            if self._task is None:
                self._task = guard_task(asyncio.create_task(self._take_those_due(), name="snapshots"))

    async def settled(self) -> None:
        """Return when none is being taken or due."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def list(self) -> pb.ResponseListSnapshots:
        """Name the snapshots that are served; one that only stays for who fetches it is offered to nobody else."""
        served = [await self._find(height) for height in self._heights[-self._keep :]]
        return pb.ResponseListSnapshots(snapshots=[describe(each) for each in served if each is not None])

    async def load(self, request: pb.RequestLoadSnapshotChunk) -> pb.ResponseLoadSnapshotChunk:
        """Return a piece; an empty answer says that there is none (any more)."""
        served = await self._find(request.height) if request.format == FORMAT else None
        if served is None or request.chunk >= len(served.pieces):
            return pb.ResponseLoadSnapshotChunk()
        self._fetched_s[served.height] = time.monotonic()
        try:
            piece = await asyncio.to_thread(_read_piece, served.path, request.chunk)
        except FileNotFoundError:
            # A newer one took its place while a peer fetched it.
            return pb.ResponseLoadSnapshotChunk()
        except OSError as error:
            return self._leave(served, reason_of(error))
        if piece_hash(piece) != served.pieces[request.chunk]:
            return self._leave(served, "the file is not what it was when it was written")
        return pb.ResponseLoadSnapshotChunk(chunk=piece)

    async def stop(self) -> None:
        """End what is being taken; the next start leaves nothing of it."""
        self._is_stopping = True
        if self._worker is not None:
            self._worker.process.kill()
        if self._task is not None:
            await self._task

    def _leave(self, served: Served, reason: str) -> pb.ResponseLoadSnapshotChunk:
        """Serve a file no longer."""
        structlog.get_logger().warning("snapshot_left", height=served.height, reason=reason)
        if served.height in self._heights:
            self._heights.remove(served.height)
        return pb.ResponseLoadSnapshotChunk()

    async def _find(self, height: int) -> Served | None:
        """Return a snapshot, reading its file once."""
        if height not in self._heights:
            return None
        async with self._reading:
            if height not in self._served:
                path = path_of(self._layout.snapshots, height)
                try:
                    self._served[height] = Served(height, path, await asyncio.to_thread(hash_pieces, path))
                except OSError as error:
                    self._leave(Served(height, path, ()), reason_of(error))
                    return None
        served = self._served[height]
        return served if 0 < len(served.pieces) <= MAX_PIECES else None

    async def _take_those_due(self) -> None:
        while self._due is not None and not self._is_stopping:
            height, self._due = self._due, None
            began_s = time.monotonic()
            if await self._take(height):
                self.last_seconds = time.monotonic() - began_s
                self._heights.append(height)
                self._drop_old()
                await self._find(height)
                structlog.get_logger().info("snapshot_taken", height=height)
        self._task = None

    async def _take(self, height: int) -> bool:
        """Say whether a snapshot was written; where it was not, the process that tried has logged why."""
        try:
            self._layout.snapshots.mkdir(mode=0o750, exist_ok=True)
        except OSError as error:
            structlog.get_logger().warning("snapshot_failed", height=height, reason=reason_of(error))
            return False
        path = path_of(self._layout.snapshots, height)
        self._worker = start_worker(
            "feiqian.node.comet.exporting", [str(self._layout.directory), str(height), str(path)]
        )
        with self._worker.channel:
            status = await asyncio.to_thread(self._worker.process.wait)
        self._worker = None
        if status not in (DONE, REFUSED) and not self._is_stopping:
            structlog.get_logger().warning("snapshot_failed", height=height, status=status)
        return status == DONE and not self._is_stopping

    def _drop_old(self) -> None:
        """Give up the oldest. CometBFT asks for a piece again and again, and for no other snapshot until it has it."""
        now_s = time.monotonic()
        while len(self._heights) > self._keep:
            old = self._heights[: -self._keep]
            idle = [height for height in old if now_s - self._fetched_s.get(height, -FETCHED_S) >= FETCHED_S]
            if not idle and len(old) <= MOST_FETCHED:
                return
            height = (idle or old)[0]
            self._heights.remove(height)
            self._served.pop(height, None)
            self._fetched_s.pop(height, None)
            path_of(self._layout.snapshots, height).unlink(missing_ok=True)


def path_of(folder: Path, height: int) -> Path:
    """Return where the snapshot of a height lies."""
    return folder / f"{height:020}{_SUFFIX}"


def piece_hash(piece: bytes) -> bytes:
    """Return the 32 bytes by which a piece is known."""
    return _PIECE.hash(piece)


def describe(served: Served) -> pb.Snapshot:
    """Return what a peer is told of a snapshot."""
    metadata = b"".join(served.pieces)
    return pb.Snapshot(
        height=served.height, format=FORMAT, chunks=len(served.pieces), hash=hash_of(metadata), metadata=metadata
    )


def hash_of(metadata: bytes) -> bytes:
    """Return the hash of a snapshot: one over the hashes of its pieces."""
    return _PIECES.hash(metadata)


def hash_pieces(path: Path) -> tuple[bytes, ...]:
    """Return the hash of each piece of a file."""
    hashes: list[bytes] = []
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            hashes.append(piece_hash(piece))
    return tuple(hashes)


def _read_piece(path: Path, place: int) -> bytes:
    with path.open("rb") as file:
        file.seek(place * PIECE_BYTES)
        return file.read(PIECE_BYTES)


def _heights_in(folder: Path) -> list[int]:
    """Return the heights whose snapshot is whole; what a process that was killed left half written goes."""
    for part in folder.glob(f"*{_SUFFIX}.part"):
        part.unlink(missing_ok=True)
    return sorted(int(path.stem) for path in folder.glob(f"*{_SUFFIX}") if path.stem.isdecimal())
