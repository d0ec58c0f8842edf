"""README's console sessions, typed as they stand: each command runs and prints what README says."""

from pathlib import Path

import pytest

from feiqian.testing.comet_binary import require_cometbft
from feiqian.testing.consoles import ROOT, play_network, play_page


@pytest.mark.parametrize("name", ["README.md", "README.zh.md"])
def test_the_sessions_run_as_they_stand(tmp_path: Path, name: str) -> None:
    play_page(ROOT / name, tmp_path)


@pytest.mark.slow
def test_the_network_of_four_runs_as_it_stands(tmp_path: Path) -> None:
    # The Chinese page shows the same sessions, as test_docs holds.
    require_cometbft()
    play_network([ROOT / "README.md"], tmp_path)
