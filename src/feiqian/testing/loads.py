"""Transfers sent to the gateways of a network while something befalls it, and whether all is as it must be after.

Nothing that a gateway acknowledged as committed may be lost, nothing applied twice, and all nodes have the same.
"""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import msgspec

from feiqian.client import Client
from feiqian.client.errors import Refused, Unreachable
from feiqian.core.transactions import decode_signed, transaction_id
from feiqian.execution.blocks import RESULT, RESULTS_CODEC
from feiqian.ledger.balances import BALANCES, balance_key
from feiqian.modules.assets.messages import Issue, Transfer
from feiqian.state.store import Store
from feiqian.testing.ledgers import ASSET
from feiqian.testing.validators import Network, Validator, await_that

BATCH = 25
PAUSE_S = 0.4
"""Between two batches of one sender: enough for full blocks, and the machine is not what is tested."""

AUDITS_AT_ONCE = 2
REQUEST_S = 20
FUNDS_MINOR = 10**9


class Known:
    """What the outside knows: what was sent, and at which height it was acknowledged as committed."""

    def __init__(self) -> None:
        self.sent: dict[bytes, bytes] = {}
        self.acknowledged: dict[bytes, int] = {}

    def send(self, signed: bytes) -> bytes:
        """Take down what is sent and return its id."""
        tx_id = transaction_id(decode_signed(signed).body)
        self.sent[tx_id] = signed
        return tx_id

    def acknowledge(self, tx_id: str, height: int) -> None:
        """Take down an acknowledgement."""
        before = self.acknowledged.setdefault(bytes.fromhex(tx_id), height)
        assert before == height, f"{tx_id} was acknowledged at heights {before} and {height}"

    @property
    def height(self) -> int:
        """The last height of which something was acknowledged."""
        return max(self.acknowledged.values(), default=0)


class Load:
    """Sends transfers through the gateways of some validators for as long as the `with` block lasts.

    What had no answer is sent again to the same gateway, as a member's program would.
    """

    def __init__(self, network: Network, known: Known, through: Sequence[Validator] | None = None) -> None:
        self._network = network
        self._known = known
        self._through = network.validators if through is None else through
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._guarded, args=(each,)) for each in self._through]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    @property
    def acknowledged(self) -> int:
        """How many were acknowledged so far."""
        with self._lock:
            return len(self._known.acknowledged)

    def await_more(self, count: int = 2 * BATCH) -> float:
        """Return after how many seconds so many more were acknowledged."""
        target = self.acknowledged + count
        return await_that(f"{count} more are acknowledged", lambda: bool(self._errors) or self.acknowledged >= target)

    def _guarded(self, validator: Validator) -> None:
        try:
            if validator.links is not None:
                validator.links.enter(validator.number)
            with Client(validator.gateway_url, timeout_s=REQUEST_S) as client:
                self._send(client)
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            self._errors.append(error)

    def _send(self, client: Client) -> None:
        ledger, waiting = self._network.ledger, list[bytes]()
        while not self._ending.is_set():
            waiting += [ledger.transfer("treasury", "south", 1) for _ in range(BATCH - len(waiting))]
            with self._lock:
                for signed in waiting:
                    self._known.send(signed)
            try:
                outcomes = client.submit(waiting)
            except (Unreachable, Refused):
                outcomes = []
            else:
                again: list[bytes] = []
                for signed, outcome in zip(waiting, outcomes, strict=True):
                    if outcome.is_done:
                        with self._lock:
                            self._known.acknowledge(outcome.tx_id, outcome.height)
                    elif outcome.status in ("accepted", "later"):
                        again.append(signed)
                waiting = again
            self._ending.wait(PAUSE_S)


def fund(network: Network, known: Known) -> None:
    """Give the treasury what the load pays with."""
    signed = network.ledger.issue("treasury", FUNDS_MINOR)
    known.send(signed)
    first = network.running[0]
    (outcome,) = first.inside(lambda: Client(first.gateway_url).submit_all([signed]))
    outcome.raise_if_refused()
    known.acknowledge(outcome.tx_id, outcome.height)


