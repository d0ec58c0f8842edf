"""The README's example, run; its lists of messages and actions, compared with the code."""

import re
from pathlib import Path
from typing import get_args

from feiqian.modules.governance import MODULE, messages

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_example_runs(world, policy, salt):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {**vars(messages), "world": world, "policy": policy, "salt": salt})


def test_every_message_and_action_is_named():
    section = README.partition("## Messages")[2].partition("## At genesis")[0]
    assert re.findall(r"`(governance\.\w+)`", section) == [kind.__struct_config__.tag for kind in MODULE.handlers]
    actions = [action.__name__ for action in get_args(messages.Action)]
    assert re.findall(r"`(\w+)`", section.partition("Actions:")[2]) == actions
