"""What the node keeps at hand of what it has told."""

from feiqian.node.server import RECENT_BYTES, Recent


def test_old_frames_go_when_there_are_too_many_or_they_are_too_large_but_the_least_stay() -> None:
    many = Recent(0, most=4)
    for height in range(1, 8):
        many.add(height, b"frame %d" % height)
    assert [many.find(height) for height in (3, 4, 7)] == [None, b"frame 4", b"frame 7"]
    large = bytes(RECENT_BYTES * 2 // 3)
    one, three = Recent(0, most=16), Recent(0, most=16, least=3)
    for height in range(1, 8):
        one.add(height, large)
        three.add(height, large)
    assert (one.first, three.first) == (7, 5)
    assert three.find(5) is large
    one.add(8, b"small")
    assert one.first == 7
