"""Reads the node's store for the HTTP routes: accounts, members, assets, transactions, blocks, proofs. Read only."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from feiqian.api.access import Parties
from feiqian.api.problems import BadParameter, NoLongerHeld, NotFound, NotProvable, OutsideWindow
from feiqian.consensus import light, proving
from feiqian.consensus.genesis_file import Genesis
from feiqian.core.errors import Fault
from feiqian.execution.blocks import BLOCK, RESULT, RESULTS_CODEC, Result, open_bundle
from feiqian.execution.registry import Registry
from feiqian.index.decoding import DecodedTransaction, decode_events, decode_transaction, decode_transactions
from feiqian.ledger.accounts import ACCOUNTS
from feiqian.ledger.assets import ASSETS
from feiqian.ledger.context import Event
from feiqian.ledger.members import MEMBERS
from feiqian.ledger.postings import BALANCES
from feiqian.ledger.records import Account, Asset, Balance, Member
from feiqian.state.archive import ArchiveRow
from feiqian.state.errors import OutsideWindow as StateOutsideWindow
from feiqian.state.store import Store, StoredBlock
from feiqian.state.tables import BlockState, Table

MAX_KEY_HEX = 400


class FoundTransaction(NamedTuple):
    """A transaction, or a trigger's run, with what became of it; `asked` is None for a trigger."""

    id: bytes
    height: int
    place: int
    result: Result
    events: list[Event]
    asked: DecodedTransaction | None


