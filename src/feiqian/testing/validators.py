"""A network of real validators on this machine, each `feiqian start` of a directory of its own, for fault tests.

A validator's processes are known one by one, so that each may be killed alone. With links each validator stands in a
network namespace of its own (`links.py`).
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import msgspec

from feiqian.consensus.genesis_file import Genesis
from feiqian.core.wire import NodeStatus
from feiqian.execution.registry import Registry
from feiqian.node.comet.testnet import Endpoints, Made, endpoints_here, make_testnet
from feiqian.node.configuration import Layout
from feiqian.testing.ledgers import ACCOUNTS, SampleLedger, consortium_text
from feiqian.testing.links import GATEWAY_PORT, METRICS_PORT, P2P_PORT, RPC_PORT, Links
from feiqian.testing.ports import free_ports
from feiqian.testing.processes import Channel

ANSWER_S = 180
"""How long a test waits for what must come; never how long something takes."""

LOOK_S = 0.05
PORTS_EACH = 10

START = ("-m", "feiqian.cli.main", "start")
START_FAULTY = ("-m", "feiqian.testing.faulty_validator")
START_NEXT = ("-m", "feiqian.testing.next_release", "start")

_PARTS = {
    b"feiqian.node": "node",
    b"feiqian.testing.faulty_node": "node",
    b"feiqian.testing.next_release": "node",
    b"feiqian.api": "gateway",
}

T = TypeVar("T")


def four_banks() -> str:
    """Return the sample consortium with a fourth member, so that four validators may run."""
    text = consortium_text(accounts={**ACCOUNTS, "west": "west-bank"})
    return text + '\n[[members]]\nid = "west-bank"\nlegal_name = "West Bank of Nowhere"\nroles = ["bank"]\n'


def await_that(what: str, is_so: Callable[[], bool], within_s: float = ANSWER_S) -> float:
    """Return after how many seconds something is so; fail where it does not become so."""
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() - started < within_s, f"{within_s} s passed, and not: {what}"
        time.sleep(LOOK_S)
    return time.monotonic() - started


class Validator:
    """One validator of a network. Its log is `DIR.log`."""

    def __init__(self, made: Made, number: int, links: Links | None, environment: Mapping[str, str]) -> None:
        self.made = made
        self.number = number
        self.name = made.member
        self.layout = Layout(made.directory)
        self.log = made.directory.with_name(made.directory.name + ".log")
        self.links = links
        self._environment = environment
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def gateway_url(self) -> str:
        """Where its gateway answers, inside its namespace."""
        return f"http://127.0.0.1:{self.made.endpoints.gateway_port}"

    @property
    def is_running(self) -> bool:
        """Whether `feiqian start` runs."""
        return self.process is not None and self.process.poll() is None

    def start(
        self, *, fault: str = "", environment: Mapping[str, str] | None = None, is_next_release: bool = False
    ) -> Self:
        """Start it; with a fault it is one of `faulty_node.py`'s."""
        assert not self.is_running
        start = START_FAULTY if fault else START_NEXT if is_next_release else START
        command = [sys.executable, *start, str(self.layout.directory)]
        if self.links is not None:
            command = ["ip", "netns", "exec", self.links.namespace(self.number), *command]
        variables = {**os.environ, **self._environment, **(environment or {})}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, fault] if fault else command,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def status(self) -> NodeStatus | None:
        """Return how its node stands, None where none answers."""
        try:
            with Channel(self.layout.socket) as channel:
                return channel.status()
        except (OSError, AssertionError):
            return None

    @property
    def height(self) -> int:
        """The last height on its disk; -1 where no node answers."""
        status = self.status()
        return -1 if status is None else status.height

    def await_height(self, height: int) -> float:
        """Return after how many seconds it has a height; fail where it ends before."""

        def has() -> bool:
            assert self.is_running, f"{self.name} ended: {self.log_text()[-3000:]}"
            return self.height >= height

        return await_that(f"{self.name} has height {height}; {self.log_text()[-1500:]}", has)

    def await_gateway(self) -> Self:
        """Return when its gateway answers."""
        await_that(f"{self.name}'s gateway answers", lambda: self._is_serving())
        return self

    def rpc(self, method: str, **parameters: str) -> Any:
        """Return what CometBFT's own RPC answers."""
        url = f"http://127.0.0.1:{self.made.endpoints.rpc_port}/{method}"
        return self.inside(lambda: _get(url, **parameters).json()["result"])

    def inside(self, run: Callable[[], T]) -> T:
        """Run a function where its loopback is."""
        return run() if self.links is None else self.links.inside(self.number, run)

    def part(self, name: str) -> int:
        """Return the process id of its node, cometbft or gateway; fail where it does not run."""
        found = self.parts()
        assert name in found, f"{self.name} runs no {name}; it runs {found}"
        return found[name]

    def parts(self) -> dict[str, int]:
        """Return the process ids of what the supervisor runs."""
        found: dict[str, int] = {}
        if self.process is None or self.process.poll() is not None:
            return found
        for child in _children(self.process.pid):
            words = _words(child)
            if b"--home" in words:
                found["cometbft"] = child
            found |= {name: child for module, name in _PARTS.items() if module in words}
        return found

    def kill(self) -> None:
        """Kill all its processes at once, as a power cut would."""
        assert self.process is not None
        family = _family(self.process.pid)
        for number in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.process.wait()
        await_that(f"{self.name}'s processes are gone", lambda: not any(map(_runs, family)))

    def kill_part(self, name: str) -> None:
        """Kill its node, cometbft or gateway."""
        os.kill(self.part(name), signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to stop; return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.await_exit()

    def await_exit(self) -> int:
        """Return the status with which it ends."""
        assert self.process is not None
        try:
            return self.process.wait(ANSWER_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} does not end: {self.log_text()[-3000:]}") from None

    def leftovers(self) -> list[int]:
        """Return the process ids of whatever runs on its directory."""
        mark = str(self.layout.directory).encode()
        numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
        return [number for number in numbers if any(mark in word for word in _words(number)) and _runs(number)]

    def log_text(self) -> str:
        """Return what it has logged."""
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def log_lines(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of one event."""
        lines = [line for line in self.log_text().splitlines() if line.startswith("{")]
        return [line for line in map(_json, lines) if line.get("event") == event]

    def _is_serving(self) -> bool:
        assert self.is_running, f"{self.name} ended: {self.log_text()[-3000:]}"
        try:
            return self.inside(lambda: _get(f"{self.gateway_url}/ready").status_code == 200)
        except httpx.HTTPError:
            return False


class Network:
    """Validators that share one ledger, each in a directory below `directory`."""

    def __init__(
        self,
        directory: Path,
        registry: Registry,
        count: int = 4,
        *,
        is_linked: bool = False,
        environment: Mapping[str, str] | None = None,
        text: str = "",
    ) -> None:
        """`environment` is given to every validator's processes; `text` is another consortium than four banks'."""
        directory.mkdir(parents=True, exist_ok=True)
        consortium = directory / "consortium.toml"
        consortium.write_text(text or four_banks(), "utf-8")
        self.links = Links(count) if is_linked else None
        endpoints = endpoints_here(count, free_ports(PORTS_EACH * count))
        if self.links is not None:
            hosts = [self.links.host(number) for number in range(count)]
            endpoints = [Endpoints(host, host, P2P_PORT, RPC_PORT, METRICS_PORT, GATEWAY_PORT) for host in hosts]
        made = make_testnet(directory / "net", consortium, registry, endpoints, time.time_ns() // 1_000_000)
        self._take(made.genesis, made.validators, registry, environment or {})

    @classmethod
    def made(cls, genesis: Genesis, validators: Sequence[Made], registry: Registry) -> Self:
        """Return a network whose directories were made before."""
        network = cls.__new__(cls)
        network.links = None
        network._take(genesis, validators, registry, {})
        return network

    def _take(self, genesis: Genesis, made: Sequence[Made], registry: Registry, environment: Mapping[str, str]) -> None:
        self.registry = registry
        self.genesis = genesis
        self.validators = [Validator(each, number, self.links, environment) for number, each in enumerate(made)]
        self.ledger = SampleLedger.reopen(self.validators[0].layout.directory, registry)

    def start(self) -> Self:
        """Start all and return when every gateway serves."""
        for validator in self.validators:
            if not validator.is_running:
                validator.start()
        for validator in self.validators:
            validator.await_gateway()
        return self

    @property
    def running(self) -> list[Validator]:
        """Those that run."""
        return [validator for validator in self.validators if validator.is_running]

    def height(self, of: Sequence[Validator] | None = None) -> int:
        """Return the highest height that any of them has."""
        return max(validator.height for validator in of or self.running)

    def seconds_to_next(self, of: Sequence[Validator] | None = None) -> float:
        """Return after how many seconds there is a block that was begun after this call."""
        # The one that is being decided now may have been begun before.
        target = self.height(of) + 2
        return await_that(f"a block {target}: {self._where()}", lambda: self.height(of) >= target)

    def __enter__(self) -> Self:
        if self.links is not None:
            self.links.make()
        return self

    def __exit__(self, *_: object) -> None:
        for validator in self.running:
            validator.kill()
        if self.links is not None:
            self.links.remove()

    def _where(self) -> str:
        return ", ".join(f"{validator.name} {validator.height}" for validator in self.validators)


def _get(url: str, **parameters: str) -> httpx.Response:
    # Reading the authorities' certificates takes longer than the question, and nothing here is HTTPS.
    return httpx.get(url, params=parameters, trust_env=False, verify=False, timeout=30)


def _json(line: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}


def _family(number: int) -> list[int]:
    return [number, *(member for child in _children(number) for member in _family(child))]


def _children(number: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{number}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def _words(number: int) -> list[bytes]:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return []


def _runs(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
