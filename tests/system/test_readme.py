"""README's console sessions, typed as they stand: each command runs and prints what README says."""

from pathlib import Path

import pytest

from feiqian.testing.consoles import ROOT, play_page


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_the_sessions_run_as_they_stand(tmp_path: Path, name: str) -> None:
    play_page(ROOT / name, tmp_path)
