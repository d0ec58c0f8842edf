"""CometBFT as a child of the supervisor: started, its log passed on, started again where that helps, stopped."""

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from feiqian.consensus.genesis_file import InvalidGenesis, load_genesis
from feiqian.core.settings import SettingsError
from feiqian.node.comet.binary import find_binary
from feiqian.node.comet.configuration import (
    CometSettings,
    clear_signer_socket,
    prepare_home,
    read_comet_settings,
)
from feiqian.node.configuration import Layout
from feiqian.node.workers import die_with_parent

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1, 60
"""The pause before it is started again doubles from the one to the other."""

STEADY_S = 600
"""Who ran this long begins with the first pause again."""

MOST_STARTS = 10
"""So many starts without one steady run, and it is not started any more: four minutes of pauses."""

GRACE_S = 2
"""CometBFT's consensus also fails when the node ends under it: the node's own end is waited for, and is the reason."""

LINE_BYTES = 64 * 1024

_SETTINGS_PREFIXES = ("CMT", "TMHOME", "TM_")
"""Variables by which CometBFT would overrule its configuration file (libs/cli/setup.go)."""

FINAL = {
    "is higher than core": (
        "the ledger is ahead of CometBFT's data: comet/data was deleted, or an older copy was brought back; bring the "
        "newest one back, or begin a new directory with this node's keys and join again by state sync"
    ),
    "too far below block store base": (
        "CometBFT no longer holds the blocks that the ledger lacks: the ledger's data is an older copy; begin a new "
        "directory with this node's keys and join again by state sync"
    ),
    "AppHash does not match": (
        "this node's ledger is not what the network agreed on: keep the directory, run `feiqian audit` on it, and join "
        "again by state sync with a new one"
    ),
    "StateBlockHeight": "CometBFT's data is damaged; keep the directory, and join again by state sync with a new one",
    "uncovered case": "CometBFT's data is damaged; keep the directory, and join again by state sync with a new one",
    "error in config file": "CometBFT refuses its settings; mend [comet] in feiqian.toml",
    "persistent_peers": "CometBFT refuses its peers; mend [comet] persistent_peers in feiqian.toml",
    "address already in use": (
        "another program has one of CometBFT's ports; change [comet] p2p_listen, rpc_port or metrics_port"
    ),
    "GenesisDoc": "CometBFT cannot read genesis.json; bring back the one file that all members have",
    "Error reading PrivValidator": "CometBFT cannot read validator_key.json or what it signed last; bring them back",
}
"""What CometBFT says when another start cannot help (consensus/replay.go, state/errors.go, cmd, node/setup.go)."""

DEAD = {
    "CONSENSUS FAILURE!!!": (
        "CometBFT's consensus has stopped for good (the error above says why); run `feiqian audit` on the directory "
        "before this node is started again"
    ),
    "State sync failed": (
        "state sync failed (the error above says why); check [comet] state_sync_servers, trust_height and trust_hash"
    ),
}
"""What it logs when it lives on and does nothing any more (consensus/state.go, node/setup.go)."""


NO_ROOM = "no space left on device"
FULL = "CometBFT's disk is full, and its consensus has stopped: make room and start again"
"""Full disks are no disagreement: nothing is wrong with the ledger."""


class _Prepared(NamedTuple):
    binary: Path
    home: Path
    settings: CometSettings


