"""The state tree against a plain recursive definition of its hash, and what each height writes and replaces."""

import hashlib
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feiqian.core.errors import Fault
from feiqian.state import proofs, tree, tree_rows
from feiqian.state.tree import EMPTY_ROOT, MemoryTree, TreeUpdate, root_of


class Nodes(dict[bytes, bytes]):
    """A store of tree rows in memory."""

    def node(self, node_key: bytes, /) -> bytes | None:
        return self.get(node_key)

    def nodes(self, node_keys: list[bytes], /) -> list[bytes | None]:
        return [self.get(node_key) for node_key in node_keys]


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def slow_root(leaves: Iterable[tuple[bytes, bytes]], depth: int = 0) -> bytes:
    """The definition, one recursion a bit: nothing is the placeholder, one leaf is its hash wherever it stands."""
    leaves = list(leaves)
    if not leaves:
        return b"SPARSE_MERKLE_PLACEHOLDER_HASH__"
    if len(leaves) == 1:
        key_hash, value_hash = leaves[0]
        return digest(b"JMT::LeafNode" + key_hash + value_hash)
    sides: tuple[list, list] = ([], [])
    for leaf in leaves:
        sides[leaf[0][depth // 8] >> (7 - depth % 8) & 1].append(leaf)
    return digest(b"JMT::IntrnalNode" + slow_root(sides[0], depth + 1) + slow_root(sides[1], depth + 1))


def reachable(nodes: Nodes, node_key: bytes) -> set[bytes]:
    """Every row that the tree under a root row consists of."""
    row = tree_rows.Row.of(nodes[node_key])
    found = {node_key}
    for digit, height in zip(row.digits, row.heights, strict=True):
        found |= reachable(nodes, height + node_key[8:] + bytes((digit,)))
    return found


# Keys whose first 0, 4, 8, 40, 128 or 250 bits are equal: sparse trees, full ones and long common paths.
def key_hashes() -> st.SearchStrategy[bytes]:
    return st.one_of(
        st.integers(0, 4000).map(lambda number: digest(b"%d" % number)),
        st.sampled_from([4, 8, 40, 128, 250]).flatmap(
            lambda bits: st.integers(0, 2**6 - 1).map(lambda low: (low << (250 - bits)).to_bytes(32, "big"))
        ),
        st.integers(0, 255).map(lambda low: bytes(31) + bytes((low,))),
    )


CHANGES = st.lists(st.tuples(key_hashes(), st.one_of(st.none(), st.integers(0, 3))), max_size=120)


@settings(max_examples=150, deadline=None)
@given(st.lists(CHANGES, min_size=1, max_size=8))
def test_roots_and_rows_over_heights_are_those_of_the_plain_definition(heights: list[list]) -> None:
    """Any inserts, updates and deletes: the root, no row lost, none left over, none written twice, old roots kept."""
    everything, live = Nodes(), Nodes()
    root_key: bytes | None = None
    state: dict[bytes, bytes] = {}
    past: list[tuple[bytes, bytes]] = []
    for height, listed in enumerate(heights, start=1):
        changes = {key: None if value is None else digest(b"value %d" % value) for key, value in listed}
        update = tree.update(live, root_key, height, list(changes.items()))
        before = dict(state)
        state = {key: value for key, value in (state | changes).items() if value is not None}
        assert update.root == slow_root(state.items())
        if root_key is not None and before == state:
            assert update == TreeUpdate(past[-1][1], {}, [], root_key)
        assert list(update.nodes) == sorted(update.nodes)
        assert all(node_key[:8] == height.to_bytes(8, "big") for node_key in update.nodes)
        assert len(set(update.stale)) == len(update.stale)
        for node_key in update.stale:
            del live[node_key]
        live.update(update.nodes)
        everything.update(update.nodes)
        root_key = update.root_key
        assert reachable(live, root_key) == set(live)
        past.append((root_key, update.root))
    for old_key, old_root in past:
        assert tree.update(everything, old_key, 100, []).root == old_root
        assert reachable(everything, old_key) <= set(everything)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.integers(0, 500).map(lambda n: b"key %d" % n), st.binary(min_size=1, max_size=9), max_size=90)
)
def test_a_tree_in_memory_is_the_same_tree(leaves: dict[bytes, bytes]) -> None:
    """`root_of`, `MemoryTree` and `update` from nothing agree, in roots and in proofs."""
    hashed = [(digest(key), digest(value)) for key, value in leaves.items()]
    update = tree.update(Nodes(), None, 1, hashed)
    nodes = Nodes(update.nodes)
    built = MemoryTree(leaves)
    assert root_of(leaves) == built.root == update.root == slow_root(hashed)
    by_hash = {digest(key): (key, value) for key, value in leaves.items()}
    for key in [*list(leaves)[:5], b"absent 1", b"absent 2"] if leaves else []:
        proof = built.prove(key)
        assert proof == tree.prove(nodes, update.root_key, key, leaves.get(key), by_hash.__getitem__)
        if key in leaves:
            proofs.verify_existence(proof, built.root, key, leaves[key])
        else:
            proofs.verify_absence(proof, built.root, key)


