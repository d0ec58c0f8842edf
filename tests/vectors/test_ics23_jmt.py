"""The state tree against the public Rust crates: roots and proofs of `jmt`, verdicts of `ics23`.

The program in `rust/` is built here by cargo, from its lock file, into `.build/`.
"""

import hashlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from feiqian.state import proofs, tree
from feiqian.state.proofs import Absence, Existence, InvalidProof, Step

ROOT = Path(__file__).resolve().parents[2]
CRATE = Path(__file__).parent / "rust"
TARGET = ROOT / ".build" / "tree-check"
HEIGHTS = 8


@pytest.fixture(scope="module")
def program() -> Path:
    """Build the Rust program; a machine without cargo fails here."""
    subprocess.run(
        ["cargo", "build", "--quiet", "--locked", "--manifest-path", CRATE / "Cargo.toml", "--target-dir", TARGET],
        check=True,
        timeout=900,
        env=toolchain(os.environ),
    )
    return TARGET / "debug" / "tree-check"


def toolchain(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with rustup's home beside the cargo on PATH, where HOME does not lead to it."""
    cargo = shutil.which("cargo")
    assert cargo, "this test needs cargo; install Rust"
    home = Path(cargo).parents[2] / ".rustup"
    return ({"RUSTUP_HOME": str(home)} if home.is_dir() else {}) | dict(environment)


def ask(program: Path, questions: list[str]) -> list[str]:
    """Return the program's answers, one a question."""
    done = subprocess.run(
        [program], input="\n".join(questions), text=True, capture_output=True, check=True, timeout=300
    )
    answers = done.stdout.splitlines()
    assert len(answers) == len(questions)
    return answers


class Nodes(dict[bytes, bytes]):
    """A store of tree rows in memory."""

    def node(self, node_key: bytes, /) -> bytes | None:
        return self.get(node_key)

    def nodes(self, node_keys: list[bytes], /) -> list[bytes | None]:
        return [self.get(node_key) for node_key in node_keys]


class Height(NamedTuple):
    root: bytes
    root_key: bytes
    values: dict[bytes, bytes]


class History(NamedTuple):
    """Random changes over several heights, what our tree made of them, and the same for the crate."""

    nodes: Nodes
    heights: list[Height]
    questions: list[str]


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def random_history(seed: int, *, pool: int, changes: int, delete_percent: int) -> History:
    source = random.Random(seed)
    nodes, heights, questions = Nodes(), [], ["tree"]
    values: dict[bytes, bytes] = {}
    root_key = None
    for height in range(1, HEIGHTS + 1):
        block: dict[bytes, bytes | None] = {}
        for _ in range(source.randint(1, changes)):
            is_deleted = source.randrange(100) < delete_percent and height > 1
            block[b"key %d" % source.randrange(pool)] = None if is_deleted else source.randbytes(source.randint(1, 60))
        update = tree.update(
            nodes, root_key, height, [(digest(key), value and digest(value)) for key, value in block.items()]
        )
        nodes.update(update.nodes)
        values = {key: value for key, value in (values | block).items() if value is not None}
        root_key = update.root_key
        heights.append(Height(update.root, update.root_key, values))
        questions.append("put " + " ".join(f"{key.hex()}={(value or b'').hex()}" for key, value in block.items()))
    return History(nodes, heights, questions)


HISTORIES = [
    random_history(seed, pool=pool, changes=changes, delete_percent=delete_percent)
    for seed, (pool, changes, delete_percent) in enumerate(
        [(6, 4, 50)] * 25 + [(40, 20, 40)] * 25 + [(300, 120, 30)] * 10 + [(300, 120, 90)] * 10 + [(3000, 900, 10)] * 2
    )
]


def test_roots_are_those_of_the_crate_over_inserts_updates_and_deletes(program: Path) -> None:
    """Every root of every history, and the same set built at once by `root_of`."""
    for history in HISTORIES:
        answers = ask(program, history.questions)
        assert [height.root.hex() for height in history.heights] == answers[1:]
        for height in history.heights:
            assert tree.root_of(height.values) == height.root


def prove(history: History, height: Height, key: bytes) -> bytes:
    by_hash = {digest(held): (held, value) for held, value in height.values.items()}
    return tree.prove(history.nodes, height.root_key, key, height.values.get(key), by_hash.__getitem__)


def asked_keys(history: History, height: Height) -> list[bytes]:
    source = random.Random(len(height.values))
    known = sorted(set().union(*(each.values for each in history.heights)))
    return source.sample(known, min(5, len(known))) + [source.randbytes(4) for _ in range(4)]


def test_proofs_at_every_height_are_the_bytes_of_the_crate_and_accepted(program: Path) -> None:
    """Present, deleted and never seen keys; our verifier and `ics23` accept each."""
    for history in HISTORIES:
        questions, expected = list(history.questions), ["ok", *(height.root.hex() for height in history.heights)]
        for number, height in enumerate(history.heights):
            for key in asked_keys(history, height) if height.values else []:
                proof, value, root = prove(history, height, key), height.values.get(key), height.root.hex()
                questions.append(f"prove {number} {key.hex()}")
                if value is None:
                    proofs.verify_absence(proof, height.root, key)
                    questions.append(f"absent {root} {key.hex()} {proof.hex()}")
                else:
                    proofs.verify_existence(proof, height.root, key, value)
                    questions.append(f"exist {root} {key.hex()} {value.hex()} {proof.hex()}")
                expected += [f"{'-' if value is None else value.hex()} {proof.hex()}", "yes"]
        assert ask(program, questions) == expected


def flipped(data: bytes, source: random.Random) -> bytes:
    place = source.randrange(len(data))
    return data[:place] + bytes((data[place] ^ 1 << source.randrange(8),)) + data[place + 1 :]


def tampered_existences(proof: Existence, source: random.Random) -> Iterator[Existence]:
    """Yield the proof with each field changed in turn, a step lost, doubled, moved or turned round."""
    yield proof._replace(key=flipped(proof.key, source))
    yield proof._replace(value=flipped(proof.value, source))
    path = proof.path
    for place, step in enumerate(path):
        yield proof._replace(
            path=(*path[:place], step._replace(sibling=flipped(step.sibling, source)), *path[place + 1 :])
        )
        yield proof._replace(path=(*path[:place], Step(step.sibling, not step.is_right), *path[place + 1 :]))
        yield proof._replace(path=path[:place] + path[place + 1 :])
        yield proof._replace(path=(*path[:place], step, *path[place:]))
        if place and path[place - 1] != step:
            yield proof._replace(path=(*path[: place - 1], step, path[place - 1], *path[place + 1 :]))


def tampered_absences(proof: Absence, source: random.Random) -> Iterator[Absence]:
    """Yield the proof with either neighbour changed in turn, lost or both swapped."""
    for left in tampered_existences(proof.left, source) if proof.left else ():
        yield proof._replace(left=left)
    for right in tampered_existences(proof.right, source) if proof.right else ():
        yield proof._replace(right=right)
    if proof.left is not None and proof.right is not None:
        yield proof._replace(left=None)
        yield proof._replace(right=None)
        yield proof._replace(left=proof.right, right=proof.left)
        yield proof._replace(left=proof.left, right=proof.left)
        yield proof._replace(left=proof.right, right=proof.right)
    else:
        yield proof._replace(left=proof.right, right=proof.left)


def test_every_tampered_proof_is_refused_by_us_and_by_the_crate(program: Path) -> None:
    """Fields changed and encoded again, wrong key, wrong value, wrong root."""
    source = random.Random(7)
    questions = []
    for history in HISTORIES[::3]:
        height = history.heights[-1]
        for key in asked_keys(history, height)[::2] if height.values else []:
            proof, value = proofs.decode(prove(history, height, key)), height.values.get(key)
            if isinstance(proof, Existence):
                assert value is not None
                cases = [(height.root, key, value, each) for each in tampered_existences(proof, source)]
                cases.append((height.root, key + b"x", value, proof))
                cases.append((height.root, key, flipped(value, source), proof))
                cases.append((flipped(height.root, source), key, value, proof))
                for root, asked, shown, each in cases:
                    data = proofs.encode(each)
                    with pytest.raises(InvalidProof):
                        proofs.verify_existence(data, root, asked, shown)
                    questions.append(f"exist {root.hex()} {asked.hex()} {shown.hex()} {data.hex()}")
            else:
                absences = [(height.root, key, each) for each in tampered_absences(proof, source)]
                absences.append((flipped(height.root, source), key, proof))
                absences += [(height.root, held, proof) for held in list(height.values)[:3]]
                for root, asked, each in absences:
                    data = proofs.encode(each)
                    with pytest.raises(InvalidProof):
                        proofs.verify_absence(data, root, asked)
                    questions.append(f"absent {root.hex()} {asked.hex()} {data.hex()}")
    assert len(questions) > 2000
    assert set(ask(program, questions)) == {"no"}


def test_an_absence_shown_by_neighbours_that_are_not_adjacent_is_refused_by_us_and_by_the_crate(program: Path) -> None:
    """A held key "proved" absent by valid existence proofs of leaves further to its left and right."""
    questions = []
    for history in HISTORIES[25:60]:
        height = history.heights[-1]
        held = sorted(height.values, key=digest)
        shown = {key: proofs.decode(prove(history, height, key)) for key in held[:12]}
        ordered = list(shown)
        for place in range(1, len(ordered) - 1):
            left, right = shown[ordered[place - 1]], shown[ordered[place + 1]]
            assert isinstance(left, Existence)
            assert isinstance(right, Existence)
            for near in ((left, right), (left, None), (None, right)):
                data = proofs.encode(Absence(ordered[place], *near))
                with pytest.raises(InvalidProof):
                    proofs.verify_absence(data, height.root, ordered[place])
                questions.append(f"absent {height.root.hex()} {ordered[place].hex()} {data.hex()}")
    assert len(questions) > 500
    assert set(ask(program, questions)) == {"no"}
