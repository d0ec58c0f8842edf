"""A CometBFT whose clock is off, and the library that turns the clock of the processes beside it: for tests only.

Go reads the clock past the C library, so that no preloaded library turns it: the pinned source is built with another
`Now` in its `types/time`, laid over the file by `go build -overlay`.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[3]
_PIN = ROOT / "deploy" / "cometbft"
_BUILT = ROOT / ".build" / "turned-clock"
_LIBRARY = ROOT / "tests" / "faults" / "clock.c"
_BUILD_S = 900

_NOW = "return Canonical(time.Now())"
_TURNED = "return Canonical(turned(time.Now()))"
_SHIFT = """
var turnedShift = turnedNumber("CLOCK_SHIFT_MS")
var turnedFrom, turnedSpeed = turnedNumber("CLOCK_FROM_MS"), turnedNumber("CLOCK_SPEED")

func turnedNumber(name string) int64 {
	number, _ := strconv.ParseInt(os.Getenv(name), 10, 64)
	return number
}

func turned(now time.Time) time.Time {
	if turnedFrom > 0 && turnedSpeed > 0 {
		from := time.UnixMilli(turnedFrom)
		now = from.Add(now.Sub(from) * time.Duration(turnedSpeed))
	}
	return now.Add(time.Duration(turnedShift) * time.Millisecond)
}
"""


def turned_clock(shift_ms: int) -> Mapping[str, str]:
    """Return the environment in which a validator's clock is off by so much; builds what it needs."""
    return {**_preloaded(), "CLOCK_SHIFT_MS": str(shift_ms)}


def fast_clock(from_ms: int, speed: int, shift_ms: int = 0, *, is_solo: bool = False) -> Mapping[str, str]:
    """Return the environment in which time runs so many times as fast from a time on; solo needs no CometBFT built.

    CometBFT compares a block's time with the machine's own clock too: `shift_ms` far enough back keeps it from passing.
    """
    turned = {"CLOCK_FROM_MS": str(from_ms), "CLOCK_SPEED": str(speed), "CLOCK_SHIFT_MS": str(shift_ms)}
    return {**(_library() if is_solo else _preloaded()), **turned}


def _preloaded() -> Mapping[str, str]:
    return {"FEIQIAN_COMET_BINARY": str(_build()), **_library()}


def _library() -> Mapping[str, str]:
    _BUILT.mkdir(parents=True, exist_ok=True)
    library = _BUILT / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, _LIBRARY, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library)}


def _build() -> Path:
    # Go lays nothing over its own cache of modules: the pinned ones are copied first.
    source = _BUILT / "source"
    source.mkdir(parents=True, exist_ok=True)
    for name in ("go.mod", "go.sum"):
        shutil.copyfile(_PIN / name, source / name)
    _go(source, "mod", "vendor")
    file = source / "vendor" / "github.com" / "cometbft" / "cometbft" / "types" / "time" / "time.go"
    text = file.read_text("utf-8")
    assert text.count(_NOW) == 1, "CometBFT's types/time reads the clock in another way than this test knows"
    turned, overlay, binary = _BUILT / "time.go", _BUILT / "overlay.json", _BUILT / "cometbft"
    turned.write_text(
        text.replace(_NOW, _TURNED).replace("import (\n", 'import (\n\t"os"\n\t"strconv"\n') + _SHIFT, "utf-8"
    )
    overlay.write_text(json.dumps({"Replace": {str(file): str(turned)}}), "utf-8")
    program = "github.com/cometbft/cometbft/cmd/cometbft"
    _go(source, "build", "-trimpath", "-mod=vendor", "-overlay", str(overlay), "-o", str(binary), program)
    return binary


def _go(directory: Path, *arguments: str) -> None:
    environment = {**os.environ, "CGO_ENABLED": "0"}
    done = subprocess.run(
        ["go", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=_BUILD_S,
    )
    assert done.returncode == 0, done.stderr[-2000:]
