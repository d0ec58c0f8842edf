"""Whose word is taken for the authority of transactions: other members' nodes', as long as samples bear it out.

A node tells its peers of what it has checked itself, under its signature. Of each chunk that a peer tells of, one
transaction chosen at random is checked whole, the others for signatures, expiry and replay. A node that puts a share
f of unauthorised ones into what it tells is found out after 1/f chunks on average: so about a chunk of them slips into
the pool, whatever f is, before everything from that node is checked again for a while. None gets into a block: whoever
proposes leaves them out, and whoever judges refuses.
"""

from collections.abc import Callable, Sequence
from random import SystemRandom

import structlog

from feiqian.ledger.errors import ExpiryTooFar, LedgerError, TransactionExpired, TransactionReplayed
from feiqian.node.verifier import Answers

DOUBT_S = 60.0
"""How long everything that a node tells of is checked whole, after a sample of it was refused."""

_ABOUT_TIME = frozenset({TransactionExpired.number, ExpiryTooFar.number, TransactionReplayed.number})


class Tellers:
    """Belongs to one event loop. `now_s` is a clock that only goes forward."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._doubted_until_s: dict[str, float] = {}
        self._random = SystemRandom()

    def sample(self, teller: str | None, count: int) -> Sequence[int]:
        """Return the places, of so many, whose authority is to be checked; None tells of what is its own."""
        if teller is None or self._now_s() < self._doubted_until_s.get(teller, 0.0):
            return range(count)
        return (self._random.randrange(count),)

    def is_borne_out(self, teller: str | None, count: int, sample: Sequence[int], answers: Answers) -> bool:
        """Say whether the answers let the rest pass; from now on the node is doubted where they do not.

        What came too late says nothing of the node that tells of it: a block may have taken it on the way.
        """
        if teller is None:
            return True
        wrong = [
            answers[place]
            for place in sample
            if place in answers
            and answers[place].codespace == LedgerError.codespace
            and answers[place].number not in _ABOUT_TIME
        ]
        if wrong:
            self._doubted_until_s[teller] = self._now_s() + DOUBT_S
            structlog.get_logger().warning("peer_doubted", node=teller, rule=wrong[0].number)
        return not wrong or len(sample) == count