class CometChild:
    """One CometBFT process after another. Belongs to the supervisor's one thread, which forks."""

    def __init__(self, layout: Layout, write: Callable[[bytes], None]) -> None:
        """Find the binary and write its configuration; `write` takes each line of its log.

        Raises:
            SettingsError: no binary of the right version, or settings or files with which it cannot run.
        """
        self._prepared = _prepare(layout)
        self._write = write
        self._process: subprocess.Popen[bytes] | None = None
        self._output: int | None = None
        self._unfinished = b""
        self._started_s = 0.0
        self._starts = 0
        self._due_s: float | None = None
        self._is_dead = False
        self._advice = ""
        self.failure = ""
        """Why it can run no more, and what to do about it; empty as long as it can."""

    @property
    def output(self) -> int | None:
        """What to wait for input from."""
        return self._output

    def wait_s(self) -> float | None:
        """Return how long until there is something to do without input or a signal."""
        return None if self._due_s is None else max(0.0, self._due_s - time.monotonic())

    def start(self) -> None:
        """Start the process."""
        self._due_s = None
        self._is_dead, self._advice = False, ""
        clear_signer_socket(self._prepared.settings)
        self._starts += 1
        self._started_s = time.monotonic()
        ours, theirs = os.pipe()
        os.set_blocking(ours, False)
        try:
            self._process = subprocess.Popen(
                [self._prepared.binary, "start", "--home", self._prepared.home],
                env={name: text for name, text in os.environ.items() if not name.startswith(_SETTINGS_PREFIXES)},
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=theirs,
                process_group=0,
                preexec_fn=die_with_parent(signal.SIGTERM),
            )
        finally:
            os.close(theirs)
        self._output = ours

    def attend(self) -> None:
        """Pass on what it said, notice its end, and start it again when it is time to."""
        self._read()
        if self._process is not None and self._process.poll() is not None:
            self._ended(self._process.returncode)
        if self._due_s is not None and time.monotonic() >= self._due_s:
            if self._is_dead:
                self.failure = self._advice
                self._due_s = None
            else:
                self.start()

    def stop(self, within_s: float) -> None:
        """End the process and pass on its last words."""
        self._due_s = None
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        ends_s = time.monotonic() + within_s
        # A process that cannot write its last words cannot end.
        while self._output is not None and (left_s := ends_s - time.monotonic()) > 0:
            select.select([self._output], [], [], left_s)
            self._read()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        self._close_output()

    def _read(self) -> None:
        while self._output is not None:
            try:
                data = os.read(self._output, LINE_BYTES)
            except BlockingIOError:
                return
            *lines, self._unfinished = (self._unfinished + data).split(b"\n")
            if not data or len(self._unfinished) > LINE_BYTES:
                lines, self._unfinished = [*lines, self._unfinished], b""
            for line in filter(None, lines):
                self._heard(line)
            if not data:
                self._close_output()

    def _heard(self, line: bytes) -> None:
        fields = _fields(line)
        self._write(msgspec.json.encode(fields) + b"\n")
        said = fields["event"]
        if "level" not in fields:
            # Its last words, on its way out. What it logs also quotes peers and the ledger.
            self._advice = self._advice or next((advice for text, advice in FINAL.items() if text in said), "")
        elif said in DEAD and not self._is_dead:
            is_full = NO_ROOM in str(fields.get("err", ""))
            self._is_dead, self._advice = True, FULL if is_full else DEAD[said]
            self._due_s = time.monotonic() + GRACE_S

    def _ended(self, status: int) -> None:
        self._process = None
        self._read()
        self._close_output()
        if self._is_dead:
            return
        if time.monotonic() - self._started_s >= STEADY_S:
            self._starts = 1
        ended = f"CometBFT ended with status {status}"
        if self._advice:
            self.failure = f"{ended}: {self._advice}"
        elif self._starts >= MOST_STARTS:
            self.failure = f"{ended}, {self._starts} times in a row; its last log lines say why"
        else:
            pause_s = min(FIRST_PAUSE_S * 2 ** (self._starts - 1), LONGEST_PAUSE_S)
            self._due_s = time.monotonic() + pause_s
            fields = {"process": "supervisor", "level": "warning", "event": "cometbft_ended"}
            self._write(msgspec.json.encode({**fields, "status": status, "starts_again_s": pause_s}) + b"\n")

    def _close_output(self) -> None:
        if self._output is not None:
            os.close(self._output)
            self._output = None


def _prepare(layout: Layout) -> _Prepared:
    settings = read_comet_settings(layout)
    binary = find_binary(settings.binary)
    try:
        prepare_home(settings, layout, load_genesis(layout.genesis))
    except InvalidGenesis as error:
        raise SettingsError(str(error)) from None
    except OSError as error:
        raise SettingsError(f"{error.filename}: {error.strerror}") from None
    return _Prepared(binary, layout.comet, settings)


def _fields(line: bytes) -> dict[str, Any]:
    """Return a line of CometBFT's in the form of the other processes' logs; a plain one has no level."""
    try:
        said = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {"process": "cometbft", "event": line.decode("utf-8", "replace")}
    event, level, timestamp = (str(said.pop(name, "")) for name in ("_msg", "level", "ts"))
    return {"process": "cometbft", **said, "event": event, "level": level, "timestamp": timestamp}
