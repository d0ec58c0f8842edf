"""Which CometBFT is taken: the right one wherever it lies, and of any other a sentence that says what to do."""

import shutil
import subprocess
from pathlib import Path

import pytest

from feiqian.core.settings import SettingsError
from feiqian.node.comet.binary import find_binary
from feiqian.testing.comet_binary import require_cometbft

PROGRAM = "path\tgithub.com/cometbft/cometbft/cmd/cometbft\n"
RIGHT = f"{PROGRAM}mod\tfeiqian/deploy/cometbft\t(devel)\t\ndep\tgithub.com/cometbft/cometbft\tv0.40.0\th1:0+z=\n"


def varint(number: int) -> bytes:
    """Return LEB128, as Go's binary.PutUvarint writes it."""
    data = b""
    while number >= 0x80:
        data += bytes([number & 0x7F | 0x80])
        number >>= 7
    return data + bytes([number])


def program(path: Path, text: str) -> Path:
    """Write a file with what Go's linker puts into its programs (cmd/link/internal/ld/data.go, buildinfo)."""
    version, modules = b"go1.26.8", bytes(16) + text.encode() + bytes(16)
    info = b"\xff Go buildinf:".ljust(15, b"\0") + b"\x02" + bytes(16)
    info += varint(len(version)) + version + varint(len(modules)) + modules
    path.parent.mkdir(parents=True, exist_ok=True)
    # The mark counts only where it is aligned; elsewhere it is some program's text.
    path.write_bytes(b"#!/bin/sh\nexit 0\n# \xff Go buildinf:".ljust(64, b"x") + info)
    path.chmod(0o755)
    return path


def refusal(setting: Path, source_tree: Path) -> str:
    with pytest.raises(SettingsError) as refused:
        find_binary(str(setting), source_tree)
    return str(refused.value)


def test_the_pinned_one_is_what_make_builds() -> None:
    binary = require_cometbft()
    assert find_binary(str(binary)) == binary
    # The reason why the version is not asked for.
    said = subprocess.run([binary, "version"], capture_output=True, text=True, check=True, timeout=60).stdout
    assert said == "0.39.0\n"


@pytest.mark.parametrize(
    "text",
    [RIGHT, f"{PROGRAM}mod\tgithub.com/cometbft/cometbft\tv0.40.0\th1:0+z=\ndep\texample.com/a\tv1.0.0\th1:b=\n"],
)
def test_a_build_of_our_pin_and_one_by_go_install_are_accepted(tmp_path: Path, text: str) -> None:
    path = program(tmp_path / "cometbft", text)
    assert find_binary(str(path), tmp_path) == path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (RIGHT.replace("v0.40.0", "v0.38.17"), "cmd/cometbft v0.38.17; needed is"),
        (RIGHT + "=>\t./fork\t(devel)\n", "v0.40.0 replaced by ./fork (devel); needed is"),
        (f"{PROGRAM}mod\tgithub.com/cometbft/cometbft\t(devel)\t\n", "cmd/cometbft (devel); needed is"),
        ("path\texample.com/other\nmod\texample.com/other\tv1.0.0\n", "example.com/other of no known version"),
    ],
)
def test_another_version_fork_or_program_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    message = refusal(program(tmp_path / "cometbft", text), tmp_path)
    assert said in message
    assert "github.com/cometbft/cometbft/cmd/cometbft v0.40.0" in message


@pytest.mark.parametrize("cut", [0, 1, 70, 96, 120, 200])
def test_a_file_that_is_no_such_program_or_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    path = program(tmp_path / "cometbft", RIGHT)
    path.write_bytes(path.read_bytes()[:cut])
    assert "no program built with Go" in refusal(path, tmp_path)


def test_a_file_that_may_not_be_executed_is_refused(tmp_path: Path) -> None:
    path = program(tmp_path / "cometbft", RIGHT)
    path.chmod(0o600)
    assert "chmod +x" in refusal(path, tmp_path)


def test_the_setting_comes_before_the_source_tree_and_that_before_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(SettingsError, match=r"there is no cometbft on this machine; run `make cometbft` in Feiqian's"):
        find_binary("", tmp_path)
    on_path = program(tmp_path / "bin" / "cometbft", RIGHT)
    assert find_binary("", tmp_path) == on_path
    built = program(tmp_path / ".build" / "cometbft" / "cometbft", RIGHT)
    assert find_binary("", tmp_path) == built
    named = program(tmp_path / "named", RIGHT)
    assert find_binary(str(named), tmp_path) == named


def test_in_a_source_tree_the_advice_names_it(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parents[5] / "deploy" / "cometbft", tmp_path / "deploy" / "cometbft")
    assert refusal(tmp_path / "none", tmp_path).endswith(f"run `make cometbft` in {tmp_path}")
