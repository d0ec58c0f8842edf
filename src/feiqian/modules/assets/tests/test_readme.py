"""The README's example, run; its table of messages and list of reasons, compared with the code."""

import re
from pathlib import Path

from feiqian.modules.assets import MODULE, messages
from feiqian.modules.assets.state import REASONS

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_example_runs(bare_world):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {**vars(messages), "world": bare_world})


def test_every_message_and_reason_is_named():
    table = README.partition("## Messages")[2].partition("## At genesis")[0]
    assert re.findall(r"`(assets\.\w+)`", table) == [kind.__struct_config__.tag for kind in MODULE.handlers]
    assert re.findall(r"`([A-Z_]{5,})`", table.partition("Reasons:")[2]) == list(REASONS)
