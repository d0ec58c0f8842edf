"""What gateway and node say to each other over the unix socket.

A frame is 4 bytes length (big endian) and one MessagePack value.
"""

from typing import Annotated

import msgspec
from msgspec import Meta

from feiqian.core.encoding import Record

MAX_FRAME_BYTES = 64 * 1024 * 1024
MAX_SUBMIT_TRANSACTIONS = 10_000
MAX_DROPS = 1_000
MAX_DROP_ACCOUNTS = 16


class Submit(Record, tag="submit"):
    """Gateway to node: take these signed transactions. `request` is echoed in the answer."""

    request: Annotated[int, Meta(ge=0, le=2**53)]
    transactions: Annotated[tuple[bytes, ...], Meta(min_length=1, max_length=MAX_SUBMIT_TRANSACTIONS)]


class Verdict(Record):
    """The mempool's word on one transaction; `number` 0 is accepted, otherwise the broken rule.

    `tx_id` is empty where the bytes did not decode. `retry_after_ms` > 0 says that the pool is full for this sponsor:
    nothing is wrong with the transaction, send it again later.
    """

    tx_id: bytes
    codespace: str
    number: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    message: str
    retry_after_ms: Annotated[int, Meta(ge=0, le=2**32 - 1)]


class Submitted(Record, tag="submitted"):
    """Node to gateway: one verdict for each transaction, in order."""

    request: Annotated[int, Meta(ge=0, le=2**53)]
    verdicts: tuple[Verdict, ...]


class FollowCommitted(Record, tag="follow_committed"):
    """Gateway to node: tell me what became of each block from this height on, as soon as it is committed."""

    from_height: Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Committed(Record, tag="committed"):
    """Node to gateway: one block that is committed: it is in the block log, and the store will take it next.

    `results` are as the store keeps them.
    """

    height: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    results: bytes


class FollowStored(Record, tag="follow_stored"):
    """Gateway to node: send every block that the store holds from this height on, then each new one."""

    from_height: Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Stored(Record, tag="stored"):
    """Node to gateway: one block that is in the store. `block` and `results` are as the store keeps them.

    `app_hash` is the state root after this block. A block is provable once the next height arrives.
    """

    height: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    time_ms: Annotated[int, Meta(ge=0, le=2**53)]
    app_hash: bytes
    block: bytes
    results: bytes


class Gone(Record, tag="gone"):
    """Node to gateway: no block from the height subscribed to is held here any more; the first held is this one."""

    first_height: Annotated[int, Meta(ge=0, le=2**63 - 1)]


class FollowDropped(Record, tag="follow_dropped"):
    """Gateway to node: tell me of transactions that were accepted and then dropped, first of the latest ones."""


class Drop(Record):
    """A transaction that was accepted and left the pool for no block, and the rule that says why.

    It concerns its sponsor and the accounts that it acted for, of which the first are named. Expired it is gone for
    good; dropped by another rule, the same bytes may be sent again while they have time left, and dropped again.
    """

    tx_id: bytes
    at_ms: Annotated[int, Meta(ge=0, le=2**53)]
    sponsor: str
    accounts: Annotated[tuple[bytes, ...], Meta(max_length=MAX_DROP_ACCOUNTS)]
    codespace: str
    number: Annotated[int, Meta(ge=1, le=2**32 - 1)]
    message: Annotated[str, Meta(max_length=500)]


class Dropped(Record, tag="dropped"):
    """Node to gateway: transactions that were dropped, each told of once; who reads too slowly misses some."""

    drops: Annotated[tuple[Drop, ...], Meta(min_length=1, max_length=MAX_DROPS)]


class AskStatus(Record, tag="ask_status"):
    """Gateway to node: how are you?"""

    request: Annotated[int, Meta(ge=0, le=2**53)]


class NodeStatus(Record, tag="node_status"):
    """Node to gateway."""

    request: Annotated[int, Meta(ge=0, le=2**53)]
    chain_id: str
    height: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    time_ms: Annotated[int, Meta(ge=0, le=2**53)]
    app_hash: bytes
    pool_transactions: Annotated[int, Meta(ge=0, le=2**53)]
    pool_bytes: Annotated[int, Meta(ge=0, le=2**53)]
    is_ready: bool


class AskMetrics(Record, tag="ask_metrics"):
    """Gateway to node: your figures, please."""

    request: Annotated[int, Meta(ge=0, le=2**53)]


class Metrics(Record, tag="metrics"):
    """Node to gateway: figures in Prometheus's text format."""

    request: Annotated[int, Meta(ge=0, le=2**53)]
    text: str


Request = Submit | FollowStored | FollowCommitted | FollowDropped | AskStatus | AskMetrics
Reply = Submitted | Committed | Stored | Dropped | Gone | NodeStatus | Metrics

REQUEST_DECODER = msgspec.msgpack.Decoder(Request)
REPLY_DECODER = msgspec.msgpack.Decoder(Reply)
