"""Submission of signed transactions, one or thousands a request. The signatures speak: no session is needed."""

import base64
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, post
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType
from litestar.params import QueryParameter

from feiqian.api.access import Access
from feiqian.api.dry_run import MAX_DRY_RUN_TRANSACTIONS, dry_run, prepare_dry_run
from feiqian.api.problems import BadParameter, BodyTooLarge, NotAllowed, TooBusy, UnsupportedMediaType
from feiqian.api.routes.parameters import V1, Asker, Here
from feiqian.api.submission import MAX_BATCH_TRANSACTIONS, Outcome, Wait
from feiqian.api.threads import on_thread
from feiqian.core.encoding import MAX_TRANSACTION_BYTES
from feiqian.execution.admission import Prepared

MSGPACK = "application/msgpack"
JSON = "application/json"
DEFAULT_WAIT_S = 15
MAX_WAIT_S = 60

_WAITS = {"": Wait.NOTHING, "committed": Wait.COMMITTED, "provable": Wait.PROVABLE}
_STATUS_REACHED = {
    Wait.NOTHING: ("refused", "committed"),
    Wait.COMMITTED: ("refused", "dropped", "committed"),
    Wait.PROVABLE: ("refused", "dropped", "provable"),
}


class SubmitBody(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON form of a batch: each transaction's signed bytes in base64."""

    transactions: list[str]


_DECODE_MSGPACK = msgspec.msgpack.Decoder(list[bytes]).decode
_DECODE_JSON = msgspec.json.Decoder(SubmitBody).decode


def _request_body() -> RequestBody:
    items = Schema(type=OpenAPIType.STRING, content_encoding="base64", description="One signed transaction")
    batch = Schema(type=OpenAPIType.ARRAY, items=items, min_items=1, max_items=MAX_BATCH_TRANSACTIONS)
    body = Schema(
        type=OpenAPIType.OBJECT,
        properties={"transactions": batch},
        required=["transactions"],
        additional_properties=False,
    )
    binary = Schema(
        type=OpenAPIType.STRING,
        format=OpenAPIFormat.BINARY,
        description="A MessagePack array of bin, one a transaction",
    )
    return RequestBody(
        content={JSON: OpenAPIMediaType(schema=body), MSGPACK: OpenAPIMediaType(schema=binary)}, required=True
    )


@dataclass
class SubmitOperation(Operation):
    """Describes the two forms of the body, which the handler reads itself."""

    request_body: Any = field(default_factory=_request_body)


@post(
    f"{V1}/transactions",
    opt={"access": Access.PUBLIC, "reads_state": False},
    status_code=200,
    operation_class=SubmitOperation,
    responses=None,
)
async def submit_transactions(
    request: Request[Any, Any, Any],
    gateway: Here,
    wait: Annotated[
        str, QueryParameter(pattern=r"^(|committed|provable)$", description="`committed` or `provable`")
    ] = "",
    timeout_s: Annotated[int, QueryParameter(ge=1, le=MAX_WAIT_S)] = DEFAULT_WAIT_S,
) -> Response[bytes]:
    """Submit signed transactions; answers one outcome each, in order.

    200: every one is as far as was asked for, `refused`, or `dropped`: it was accepted and left the pool for no block.
    202: some are still on their way (`accepted`), or found no room (`later`): send these again. Sending twice is
    harmless: what stands on the ledger is reported as such. 429 or 503 with Retry-After: none was taken.
    """
    batch = _read_batch(request.content_type[0], await request.body())
    waited = _WAITS[wait]
    outcomes = await gateway.submitter.submit(batch, waited, timeout_s)
    for status, count in Counter(outcome.status for outcome in outcomes).items():
        gateway.metrics.submitted.labels(status).inc(count)
    has_reached = all(outcome.status in _STATUS_REACHED[waited] for outcome in outcomes)
    headers = {}
    later_ms = [outcome.retry_after_ms for outcome in outcomes if outcome.status == "later"]
    if later_ms:
        headers["Retry-After"] = str(math.ceil(max(later_ms) / 1000))
    return _answer(request, outcomes, 200 if has_reached else 202, headers)


@post(
    f"{V1}/transactions/dry-run",
    opt={"access": Access.MEMBER},
    status_code=200,
    operation_class=SubmitOperation,
    responses=None,
)
async def dry_run_transactions(request: Request[Any, Any, Any], gateway: Here, reader: Asker) -> Response[bytes]:
    """Say what submitting transactions now, one after another, would be answered with; nothing is submitted or kept.

    Each acts for accounts that the reader may read, and carries the keys that would sign it, with 64 zero bytes for
    every signature. Answers one outcome each, in order, as submission does: `refused`, or `committed` without a height.
    429 with Retry-After: another dry run is running.
    """
    batch = _read_batch(request.content_type[0], await request.body(), MAX_DRY_RUN_TRANSACTIONS)
    if gateway.dry_runs.locked():
        raise TooBusy("a dry run is running; send the same in a moment", retry_after_s=1)
    async with gateway.dry_runs:
        prepared = await on_thread(prepare_dry_run, gateway.ledger, batch)
        accounts = {
            claim.account
            for each in prepared
            if isinstance(each, Prepared)
            for message in each.transaction.messages
            for claim in message.claims()
        }
        if not all(reader.may_read(gateway.ledger.parties([account])) for account in accounts):
            raise NotAllowed("a dry run acts for accounts that its sender may read")
        outcomes = await on_thread(dry_run, gateway.ledger, prepared, time.time_ns() // 1_000_000)
    return _answer(request, outcomes, 200, {})


def _read_batch(content_type: str, body: bytes, most: int = MAX_BATCH_TRANSACTIONS) -> tuple[bytes, ...]:
    if content_type == MSGPACK:
        try:
            batch = _DECODE_MSGPACK(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise BadParameter("the body is a MessagePack array of bin, each one signed transaction") from None
    elif content_type == JSON:
        batch = _read_json(body)
    else:
        raise UnsupportedMediaType(f"send {MSGPACK} or {JSON}")
    if not batch:
        raise BadParameter("a batch holds at least one transaction")
    if len(batch) > most:
        raise BodyTooLarge(f"{len(batch)} transactions; at most {most} go into one request")
    largest = max(map(len, batch))
    if largest > MAX_TRANSACTION_BYTES:
        raise BodyTooLarge(f"a transaction of {largest} bytes; at most {MAX_TRANSACTION_BYTES} are accepted")
    return tuple(batch)


def _read_json(body: bytes) -> list[bytes]:
    try:
        return [base64.b64decode(text, validate=True) for text in _DECODE_JSON(body).transactions]
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise BadParameter('the body is {"transactions": [base64, …]}, each one signed transaction') from None


def _answer(
    request: Request[Any, Any, Any], outcomes: list[Outcome], status: int, headers: dict[str, str]
) -> Response[bytes]:
    if MSGPACK in request.headers.get("accept", ""):
        return Response(msgspec.msgpack.encode(outcomes), status_code=status, media_type=MSGPACK, headers=headers)
    return Response(msgspec.json.encode(outcomes), status_code=status, media_type=JSON, headers=headers)


ROUTES = (submit_transactions, dry_run_transactions)
