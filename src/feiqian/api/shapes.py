"""The bodies that the HTTP interface answers with. Ids and hashes are hex, accounts `fq1…`, times ms since 1970."""

import base64
from typing import Any, Generic, TypeVar

import msgspec

from feiqian.api.problems import BadParameter

MAX_PAGE = 500
DEFAULT_PAGE = 100

T = TypeVar("T")


class Page(msgspec.Struct, Generic[T]):
    """Part of a list; `next_cursor` asks for the rest, null where there is none."""

    items: list[T]
    next_cursor: str | None
    indexed_height: int | None = None
    """Where the list comes from the SQL index: the height up to which that has everything."""


class ErrorOf(msgspec.Struct):
    """The rule that refused a transaction."""

    codespace: str
    number: int
    message: str


class StatusBody(msgspec.Struct, omit_defaults=True):
    """How the ledger stands, as its node and this gateway see it."""

    chain_id: str
    height: int
    time_ms: int
    app_hash: str
    provable_height: int
    indexed_height: int | None
    indexed_from: int | None
    """The first height whose block is indexed: the first of all, unless the ledger here began with a snapshot."""
    node_is_connected: bool
    genesis_sha256: str
    first_block: int
    """The first height whose block is held; earlier ones were given up for segment files."""
    first_provable_height: int
    """The first height whose state can be proved."""
    store_bytes: int
    disk_free_bytes: int
    operation: "OperationBody | None" = None
    """To those signed in: what the directory takes on disk, and how a network's node stands among the others."""


class OperationBody(msgspec.Struct):
    """What an operator looks at. Bytes are those taken on disk; what is not there takes none."""

    block_age_ms: int
    blocks_held: int
    segment_bytes: int
    snapshot_bytes: int
    index_bytes: int
    """Of the gateway's own databases here; none of one on a server."""
    comet_bytes: int
    network: "NetworkBody | None"
    """None: one node alone orders this ledger."""


class NetworkBody(msgspec.Struct):
    """How CometBFT stands; what it alone knows is null while it does not answer."""

    comet_height: int | None
    comet_first_height: int | None
    """The first height whose block CometBFT holds."""
    is_catching_up: bool | None
    peers: int | None
    missing_nodes: list[str] | None
    """Names of registered nodes that this one is not connected to."""
    validators: list["ValidatorBody"]


class ValidatorBody(msgspec.Struct):
    """A validator and its voting power."""

    name: str
    member: str
    power: int


class BlockSummary(msgspec.Struct):
    """A block among others."""

    height: int
    time_ms: int
    app_hash: str
    transaction_count: int
    result_count: int
    event_count: int
    size_bytes: int


class TransactionSummary(msgspec.Struct):
    """A transaction among others; `kind` is `trigger` where the ledger did it by itself."""

    id: str
    kind: str
    height: int
    place: int
    time_ms: int
    sponsor: str | None
    messages: list[str]
    work: int
    error: ErrorOf | None


class BlockBody(msgspec.Struct):
    """One block: its place in the chain, header and commit in CometBFT's JSON where archived.

    `transactions` lists those that the reader is party to (all for a regulator); null for an anonymous reader.
    """

    height: int
    time_ms: int
    app_hash: str
    transaction_count: int
    size_bytes: int
    is_provable: bool
    header: msgspec.Raw | None
    commit: msgspec.Raw | None
    transactions: list[TransactionSummary] | None


class TransactionBody(msgspec.Struct):
    """One transaction or trigger run with what came of it, as far as the reader may read it.

    A message that acts for none of the reader's accounts has its `type` alone; events are those that concern the
    reader, less what concerns others only. Regulators, and the member that every message acts for, read all.
    """

    id: str
    kind: str
    status: str
    height: int
    place: int
    time_ms: int
    error: ErrorOf | None
    work: int
    sponsor: str | None
    expires_at_ms: int | None
    messages: list[dict[str, Any]]
    events: list[dict[str, Any]]
    signed: str | None
    """The signed bytes, base64, to who reads all."""


class DroppedBody(msgspec.Struct):
    """A transaction that was accepted and then left the pool for no block. `status` is `dropped`.

    Known for ten minutes after it happened; `error` names the rule. Dropped for having expired it is gone for good;
    by another rule, the same bytes may be sent again while they have time left.
    """

    id: str
    kind: str
    status: str
    dropped_at_ms: int
    sponsor: str
    error: ErrorOf


class AccountBody(msgspec.Struct):
    """An account."""

    address: str
    member: str
    is_frozen: bool
    frozen_by: str | None
    policy: dict[str, Any]


class AccountSummary(msgspec.Struct):
    """An account among others."""

    address: str
    member: str


class BalanceBody(msgspec.Struct):
    """An account's standing in one asset; available = posted − held, and may fall to minus the limit."""

    asset: str
    scale: int
    posted_minor: int
    held_minor: int
    available_minor: int
    limit_minor: int
    is_frozen: bool
    is_listed: bool


class BalancesBody(msgspec.Struct):
    """An account's balances at one height."""

    address: str
    height: int
    items: list[BalanceBody]
    next_cursor: str | None


class EntryBody(msgspec.Struct):
    """One leg of a posting, newest first. `posted_minor` is the balance after it; `tx_id` is null for genesis."""

    asset: str
    sequence: int
    amount_minor: int
    posted_minor: int
    height: int
    time_ms: int
    tx_id: str | None
    kind: str


class AssetBody(msgspec.Struct):
    """An asset and its supply."""

    code: str
    supply_minor: int
    asset: dict[str, Any]


class MemberBody(msgspec.Struct):
    """A member institution."""

    id: str
    member: dict[str, Any]


class ChallengeBody(msgspec.Struct):
    """What to sign: `bytes_to_sign` (hex) starts with the domain `feiqian/session-challenge/v1` and a zero byte.

    A wallet checks that prefix, and that `audience` and `chain_id` are the ones it meant, before it signs.
    """

    challenge: str
    bytes_to_sign: str
    chain_id: str
    audience: str
    expires_at_ms: int


class SessionBody(msgspec.Struct):
    """Who is signed in. `token` goes into `Authorization: Bearer …`; browsers get the same as a cookie."""

    token: str | None
    account: str
    member: str
    roles: list[str]
    is_regulator: bool
    expires_at_ms: int


def write_cursor(*parts: int | str) -> str:
    """Return an opaque cursor. It grants nothing: whatever it says, the reader's rights decide what is shown."""
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode().rstrip("=")


def read_cursor(text: str | None, *kinds: type[int] | type[str]) -> tuple[Any, ...] | None:
    """Return a cursor's parts, None where none was given.

    Raises:
        BadParameter: not a cursor of this list.
    """
    if text is None:
        return None
    try:
        parts = msgspec.json.decode(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        parts = None
    if not isinstance(parts, list) or [type(part) for part in parts] != list(kinds) or not all(map(_is_small, parts)):
        raise BadParameter("cursor: not one that this list gave; leave it out to start from the beginning")
    return tuple(parts)


def _is_small(part: int | str) -> bool:
    return -(2**62) <= part <= 2**62 if isinstance(part, int) else len(part) <= 200
