"""Says which peers may stay: nodes that are known, and none that was let in a moment ago.

CometBFT asks before a peer stands on its list. Of two connections that the same two nodes make to each other at the
same moment both would pass: it then closes the second and takes the first from its list, by id, but leaves it open
(p2p/switch.go, `addPeer` and `stopAndRemovePeer`). One node is then without the other, which believes itself connected
and refuses each new connection as one too many, for ever. So only the first passes here; where both nodes end up
closing one, they dial again a few seconds later, each after a random pause.
"""

import time
from collections.abc import Callable, Collection

import structlog

from feiqian.consensus.comet import abci_pb2 as pb

ACCEPTED = 0
REFUSED = 1

SETTLING_S = 1.0
"""A peer that was let in stands on CometBFT's list within this time."""


class PeerFilter:
    """Answers what CometBFT asks of each connection; belongs to one event loop."""

    def __init__(
        self,
        known: Callable[[], Collection[str]],
        unknown: str,
        *,
        joined: Callable[[], None] = lambda: None,
        refused: Callable[[], None] = lambda: None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`known` returns the ids of nodes that may connect, `unknown` says why another may not.

        `joined` is called for each peer that is let in, `refused` for each that is unknown.
        """
        self._known = known
        self._unknown = unknown
        self._joined = joined
        self._refused = refused
        self._clock_s = clock_s
        self._let_in_s: dict[str, float] = {}

    def answer(self, path: str) -> pb.ResponseQuery:
        """Answer a query; whatever asks for something else than a peer is refused."""
        _, _, rest = path.partition("/p2p/filter/")
        kind, _, peer = rest.partition("/")
        if kind == "addr":
            return pb.ResponseQuery(code=ACCEPTED)
        if kind != "id":
            return pb.ResponseQuery(code=REFUSED, log=f"path {path!r}; the ledger is read through a gateway")
        if peer not in self._known():
            self._refused()
            structlog.get_logger().warning("peer_refused", node=peer, reason=self._unknown)
            return pb.ResponseQuery(code=REFUSED, log=f"node {peer}: {self._unknown}")
        now_s = self._clock_s()
        if now_s - self._let_in_s.get(peer, -SETTLING_S) < SETTLING_S:
            structlog.get_logger().info("peer_twice", node=peer, reason="a connection with it was let in just now")
            return pb.ResponseQuery(code=REFUSED, log=f"node {peer}: a connection with it was let in just now")
        self._let_in_s[peer] = now_s
        self._joined()
        return pb.ResponseQuery(code=ACCEPTED)
