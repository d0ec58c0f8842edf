"""Which transactions of a long submission are still to be sent; no I/O and no clock, for both clients."""

from collections import deque
from collections.abc import Sequence

from feiqian.client.calls import Outcome
from feiqian.client.errors import Refused

MAX_BATCH = 2_000
"""Transactions in one request; the gateway takes up to 5,000."""

BUSY_PAUSE_S = 0.2


class Resubmission:
    """Sending the same bytes twice is harmless: what stands on the ledger already is reported as such."""

    def __init__(self, transactions: Sequence[bytes], wait: str | None) -> None:
        self._transactions = transactions
        self._unfinished = {"later"} if wait is None else {"later", "accepted"}
        self._outcomes: dict[int, Outcome] = {}
        self._left = deque(range(len(transactions)))
        self._sent: list[int] = []

    def next_batch(self) -> list[bytes]:
        """Return what to send next, nothing where all have an outcome."""
        self._sent = [self._left.popleft() for _ in range(min(MAX_BATCH, len(self._left)))]
        return [self._transactions[place] for place in self._sent]

    def take(self, outcomes: Sequence[Outcome]) -> float:
        """Take the outcomes of the batch; return how many seconds to pause before the next."""
        pause_s = 0.0
        for place, outcome in zip(self._sent, outcomes, strict=True):
            self._outcomes[place] = outcome
            if outcome.status in self._unfinished:
                self._left.append(place)
                pause_s = max(pause_s, outcome.retry_after_ms / 1000, BUSY_PAUSE_S)
        return pause_s

    def put_back(self, refusal: Refused) -> float:
        """Keep the whole batch for later where the gateway was busy; return how many seconds to pause.

        Raises:
            Refused: it was not for being busy.
        """
        if not refusal.is_busy:
            raise refusal
        self._left.extend(self._sent)
        return max(float(refusal.retry_after_s), BUSY_PAUSE_S)

    def outcomes(self) -> list[Outcome]:
        """Return the outcomes in the transactions' order."""
        return [self._outcomes[place] for place in range(len(self._transactions))]
