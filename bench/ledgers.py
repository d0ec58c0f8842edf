"""Makes what is measured: a solo ledger, or a network of validators on this machine, with many funded accounts."""

import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path

from load import connect, in_threads, note, submit
from running import Ledger, descendants, halted

from feiqian.execution.registry import discover
from feiqian.node.comet.testnet import Endpoints, endpoints_here, make_testnet
from feiqian.testing.ledgers import MEMBERS, SampleLedger, consortium_text
from feiqian.testing.population import Population, populate, population_orders
from feiqian.testing.ports import free_ports

PARAMETERS = {"max_block_work": 20_000_000, "sponsor_block_work": 20_000_000}
"""About one second of a solo ledger's work on two cores; the default is half of that."""

POPULATING_BATCH, POPULATING_CONNECTIONS = 10, 8


class Validators:
    """The validators of one network. Inside the `with` block they run."""

    def __init__(self, directories: list[Path]) -> None:
        self.sample = SampleLedger.reopen(directories[0], discover())
        self.directories = directories
        self.ledgers: list[Ledger] = []

    @property
    def addresses(self) -> list[str]:
        """Where each one's gateway listens."""
        return [ledger.address for ledger in self.ledgers]

    def populate(self, accounts: int) -> None:
        """Open accounts and fund them, by transactions that every gateway takes its part of."""
        note(f"{len(self.ledgers)} × the ledger: opening {accounts:,} accounts")
        begun = time.monotonic()
        for orders in population_orders(self.sample, Population(accounts)).values():
            self._submit(orders)
        note(f"{len(self.ledgers)} × the ledger: opened and funded in {time.monotonic() - begun:.0f} s")

    def drain(self) -> None:
        """Wait until everything sent is committed everywhere."""
        for ledger in self.ledgers:
            ledger.drain()

    def halted(self) -> AbstractContextManager[None]:
        """Let none of their processes run meanwhile."""
        return halted([pid for ledger in self.ledgers for pid in (ledger.pid, *descendants(ledger.pid))])

    def _submit(self, orders: Iterator[bytes]) -> None:
        taking = threading.Lock()

        def send(place: int) -> None:
            connection = connect(self.addresses[place % len(self.addresses)])
            while True:
                with taking:
                    batch = list(islice(orders, POPULATING_BATCH))
                if not batch:
                    return
                submit(connection, batch)

        in_threads(send, POPULATING_CONNECTIONS)

    def __enter__(self) -> "Validators":
        try:
            for directory in self.directories:
                self.ledgers.append(Ledger(directory))
            for ledger in self.ledgers:
                ledger.await_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for ledger in self.ledgers:
            ledger.ask_to_stop()
        for ledger in self.ledgers:
            ledger.stop()


def make_solo(directory: Path, accounts: int) -> SampleLedger:
    """Return a populated solo ledger, made anew unless the directory holds one."""
    registry = discover()
    if (directory / "populated").exists():
        return SampleLedger.reopen(directory, registry)
    shutil.rmtree(directory, ignore_errors=True)
    ledger = SampleLedger(directory, registry, consortium_text(PARAMETERS))
    (directory / "feiqian.toml").write_text("[node]\n[gateway]\nport = 0\n", "utf-8")
    note(f"populating {accounts:,} accounts")
    populate(ledger, Population(accounts), lambda what, done: None)
    (directory / "populated").touch()
    return ledger


def make_validators(directory: Path, count: int, parameters: Mapping[str, int] = PARAMETERS) -> Validators:
    """Make the directories of a network of so many validators, all on this machine."""
    names = list(MEMBERS) + [f"bank-{number}" for number in range(len(MEMBERS) + 1, count + 1)]
    consortium = directory / "consortium.toml"
    directory.mkdir(parents=True, exist_ok=True)
    consortium.write_text(consortium_text(parameters) + _more_banks(names[len(MEMBERS) :]), "utf-8")
    network = make_testnet(directory / "network", consortium, discover(), _endpoints(count), clock_ms())
    return Validators([made.directory for made in network.validators])


def clock_ms() -> int:
    """Return the time, in milliseconds."""
    return time.time_ns() // 1_000_000


def _endpoints(count: int) -> list[Endpoints]:
    last = endpoints_here(count, 1024)[-1]
    return endpoints_here(count, free_ports(last.gateway_port - 1024 + 1))


def _more_banks(members: list[str]) -> str:
    """Return the consortium file's entries of further banks,."""
    lines: list[str] = []
    for member in members:
        lines += ["", "[[members]]", f'id = "{member}"', f'legal_name = "{member.title()} of Nowhere"']
        lines += ['roles = ["bank"]']
    return "\n".join(lines) + "\n"
