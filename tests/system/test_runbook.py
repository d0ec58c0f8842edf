"""The runbook's sessions, typed as they stand one after another on the network of four that README makes."""

from pathlib import Path

import pytest

from feiqian.testing.comet_binary import require_cometbft
from feiqian.testing.consoles import ROOT, play_network, sessions

RUNBOOK = ROOT / "docs" / "operators" / "runbook.md"


@pytest.mark.campaign
def test_the_runbook_is_typed_as_it_stands(tmp_path: Path) -> None:
    require_cometbft()
    play_network([ROOT / "README.md", RUNBOOK], tmp_path, FEIQIAN_COMET_SNAPSHOT_BLOCKS="10")


def test_both_languages_type_the_same() -> None:
    english, chinese = (RUNBOOK.with_name(name).read_text("utf-8") for name in ("runbook.md", "runbook.zh.md"))
    assert sessions(english) == sessions(chinese)
    assert len(sessions(english)) == 5
