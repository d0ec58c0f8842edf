"""`feiqian submit`: sign messages in a file and send them, or send what was signed elsewhere."""

import base64
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from feiqian.cli.arguments import ValidFor
from feiqian.cli.connection import KeyPaths, Url, connect
from feiqian.cli.keys import read_passphrase
from feiqian.cli.output import EXIT_REFUSED, EXIT_USAGE, Output, fail
from feiqian.consensus.genesis_file import load_genesis
from feiqian.core.addresses import to_text
from feiqian.core.encoding import encode
from feiqian.core.errors import Undecodable
from feiqian.core.plain import from_plain
from feiqian.core.transactions import transaction_id
from feiqian.execution.genesis import account_names
from feiqian.execution.registry import Registry, discover
from feiqian.wallet.files import open_signing_key
from feiqian.wallet.signing import build_transaction, sign_body

Wait = Literal["committed", "provable"]


class TransactionFile(msgspec.Struct, forbid_unknown_fields=True):
    """What `feiqian submit` reads: messages as objects with `type` and fields, addresses as fq1…, bytes as hex."""

    sponsor: str
    messages: Annotated[list[dict[str, Any]], Meta(min_length=1)]


def submit(
    file: Path,
    *,
    key: KeyPaths = None,
    wait: Wait = "committed",
    valid_s: ValidFor = 300,
    names: Path | None = None,
    dry_run: bool = False,
    url: Url = None,
    json: bool = False,
) -> None:
    """Sign the messages in FILE as one transaction and submit it.

    FILE is JSON: {"sponsor": "member-id", "messages": [{"type": "assets.Transfer", …}]}.

    Args:
        file: the messages.
        key: a key file to sign with; give it once for each key that the policies need.
        wait: committed, or provable (the next header carries its state).
        valid_s: how many seconds from now the transaction may still be taken, at most 600.
        names: the ledger's genesis.json, where FILE writes "@name" for accounts of the consortium file.
        dry_run: check and sign, submit nothing.
        url: the gateway's address.
        json: print one JSON value.
    """
    transaction_file = _read(file)
    known = {} if names is None else account_names(load_genesis(names).app_state)
    registry = discover()
    messages = [_message(registry, _resolve(plain, known)) for plain in transaction_file.messages]
    if not key:
        fail("a transaction is signed with at least one key file: --key FILE", EXIT_USAGE)
    passphrase = read_passphrase()
    keys = [open_signing_key(path, passphrase) for path in key]
    out = Output(is_json=json)
    with connect(url) as client:
        status = client.status()
        expires_at_ms = max(time.time_ns() // 1_000_000, status["time_ms"]) + valid_s * 1_000
        body = encode(build_transaction(status["chain_id"], transaction_file.sponsor, messages, expires_at_ms))
        signed = sign_body(body, keys)
        if dry_run:
            out.value({"tx_id": transaction_id(body).hex(), "signed": base64.b64encode(signed).decode()})
            return
        outcome = client.submit_all([signed], wait=wait)[0]
    out.value(msgspec.to_builtins(outcome))
    if outcome.error is not None:
        error = outcome.error
        what = "accepted and then dropped" if outcome.status == "dropped" else "refused"
        fail(f"{what}: {error['message']} [{error['codespace']} {error['number']}]", EXIT_REFUSED)


def _read(file: Path) -> TransactionFile:
    try:
        return msgspec.json.decode(file.read_bytes(), type=TransactionFile)
    except msgspec.MsgspecError as error:
        raise Undecodable(f"{file.name}: {error}") from None


def _resolve(value: Any, known: Mapping[str, bytes]) -> Any:
    """Replace each `"@name"` by its account's address."""
    if isinstance(value, dict):
        return {key: _resolve(inner, known) for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolve(inner, known) for inner in value]
    if isinstance(value, str) and value.startswith("@"):
        if value[1:] not in known:
            raise Undecodable(f"{value!r} names no account; give the ledger's genesis.json with --names")
        return to_text(known[value[1:]])
    return value


def _message(registry: Registry, plain: dict[str, Any]) -> Any:
    tag = plain.get("type")
    type_ = registry.message_types.get(str(tag))
    if type_ is None:
        raise Undecodable(f"message type {tag!r} is unknown; known are {', '.join(sorted(registry.message_types))}")
    return from_plain(type_, plain)
