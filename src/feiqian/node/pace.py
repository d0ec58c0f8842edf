"""How fast transactions leave the pool, by which whoever finds it full is told when to come again."""

import time

MIN_RETRY_MS, MAX_RETRY_MS = 50, 5_000


class Pace:
    """Smoothed over some blocks. Counting is for one thread, asking for any."""

    def __init__(self) -> None:
        self._ms_per_transaction = 0.1
        self._counted_at_s = 0.0

    def count(self, transactions: int, *, is_pool_empty: bool) -> None:
        """Take note of a block that is on disk; time in which nothing waited does not count."""
        now_s = time.monotonic()
        if transactions and self._counted_at_s:
            ms_each = (now_s - self._counted_at_s) * 1000 / transactions
            self._ms_per_transaction += (ms_each - self._ms_per_transaction) / 4
        self._counted_at_s = 0.0 if is_pool_empty else now_s

    def retry_after_ms(self, pooled: int) -> int:
        """Return after how long half of what the pool holds should have left it."""
        return max(MIN_RETRY_MS, min(MAX_RETRY_MS, int(pooled * self._ms_per_transaction / 2)))