class LedgerView:
    """Questions to committed state. Proofs and whole blocks take more than a moment: ask for them on a thread."""

    def __init__(self, store: Store, registry: Registry, genesis: Genesis, origin: "LedgerView | None" = None) -> None:
        """`origin` is the ledger that this one was handed, whose blocks and proofs are asked of it."""
        self.store = store
        self.registry = registry
        self.genesis = genesis
        self.origin = origin

    def state(self) -> BlockState:
        """Return the latest committed state for a few reads by typed tables."""
        return BlockState(self.store)

    def account(self, address: bytes) -> Account | None:
        """Return an open account."""
        return ACCOUNTS.get(self.state(), address)

    def member_of(self, address: bytes) -> str | None:
        """Return the id of the member that an account is registered to."""
        account = self.account(address)
        return None if account is None else account.member

    def member(self, member_id: str) -> Member | None:
        """Return a member."""
        return MEMBERS.get(self.state(), member_id.encode())

    def members(self, after: str, limit: int) -> list[tuple[str, Member]]:
        """Return members in the order of their ids."""
        return [(key.decode(), member) for key, member in _page(MEMBERS.scan(self.state(), b"", after.encode()), limit)]

    def asset(self, code: str) -> Asset | None:
        """Return an asset."""
        return ASSETS.get(self.state(), code.encode())

    def assets(self, after: str, limit: int) -> list[tuple[str, Asset]]:
        """Return assets in the order of their codes."""
        return [(key.decode(), asset) for key, asset in _page(ASSETS.scan(self.state(), b"", after.encode()), limit)]

    def balances(self, address: bytes, after: str, limit: int) -> list[tuple[str, Balance]]:
        """Return an account's balances in the order of the assets' codes."""
        start = address + after.encode() if after else b""
        rows = BALANCES.scan(self.state(), address, start)
        return [(key[len(address) :].decode(), balance) for key, balance in _page(rows, limit)]

    def parties(self, accounts: Iterable[bytes], members: Iterable[str] = ()) -> Parties:
        """Return these accounts, their members and these members as parties."""
        addresses = frozenset(accounts)
        state = self.state()
        owners = [ACCOUNTS.get(state, address) for address in addresses]
        return Parties(frozenset([*members, *[owner.member for owner in owners if owner is not None]]), addresses)

    def parties_to(self, found: FoundTransaction) -> Parties:
        """Return whom a transaction or trigger run concerns: sponsor, accounts acted for, and whom its events name."""
        accounts = [address for event in found.events for address in event.accounts()]
        members = [member for event in found.events for member in event.members()]
        transaction = None if found.asked is None else found.asked.transaction
        # What was refused as unauthorised stands under another id than its own, and names whom it likes.
        if transaction is not None and found.asked is not None and found.asked.tx_id == found.id:
            accounts += [claim.account for message in transaction.messages for claim in message.claims()]
            members.append(transaction.sponsor)
        return self.parties(accounts, members)

    def transaction(self, tx_id: bytes) -> FoundTransaction | None:
        """Return the transaction or trigger run with this id."""
        found = self.store.result(tx_id)
        if found is None:
            return None if self.origin is None else self.origin.transaction(tx_id)
        height, place, encoded = found
        result = RESULT.decode_trusted(encoded)
        asked = self.store.transaction(tx_id)
        transaction = None if asked is None else decode_transaction(self.registry, asked[2])
        return FoundTransaction(tx_id, height, place, result, decode_events(self.registry, result), transaction)

    def results_at(self, places: Mapping[bytes, tuple[int, int]]) -> dict[bytes, tuple[int, bytes]]:
        """Return height and encoded result of each id whose height and place are given; each block is read once."""
        found: dict[bytes, tuple[int, bytes]] = {}
        by_height: dict[int, list[tuple[bytes, int]]] = {}
        for tx_id, (height, place) in places.items():
            by_height.setdefault(height, []).append((tx_id, place))
        for height, wanted in by_height.items():
            block = self.store.block(height)
            results = () if block is None else RESULTS_CODEC.decode_trusted(block.results)
            for tx_id, place in wanted:
                if place < len(results) and results[place].id == tx_id:
                    found[tx_id] = (height, results[place].result)
        return found

    def block(self, height: int) -> StoredBlock:
        """Return a block. Raises: NotFound, NoLongerHeld."""
        if self.origin is not None and height < self.genesis.initial_height:
            return self.origin.block(height)
        block = self.store.block(height) if height <= self.store.height else None
        if block is None:
            self.refuse_given_up(height, f"block {height}")
            raise NotFound(f"no block {height} is held here; the last is {self.store.height}")
        return block

    def refuse_given_up(self, height: int, what: str) -> None:
        """Refuse to answer of a height whose block was given up. Raises: NoLongerHeld."""
        first = self.store.head.first_block
        if self.store.initial_height <= height < first:
            raise NoLongerHeld(f"{what} is no longer held here; blocks from {first} on are")

    def transactions_of(self, block: StoredBlock) -> list[DecodedTransaction]:
        """Return the transactions of a block in order."""
        return decode_transactions(self.registry, block.block)

    def block_and_count(self, height: int) -> tuple[StoredBlock, int]:
        """Return a block and how many transactions it holds. Raises: NotFound, NoLongerHeld."""
        block = self.block(height)
        bundles = BLOCK.decode_trusted(block.block).bundles
        return block, sum(len(open_bundle(bundle)) for bundle in bundles)

    def archive_row(self, height: int) -> ArchiveRow | None:
        """Return header, commit and validators of a height, each CometBFT's JSON."""
        if self.origin is not None and height < self.genesis.initial_height:
            return self.origin.archive_row(height)
        return self.store.archive_row(height)

    def table(self, name: str) -> Table[Any]:
        """Return a state table. Raises: NotFound."""
        table = self.registry.tables.get(name)
        if table is None:
            raise NotFound(f"no state table is called {name[:80]!r}")
        return table

    def record(self, table: Table[Any], key: bytes) -> Any:
        """Return the latest record under a key of a table, or None."""
        return table.get(self.state(), key)

    def prove_record(self, table: Table[Any], key: bytes, height: int | None, known_height: int | None) -> bytes:
        """Return the proof file of a record, or of its absence, as of a height (the last provable one by default).

        Raises:
            OutsideWindow, NotProvable, BadParameter: see each.
        """
        if not key:
            raise BadParameter("an empty key holds no record and has no proof")
        # The state after the origin's last block is proved by the first block of this ledger.
        if self.origin is not None and height is not None and height < self.genesis.initial_height - 1:
            return self.origin.prove_record(table, key, height, known_height)
        with _proving():
            return proving.prove_record(self.store, self.genesis, table, key, height=height, known_height=known_height)

    def prove_result(self, tx_id: bytes, known_height: int | None) -> bytes:
        """Return the proof file of a transaction's or trigger's result.

        Raises:
            OutsideWindow, NotProvable, BadParameter: see each.
        """
        if self.origin is not None and self.store.result(tx_id) is None:
            return self.origin.prove_result(tx_id, known_height)
        with _proving():
            return proving.prove_result(self.store, self.genesis, tx_id, known_height=known_height)


@contextmanager
def _proving() -> Iterator[None]:
    try:
        yield
    except StateOutsideWindow as refusal:
        raise OutsideWindow(refusal.message) from None
    except proving.Unprovable as refusal:
        raise NotProvable(str(refusal), retry_after_s=1) from None
    except (light.InvalidTrail, ValueError) as refusal:
        raise BadParameter(str(refusal)) from None


def try_open_store(data: Path) -> Store | None:
    """Open the ledger's store below a data directory for reading; None while the node has not made it yet.

    Raises:
        Fault: it is there and cannot be read.
    """
    path = data / "ledger.lmdb"
    if not (path / "data.mdb").exists():
        return None
    try:
        return Store.open(path, read_only=True)
    except Fault:
        # The node listens only once the store is whole: until then it is at work on it.
        if (data / "node.sock").exists():
            raise
        return None


def key_from_hex(text: str) -> bytes:
    """Return the bytes of a state key. Raises: BadParameter."""
    try:
        return bytes.fromhex(text) if len(text) <= MAX_KEY_HEX else _too_long()
    except ValueError:
        raise BadParameter(f"a key is given in hex, at most {MAX_KEY_HEX} digits") from None


def _too_long() -> bytes:
    raise ValueError


def _page(rows: Iterator[Any], limit: int) -> list[Any]:
    page: list[Any] = []
    for row in rows:
        page.append(row)
        if len(page) == limit:
            break
    return page
