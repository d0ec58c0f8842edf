"""What both fuzzers share: options of libFuzzer, a corpus made anew from real bytes, and the seed, printed."""

import random
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import atheris

from feiqian.core.errors import InvalidTransaction

BUILD = Path(__file__).resolve().parent.parent.parent / ".build" / "fuzz"
MAX_INPUT_BYTES = 200_000

Vary = Callable[[random.Random], bytes]
"""Makes an input out of a true one; half of the inputs come from it, half are mutations of the corpus."""


def fuzz(target: Callable[[bytes], None], seeds: Iterable[bytes], vary: Vary) -> None:
    """Run libFuzzer on `target` with the command line's options (`-max_total_time=300`, `-seed=…`); never returns.

    What escapes from `target` is a finding: libFuzzer prints it and ends with a status that is not 0.
    """

    def mutate(data: bytes, max_bytes: int, seed: int) -> bytes:
        source = random.Random(seed)
        return vary(source)[:max_bytes] if source.random() < 0.5 else atheris.Mutate(data, max_bytes)

    options = sys.argv[1:]
    if not any(option.startswith("-seed=") for option in options):
        options = [*options, f"-seed={random.SystemRandom().randrange(1, 2**32)}"]
    print("fuzzing with", *options, flush=True)
    # libFuzzer ends the process by itself: the corpus lies where the next run finds and replaces it, crashes beside it.
    directory = BUILD / Path(sys.argv[0]).stem
    shutil.rmtree(directory, ignore_errors=True)
    corpus = directory / "corpus"
    corpus.mkdir(parents=True)
    for place, data in enumerate(seeds):
        (corpus / f"{place:05}").write_bytes(data)
    fixed = ["-print_final_stats=1", f"-max_len={MAX_INPUT_BYTES}", f"-artifact_prefix={directory}/"]
    atheris.Setup([sys.argv[0], *fixed, *options, str(corpus)], target, custom_mutator=mutate)
    atheris.Fuzz()


def check_refusal(refusal: InvalidTransaction, longest: int) -> None:
    """A refusal has a codespace and a permanent number, and does not echo what was sent at length."""
    assert refusal.codespace, f"{type(refusal).__name__} without a codespace"
    assert refusal.number, f"{type(refusal).__name__} without a number"
    assert len(refusal.message) < longest, f"{type(refusal).__name__} says too much"
