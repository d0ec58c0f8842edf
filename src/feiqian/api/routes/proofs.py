"""Proof files: each convinces someone who trusts only the genesis. `feiqian verify` checks them offline."""

from typing import Annotated

from litestar import Response, get
from litestar.params import QueryParameter

from feiqian.api.access import Access, Reader
from feiqian.api.disclosure import Disclosure
from feiqian.api.gateway import Gateway
from feiqian.api.ledger_view import key_from_hex
from feiqian.api.problems import NotAllowed
from feiqian.api.routes.accounts import account_for
from feiqian.api.routes.chain import find_transaction
from feiqian.api.routes.parameters import V1, Asker, Here, IdHex, SomeHeight, id_of
from feiqian.api.threads import on_thread
from feiqian.core import addresses
from feiqian.ledger.accounts import ACCOUNTS
from feiqian.ledger.assets import ASSETS
from feiqian.ledger.balances import BALANCES, balance_key
from feiqian.ledger.members import MEMBERS
from feiqian.state.tables import Table

PUBLIC_TABLES = (MEMBERS.name, ASSETS.name, "execution.results", "execution.replay", "ledger.parameters")
"""Tables whose records any signed-in reader may have proved: facts about the chain as a whole."""

Trusted = Annotated[
    int | None,
    QueryParameter(ge=1, le=2**38, description="Start the trail at this height instead of the genesis"),
]


@get(f"{V1}/proofs/balance", opt={"access": Access.PARTY})
async def prove_balance(
    gateway: Here,
    reader: Asker,
    address: Annotated[str, QueryParameter(max_length=90, description="An account, `fq1…`")],
    asset: Annotated[str, QueryParameter(min_length=1, max_length=48, description="An asset's code")],
    height: SomeHeight = None,
    trusted: Trusted = None,
) -> Response[bytes]:
    """Prove an account's balance record in an asset, or that it has none, at a height (the last provable one)."""
    raw = addresses.from_text(address)
    account_for(gateway, raw, reader)
    file = await on_thread(gateway.ledger.prove_record, BALANCES, balance_key(raw, asset), height, trusted)
    return _file(file, "balance")


@get(f"{V1}/proofs/transaction/{{tx_id:str}}", opt={"access": Access.PARTY})
async def prove_transaction(tx_id: IdHex, gateway: Here, reader: Asker, trusted: Trusted = None) -> Response[bytes]:
    """Prove the result of a transaction or trigger run, its events included, to who may read all of them."""
    wanted = id_of(tx_id)
    found = await on_thread(find_transaction, gateway, wanted, reader)
    if not await on_thread(Disclosure(gateway.ledger, reader).may_prove, found):
        raise NotAllowed(
            "the proof shows the whole result, and part of it concerns others only; "
            "have your account's balance proved instead"
        )
    return _file(await on_thread(gateway.ledger.prove_result, wanted, trusted), tx_id[:16])


@get(f"{V1}/proofs/record", opt={"access": Access.PARTY})
async def prove_record(
    gateway: Here,
    reader: Asker,
    table: Annotated[str, QueryParameter(max_length=80, description="A state table, such as `ledger.members`")],
    key: Annotated[str, QueryParameter(max_length=400, description="The record's own key, hex")],
    height: SomeHeight = None,
    trusted: Trusted = None,
) -> Response[bytes]:
    """Prove any state record or its absence: a regulator any, others their own accounts' and the chain's own."""
    found, raw = gateway.ledger.table(table), key_from_hex(key)
    if not may_prove(gateway, found, raw, reader):
        raise NotAllowed("only a regulator may have this record proved; others their own accounts' and the chain's own")
    return _file(await on_thread(gateway.ledger.prove_record, found, raw, height, trusted), "record")


def may_prove(gateway: Gateway, table: Table, key: bytes, reader: Reader) -> bool:
    """Say whether a reader may have a record proved. A proof shows the record, so this is who may read it."""
    if reader.is_regulator or table.name in PUBLIC_TABLES:
        return True
    if table.name not in (ACCOUNTS.name, BALANCES.name) or len(key) < addresses.ADDRESS_BYTES:
        return False
    return reader.may_read(gateway.ledger.parties([key[: addresses.ADDRESS_BYTES]]))


def _file(content: bytes, name: str) -> Response[bytes]:
    headers = {"Content-Disposition": f'attachment; filename="{name}.proof.json"'}
    return Response(content, media_type="application/json", headers=headers)


ROUTES = (prove_balance, prove_transaction, prove_record)
