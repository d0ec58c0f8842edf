"""A small made-up ledger for tests and benchmarks: its consortium file, everyone's keys, and signed orders.

Every key comes from its account's name, so that a ledger made twice is the same twice.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from feiqian.consensus.genesis_file import load_genesis
from feiqian.core.encoding import Record
from feiqian.core.signatures import SM2, PublicKey
from feiqian.core.transactions import Signature, decode_signed, encode_signed
from feiqian.execution.genesis import account_names
from feiqian.execution.registry import Registry, discover
from feiqian.modules.assets.messages import Issue, Transfer
from feiqian.node.initialise import initialise
from feiqian.wallet.keys import Ed25519Key
from feiqian.wallet.signing import build_transaction, sign_transaction

CHAIN_ID = "sample-1"
ASSET = "CNY.north-bank"
LIFETIME_MS = 300_000

MEMBERS: Mapping[str, str] = {
    "north-bank": "North Bank of Nowhere",
    "south-bank": "South Bank of Nowhere",
    "lantern-works": "Lantern Works of Nowhere",
}

ACCOUNTS: Mapping[str, str] = {
    "issuance": "north-bank",
    "treasury": "north-bank",
    "south": "south-bank",
    "lantern": "lantern-works",
}
"""Account to member; each is owned by one key."""


def key_of(account: str) -> Ed25519Key:
    """Return the key that owns an account of the sample ledger."""
    return Ed25519Key(hashlib.sha256(f"sample key {account}".encode()).digest())


def consortium_text(
    parameters: Mapping[str, int] | None = None,
    accounts: Mapping[str, str] = ACCOUNTS,
    two_keys: Sequence[str] = (),
) -> str:
    """Return the sample `consortium.toml`; accounts in `two_keys` need a second signature, by their checker's key."""
    lines = ["[chain]", f'id = "{CHAIN_ID}"', "", "[parameters]"]
    lines += [f"{name} = {value}" for name, value in (parameters or {}).items()]
    for member, legal_name in MEMBERS.items():
        lines += ["", "[[members]]", f'id = "{member}"', f'legal_name = "{legal_name}"', 'roles = ["bank"]']
    for account, member in accounts.items():
        keys = [(account, "owner"), *([(f"{account} checker", "checker")] if account in two_keys else [])]
        listed = ", ".join(
            f'{{ key = "ed25519:{key_of(name).public.data.hex()}", role = "{role}" }}' for name, role in keys
        )
        needs = ", ".join(f'{{ role = "{role}", weight = 1 }}' for _, role in keys)
        lines += ["", "[[accounts]]", f'name = "{account}"', f'member = "{member}"', f"keys = [{listed}]"]
        lines += [f'rules = [{{ kinds = ["*"], needs = [{needs}] }}]']
    lines += ["", "[[assets]]", f'code = "{ASSET}"', 'name = "Deposits at North Bank"', "scale = 2"]
    lines += ['issuer = "north-bank"', 'issuance_account = "@issuance"', 'supply_cap = "10000000000000.00"']
    return "\n".join(lines) + "\n"


class SampleLedger:
    """A ledger's directory, freshly made, and what its members may sign."""

    def __init__(self, directory: Path, registry: Registry, text: str | None = None) -> None:
        """Make the ledger in `directory`; `text` is another consortium file than the sample's own."""
        directory.parent.mkdir(parents=True, exist_ok=True)
        consortium = directory.with_name(directory.name + "-consortium.toml")
        consortium.write_text(text or consortium_text(), "utf-8")
        initialise(directory, consortium, registry)
        self._read(directory, registry)

    @classmethod
    def reopen(cls, directory: Path, registry: Registry) -> "SampleLedger":
        """Return a sample ledger that was made before."""
        ledger = cls.__new__(cls)
        ledger._read(directory, registry)
        return ledger

    def _read(self, directory: Path, registry: Registry) -> None:
        self.directory = directory
        self.registry = registry
        self.genesis = load_genesis(directory / "genesis.json")
        self.addresses = account_names(self.genesis.app_state)
        self.members = {entry["name"]: entry["member"] for entry in self.genesis.app_state["accounts"]}

    def issue(self, payee: str, amount_minor: int, *, reference: bytes = b"", lifetime_ms: int = LIFETIME_MS) -> bytes:
        """Return a signed order that brings new units into being on an account."""
        message = Issue(self.addresses["issuance"], self.addresses[payee], ASSET, amount_minor, reference)
        return self.sign("issuance", [message], lifetime_ms=lifetime_ms)

    def transfer(
        self,
        payer: str,
        payee: str,
        amount_minor: int,
        *,
        reference: bytes = b"",
        lifetime_ms: int = LIFETIME_MS,
        signers: Sequence[str] | None = None,
    ) -> bytes:
        """Return a signed transfer; it expires `lifetime_ms` from now."""
        message = Transfer(self.addresses[payer], self.addresses[payee], ASSET, amount_minor, reference)
        return self.sign(payer, [message], lifetime_ms=lifetime_ms, signers=signers)

    def sign(
        self,
        account: str,
        messages: Sequence[Record],
        *,
        lifetime_ms: int = LIFETIME_MS,
        signers: Sequence[str] | None = None,
    ) -> bytes:
        """Return messages signed by the account's key, or by those of `signers`, at the cost of its member."""
        expires_at_ms = time.time_ns() // 1_000_000 + lifetime_ms
        transaction = build_transaction(self.genesis.chain_id, self.members[account], messages, expires_at_ms)
        return sign_transaction(transaction, [key_of(name) for name in (signers or [account])])


SM2_STRANGERS = (
    # GB/T 32918.5-2017, A.2: a key of the recommended curve, whose owner signed nothing here.
    PublicKey(
        SM2,
        bytes.fromhex(
            "09f9df311e5421a150dd7d161e4bc5c672179fad1833fc076bb08ff356f35020"
            "ccea490ce26775a52dc6ea718cc1aa600aed05fbf35e084a6632f6072da9ad13"
        ),
    ),
    # No point of that curve.
    PublicKey(SM2, b"\x01" * 64),
)
"""Keys under which no signature of a test holds; GmSSL prints on standard error when one is tried."""


def forge_sm2(signed: bytes) -> tuple[bytes, ...]:
    """Return the transaction as strangers would sign it who can only guess."""
    body = decode_signed(signed).body
    return tuple(encode_signed(body, (Signature(key, b"\x02" * 64),)) for key in SM2_STRANGERS)


def make_ledger(directory: Path, text: str | None = None) -> SampleLedger:
    """Make a sample ledger in a directory that does not exist yet."""
    return SampleLedger(directory, discover(), text)
