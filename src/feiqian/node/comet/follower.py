"""Puts into the archive what the network signed: headers, commits and validators, read from CometBFT as heights end.

Nothing is believed: each header must follow the one before, be signed by the validators announced for it, and be the
one of the block that this node ran. What a node itself saw sign the last block gives way, a height later, to what the
next block says signed it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from feiqian.consensus import headers, light
from feiqian.consensus.comet.rpc import CometRpc, NotThere, RpcError
from feiqian.consensus.genesis_file import Genesis
from feiqian.consensus.headers import NO_COMMIT, Header, ValidatorSet
from feiqian.consensus.light import InvalidTrail, LightBlock, Trust
from feiqian.core.errors import Fault
from feiqian.execution.blocks import BLOCK
from feiqian.state.archive import ArchiveRow
from feiqian.state.errors import OutsideWindow
from feiqian.state.store import Store

ROWS = 64
"""A node that is far behind archives so many heights at once, for each write waits for the disk."""

REMEMBERED_HASHES = 4_096
"""Hashes of blocks that ran and are not archived yet; those beyond are compared with the stored block instead."""

FIRST_PAUSE_S = 0.05
LAST_PAUSE_S = 5.0
LOG_EVERY_S = 60.0

NS_PER_MS = 1_000_000


class Follower:
    """Follows one CometBFT with the archive; belongs to one event loop."""

    def __init__(
        self,
        rpc: CometRpc,
        store: Store,
        genesis: Genesis,
        archive: Callable[[tuple[ArchiveRow, ...]], Awaitable[None]],
        archived: Callable[[int], None],
    ) -> None:
        """`archive` puts rows on disk, `archived` is told each height that is there."""
        self._rpc = rpc
        self._store = store
        self._genesis = genesis
        self._archive = archive
        self._archived = archived
        self._last = _last_archived(store)
        self._trust: Trust = light.trust_in_genesis(genesis) if self._last is None else light.trust_in_block(self._last)
        self._height = self._trust.height
        self._reached = store.height
        self._is_more = asyncio.Event()
        self._hashes: dict[int, bytes] = {}

    @property
    def height(self) -> int:
        """The last archived height; the one before the first where there is none."""
        return self._height

    def reached(self, height: int, block_hash: bytes = b"") -> None:
        """Take note that the store has a height, of the block with this hash (empty: not known)."""
        if block_hash and len(self._hashes) < REMEMBERED_HASHES:
            self._hashes[height] = block_hash
        self._reached = max(self._reached, height)
        self._is_more.set()

    async def run(self) -> None:
        """Follow until cancelled.

        Raises:
            Fault: what CometBFT holds is not the chain that this node ran.
        """
        while True:
            while self._reached <= self._height:
                self._is_more.clear()
                await self._is_more.wait()
            rows = await self._read_on()
            await self._archive(rows)
            first, self._height = self._height + 1, self._trust.height
            for height in range(first, self._height + 1):
                self._hashes.pop(height, None)
                self._archived(height)

    async def _read_on(self) -> tuple[ArchiveRow, ...]:
        """Return rows of the next height and those after it, and of the one before whose commit is replaced."""
        given: dict[int, ArchiveRow] = {}
        pause_s, said_s = FIRST_PAUSE_S, 0.0
        while self._trust.height < self._reached and len(given) < ROWS:
            try:
                given |= await self._read(self._trust.height + 1)
            except RpcError as error:
                if given:
                    break
                if not said_s or time.monotonic() - said_s >= LOG_EVERY_S:
                    said_s = time.monotonic()
                    structlog.get_logger().warning("archive_waits", height=self._trust.height + 1, reason=str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LAST_PAUSE_S)
        return tuple(given.values())

    async def _read(self, height: int) -> dict[int, ArchiveRow]:
        """Read and check the next height; return its row, and that of the one before where its commit is replaced."""
        found = await self._rpc.commit(height)
        validators = await self._validators(found.header.validators_hash, height)
        block = LightBlock(found.header, found.commit, validators)
        last = None if self._last is None else await self._canonical(self._last, block)
        try:
            trust = light.verify_block(self._trust, block)
            if last is not None:
                light.check_block(self._genesis.chain_id, last)
        except InvalidTrail as error:
            raise Fault(f"CometBFT's chain is not sound: {error}") from None
        self._check_follows(block, last)
        self._check_ran(block)
        rows = {height: light.archive_row(block)}
        if last is not None and last != self._last:
            rows = {height - 1: light.archive_row(last), **rows}
        self._last, self._trust = block, trust
        return rows

    async def _validators(self, hash_: bytes, height: int) -> ValidatorSet:
        known = self._trust.validators
        return known if known.hash() == hash_ else await self._rpc.validators(height)

    async def _canonical(self, last: LightBlock, block: LightBlock) -> LightBlock:
        """Return the block before with the commit that the next one holds."""
        if last.commit.hash() == block.header.last_commit_hash:
            return last
        found = await self._rpc.commit(last.header.height)
        if not found.is_canonical:
            raise NotThere(f"commit: height {last.header.height} is still the last one")
        return last._replace(commit=found.commit)

    def _check_follows(self, block: LightBlock, last: LightBlock | None) -> None:
        header, commit = block.header, NO_COMMIT if last is None else last.commit
        if (header.last_block_id, header.last_commit_hash) != (commit.block_id, commit.hash()):
            raise Fault(f"CometBFT's block {header.height} does not follow the block before it in the archive")

    def _check_ran(self, block: LightBlock) -> None:
        """Check that a header is that of the block which this node ran.

        Raises:
            Fault: it is another one's.
        """
        header = block.header
        expected = self._hashes.get(header.height)
        if not (self._is_stored(header) if expected is None else header.hash() == expected):
            raise Fault(f"block {header.height} that CometBFT holds is not the one that this node ran")

    def _is_stored(self, header: Header) -> bool:
        """Compare a header with what the store has of its height and the one before, as far as it still has them."""
        stored = self._store.block(header.height)
        if stored is not None:
            bundles = BLOCK.decode_trusted(stored.block).bundles
            if (headers.data_hash(bundles), header.time_ns // NS_PER_MS) != (header.data_hash, stored.time_ms):
                return False
        try:
            return self._store.app_hash_at(header.height - 1) == header.app_hash
        except OutsideWindow:
            return True


def _last_archived(store: Store) -> LightBlock | None:
    archived = store.archived_heights()
    row = None if archived is None else store.archive_row(archived[1])
    return None if row is None else light.light_block(row)
