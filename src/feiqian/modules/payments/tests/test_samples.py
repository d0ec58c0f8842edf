"""The samples in the repository are what their generator writes, and are read as they were meant."""

import json
import subprocess
import sys
from pathlib import Path

from feiqian.modules.payments.edge import pain001
from feiqian.modules.payments.edge.errors import ControlSumMismatch

SAMPLES = Path(__file__).parents[5] / "samples"


def test_the_generator_writes_the_same_bytes(tmp_path):
    subprocess.run([sys.executable, str(SAMPLES / "make_samples.py"), "--to", str(tmp_path)], check=True)
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(written) == 4 + 7 + 2
    for path in written:
        assert (SAMPLES / path).read_bytes() == (tmp_path / path).read_bytes(), path


def test_every_file_is_valid_and_only_one_contradicts_itself():
    versions = set()
    for entry in json.loads((SAMPLES / "expected.json").read_text("utf-8"))["files"]:
        file = pain001.read((SAMPLES / "payments" / entry["file"]).read_bytes())
        assert file.message == entry["message"]
        versions.add(file.message)
        try:
            pain001.check(file)
        except ControlSumMismatch as refusal:
            assert refusal.reason == entry["file_reason"]  # noqa: PT017
        else:
            assert entry["file_reason"] is None
            assert len(file.instructions) == sum(entry["outcomes"].values())
    assert versions == set(pain001.MESSAGES)