def test_hashes_of_the_smallest_trees() -> None:
    """Written out by hand: nothing, one leaf, two leaves that part at the first bit."""
    left, right = bytes(32), b"\xff" * 32
    value = digest(b"v")
    left_leaf, right_leaf = digest(b"JMT::LeafNode" + left + value), digest(b"JMT::LeafNode" + right + value)
    assert tree.update(Nodes(), None, 1, []).root == EMPTY_ROOT == b"SPARSE_MERKLE_PLACEHOLDER_HASH__"
    assert tree.update(Nodes(), None, 1, [(left, value)]).root == left_leaf
    both = tree.update(Nodes(), None, 1, [(right, value), (left, value)])
    assert both.root == digest(b"JMT::IntrnalNode" + left_leaf + right_leaf)


def test_two_leaves_that_part_at_the_last_bit_are_rows_all_the_way_and_fold_back_when_one_goes() -> None:
    """255 equal bits: the longest path there is."""
    one, two = bytes(32), bytes(31) + b"\x01"
    value = digest(b"v")
    first = tree.update(Nodes(), None, 1, [(one, value), (two, value)])
    nodes = Nodes(first.nodes)
    assert first.root == slow_root([(one, value), (two, value)])
    assert max(len(node_key) for node_key in nodes) <= 8 + 64
    second = tree.update(nodes, first.root_key, 2, [(two, None)])
    assert second.root == digest(b"JMT::LeafNode" + one + value)
    assert len(second.nodes) == 1
    assert sorted(second.stale) == sorted(nodes)


def test_a_pair_that_goes_leaves_one_made_in_the_same_height_to_be_hashed() -> None:
    """40 comes beside 00, which makes the row's last pair; then c0 goes, with the pair before it."""
    value = digest(b"v")
    one, two, three, four = (bytes((first,)) + bytes(31) for first in (0x00, 0x40, 0x80, 0xC0))
    first = tree.update(Nodes(), None, 1, [(one, value), (three, value), (four, value)])
    second = tree.update(Nodes(first.nodes), first.root_key, 2, [(two, value), (four, None)])
    assert second.root == slow_root([(one, value), (two, value), (three, value)])


@pytest.mark.parametrize(
    ("height", "leaves", "message"),
    [
        (2, [(bytes(32), None), (bytes(32), bytes(32))], "given once"),
        (2, [(bytes(31), bytes(32))], "once, as its 32-byte hash"),
        (2, [(bytes(32), bytes(33))], "a value must be given as its 32-byte hash"),
        (1, [], "above the height"),
        (0, [], "above the height"),
    ],
)
def test_wrong_input_is_a_fault(height: int, leaves: list, message: str) -> None:
    nodes = Nodes()
    update = tree.update(nodes, None, 1, [(digest(b"a"), digest(b"b"))])
    nodes.update(update.nodes)
    with pytest.raises(Fault, match=message):
        tree.update(nodes, update.root_key, height, leaves)


