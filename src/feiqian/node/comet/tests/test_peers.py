"""Which peers may stay: known ones, each once at a time."""

from feiqian.node.comet.peers import ACCEPTED, REFUSED, SETTLING_S, PeerFilter

KNOWN, OTHER, STRANGER = "aa" * 20, "bb" * 20, "cc" * 20


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_known_nodes_may_stay_and_each_answer_is_told() -> None:
    told: list[str] = []
    peers = PeerFilter(
        lambda: {KNOWN}, "nobody knows it", joined=lambda: told.append("in"), refused=lambda: told.append("out")
    )
    assert peers.answer("/p2p/filter/addr/192.0.2.1:26656").code == ACCEPTED
    assert peers.answer(f"/p2p/filter/id/{KNOWN}").code == ACCEPTED
    refusal = peers.answer(f"/p2p/filter/id/{STRANGER}")
    assert (refusal.code, refusal.log) == (REFUSED, f"node {STRANGER}: nobody knows it")
    assert peers.answer("/store/balances").code == REFUSED
    assert told == ["in", "out"]


def test_of_two_connections_with_the_same_node_at_the_same_moment_one_passes() -> None:
    clock = Clock()
    peers = PeerFilter(lambda: {KNOWN, OTHER}, "", clock_s=clock)
    ask = f"/p2p/filter/id/{KNOWN}"
    assert peers.answer(ask).code == ACCEPTED
    clock.now_s += SETTLING_S / 2
    assert peers.answer(ask).code == REFUSED
    assert peers.answer(f"/p2p/filter/id/{OTHER}").code == ACCEPTED
    # What was refused does not put the next off.
    clock.now_s += SETTLING_S / 2
    assert peers.answer(ask).code == ACCEPTED
