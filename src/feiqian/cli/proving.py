"""`feiqian proof` writes a proof file, `feiqian verify` checks one with no network."""

import re
import sys
from pathlib import Path
from typing import Any

from cyclopts import App

from feiqian.cli.arguments import Hex, NewFile
from feiqian.cli.connection import Url, connect
from feiqian.cli.output import EXIT_USAGE, Output, fail
from feiqian.consensus.genesis_file import read_genesis
from feiqian.consensus.light import KnownBlock
from feiqian.consensus.proof_file import Verified
from feiqian.consensus.proof_file import verify as verify_file
from feiqian.core.addresses import from_text
from feiqian.core.plain import to_plain
from feiqian.execution.blocks import RESULT
from feiqian.execution.registry import discover

proof = App(name="proof", help="Write a proof file: a balance, a transaction's result, or any record or its absence.")


@proof.command
def balance(
    address: str,
    asset: str,
    *,
    out: NewFile,
    height: int | None = None,
    key: Path | None = None,
    as_account: str | None = None,
    url: Url = None,
) -> None:
    """Prove an account's balance in an asset, or that it has none.

    Args:
        address: the account, fq1….
        asset: the asset's code.
        out: where the proof file goes.
        height: as of which block; the last provable one otherwise.
        key: a key file of the account's policy, to sign in with.
        as_account: the account to sign in for, where it is another one than ADDRESS.
        url: the gateway's address.
    """
    with connect(url, as_account or address, key) as client:
        _write(out, client.prove_balance(from_text(address), asset, height))


@proof.command
def tx(tx_id: str, *, out: NewFile, key: Path | None = None, as_account: str | None = None, url: Url = None) -> None:
    """Prove a transaction's result.

    Args:
        tx_id: its id, 64 hex digits.
        out: where the proof file goes.
        key: a key file to sign in with.
        as_account: the account to sign in for.
        url: the gateway's address.
    """
    with connect(url, as_account, key) as client:
        _write(out, client.prove_transaction(tx_id))


@proof.command
def record(
    table: str,
    record_key: Hex,
    *,
    out: NewFile,
    key: Path | None = None,
    as_account: str | None = None,
    url: Url = None,
) -> None:
    """Prove any record of the state, or that there is none.

    Args:
        table: the table's name, such as ledger.accounts.
        record_key: the record's key in hex.
        out: where the proof file goes.
        key: a key file to sign in with.
        as_account: the account to sign in for.
        url: the gateway's address.
    """
    with connect(url, as_account, key) as client:
        _write(out, client.prove_record(table, bytes.fromhex(record_key)))


def verify(file: Path, *, genesis: Path, trusted: str | None = None, json: bool = False) -> None:
    """Check a proof file offline, trusting only the genesis, or a block that you name.

    Args:
        file: the proof file.
        genesis: the ledger's genesis.json, got from someone you trust.
        trusted: HEIGHT:HASH of a block that you trust, where the proof does not start at the genesis.
        json: print one JSON value.
    """
    known = None if trusted is None else known_block(trusted)
    tables = discover().tables
    verified = verify_file(file.read_bytes(), read_genesis(genesis.read_bytes()), tables, known)
    Output(is_json=json).value(_describe(verified))


def known_block(text: str) -> KnownBlock:
    """Return the block that HEIGHT:HASH names; ends the command where it is not of that form."""
    found = re.fullmatch(r"(\d{1,18}):([0-9a-fA-F]{64})", text, re.ASCII)
    if found is None:
        fail(f"--trusted {text!r}; write HEIGHT:HASH with the hash in 64 hex digits", EXIT_USAGE)
    return KnownBlock(int(found[1]), bytes.fromhex(found[2]))


def _describe(verified: Verified) -> dict[str, Any]:
    if verified.kind == "result" and verified.value is not None:
        content: Any = to_plain(RESULT.decode(verified.value)) | {"tx_id": verified.key.hex()}
    elif verified.kind == "absence":
        content = f"{verified.table} holds nothing under this key"
    else:
        content = None if verified.record is None else to_plain(verified.record)
    return {
        "verified": True,
        "kind": verified.kind,
        "chain_id": verified.chain_id,
        "height": verified.height,
        "table": verified.table,
        "key": verified.key.hex(),
        "proved": content,
        "app_hash": verified.app_hash.hex(),
        "header_hash": verified.header_hash.hex(),
        "trusted": verified.trusted,
    }


def _write(path: Path, data: bytes) -> None:
    try:
        with path.open("xb") as stream:
            stream.write(data)
    except FileExistsError:
        fail(f"{path.name} exists; name another file for the proof", EXIT_USAGE)
    sys.stdout.write(f"{path}\n")
