"""Fuzzes the reader of payment files: pain.001.001.03, .09 and .11.

`python tests/faults/fuzz_xml.py -max_total_time=300 [-seed=N]`. Only `FileRefused`, with a permanent number, may come
out; what is read must hold together.
"""

import random
import re
from pathlib import Path

import atheris
from fuzzing import check_refusal, fuzz

with atheris.instrument_imports(include=["feiqian.modules.payments.edge"]):  # pyright: ignore[reportAttributeAccessIssue]
    from feiqian.modules.payments.edge import pain001
    from feiqian.modules.payments.edge.errors import FileRefused

SAMPLES = Path(__file__).resolve().parent.parent.parent / "samples" / "payments"
TOKEN = re.compile(rb"<[^>]*>|[^<]+")
MAX_SEED_PAYMENTS = 2

ODD = (
    *(b"", b"&amp;", b"&lol;", b"&#0;", b"&#x110000;", b"\xff\xfe", b"\xc0\x80", b"<![CDATA[x]]>", b"<!-- x -->"),
    *(
        b"<?xml version='1.0' encoding='UTF-16'?>",
        b"<!DOCTYPE a [<!ENTITY lol SYSTEM 'file:///etc/passwd'>]>",
        b"<?x y?>",
    ),
    *(b"<a>" * 40, b"</Document>", b"<Document xmlns='urn:x'>", b" ", b"0", b"-1", b"1e9", b"NaN", b"0.001", b"9" * 30),
    *(b"INF", b"2026-13-45", b"NOTPROVIDED", "\u00e9\u4e2d\U0001f600".encode(), b"A" * 3_000, b"EUR", b"XXX"),
)


def main(data: bytes) -> None:
    """Feed one file."""
    try:
        file = pain001.read(data)
        instructions = file.instructions
        pain001.check(file)
        assert file.count == len(instructions)
    except FileRefused as refusal:
        check_refusal(refusal, 2_000)


def seeds() -> list[bytes]:
    """Return the sample files, each cut to its first payments so that they are quick to read, in three versions."""
    found: list[bytes] = []
    for path in sorted(SAMPLES.glob("*.xml")):
        data = path.read_bytes()
        parts = re.split(rb"(?=<CdtTrfTxInf>)", data)
        tail = parts[-1].partition(b"</CdtTrfTxInf>")[2]
        short = b"".join(parts[: 1 + MAX_SEED_PAYMENTS - 1]) + parts[-1].partition(b"</CdtTrfTxInf>")[0]
        short += b"</CdtTrfTxInf>" + tail
        for version in (b"001.03", b"001.09", b"001.11"):
            found.append(re.sub(rb"pain\.001\.001\.\d\d", b"pain.001." + version, short))
    return found


SEEDS = seeds()
TOKENS = [TOKEN.findall(data) for data in SEEDS]


def vary(source: random.Random) -> bytes:
    """Return a sample with a few tags or texts replaced, doubled, moved or left out, or a few bytes changed."""
    tokens = list(source.choice(TOKENS))
    for _ in range(source.randint(1, 4)):
        place = source.randrange(len(tokens))
        kind = source.randrange(5)
        if kind == 0:
            tokens[place] = source.choice(ODD)
        elif kind == 1:
            tokens.insert(place, source.choice(ODD))
        elif kind == 2:
            del tokens[place]
        elif kind == 3:
            tokens.insert(place, source.choice(tokens))
        else:
            token = bytearray(tokens[place])
            token[source.randrange(len(token)) if token else 0 :] = bytes([source.randrange(256)])
            tokens[place] = bytes(token)
        tokens = tokens or [b"<a/>"]
    return b"".join(tokens)


if __name__ == "__main__":
    assert SEEDS, "the sample files are the corpus"
    fuzz(main, SEEDS, vary)
