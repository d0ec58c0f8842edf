"""The console sessions of a page, typed as they stand: each command runs and prints what the page says."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from feiqian.node.comet.testnet import FIRST_PORT, PORT_STEP
from feiqian.testing.ports import free_ports

ROOT = Path(__file__).resolve().parents[3]
SESSION = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "-- end of command, status "

NETWORK_PORTS = 4 * PORT_STEP
PORT = re.compile(r"(?<=127\.0\.0\.1:)266[0-3][0-9]\b")
"""Those of four validators as `feiqian testnet` gives them."""

Steps = list[tuple[str, list[str]]]
"""Each command with the lines that it prints."""


def sessions(text: str) -> list[Steps]:
    """Return each console block of a page."""
    blocks: list[Steps] = []
    for block in SESSION.findall(text):
        steps: Steps = []
        for line in block.splitlines():
            if line.startswith("$ "):
                steps.append((line[2:], []))
            elif steps[-1][0].endswith("\\") and line.startswith("> "):
                steps[-1] = (f"{steps[-1][0]}\n{line[2:]}", [])
            else:
                steps[-1][1].append(line)
        blocks.append(steps)
    return blocks


def reader_environment() -> dict[str, str]:
    """Return what a reader's shell holds, with a free port, so that a ledger of the reader's own is not in the way."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {"PATH": path, "HOME": os.environ.get("HOME", "/"), "FEIQIAN_GATEWAY_PORT": "0", "LANG": "C.UTF-8"}


class Shell:
    """One bash in which a session is typed."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            ["bash"],
            cwd=directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def type(self, command: str) -> None:
        """Type a command; what it prints comes by `lines`."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\necho '{MARK}'$?\n")
        self.process.stdin.flush()

    def lines(self) -> Iterator[str]:
        """Yield what is printed, line by line."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield line.rstrip()

    def end_of_command(self) -> tuple[list[str], int]:
        """Return what the command typed last printed, and its exit status."""
        printed: list[str] = []
        for line in self.lines():
            if line.startswith(MARK):
                return printed, int(line.removeprefix(MARK))
            printed.append(line)
        raise AssertionError(f"the shell ended: {printed}")

    def run(self, command: str) -> tuple[list[str], int]:
        """Type a command and return what it printed and its exit status."""
        self.type(command)
        return self.end_of_command()

    def play(self, steps: Steps) -> None:
        """Type a session and compare what is printed; a command whose output ends in `… 1 …` may be refused."""
        for command, expected in steps:
            printed, status = self.run(command)
            check(command, expected, printed)
            assert status == 0, f"{command} ended with status {status}: {printed}"

    def interrupt(self) -> None:
        """Type Ctrl-C."""
        os.killpg(self.process.pid, signal.SIGINT)

    def close(self) -> None:
        """End the shell and all that runs in it."""
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(60)
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


def matches(expected: str, printed: str) -> bool:
    """Say whether a printed line is the documented one, `…` standing for anything."""
    pattern = ".*".join(re.escape(part.rstrip()) for part in expected.split("…"))
    return re.fullmatch(pattern, printed.rstrip()) is not None


def check(command: str, expected: list[str], printed: list[str]) -> None:
    """Compare what a command printed with what the page says."""
    assert len(expected) == len(printed), f"{command} printed {printed}"
    for want, got in zip(expected, printed, strict=True):
        assert matches(want, got), f"{command}: the page says {want!r}, it printed {got!r}"


def start_ledger(shell: Shell, step: tuple[str, list[str]]) -> str:
    """Type the command that starts a ledger; return its address once it serves."""
    command, said = step
    # What it says while it starts is its log; the address comes on standard output.
    shell.type(f"{command} 2>/dev/null")
    address = next(shell.lines())
    assert matches(said[0].replace("8270", "…"), address), f"{command} printed {address!r}"
    return address.split()[-1]


def is_of_network(steps: Steps) -> bool:
    """Say whether a session makes or uses a network, which `play_network` types."""
    return any("network/" in command or "feiqian testnet" in command or command == "wait" for command, _ in steps)


def play_network(pages: Sequence[Path], directory: Path, **variables: str) -> None:
    """Type the sessions of several pages about one network in one terminal, on ports that are free here.

    Whatever still runs in the end is stopped.
    """
    first_port = free_ports(NETWORK_PORTS)
    (directory / "samples").symlink_to(ROOT / "samples")
    environment = reader_environment() | variables
    del environment["FEIQIAN_GATEWAY_PORT"]
    shell = Shell(directory, environment)
    try:
        for page in pages:
            for steps in filter(is_of_network, sessions(page.read_text("utf-8"))):
                shell.play([_moved(step, first_port) for step in steps])
    finally:
        shell.run("kill $(cat *.pid) 2> /dev/null; wait")
        shell.close()


def _moved(step: tuple[str, list[str]], first_port: int) -> tuple[str, list[str]]:
    """Return a step with the ports of a network moved."""

    def move(text: str) -> str:
        return PORT.sub(lambda found: str(first_port + int(found[0]) - FIRST_PORT), text)

    command = step[0].replace("feiqian testnet network ", f"feiqian testnet network --base-port {first_port} ")
    return move(command), [move(line) for line in step[1]]


def play_page(page: Path, directory: Path, *, after_stop: int = 0) -> None:
    """Type a page's sessions in a directory that holds the samples.

    The first one ends by starting a ledger. The others are typed in a second terminal while it runs, the last
    `after_stop` of them after Ctrl-C in the first, where a ledger is then started again if they say so.
    """
    first, *others = [steps for steps in sessions(page.read_text("utf-8")) if not is_of_network(steps)]
    while_running, stopped = others[: len(others) - after_stop], others[len(others) - after_stop :]
    (directory / "samples").symlink_to(ROOT / "samples")
    environment = reader_environment()
    serving = Shell(directory, environment)
    using = None
    try:
        serving.play(first[:-1])
        using = Shell(directory, environment | {"FEIQIAN_URL": start_ledger(serving, first[-1])})
        for steps in while_running:
            using.play(steps)
        if stopped:
            serving.interrupt()
            assert serving.end_of_command() == ([], 0)
            for step in [step for steps in stopped for step in steps]:
                if step[0].startswith("feiqian start "):
                    using.play([(f"export FEIQIAN_URL={start_ledger(serving, step)}", [])])
                else:
                    using.play([step])
    finally:
        serving.close()
        if using is not None:
            using.close()
