"""Fills a sample ledger with a great many funded accounts, by real transactions in real blocks.

Only for benchmarks: the transactions are taken as verified, since the population is not what is measured.
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from feiqian.core.encoding import encode
from feiqian.core.errors import Fault
from feiqian.core.transactions import TRANSACTION_VERSION, Transaction
from feiqian.core.wire import Committed, Drop
from feiqian.execution.admission import check_form
from feiqian.execution.blocks import RESULT, RESULTS_CODEC
from feiqian.execution.registry import Registry
from feiqian.ledger.accounts import address_of
from feiqian.ledger.authority import single_key_policy
from feiqian.modules.accounts.messages import Open
from feiqian.modules.assets.messages import BatchLeg, BatchTransfer, Transfer
from feiqian.node.committer import CommitterProcess
from feiqian.node.configuration import Layout
from feiqian.node.engine import SoloEngine
from feiqian.node.initialise import plain_tables, prepare_ledger
from feiqian.node.mempool import Mempool
from feiqian.node.metrics import Metrics
from feiqian.node.process import clock_ms
from feiqian.node.recovery import recover
from feiqian.state.store import Store
from feiqian.testing.ledgers import ASSET, CHAIN_ID, SampleLedger
from feiqian.wallet.keys import Ed25519Key
from feiqian.wallet.signing import sign_body

KEYS = 1_000
"""Keys that own the accounts, each those whose number leaves the same rest."""

MEMBER = "north-bank"
FUNDS_MINOR = 1_000_000
ADMINISTRATION = "issuance"
"""The bank's first account, by which it opens others."""

OPENS_PER_TRANSACTION = 100
LEGS_PER_TRANSACTION = 1_000
FUNDING_LIFETIME_MS = 590_000
PAST_HEIGHTS = 10

Progress = Callable[[str, int], None]
"""Told what is being done and how many of its transactions are on their way."""


class Population:
    """Accounts 0 to `count` - 1 of the bank, their addresses and keys computed from their numbers."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.keys = [Ed25519Key(hashlib.sha256(f"population {number}".encode()).digest()) for number in range(KEYS)]
        self.policies = [single_key_policy(key.public) for key in self.keys]
        self.addresses = [
            address_of(MEMBER, self.policies[number % KEYS], self.salt(number)) for number in range(count)
        ]

    @staticmethod
    def salt(number: int) -> bytes:
        """Return the salt that tells an account from its key's others."""
        return number.to_bytes(8, "big")

    def transfer(self, payer: int, payee: int, amount_minor: int, salt: bytes, expires_at_ms: int) -> bytes:
        """Return a signed transfer between two accounts by number."""
        message = Transfer(self.addresses[payer], self.addresses[payee], ASSET, amount_minor, b"")
        transaction = Transaction(TRANSACTION_VERSION, CHAIN_ID, MEMBER, expires_at_ms, salt, (message,))
        return sign_body(encode(transaction), [self.keys[payer % KEYS]])

    def batch_transfer(self, payer: int, payees: range, salt: bytes, expires_at_ms: int) -> bytes:
        """Return a signed transfer of one unit to each payee."""
        legs = tuple([BatchLeg(self.addresses[payee], 1, b"") for payee in payees])
        message = BatchTransfer(self.addresses[payer], ASSET, legs)
        transaction = Transaction(TRANSACTION_VERSION, CHAIN_ID, MEMBER, expires_at_ms, salt, (message,))
        return sign_body(encode(transaction), [self.keys[payer % KEYS]])


def populate(ledger: SampleLedger, population: Population, told: Progress) -> None:
    """Open every account and give each the same funds. The node must not run."""
    layout = Layout(ledger.directory)
    layout.data.mkdir(exist_ok=True)
    genesis = prepare_ledger(layout, ledger.registry, clock_ms)
    committer = CommitterProcess(layout, plain_tables(ledger.registry), past_heights=PAST_HEIGHTS)
    store = Store.open(layout.ledger, read_only=True)
    pool = Mempool(100_000, 2**31)
    engine = SoloEngine(
        ledger.registry,
        store,
        genesis,
        recover(layout.block_log, ledger.registry, genesis, store, committer),
        committer,
        pool,
        Metrics(),
        block_interval_ms=1,
        clock_ms=clock_ms,
        committed=_check_done,
        stored=lambda stored: None,
        dropped=_refuse_dropped,
    )
    engine.start()
    for what, orders in population_orders(ledger, population).items():
        _run(ledger.registry, engine, pool, orders, partial(told, what))
    engine.stop()
    store.close()


def population_orders(ledger: SampleLedger, population: Population) -> dict[str, Iterator[bytes]]:
    """Return what opens every account and funds it: signed orders by step, each step done before the next begins."""
    supply = ledger.issue("treasury", population.count * FUNDS_MINOR, lifetime_ms=FUNDING_LIFETIME_MS)
    return {"supply": iter([supply]), "accounts": _opens(ledger, population), "funds": _funds(ledger, population)}


def _check_done(block: Committed) -> None:
    for entry in RESULTS_CODEC.decode_trusted(block.results):
        result = RESULT.decode_trusted(entry.result)
        if result.number:
            raise Fault(f"populating failed: {result.codespace} {result.number}: {result.message}")


def _refuse_dropped(drops: Sequence[Drop]) -> None:
    raise Fault(f"populating failed: {drops[0].codespace} {drops[0].number}: {drops[0].message}")


def _run(
    registry: Registry, engine: SoloEngine, pool: Mempool, orders: Iterator[bytes], told: Callable[[int], None]
) -> None:
    for done, order in enumerate(orders, start=1):
        while pool.add(check_form(registry, CHAIN_ID, order)) is not None:
            engine.wake()
            time.sleep(0.01)
        if done % 100 == 0:
            told(done)
            engine.wake()
    while pool.size.transactions:
        engine.wake()
        time.sleep(0.01)


def _opens(ledger: SampleLedger, population: Population) -> Iterator[bytes]:
    for start in range(0, population.count, OPENS_PER_TRANSACTION):
        numbers = range(start, min(start + OPENS_PER_TRANSACTION, population.count))
        messages = [
            Open(ledger.addresses[ADMINISTRATION], population.policies[number % KEYS], population.salt(number))
            for number in numbers
        ]
        yield ledger.sign(ADMINISTRATION, messages, lifetime_ms=FUNDING_LIFETIME_MS)


def _funds(ledger: SampleLedger, population: Population) -> Iterator[bytes]:
    for start in range(0, population.count, LEGS_PER_TRANSACTION):
        numbers = range(start, min(start + LEGS_PER_TRANSACTION, population.count))
        legs = tuple([BatchLeg(population.addresses[number], FUNDS_MINOR, b"") for number in numbers])
        message = BatchTransfer(ledger.addresses["treasury"], ASSET, legs)
        yield ledger.sign("treasury", [message], lifetime_ms=FUNDING_LIFETIME_MS)
