"""The README's example, run; its tables of messages, files and reasons, compared with the code."""

import re
from pathlib import Path

from feiqian.modules.payments import MODULE, messages
from feiqian.modules.payments.edge import camt053, camt054, pain001, pain002
from feiqian.modules.payments.edge.directory import instruction_id

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EDGE = Path(__file__).parents[1] / "edge"


def test_the_example_runs(world):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(compile(example, "README.md", "exec"), {**vars(messages), "world": world, "instruction_id": instruction_id})


def test_every_message_is_in_the_table():
    table = README.partition("## Messages")[2].partition("## What is private")[0]
    listed = re.findall(r"^\| `(payments\.\w+)`", table, re.MULTILINE)
    assert listed == [type_.__struct_config__.tag for type_ in MODULE.handlers]


def test_every_file_format_is_in_the_table():
    for message in (*pain001.MESSAGES, camt053.MESSAGE, camt054.MESSAGE):
        assert message.rpartition(".")[2] in README
    assert pain002.version_for("pain.001.001.03") == "pain.002.001.03"
    assert pain002.version_for("pain.001.001.09") == "pain.002.001.12"


def test_every_reason_that_the_edge_gives_is_in_the_table():
    sources = "".join(path.read_text("utf-8") for path in EDGE.glob("*.py") if path.name != "reasons.py")
    given = set(re.findall(r'"((?:AC|AG|AM|BE|DS|DT|DU|ED|FF|RR)[0-9][0-9A-Z]|AGNT)"', sources))
    table = README.partition("| reason | when |")[2].partition("## Commands")[0]
    missing = sorted(code for code in given if code not in table)
    assert missing == []
