"""For tests only: a small real ledger in memory, with members, accounts and assets in a few lines.

Nothing here stands in for a rule: state is `BlockState` over a dict, and messages run through authority and handlers.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any

from nacl.signing import SigningKey

from feiqian.core.encoding import MAX_SUPPLY_MINOR, Codec
from feiqian.core.hashing import sha256
from feiqian.core.signatures import ED25519, PublicKey
from feiqian.ledger.accounts import open_account
from feiqian.ledger.assets import Asset, define_asset
from feiqian.ledger.authority import Policy, authorise, single_key_policy
from feiqian.ledger.context import BlockInfo, Context, Event, Message
from feiqian.ledger.members import Member, add_member
from feiqian.ledger.postings import Leg, post
from feiqian.modules import Handler
from feiqian.state.tables import BlockState, Changes, Overlay

CHAIN_ID = "ferry-test-1"
TIME_MS = 1_790_000_000_000
"""Block time of the first block: 2026-09-21 14:13:20 UTC."""


class MemoryReader:
    """Committed state in a dict."""

    def __init__(self, records: Mapping[bytes, bytes] | None = None) -> None:
        self.records: dict[bytes, bytes] = dict(records or {})

    def get(self, key: bytes, /) -> bytes | None:
        """Return the record's bytes under a full key, or None."""
        return self.records.get(key)

    def scan(self, prefix: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Yield (full key, record bytes) in key order for keys with `prefix`, those > `after` only."""
        return ((key, self.records[key]) for key in sorted(self.records) if key.startswith(prefix) and key > after)

    def commit(self, changes: Changes) -> None:
        """Take a block's writes over."""
        for key, data in changes.items():
            if data is None:
                self.records.pop(key, None)
            else:
                self.records[key] = data


def memory_state(records: Mapping[bytes, bytes] | None = None) -> BlockState:
    """Return the state of a block over records in memory, none by default."""
    return BlockState(MemoryReader(records))


def key_of(name: str) -> PublicKey:
    """Return the Ed25519 public key whose seed is the SHA-256 of `name`."""
    return PublicKey(ED25519, bytes(SigningKey(sha256(name.encode())).verify_key))


class Dispatch:
    """Reads and runs messages of the given handlers, as execution's registry does."""

    def __init__(self, handlers: Mapping[type[Message], Handler]) -> None:
        self.handlers = handlers
        self._codec: Codec[Message] | None = Codec(reduce(or_, handlers), "message") if handlers else None

    def decode(self, messages: tuple[bytes, ...]) -> tuple[Message, ...]:
        """Decode each message."""
        assert self._codec is not None, "this test's context has no handlers"
        return tuple(self._codec.decode(data) for data in messages)

    def __call__(self, ctx: Context, messages: tuple[bytes, ...]) -> None:
        """Decode and run each message in order."""
        for message in self.decode(messages):
            self.handlers[type(message)](ctx, message)


def context(
    state: Overlay,
    *,
    time_ms: int = TIME_MS,
    height: int = 1,
    origin: bytes = bytes(32),
    sponsor: str | None = None,
    signers: Sequence[PublicKey] = (),
    handlers: Mapping[type[Message], Handler] | None = None,
) -> Context:
    """Return a context that writes straight into `state`."""
    block = BlockInfo(CHAIN_ID, height, time_ms)
    return Context(state, block, origin, sponsor, frozenset(signers), Dispatch(handlers or {}))


class Bench:
    """A ledger under test: one block state, a clock, and short ways to found members, accounts and assets."""

    def __init__(self, handlers: Mapping[type[Message], Handler] | None = None) -> None:
        self.handlers = handlers or {}
        self.state = memory_state()
        self.time_ms = TIME_MS
        self.height = 1
        self._origins = 0

    def context(self, *signers: PublicKey, sponsor: str | None = None, state: Overlay | None = None) -> Context:
        """Return a context of its own origin on this ledger's state."""
        self._origins += 1
        return context(
            state or self.state,
            time_ms=self.time_ms,
            height=self.height,
            origin=sha256(self._origins.to_bytes(4, "big")),
            sponsor=sponsor,
            signers=signers,
            handlers=self.handlers,
        )

    def member(self, member_id: str, *roles: str) -> str:
        """Admit a member."""
        add_member(self.context(), member_id, Member(f"{member_id} Ltd", None, None, None, roles, None, False))
        return member_id

    def account(self, member_id: str, name: str, policy: Policy | None = None) -> bytes:
        """Open an account; its policy is the single key `key_of(name)` unless one is given."""
        return open_account(self.context(), member_id, policy or single_key_policy(key_of(name)), name.encode())

    def asset(self, code: str, issuer: str, issuance_account: bytes, **changes: Any) -> Asset:
        """Define an asset of scale 2 without limits, freezing or list of holders; `changes` name other fields."""
        fields: dict[str, Any] = {
            "scale": 2,
            "issuer": issuer,
            "issuance_account": issuance_account,
            "supply_cap_minor": MAX_SUPPLY_MINOR,
            "is_freezable": False,
            "is_allow_listed": False,
            "transfer_limit_minor": None,
            "daily_limit_minor": None,
            "controller": None,
            "name": code,
            "currency": None,
        }
        asset = Asset(**{**fields, **changes})
        define_asset(self.context(), code, asset)
        return asset

    def issue(self, code: str, issuance_account: bytes, account: bytes, amount_minor: int) -> None:
        """Post an issue to an account."""
        post(self.context(), (Leg(issuance_account, code, -amount_minor), Leg(account, code, amount_minor)))

    def run(self, *messages: Message, by: Sequence[PublicKey], sponsor: str) -> list[Event]:
        """Run a transaction: authority, then the handlers on an overlay that is kept whole or dropped.

        Raises:
            InvalidTransaction: what refused it; state stays as it was.
        """
        authorise(self.state, messages, sponsor, frozenset(by))
        ctx = self.context(*by, sponsor=sponsor, state=Overlay(self.state))
        for message in messages:
            self.handlers[type(message)](ctx, message)
        ctx.state.keep()
        return ctx.events


__all__ = [
    "CHAIN_ID",
    "TIME_MS",
    "Bench",
    "Dispatch",
    "MemoryReader",
    "context",
    "key_of",
    "memory_state",
]
