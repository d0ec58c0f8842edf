"""The documents against the code: links, commands, settings, figures, faults, errors, files; sessions as they stand."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import httpx
import msgspec
import pytest

from feiqian.api.main import fit_to_descriptors
from feiqian.api.settings import GatewaySettings
from feiqian.cli.main import build_app
from feiqian.node.comet.configuration import CometSettings
from feiqian.node.configuration import Layout, NodeSettings
from feiqian.testing.consoles import ROOT, play_page, sessions

SOURCE = ROOT / "src" / "feiqian"
MEMBERS = ROOT / "docs" / "members"
OPERATORS = ROOT / "docs" / "operators" / "README.md"
DEVELOPERS = ROOT / "docs" / "developers" / "README.md"

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^ *```\w*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
COMMAND = re.compile(r"(?:^|[ (]|\$\()feiqian((?: [^|;&)>]*)?)")
OPTION = re.compile(r"(?<=\s)--[a-z][a-z-]*")
WORD = re.compile(r"[a-z][a-z-]*")


@cache
def documents() -> tuple[Path, ...]:
    """Return every Markdown file that is, or is about to be, part of the tree."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    return tuple(ROOT / name.decode() for name in listed.split(b"\x00") if name and (ROOT / name.decode()).is_file())


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code_of(text: str) -> Iterator[str]:
    """Yield each line of code that a page shows, those of a command continued with a backslash joined."""
    for block in FENCE.findall(text):
        yield from re.sub(r"\\\n> ?", "", block).splitlines()
    yield from CODE.findall(FENCE.sub("", text))