def test_a_missing_row_is_a_fault() -> None:
    leaves = [(digest(b"%d" % number), digest(b"v")) for number in range(300)]
    update = tree.update(Nodes(), None, 1, leaves)
    nodes = Nodes(update.nodes)
    del nodes[max(nodes)]
    with pytest.raises(Fault, match="missing"):
        tree.update(nodes, update.root_key, 2, [(key, digest(b"w")) for key, _ in leaves])


def _never(_: bytes) -> tuple[bytes, bytes]:
    raise AssertionError("no neighbour is needed")


@pytest.mark.parametrize(
    ("key", "value", "leaf_of", "error", "message"),
    [
        (b"", b"v", _never, ValueError, "empty"),
        (b"a", b"", _never, ValueError, "empty"),
        (b"a", None, _never, Fault, "disagrees"),
        (b"c", b"v", _never, Fault, "disagrees"),
        (b"a", b"other", _never, Fault, "not the hash"),
        (b"c", None, lambda _: (b"a", b"other"), Fault, "not the hash"),
        (b"c", None, lambda _: (b"other", b"v"), Fault, "not the hash"),
    ],
)
def test_nothing_is_proved_that_the_tree_does_not_hold(
    key: bytes, value: bytes | None, leaf_of: Callable, error: type[Exception], message: str
) -> None:
    nodes = Nodes()
    update = tree.update(nodes, None, 1, [(digest(b"a"), digest(b"v"))])
    nodes.update(update.nodes)
    with pytest.raises(error, match=message):
        tree.prove(nodes, update.root_key, key, value, leaf_of)


def test_an_empty_tree_has_no_absence_proof() -> None:
    nodes = Nodes()
    update = tree.update(nodes, None, 1, [])
    nodes.update(update.nodes)
    with pytest.raises(ValueError, match="EMPTY_ROOT"):
        tree.prove(nodes, update.root_key, b"a", None, _never)
    with pytest.raises(ValueError, match="EMPTY_ROOT"):
        MemoryTree({}).prove(b"a")
    for leaves in ({b"": b"v"}, {b"k": b""}):
        with pytest.raises(ValueError, match="empty"):
            root_of(leaves)


def test_past_roots_are_proved_while_their_rows_are_kept_and_not_after() -> None:
    """A key inserted at 2, changed at 3 and deleted at 4, among fifty others that change as well."""
    nodes = Nodes()
    root_key: bytes | None = None
    history: list[tuple[bytes, bytes, dict[bytes, bytes]]] = []
    values: dict[bytes, bytes] = {}
    stale: dict[int, list[bytes]] = {}
    for height in range(1, 6):
        changes: dict[bytes, bytes | None] = {b"other %d" % n: b"%d at %d" % (n, height) for n in range(height, 50, 3)}
        changes[b"key"] = {2: b"two", 3: b"three"}.get(height)
        hashed = [(digest(key), value and digest(value)) for key, value in changes.items()]
        update = tree.update(nodes, root_key, height, hashed)
        nodes.update(update.nodes)
        stale[height] = update.stale
        values = {key: value for key, value in (values | changes).items() if value is not None}
        root_key = update.root_key
        history.append((update.root, root_key, values))

    def proof_at(height: int) -> tuple[bytes, bytes]:
        root, root_key, values = history[height - 1]
        by_hash = {digest(key): (key, value) for key, value in values.items()}
        return root, tree.prove(nodes, root_key, b"key", values.get(b"key"), by_hash.__getitem__)

    for height, value in ((2, b"two"), (3, b"three")):
        root, proof = proof_at(height)
        proofs.verify_existence(proof, root, b"key", value)
    for height in (1, 4, 5):
        root, proof = proof_at(height)
        proofs.verify_absence(proof, root, b"key")

    for height in (2, 3):  # what serves heights 1 and 2 only
        for node_key in stale[height]:
            del nodes[node_key]
    proofs.verify_existence(proof_at(3)[1], history[2][0], b"key", b"three")
    with pytest.raises(Fault, match="missing"):
        proof_at(2)
