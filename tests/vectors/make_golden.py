"""Records the golden blocks: `python tests/vectors/make_golden.py`. Done once; a released recording never changes.

The transactions are the stories in `modules/<name>/tests/simulation.py`. While they are told, the plain model predicts
each result, each record of state and with it each root, by the recursive definition of the tree; nothing is recorded
that it does not agree with. `--again` writes over a recording, which is right only as long as no ledger runs by it.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from golden_run import RECORDING, run

from feiqian.testing.simulation import consortium, reference
from feiqian.testing.simulation.book import Book
from feiqian.testing.simulation.world import genesis_state, registry


def main() -> int:
    """Write the recording; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--again", action="store_true", help="write over the present recording")
    options = parser.parse_args()
    if RECORDING.exists() and not options.again:
        print(f"{RECORDING.name} is recorded already; golden blocks do not change", file=sys.stderr)
        return 2
    book = Book()
    book.tell()
    recording = {
        "about": "Golden blocks: inputs, and what they must do for ever. Made by tests/vectors/make_golden.py.",
        "genesis": genesis_state(),
        "genesis_time_ms": consortium.GENESIS_MS,
        "blocks": [
            {
                "height": page.height,
                "time_ms": page.time_ms,
                "transactions": [signed.hex() for signed in page.transactions],
            }
            for page in book.pages
        ],
    }
    with tempfile.TemporaryDirectory() as directory:
        recording["expected"] = run(recording, Path(directory))
    check(book, recording["expected"])
    RECORDING.parent.mkdir(exist_ok=True)
    RECORDING.write_text(json.dumps(recording, indent=1) + "\n", encoding="utf-8")
    print(f"{len(book.pages)} blocks, {sum(len(page.transactions) for page in book.pages)} transactions")
    return 0


def check(book: Book, expected: dict) -> None:
    """Refuse to record what the model did not compute as well: every root, the last one anew, and every balance."""
    assert expected["genesis_app_hash"] == book.genesis_app_hash.hex()
    assert [block["app_hash"] for block in expected["blocks"]] == [page.app_hash.hex() for page in book.pages]
    plain = [name for name, table in registry().tables.items() if table.is_plain]
    last = reference.state_root(book.world.expected_records(), plain)
    assert expected["blocks"][-1]["app_hash"] == last.hex()
    model = {
        (account + asset.encode()).hex(): [facts.posted, facts.held]
        for (account, asset), facts in book.world.model.balances.items()
    }
    assert expected["balances"] == model


if __name__ == "__main__":
    sys.exit(main())
