"""The rules of style and determinism that a reader should not have to check by hand."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "feiqian"
MAX_FUNCTION_LINES = 70
FORBIDDEN_FILE_NAMES = {"utils.py", "helpers.py", "common.py", "misc.py"}
RECORD_ROOTS = {"Record", "Message", "Event", "Trigger"}


def is_test(path: Path) -> bool:
    return "tests" in path.parts or "testing" in path.parts


def source_files() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if not is_test(path))


def consensus_files() -> list[Path]:
    rooms = [SOURCE / room for room in ("core", "ledger", "execution")]
    rules = [path for path in (SOURCE / "modules").rglob("*.py") if "edge" not in path.parts]
    state = [SOURCE / "state" / name for name in ("tables.py", "tree.py", "tree_rows.py", "proofs.py")]
    rooms_files = [path for room in rooms for path in room.rglob("*.py")]
    return sorted(path for path in [*rooms_files, *rules, *state] if not is_test(path))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@pytest.mark.parametrize("path", source_files(), ids=name_of)
def test_file_says_what_it_is_for(path: Path) -> None:
    tree = parse(path)
    assert not tree.body or ast.get_docstring(tree), "a file opens with one sentence saying what it is for"
    assert path.name not in FORBIDDEN_FILE_NAMES


@pytest.mark.parametrize("path", source_files(), ids=name_of)
def test_functions_fit_a_screen(path: Path) -> None:
    long = [
        f"{node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for node in ast.walk(parse(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert not long, f"functions past {MAX_FUNCTION_LINES} lines are two functions"


@pytest.mark.parametrize("path", source_files(), ids=name_of)
def test_public_names_are_described(path: Path) -> None:
    if path.name.startswith("_") and path.name != "__init__.py":
        return
    missing = [
        node.name
        for node in parse(path).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not missing, "public functions and classes have a docstring"


@pytest.mark.parametrize("path", consensus_files(), ids=name_of)
def test_consensus_code_is_deterministic(path: Path) -> None:
    assert not list(nondeterminism(parse(path)))


def nondeterminism(tree: ast.Module) -> Iterator[str]:
    """Yield what could differ between two machines, with its line."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            yield f"{line}: float literal {node.value}"
        if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            yield f"{line}: division with /; use divmod with a named rounding rule"
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("hash", "round", "float", "id")
        ):
            yield f"{line}: {node.func.id}()"
        if isinstance(node, ast.For | ast.comprehension) and is_set(node.iter):
            yield f"{line}: iteration over a set; sort it first"
        if isinstance(node, ast.ExceptHandler) and catches_everything(node):
            yield f"{line}: catches everything"


def is_set(node: ast.expr) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("set", "frozenset")


def catches_everything(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    return isinstance(handler.type, ast.Name) and handler.type.id in ("Exception", "BaseException")


@pytest.mark.parametrize("path", consensus_files(), ids=name_of)
def test_records_hold_constrained_values_only(path: Path) -> None:
    loose = [
        f"{node.name}.{ast.unparse(field.target)}: {ast.unparse(field.annotation)}"
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ClassDef) and any(base_name(base) in RECORD_ROOTS for base in node.bases)
        for field in node.body
        if isinstance(field, ast.AnnAssign) and re.search(r"\b(int|float|dict|list|set|Any)\b", bare(field.annotation))
    ]
    assert not loose, "a record's integers are constrained; no float, dict, list, set or Any"


def base_name(base: ast.expr) -> str:
    return base.id if isinstance(base, ast.Name) else ""


def bare(annotation: ast.expr) -> str:
    """Return the annotation without `Annotated[int, Meta(...)]`, whose int is constrained."""
    return re.sub(r"Annotated\[int, ", "Annotated[", ast.unparse(annotation))


@pytest.mark.parametrize("path", [path for path in source_files() if "modules" in path.parts], ids=name_of)
def test_rules_never_import_an_edge(path: Path) -> None:
    if "edge" in path.parts:
        return
    imported = [
        node.module or ""
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ImportFrom) and ".edge" in (node.module or "")
    ]
    assert not imported


def test_nothing_tracked_names_a_machine_or_a_registry() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
    patterns = re.compile(
        rb"/ro[o]t/|/hom[e]/[a-z]|\"resolve[d]\": *\"https?:|^(-i |--(extra-)?index[-]url)|BEGIN [A-Z ]*PRIVATE KEY",
        re.MULTILINE,
    )
    found = [
        name.decode()
        for name in listed.stdout.split(b"\x00")
        if name and (ROOT / name.decode()).is_file() and patterns.search((ROOT / name.decode()).read_bytes())
    ]
    assert not found
