"""The proof page: open a proof from a balance or transaction, or bring a file, and have it verified."""

from typing import Annotated, Any, NamedTuple

import msgspec
from litestar import Request, Response, get, post
from litestar.datastructures import UploadFile
from litestar.params import Parameter

from feiqian.api.access import Access
from feiqian.api.gateway import Gateway
from feiqian.api.problems import BadParameter, BodyTooLarge
from feiqian.api.routes import proofs
from feiqian.api.routes.parameters import Asker, Here, IdHex, SomeHeight
from feiqian.api.threads import on_thread
from feiqian.consensus.proof_file import InvalidProofFile, Verified, verify
from feiqian.console.forms import guard_same_origin
from feiqian.console.frame import here_of, show
from feiqian.console.presenting import Line, describe
from feiqian.core import addresses
from feiqian.core.plain import to_plain
from feiqian.execution.blocks import RESULT, Result
from feiqian.index.decoding import decode_events
from feiqian.ledger.balances import BALANCES

MAX_FILE_BYTES = 4 * 1024 * 1024
"""Larger files are for `feiqian verify`: here anyone may ask."""

STEPS = ("file", "trail", "record", "results tree", "state tree")
_ADDRESS_BYTES = addresses.ADDRESS_BYTES

AssetQuery = Annotated[str, Parameter(query="asset", min_length=1, max_length=48, description="An asset's code")]
AddressQuery = Annotated[str, Parameter(query="address", max_length=90, description="An account, `fq1…`")]


class Step(NamedTuple):
    """One step of the check; `outcome` is held, broken or unreached."""

    name: str
    outcome: str


class Claim(NamedTuple):
    """What a proof file says, not yet checked."""

    kind: str
    chain_id: str
    height: int


@get("/proof", opt={"access": Access.PUBLIC}, include_in_schema=False)
async def show_proof(request: Request[Any, Any, Any]) -> Response[str]:
    """Page: what a proof is, and a place to bring one."""
    return show(request, "proof.html")


@get("/proof/balance", opt=proofs.prove_balance.opt, include_in_schema=False)
async def show_balance_proof(
    gateway: Here,
    reader: Asker,
    request: Request[Any, Any, Any],
    address: AddressQuery,
    asset: AssetQuery,
    height: SomeHeight = None,
) -> Response[str]:
    """Page: the proof of a balance, ready to be kept and verified."""
    file = await proofs.prove_balance.fn(gateway, reader, address, asset, height, None)
    return _show_file(request, file.content, f"/api/v1/proofs/balance?{request.url.query}")


@get("/proof/transaction/{tx_id:str}", opt=proofs.prove_transaction.opt, include_in_schema=False)
async def show_transaction_proof(
    tx_id: IdHex, gateway: Here, reader: Asker, request: Request[Any, Any, Any]
) -> Response[str]:
    """Page: the proof of a transaction's result, ready to be kept and verified."""
    file = await proofs.prove_transaction.fn(tx_id, gateway, reader, None)
    return _show_file(request, file.content, f"/api/v1/proofs/transaction/{tx_id}")


@post("/proof", opt={"access": Access.PUBLIC}, guards=[guard_same_origin], status_code=200, include_in_schema=False)
async def verify_proof(gateway: Here, request: Request[Any, Any, Any]) -> Response[str]:
    """Page: whether a proof file holds against this ledger's genesis, step by step."""
    content = await _read_file(request)
    genesis = gateway.ledger.genesis
    refusal = verified = None
    try:
        verified = await on_thread(verify, content, genesis, gateway.ledger.registry.tables)
    except InvalidProofFile as error:
        refusal = error
    return show(
        request,
        "verified.html",
        here="/proof",
        steps=steps_of(verified, refusal),
        refusal=refusal,
        verified=verified,
        subject=None if verified is None else _subject(gateway, verified),
        genesis_digest=genesis.digest().hex(),
        chain_id=genesis.chain_id,
    )


def steps_of(verified: Verified | None, refusal: InvalidProofFile | None) -> list[Step]:
    """Return the steps of a check in their order, each with what came of it."""
    if verified is not None:
        names = [name for name in STEPS if name != "results tree" or verified.kind == "result"]
        return [Step(name, "held") for name in names]
    assert refusal is not None
    broken = STEPS.index(refusal.step)
    outcomes = [*["held"] * broken, "broken", *["unreached"] * (len(STEPS) - broken - 1)]
    return [Step(name, outcome) for name, outcome in zip(STEPS, outcomes, strict=True)]


def _show_file(request: Request[Any, Any, Any], content: bytes, download: str) -> Response[str]:
    said = msgspec.json.decode(content, type=dict[str, Any])
    claim = Claim(said["kind"], said["chain_id"], said["height"])
    return show(
        request,
        "proof-file.html",
        here=here_of(request),
        claim=claim,
        text=content.decode(),
        size_bytes=len(content),
        download=download,
    )


async def _read_file(request: Request[Any, Any, Any]) -> bytes:
    form = await request.form()
    uploaded, pasted = form.get("file"), form.get("proof", "")
    content = await uploaded.read(MAX_FILE_BYTES + 1) if isinstance(uploaded, UploadFile) else b""
    if not content and isinstance(pasted, str):
        content = pasted.strip().encode()
    if not content:
        raise BadParameter("choose a proof file, or paste its text")
    if len(content) > MAX_FILE_BYTES:
        raise BodyTooLarge(f"this page takes proof files of at most {MAX_FILE_BYTES} bytes; use `feiqian verify`")
    return content


class Subject(NamedTuple):
    """What was proved, as people read it; `result` where it is a transaction's."""

    title: str
    lines: list[Line]
    result: Result | None
    events: list[tuple[str, list[Line]]]


def _subject(gateway: Gateway, verified: Verified) -> Subject:
    ledger = gateway.ledger
    if verified.kind == "result" and verified.value is not None:
        result = RESULT.decode(verified.value)
        tagged = [to_plain(event) for event in decode_events(ledger.registry, result)]
        events = [(str(event["type"]), describe(ledger, event)) for event in tagged]
        return Subject("result", [Line("tx_id", "hash", verified.key.hex())], result, events)
    named: dict[str, Any] = {"table": verified.table}
    if verified.table == BALANCES.name and len(verified.key) > _ADDRESS_BYTES:
        named |= {
            "account": addresses.to_text(verified.key[:_ADDRESS_BYTES]),
            "asset": verified.key[_ADDRESS_BYTES:].decode(errors="replace"),
        }
    else:
        named["key"] = verified.key.hex()
    record = {} if verified.record is None else to_plain(verified.record)
    return Subject(verified.kind, describe(ledger, named | record), None, [])


PAGES = (show_proof, show_balance_proof, show_transaction_proof, verify_proof)
