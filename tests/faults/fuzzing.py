"""What both fuzzers share: options of libFuzzer, a corpus made anew from real bytes, and the seed, printed."""

import random
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import atheris

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
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        corpus = Path(directory) / "corpus"
        corpus.mkdir()
        for place, data in enumerate(seeds):
            (corpus / f"{place:05}").write_bytes(data)
        artifacts = f"-artifact_prefix={directory}/"
        atheris.Setup(
            [sys.argv[0], "-print_final_stats=1", f"-max_len={MAX_INPUT_BYTES}", artifacts, *options, str(corpus)],
            target,
            custom_mutator=mutate,
        )
        atheris.Fuzz()