def table_after(text: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table after a line that starts with `heading`, without its head."""
    lines = text[text.index(f"\n{heading}") :].splitlines()[2:]
    start = next(place for place, line in enumerate(lines) if line.startswith("|"))
    rows: list[list[str]] = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return [[cell.strip("| ").strip() for cell in row] for row in rows[2:]]


@pytest.mark.parametrize("path", documents(), ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    text = CODE.sub("", FENCE.sub("", path.read_text("utf-8")))
    targets = [link for link in LINK.findall(text) if not re.match(r"[a-z]+:|#", link)]
    assert [link for link in targets if not (path.parent / link.partition("#")[0]).exists()] == []


@cache
def help_of(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "feiqian.cli.main", *command, "--help"], capture_output=True, text=True, check=True
    )
    return done.stdout


@cache
def commands() -> dict[str, frozenset[str]]:
    """Return each command that `feiqian --help` lists with its own commands, none where it has none."""
    app = build_app()
    listed = {name for name in app if not name.startswith("-")}
    assert all(name in help_of() for name in listed)
    return {name: frozenset(inner for inner in app[name] if not inner.startswith("-")) for name in listed}


@pytest.mark.parametrize("path", documents(), ids=name_of)
def test_no_page_names_a_command_or_option_that_there_is_not(path: Path) -> None:
    wrong: list[str] = []
    for line in code_of(path.read_text("utf-8")):
        for said in COMMAND.findall(line.removeprefix("$ ")):
            words = said.split()
            if not words or not WORD.fullmatch(words[0]):
                continue
            known = commands().get(words[0])
            if known is None or (known and len(words) > 1 and WORD.fullmatch(words[1]) and words[1] not in known):
                wrong.append(line)
                continue
            command = words[:2] if known and len(words) > 1 and words[1] in known else words[:1]
            shown = help_of(*command)
            wrong += [f"{option} in {line}" for option in OPTION.findall(f" {said}") if option not in shown]
    assert wrong == []


@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "README.zh.md", DEVELOPERS, OPERATORS], ids=name_of)
def test_make_targets_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {line.split()[1] for line in code_of(path.read_text("utf-8")) if line.startswith("make ")}
    assert named <= targets


@pytest.mark.slow
def test_the_members_page_is_typed_as_it_stands(tmp_path: Path) -> None:
    # The Chinese page shows the same sessions, as a test below holds.
    play_page(MEMBERS / "README.md", tmp_path)


@pytest.mark.slow
def test_the_operators_page_is_typed_as_it_stands(tmp_path: Path) -> None:
    play_page(OPERATORS, tmp_path, after_stop=4)


@pytest.mark.parametrize("folder", [ROOT, MEMBERS], ids=name_of)
def test_both_languages_show_the_same(folder: Path) -> None:
    english, chinese = ((folder / name).read_text("utf-8") for name in ("README.md", "README.zh.md"))
    assert sessions(english) == sessions(chinese)
    assert len(re.findall("^## ", english, re.MULTILINE)) == len(re.findall("^## ", chinese, re.MULTILINE))


def described(kind: Any) -> str:
    """Return what a setting accepts, in the page's words."""
    if get_origin(kind) is Literal:
        return ", ".join(f'`"{value}"`' for value in get_args(kind))
    if kind is bool:
        return "true, false"
    if kind is str:
        return "any text"
    limits = get_args(kind)[1]
    if limits.ge is None:
        return "`tcp://HOST:PORT`" if "tcp://" in limits.pattern else "any text"
    return f"{limits.ge} to {limits.le}"


def default_of(value: Any) -> str:
    if isinstance(value, str):
        return f'`"{value}"`'
    return str(value).lower()


@pytest.mark.parametrize(
    ("page", "heading", "settings"),
    [
        (OPERATORS, "### [node]", NodeSettings),
        (OPERATORS, "### [gateway]", GatewaySettings),
        (OPERATORS.with_name("network.md"), "## Settings: [comet]", CometSettings),
        (OPERATORS.with_name("network.zh.md"), "## 设置：[comet]", CometSettings),
    ],
    ids=["node", "gateway", "comet", "comet in Chinese"],
)
def test_every_setting_is_listed_with_default_and_range(
    page: Path, heading: str, settings: type[msgspec.Struct]
) -> None:
    fields = [
        [f"`{field.name}`", default_of(field.default), described(field.type)]
        for field in msgspec.structs.fields(settings)
    ]
    assert [row[:3] for row in table_after(page.read_text("utf-8"), heading)] == fields


def logged_events() -> dict[str, set[str]]:
    """Return what the code logs, by the event's name with its levels."""
    events: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        if "tests" in path.parts or "testing" in path.parts or "structlog" not in path.read_text("utf-8"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            texts = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            if texts and ast.unparse(node.func.value) in ("log", "structlog.get_logger()"):
                # `log` takes its level as an argument: it passes on what has passed the threshold of a library's.
                level = "warning" if node.func.attr == "log" else node.func.attr
                events.setdefault(texts[0], set()).add(level)
    return events


def test_every_event_of_the_log_has_one_form_and_is_listed_with_its_level() -> None:
    events = logged_events()
    assert [name for name in events if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)] == []
    rows = table_after(OPERATORS.read_text("utf-8"), "## Logs")
    assert {row[0].strip("`"): {row[1]} for row in rows} == events


def test_the_limit_of_open_files_that_the_page_names_is_the_least_that_does() -> None:
    found = re.search(r"`ulimit -Hn`\) of ([\d,]+)", OPERATORS.read_text("utf-8"))
    assert found is not None
    limit = int(found[1].replace(",", ""))
    assert fit_to_descriptors(GatewaySettings(), limit) == GatewaySettings()
    assert fit_to_descriptors(GatewaySettings(), limit - 1) != GatewaySettings()


def test_every_figure_is_listed_with_its_labels(running) -> None:
    running.client().submit([running.sample.issue("south", 1)], wait="provable")
    httpx.get(f"{running.address}/ready", trust_env=False)
    text = httpx.get(f"{running.address}/metrics", trust_env=False).text
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    labels: dict[str, set[str]] = {name: set() for name in kinds}
    for sample, inside in re.findall(r"^(\w+)\{(.*)\} ", text, re.MULTILINE):
        name = sample if sample in kinds else sample.rpartition("_")[0]
        labels[name] |= set(re.findall(r"(\w+)=\"", inside)) - {"le"}
    rows = table_after(OPERATORS.read_text("utf-8"), "## Health")
    listed = {row[0].strip("`"): {label for label in row[1].split(", ") if label} for row in rows}
    assert listed.keys() == kinds.keys()
    # A figure that nothing has been counted in yet shows no labels.
    assert {name: found for name, found in labels.items() if found and found != listed[name]} == {}


def test_the_directory_is_as_the_page_says(running) -> None:
    listed = {name for row in table_after(OPERATORS.read_text("utf-8"), "## The directory") for name in
              CODE.findall(row[0])}  # fmt: skip
    layout = Layout(running.directory)
    top = {path.name for path in layout.directory.iterdir() if path != layout.data}
    below = {f"data/{path.name}" + "/" * path.is_dir() for path in layout.data.iterdir()}
    # SQLite's logs come and go beside their databases.
    assert {name for name in top | below if not name.endswith(("-wal", "-shm"))} == listed


FAULTS = ("Fault", "WrongRelease")


def fault_texts() -> list[str]:
    """Return what every Fault in the code says, with `{…}` where a value stands."""
    texts: list[str] = []
    for path in SOURCE.rglob("*.py"):
        if "tests" in path.parts or "testing" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FAULTS and node.args:
                said = node.args[0]
                parts = said.values if isinstance(said, ast.JoinedStr) else [said]
                texts.append("".join(str(part.value) if isinstance(part, ast.Constant) else "{…}" for part in parts))
    return texts


def test_the_faults_that_the_page_explains_are_those_of_the_code() -> None:
    texts = fault_texts()
    rows = table_after(OPERATORS.read_text("utf-8"), "## Faults")
    explained = [words for row in rows for words in CODE.findall(row[0])]
    assert len(texts) > 40
    assert [words for words in explained if not any(words in text for text in texts)] == []


def test_the_table_of_errors_is_current(tmp_path: Path) -> None:
    tool = ROOT / "tools" / "errors_table.py"
    subprocess.run([sys.executable, str(tool), "--to", str(tmp_path / "errors.md")], check=True)
    current = (ROOT / "docs" / "developers" / "errors.md").read_text("utf-8")
    assert current == (tmp_path / "errors.md").read_text("utf-8"), "run `python tools/errors_table.py`"


def test_the_developers_page_names_files_that_there_are() -> None:
    named = {said for said in CODE.findall(DEVELOPERS.read_text("utf-8")) if re.fullmatch(r"[\w/]+/[\w.]+\.\w+", said)}
    places = (SOURCE, ROOT)
    # What a module may hold is named by pattern there, and `notes` is the page's own example.
    missing = {name for name in named if not any((place / name).exists() for place in places)}
    assert {name for name in missing if not name.startswith(("notes/", "edge/"))} == set()


ROOMS = sorted(
    path.parent for path in SOURCE.glob("*/__init__.py") if path.parent.name not in ("modules", "testing", "console")
)


@pytest.mark.parametrize("room", ROOMS, ids=name_of)
def test_each_room_says_what_it_is_for_and_names_its_files(room: Path) -> None:
    text = (room / "README.md").read_text("utf-8")
    if "| read | for |" not in text:
        return
    listed = re.findall(r"`([\w/]+(?:\.py|/))`", "\n".join(line for line in text.splitlines() if line[:3] == "| `"))
    files = {path.name for path in room.glob("*.py") if not path.name.startswith("__")}
    assert sorted(name for name in listed if name.endswith(".py")) == sorted(files), "each file once, in reading order"
    assert all((room / name).is_dir() for name in listed if name.endswith("/"))


def test_the_developers_page_lists_every_room() -> None:
    listed = [re.sub(r"\[(\w+)\].*", r"\1", row[0]) for row in table_after(DEVELOPERS.read_text("utf-8"), "## Rooms")]
    rooms = {path.parent.name for path in SOURCE.glob("*/__init__.py")} - {"testing"}
    assert sorted(listed) == sorted(rooms)


USE_NOTES = """
from feiqian.execution.registry import discover
from feiqian.modules.notes.errors import NoteEmpty
from feiqian.modules.notes.events import Written
from feiqian.modules.notes.messages import Write
from feiqian.modules.notes.state import NOTES, Note
from feiqian.testing import TIME_MS, Bench, key_of

registry = discover()
assert registry.message_types["notes.Write"] is Write
assert registry.tables["notes.notes"] is NOTES
assert registry.errors[("notes", 1)] is NoteEmpty
assert registry.event_types["notes.Written"] is Written
bench = Bench(registry.handlers)
bench.member("shop", "company")
till = bench.account("shop", "till")
assert bench.run(Write(till, "closed on Sundays"), by=[key_of("till")], sponsor="shop") == [
    Written(till, "closed on Sundays")
]
assert NOTES.get(bench.state, till) == Note("closed on Sundays", TIME_MS)
try:
    bench.run(Write(till, ""), by=[key_of("till")], sponsor="shop")
except NoteEmpty:
    print("refused by its rule")
"""


def test_the_module_on_the_developers_page_is_found_with_no_list_edited(tmp_path: Path) -> None:
    shutil.copytree(SOURCE, tmp_path / "feiqian", ignore=shutil.ignore_patterns("tests", "__pycache__"))
    written = re.findall(
        r"^`notes/(\S+)`\n```python\n(.*?)^```$", DEVELOPERS.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    assert len(written) == 7
    for name, content in written:
        path = tmp_path / "feiqian" / "modules" / "notes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, "utf-8")

    def run(*arguments: str) -> str:
        environment = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            [sys.executable, *arguments], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert run("-c", USE_NOTES) == "refused by its rule\n"
    assert run("-m", "feiqian.cli.main", "notes", "longest") == "140\n"
    assert "notes" in run("-m", "feiqian.cli.main", "--help")