def check(network: Network, known: Known, *, is_audited: bool = True) -> int:
    """Check everything on every validator that runs; return the height at which all were compared.

    A validator that began with a snapshot is compared from its first block on.

    Raises:
        AssertionError: something acknowledged is lost, something was applied twice, two nodes differ, or an audit found
            something.
    """
    for validator in network.running:
        validator.await_height(known.height)
    stores = {each.name: Store.open(each.layout.ledger, read_only=True) for each in network.running}
    try:
        height = min(store.height for store in stores.values())
        whole = min(stores.values(), key=lambda store: store.head.first_block)
        assert whole.head.first_block <= network.genesis.initial_height, "nobody has the whole chain"
        for name, store in stores.items():
            for at in range(max(store.head.first_block, network.genesis.initial_height), height + 1):
                assert store.block(at) == whole.block(at), f"block {at} of {name} differs"
            _check_once(name, store, known)
            _check_money(name, store, whole, network, known)
    finally:
        for store in stores.values():
            store.close()
    if is_audited:
        with ThreadPoolExecutor(AUDITS_AT_ONCE) as pool:
            list(pool.map(audit, [validator.layout.directory for validator in network.running]))
    return height


def audit(directory: Path) -> None:
    """Run `feiqian audit` and fail where it finds something."""
    command = [sys.executable, "-m", "feiqian.cli.main", "audit", str(directory), "--json"]
    done = subprocess.run(command, capture_output=True, check=False)
    found = msgspec.json.decode(done.stdout) if done.stdout else {}
    assert done.returncode == 0, f"audit of {directory.name}: {found.get('problems')} {done.stderr.decode()[-1000:]}"
    assert found["is_clean"]


def _check_once(name: str, store: Store, known: Known) -> None:
    places: Counter[bytes] = Counter()
    first = max(store.head.first_block, 1)
    for height in range(first, store.height + 1):
        block = store.block(height)
        assert block is not None
        ids = [entry.id for entry in RESULTS_CODEC.decode(block.results)]
        places.update(ids)
        for tx_id in ids:
            assert known.acknowledged.get(tx_id, height) == height, f"{name}: {tx_id.hex()} stands at another height"
    twice = [tx_id.hex() for tx_id, count in places.items() if count > 1]
    assert not twice, f"{name}: in two blocks: {twice}"
    lost = [tx_id.hex() for tx_id, height in known.acknowledged.items() if height >= first and not places[tx_id]]
    assert not lost, f"{name}: acknowledged and not there: {lost}"
    strange = [tx_id.hex() for tx_id in places if tx_id not in known.sent]
    assert not strange, f"{name}: nobody sent {strange}"


def _check_money(name: str, store: Store, whole: Store, network: Network, known: Known) -> None:
    """Each order that was done moved its amount once: add them up by hand and compare every balance."""
    height, posted = _balances(store, network)
    await_that("the others have this height too", lambda: whole.height >= height)
    expected: Counter[bytes] = Counter()
    for tx_id, signed in known.sent.items():
        found = whole.result(tx_id)
        if found is None or found[0] > height or RESULT.decode(found[2]).number:
            continue
        transaction = network.registry.transaction_codec.decode(decode_signed(signed).body)
        for message in transaction.messages:
            if not isinstance(message, Issue | Transfer):
                continue
            payer = message.issuance_account if isinstance(message, Issue) else message.payer
            expected[payer] -= message.amount_minor
            expected[message.payee] += message.amount_minor
    for account, address in network.ledger.addresses.items():
        assert posted[address] == expected[address], (
            f"{name}: {account} holds {posted[address]}, its orders come to {expected[address]}"
        )


def _balances(store: Store, network: Network) -> tuple[int, dict[bytes, int]]:
    posted: dict[bytes, int] = {}
    with store.view() as view:
        for address in network.ledger.addresses.values():
            data = view.get(BALANCES.prefix + balance_key(address, ASSET))
            posted[address] = 0 if data is None else BALANCES.codec.decode(data).posted_minor
        return view.height, posted
