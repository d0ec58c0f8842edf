"""CometBFT itself, built from its pinned module, and solo chains to try things on."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from feiqian.consensus.genesis_file import ConsensusParams, Genesis, GenesisValidator
from feiqian.consensus.solo import SoloSigner, make_archive_row
from feiqian.core.encoding import Record, encode
from feiqian.core.errors import InvalidTransaction
from feiqian.execution.admission import Prepared, encode_bundle, prepare
from feiqian.execution.blocks import Block, Outcome, Unprepared, bundle_results, execute_block, open_bundle
from feiqian.execution.genesis import account_names, compile_consortium, genesis_changes
from feiqian.execution.registry import Registry, discover
from feiqian.ledger.context import BlockInfo
from feiqian.ledger.validators import Misbehaviour
from feiqian.modules.assets.messages import Issue, Transfer
from feiqian.state.store import HeightWrites, Store
from feiqian.testing.cometbft import Judge, build_judge
from feiqian.testing.ledgers import ACCOUNTS, ASSET, CHAIN_ID, consortium_text, key_of
from feiqian.wallet.signing import build_transaction, sign_transaction


@pytest.fixture(scope="session")
def cometbft() -> Judge:
    """CometBFT's own code."""
    return build_judge()


@pytest.fixture(scope="session")
def vectors(cometbft: Judge) -> dict:
    """What CometBFT made of 120 random structures of each kind."""
    return json.loads(cometbft("generate", "20260131", "120"))


START_MS = 1_767_225_600_000
LIFETIME_MS = 60_000


class AuditLedger:
    """A solo ledger run block by block into a real store; `cheat` may falsify what one height writes."""

    def __init__(self, path: Path, registry: Registry, accounts: Mapping[str, str] = ACCOUNTS) -> None:
        consortium = path.with_name(path.name + ".toml")
        consortium.write_text(consortium_text(accounts=accounts), "utf-8")
        self.registry = registry
        self.signer = SoloSigner(b"\x05" * 32)
        self.genesis = Genesis(
            START_MS * 1_000_000,
            CHAIN_ID,
            1,
            ConsensusParams(4 * 1024 * 1024),
            (GenesisValidator(self.signer.public_key, 1, "solo"),),
            b"",
            compile_consortium(consortium, registry),
        )
        self.addresses = account_names(self.genesis.app_state)
        self.members = {entry["name"]: entry["member"] for entry in self.genesis.app_state["accounts"]}
        changes = genesis_changes(registry, self.genesis.app_state, START_MS, 0)
        plain_tables = frozenset(name for name, table in registry.tables.items() if table.is_plain)
        self.store = Store.create(
            path, CHAIN_ID, 1, changes, START_MS, plain_tables=plain_tables, map_bytes=1 << 28, reserve_bytes=1 << 20
        )
        self.results: tuple[bytes, ...] = ()
        self.made = 0

    def sign(self, account: str, *messages: Record) -> bytes:
        """Return messages signed by an account's key; each transaction is another."""
        self.made += 1
        expires_at_ms = self.store.time_ms + LIFETIME_MS
        salt = self.made.to_bytes(8, "big")
        transaction = build_transaction(CHAIN_ID, self.members[account], messages, expires_at_ms, salt)
        return sign_transaction(transaction, [key_of(account)])

    def issue(self, payee: str, amount_minor: int) -> bytes:
        return self.sign("issuance", Issue(self.addresses["issuance"], self.addresses[payee], ASSET, amount_minor, b""))

    def pay(self, payer: str, payee: str, amount_minor: int) -> bytes:
        return self.sign(payer, Transfer(self.addresses[payer], self.addresses[payee], ASSET, amount_minor, b""))

    def block(
        self,
        *bundles: Sequence[bytes] | bytes,
        after_ms: int = 1_000,
        misbehaviour: tuple[Misbehaviour, ...] = (),
        cheat: Callable[[HeightWrites], HeightWrites] = lambda writes: writes,
        run: Callable[[bytes], Prepared | Unprepared] | None = None,
    ) -> Outcome:
        """Make, run and commit the next block; `run` prepares a transaction otherwise than it should be.

        A bundle given as bytes stands in the block as it is, whatever it is.
        """
        store, height = self.store, self.store.height + 1
        time_ms = START_MS if height == 1 else store.time_ms + after_ms
        encoded = tuple(each if isinstance(each, bytes) else encode_bundle(tuple(each)) for each in bundles)
        opened = [open_bundle(each) for each in encoded]
        transactions = [(run or self.prepare)(signed) for bundle in opened for signed in bundle]
        info = BlockInfo(CHAIN_ID, height, time_ms)
        outcome = execute_block(self.registry, store, store, info, transactions, misbehaviour=misbehaviour)
        row = make_archive_row(
            self.genesis,
            self.signer,
            store.archive_row(height - 1),
            height=height,
            time_ms=time_ms,
            bundles=encoded,
            app_hash_before=store.app_hash,
            results_before=self.results,
            app_version=1,
        )
        data = encode(Block(height, time_ms, encoded, misbehaviour))
        writes = HeightWrites(height, time_ms, data, outcome.results, outcome.changes, outcome.replay_ids, row)
        store.commit(store.stage(cheat(writes)))
        place, digests = outcome.unasked, []
        for bundle in opened:
            digests.append(bundle_results(outcome.results[place : place + len(bundle)]))
            place += len(bundle)
        self.results = tuple(digests)
        return outcome

    def prepare(self, signed: bytes) -> Prepared | Unprepared:
        try:
            return prepare(self.registry, CHAIN_ID, signed)
        except InvalidTransaction as error:
            return Unprepared(signed, error)

    def close(self) -> None:
        self.store.close()


@pytest.fixture(scope="session")
def registry() -> Registry:
    return discover()


@pytest.fixture
def make_audit_ledger(tmp_path: Path) -> Iterator[Callable[[Registry], AuditLedger]]:
    with ExitStack() as stack:
        yield lambda registry: stack.enter_context(closing(AuditLedger(tmp_path / "ledger", registry)))


@pytest.fixture
def audit_ledger(make_audit_ledger: Callable[[Registry], AuditLedger], registry: Registry) -> AuditLedger:
    return make_audit_ledger(registry)
