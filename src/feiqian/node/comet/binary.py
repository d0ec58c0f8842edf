"""Finds the CometBFT binary and makes sure that it is the version whose ways this release knows.

`cometbft version` prints 0.39.0 in the module v0.40.0, so the version is read from what Go's linker wrote into the
file: the modules that it was built from (Go's debug/buildinfo describes the form).
"""

import mmap
import os
import shutil
from pathlib import Path
from typing import NamedTuple

from feiqian.core.settings import SettingsError

MODULE = "github.com/cometbft/cometbft"
VERSION = "v0.40.0"
PROGRAM = f"{MODULE}/cmd/cometbft"

_SOURCE_TREE = Path(__file__).parents[4]
_BUILT = Path(".build", "cometbft", "cometbft")

_MAGIC = b"\xff Go buildinf:"
_ALIGNMENT, _HEADER_BYTES, _FLAGS_AT, _IS_INLINE = 16, 32, 15, 2
_SENTINEL_BYTES = 16
"""The module text stands between two marks of this length."""
_MAX_TEXT_BYTES = 2**20


class _BuiltFrom(NamedTuple):
    program: str
    version: str


def find_binary(setting: str, source_tree: Path = _SOURCE_TREE) -> Path:
    """Return the path of a CometBFT binary of the right version.

    It is the one that the setting names, else what `make cometbft` built, else the one on the PATH.

    Raises:
        SettingsError: there is none, or the one found is another program or version; the message says how to get it.
    """
    if setting:
        path, where = Path(setting).expanduser(), "[comet] binary names"
        if not path.is_file():
            raise SettingsError(f"[comet] binary: there is no file {path}; {_how_to_get(source_tree)}")
    elif (source_tree / _BUILT).is_file():
        path, where = source_tree / _BUILT, "`make cometbft` left"
    elif on_path := shutil.which("cometbft"):
        path, where = Path(on_path), "on the PATH is"
    else:
        raise SettingsError(f"there is no cometbft on this machine; {_how_to_get(source_tree)}")
    found = _built_from(path)
    if found is None:
        raise SettingsError(f"{where} {path}, which is no program built with Go; {_how_to_get(source_tree)}")
    if found != (PROGRAM, VERSION):
        raise SettingsError(
            f"{where} {path}, built from {found.program} {found.version}; needed is {PROGRAM} {VERSION}: "
            f"{_how_to_get(source_tree)}"
        )
    if not os.access(path, os.X_OK):
        raise SettingsError(f"{where} {path}, which this user may not execute; `chmod +x` it")
    return path.absolute()


def _how_to_get(source_tree: Path) -> str:
    if (source_tree / "deploy" / "cometbft" / "go.mod").is_file():
        return f"run `make cometbft` in {source_tree}"
    return (
        "run `make cometbft` in Feiqian's source tree, copy .build/cometbft/cometbft to this machine, and name it in "
        "feiqian.toml, [comet] binary"
    )


def _built_from(path: Path) -> _BuiltFrom | None:
    """Return which program and version of CometBFT's module a file was built from, or None where Go built none."""
    text = _module_text(path)
    if text is None:
        return None
    program, version = "", "of no known version"
    lines = [line.split("\t") for line in text.splitlines()]
    for place, fields in enumerate(lines):
        if fields[0] == "path":
            program = fields[1]
        elif fields[0] in {"mod", "dep"} and fields[1:2] == [MODULE]:
            version = fields[2] if len(fields) > 2 else version
            # A replaced module says so on the next line; its code is another's.
            if place + 1 < len(lines) and lines[place + 1][0] == "=>":
                version += " replaced by " + " ".join(lines[place + 1][1:3])
    return _BuiltFrom(program, version)


def _module_text(path: Path) -> str | None:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read_module_text(data)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, IndexError):
        # Empty, or cut off in the middle.
        return None


def _read_module_text(data: mmap.mmap) -> str | None:
    at = data.find(_MAGIC)
    while at >= 0:
        if at % _ALIGNMENT == 0 and data[at + _FLAGS_AT] & _IS_INLINE:
            _, after = _read_bytes(data, at + _HEADER_BYTES)
            text, _ = _read_bytes(data, after)
            return text[_SENTINEL_BYTES:-_SENTINEL_BYTES].decode("utf-8", "replace")
        at = data.find(_MAGIC, at + 1)
    return None


def _read_bytes(data: mmap.mmap, at: int) -> tuple[bytes, int]:
    """Return the bytes that stand after their length, and where they end; the length is a varint."""
    size = shift = 0
    while True:
        byte = data[at]
        at += 1
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    if size > min(_MAX_TEXT_BYTES, len(data) - at):
        raise ValueError("cut off")
    return data[at : at + size], at + size
