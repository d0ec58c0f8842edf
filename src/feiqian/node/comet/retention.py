"""Which blocks CometBFT may forget: none that evidence can be of, that a snapshot needs, or that is not archived."""

from bisect import bisect_left
from collections.abc import Callable

from feiqian.consensus.genesis_file import ConsensusParams
from feiqian.state.rows import Age
from feiqian.state.store import Store

_NS_PER_MS = 1_000_000


class Retention:
    """Asked at each commit; what it answers never goes back."""

    def __init__(
        self,
        store: Store,
        params: ConsensusParams,
        keep_blocks: int,
        archived_height: Callable[[], int],
        snapshot_height: Callable[[], int | None],
    ) -> None:
        """`keep_blocks` 0 keeps all. `snapshot_height` is that of the oldest snapshot which is served."""
        self._store = store
        self._params = params
        self._keep_blocks = keep_blocks
        self._archived_height = archived_height
        self._snapshot_height = snapshot_height

    def height(self) -> int:
        """Return the first height that CometBFT must keep; 0: it keeps all."""
        if not self._keep_blocks:
            return 0
        head = self._store.head
        snapshot_height = self._snapshot_height()
        bounds = [
            head.height + 1 - self._keep_blocks,
            self._archived_height(),
            self._evidence_height(head.height, head.time_ms),
            head.height if snapshot_height is None else snapshot_height,
        ]
        return max(0, min(bounds))

    def _evidence_height(self, height: int, time_ms: int) -> int:
        """Return the first height that evidence may be of: it expires once it is too old in blocks and in time."""
        age = evidence_age(self._params)
        with self._store.view() as view:

            def counts(at: int) -> bool:
                # Of heights whose evidence counts the store keeps the time; see `evidence_age`.
                block_time_ms = view.block_time_ms(at)
                return block_time_ms is not None and block_time_ms >= time_ms - age.ms

            heights = range(self._store.initial_height, height - age.blocks)
            return self._store.initial_height + bisect_left(heights, True, key=counts)


def evidence_age(params: ConsensusParams) -> Age:
    """Return how long evidence counts; the store keeps the times of as many heights.

    Without them nobody could tell, after a restart, which blocks CometBFT must still have.
    """
    return Age(params.evidence_max_age_blocks, -(-params.evidence_max_age_ns // _NS_PER_MS))
