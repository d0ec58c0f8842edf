"""The grammar of CometBFT's calls: it is the published one, and it tells good lives from bad ones."""

import re
import subprocess
from pathlib import Path

import pytest

from feiqian.testing.cometbft import ROOT
from feiqian.testing.grammar import CALLS, RULES, Violation, find_violation

LETTERS = {
    "I": "info",
    "N": "init_chain",
    "O": "offer_snapshot",
    "A": "apply_snapshot_chunk",
    "P": "prepare_proposal",
    "J": "process_proposal",
    "E": "extend_vote",
    "V": "verify_vote_extension",
    "F": "finalize_block",
    "C": "commit",
    "l": "list_snapshots",
    "c": "load_snapshot_chunk",
    "x": "deliver_tx",
}


def calls(text: str) -> list[str]:
    """Return the calls that the letters of a text stand for."""
    return [LETTERS[letter] for letter in text.replace(" ", "")]


def published() -> str:
    """Return the document of the pinned CometBFT."""
    found = subprocess.run(
        ["go", "list", "-m", "-f", "{{.Dir}}", "github.com/cometbft/cometbft"],
        cwd=ROOT / "tests" / "vectors" / "go",
        capture_output=True,
        check=True,
        timeout=300,
    )
    return (Path(found.stdout.decode().strip()) / "spec/abci/abci++_comet_expected_behavior.md").read_text("utf-8")


def test_the_rules_are_those_that_cometbft_publishes() -> None:
    (grammar,) = re.findall(r"^```abnf\n(.*?)^```", published(), re.DOTALL | re.MULTILINE)
    lines = [" ".join(line.split()) for line in grammar.splitlines() if line]
    terminals = {line.split(" = ")[0] for line in lines if "%s" in line}
    assert [line for line in lines if "%s" not in line] == RULES.splitlines()
    assert terminals == set(CALLS.values())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "IN",
        "IN JFC",
        "IN PJFC JFC JFC",
        # Blocks that are told again, or come by sync: no rounds.
        "I FC FC FC PJ",
        "I",
        "I N FC",
        "IJFCJFC",
        # Several rounds: proposals refused or late, no proposal at all, proposed but not judged.
        "I J J J FC",
        "I PJ J P J FC",
        "I P P FC",
        "I PFC",
        # Vote extensions, before and after, at any time of a round.
        "I V V PJ V E V V J E FC",
        "I E FC",
        "I VVVV FC",
        # State sync: attempts that were refused or broke off, then one that held.
        "O O OA OAAA I FC JFC",
        "OA I",
        "OOO",
        # Cut short.
        "INPJF",
        "INP",
        # Snapshots for peers at any time.
        "l I l c N c PJ l FC c",
    ],
)
def test_allowed(text: str) -> None:
    assert find_violation(calls(text)) is None


CONSENSUS = ("prepare_proposal", "process_proposal", "extend_vote", "verify_vote_extension", "finalize_block")


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("N", 0, ("info", "offer_snapshot")),
        ("JFC", 0, ("info", "offer_snapshot")),
        ("INN", 2, CONSENSUS),
        ("INI", 2, CONSENSUS),
        ("INC", 2, CONSENSUS),
        ("IN JFF", 4, ("commit",)),
        ("IN JFJ", 4, ("commit",)),
        ("IN JC", 3, CONSENSUS),
        ("IN FCC", 4, CONSENSUS),
        ("IN FC N", 4, CONSENSUS),
        ("IN FC I", 4, CONSENSUS),
        # Only a process with no ledger at all begins with a snapshot, and only before its first block.
        ("I O", 1, ("init_chain", *CONSENSUS)),
        ("IN A", 2, CONSENSUS),
        ("O I", 1, ("offer_snapshot", "apply_snapshot_chunk")),
        ("A", 0, ("info", "offer_snapshot")),
        ("OA FC", 2, ("info", "offer_snapshot", "apply_snapshot_chunk")),
        ("OA I N", 3, CONSENSUS),
        ("OA I O", 3, CONSENSUS),
        # Listing snapshots counts as a place, and is never in the way.
        ("I l c N l N", 5, CONSENSUS),
        # No call of ABCI 2.0.
        ("IN x", 2, CONSENSUS),
    ],
)
def test_refused(text: str, place: int, expected: tuple[str, ...]) -> None:
    given = calls(text)
    assert find_violation(given) == Violation(place, given[place], expected)


def test_a_long_life_is_read_in_one_go() -> None:
    life = calls("IN" + "VPJVEVJEFC" * 20_000)
    assert find_violation(life) is None
    assert find_violation([*life, "commit"]) == Violation(200_002, "commit", CONSENSUS)
