"""A small ledger in memory, made from a real consortium file and run block by block."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from feiqian.core.encoding import Record
from feiqian.execution.admission import Prepared, prepare
from feiqian.execution.blocks import RESULT, Outcome, Result, execute_block
from feiqian.execution.genesis import account_names, compile_consortium, genesis_changes
from feiqian.execution.registry import Registry, discover
from feiqian.ledger.context import BlockInfo
from feiqian.ledger.validators import Misbehaviour
from feiqian.wallet.keys import Ed25519Key
from feiqian.wallet.signing import build_transaction, sign_transaction

START_MS = 1_800_000_000_000
CHAIN = "feiqian-test-1"


def key(name: str) -> Ed25519Key:
    """Return the same key for the same name, for tests only."""
    return Ed25519Key(name.encode().ljust(32, b"\x00"))


def key_text(name: str) -> str:
    return f"ed25519:{key(name).public.data.hex()}"


CONSORTIUM = f"""
[chain]
id = "{CHAIN}"

[[members]]
id = "mint"
legal_name = "Mint of Nowhere"
roles = ["issuer", "governor"]

[[members]]
id = "north"
legal_name = "North Trading"
roles = ["company"]

[[members]]
id = "south"
legal_name = "South Trading"
roles = ["company"]

[[accounts]]
name = "mint/issuance"
member = "mint"
keys = [{{ key = "{key_text("mint")}" }}]

[[accounts]]
name = "north"
member = "north"
keys = [{{ key = "{key_text("north")}" }}]

[[accounts]]
name = "south"
member = "south"
keys = [
  {{ key = "{key_text("south-maker")}", role = "maker" }},
  {{ key = "{key_text("south-checker")}", role = "checker" }},
]
rules = [
  {{ kinds = ["assets.*"], asset = "GLD", up_to_minor = 100, needs = [{{ role = "maker" }}] }},
  {{ needs = [{{ role = "maker" }}, {{ role = "checker" }}] }},
]

[[assets]]
code = "GLD"
name = "Gold of Nowhere"
scale = 2
issuer = "mint"
issuance_account = "@mint/issuance"
supply_cap = "1000000.00"
"""


class MemoryLedger:
    """Committed state in dicts; blocks run on it as a node would run them."""

    def __init__(self, registry: Registry, app_state: dict[str, Any]) -> None:
        self.registry = registry
        self.records: dict[bytes, bytes] = {}
        self.used: set[bytes] = set()
        self.height = 0
        self.time_ms = START_MS
        self.names = account_names(app_state)
        self._apply(genesis_changes(registry, app_state, START_MS, 0))

    key = staticmethod(key)

    def get(self, full_key: bytes, /) -> bytes | None:
        return self.records.get(full_key)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(item for item in self.records.items() if item[0].startswith(prefix) and item[0] > after))

    def has_replay_id(self, expires_at_ms: int, tx_id: bytes) -> bool:
        return tx_id in self.used

    def sign(self, sponsor: str, messages: list[Record], signers: list[str], **changes: Any) -> bytes:
        expires = changes.pop("expires_at_ms", self.time_ms + 60_000)
        transaction = build_transaction(changes.pop("chain_id", CHAIN), sponsor, messages, expires, **changes)
        return sign_transaction(transaction, [key(name) for name in signers])

    def prepare(self, signed: bytes) -> Prepared:
        return prepare(self.registry, CHAIN, signed)

    def block(
        self,
        transactions: list[Any],
        *,
        after_ms: int = 1_000,
        misbehaviour: tuple[Misbehaviour, ...] = (),
        is_proposal: bool = False,
    ) -> Outcome:
        self.height += 1
        self.time_ms += after_ms
        block = BlockInfo(CHAIN, self.height, self.time_ms)
        outcome = execute_block(
            self.registry, self, self, block, transactions, misbehaviour=misbehaviour, is_proposal=is_proposal
        )
        self._apply(outcome.changes)
        self.used |= {tx_id for _, tx_id in outcome.replay_ids}
        return outcome

    def results(self, outcome: Outcome) -> list[Result]:
        return [RESULT.decode(data) for _, data in outcome.results]

    def run(self, sponsor: str, messages: list[Record], signers: list[str]) -> Result:
        outcome = self.block([self.prepare(self.sign(sponsor, messages, signers))])
        return self.results(outcome)[-1]

    def _apply(self, changes: dict[bytes, bytes | None]) -> None:
        for full_key, data in changes.items():
            if data is None:
                self.records.pop(full_key, None)
            else:
                self.records[full_key] = data


@pytest.fixture(scope="session")
def registry() -> Registry:
    return discover()


@pytest.fixture(scope="session")
def app_state(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path: Path = tmp_path_factory.mktemp("consortium") / "consortium.toml"
    path.write_text(CONSORTIUM)
    return compile_consortium(path, registry)


@pytest.fixture
def ledger(registry: Registry, app_state: dict[str, Any]) -> MemoryLedger:
    return MemoryLedger(registry, app_state)
