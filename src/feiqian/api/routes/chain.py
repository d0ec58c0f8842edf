"""Facts about the chain as a whole: status, blocks, genesis, assets, members; and transactions, to their parties."""

import base64
from typing import Any

import msgspec
from litestar import Response, get

from feiqian.api.access import Access, Reader
from feiqian.api.disclosure import Disclosure
from feiqian.api.gateway import Gateway
from feiqian.api.ledger_view import FoundTransaction
from feiqian.api.operation import operation_of
from feiqian.api.problems import NotFound
from feiqian.api.routes.parameters import (
    V1,
    Asker,
    AtHeight,
    CodeText,
    Cursor,
    Here,
    IdHex,
    Limit,
    MemberText,
    SomeHeight,
    id_of,
)
from feiqian.api.shapes import (
    DEFAULT_PAGE,
    AssetBody,
    BlockBody,
    BlockSummary,
    DroppedBody,
    ErrorOf,
    MemberBody,
    Page,
    StatusBody,
    TransactionBody,
    TransactionSummary,
    read_cursor,
    write_cursor,
)
from feiqian.api.threads import on_thread
from feiqian.consensus.genesis_file import write_genesis
from feiqian.core.plain import to_plain
from feiqian.core.wire import Drop
from feiqian.index.reading import TransactionRow
from feiqian.index.tables import split_position
from feiqian.ledger.balances import get_balance

NOT_YOURS = "there is none, or none that you may read"


@get(f"{V1}/status", opt={"access": Access.PUBLIC})
async def show_status(gateway: Here, reader: Asker) -> StatusBody:
    """Say how the ledger stands; to those signed in also what it takes on disk, and how a network's node fares."""
    head = gateway.ledger.store.head
    archived = gateway.ledger.store.archived_heights()
    return StatusBody(
        chain_id=gateway.ledger.store.chain_id,
        height=head.height,
        time_ms=head.time_ms,
        app_hash=head.app_hash.hex(),
        provable_height=min(head.height, (archived[1] if archived else 0) - 1),
        indexed_height=gateway.feed.height,
        indexed_from=gateway.feed.first_height,
        node_is_connected=gateway.link.is_connected,
        genesis_sha256=gateway.ledger.genesis.digest().hex(),
        first_block=head.first_block,
        first_provable_height=head.first_provable,
        store_bytes=gateway.ledger.store.size_bytes(),
        disk_free_bytes=gateway.ledger.store.free_disk_bytes(),
        operation=None if reader.member is None else await operation_of(gateway),
    )


@get(f"{V1}/genesis", opt={"access": Access.PUBLIC})
async def show_genesis(gateway: Here) -> Response[bytes]:
    """Return the genesis file, byte for byte: what every proof is checked against."""
    return Response(write_genesis(gateway.ledger.genesis), media_type="application/json")


@get(f"{V1}/blocks", opt={"access": Access.PUBLIC})
async def list_blocks(gateway: Here, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE) -> Page[BlockSummary]:
    """List blocks, newest first."""
    before = read_cursor(cursor, int)
    indexed = await gateway.indexed_height()
    rows = await on_thread(gateway.index.blocks, before[0] if before else None, limit)
    items = [BlockSummary(row.height, row.time_ms, row.app_hash.hex(), *row[3:]) for row in rows]
    return Page(items, write_cursor(items[-1].height) if len(items) == limit else None, indexed)


@get(f"{V1}/blocks/{{height:int}}", opt={"access": Access.PUBLIC})
async def show_block(height: AtHeight, gateway: Here, reader: Asker) -> BlockBody:
    """Show a block; to those signed in also its transactions, each reader's own."""
    block, transaction_count = await on_thread(gateway.ledger.block_and_count, height)
    row = gateway.ledger.archive_row(height)
    transactions = None
    if reader.member is not None:
        await gateway.feed.wait_for(height, 2.0)
        rows = await on_thread(gateway.index.transactions, reader.scope, None, 10_000, height)
        transactions = [summary_of(each) for each in reversed(rows)]
    return BlockBody(
        height=height,
        time_ms=block.time_ms,
        app_hash=block.app_hash.hex(),
        transaction_count=transaction_count,
        size_bytes=len(block.block),
        is_provable=gateway.ledger.archive_row(height + 1) is not None,
        header=None if row is None else msgspec.Raw(row.header),
        commit=None if row is None else msgspec.Raw(row.commit),
        transactions=transactions,
    )


@get(f"{V1}/transactions", opt={"access": Access.MEMBER})
async def list_transactions(
    gateway: Here, reader: Asker, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE, height: SomeHeight = None
) -> Page[TransactionSummary]:
    """List the transactions and trigger runs that the reader is party to, newest first; a regulator sees all."""
    before = read_cursor(cursor, int)
    indexed = await gateway.indexed_height()
    rows = await on_thread(gateway.index.transactions, reader.scope, before[0] if before else None, limit, height)
    items = [summary_of(row) for row in rows]
    return Page(items, write_cursor(rows[-1].position) if len(rows) == limit else None, indexed)


@get(f"{V1}/transactions/{{tx_id:str}}", opt={"access": Access.PARTY})
async def show_transaction(tx_id: IdHex, gateway: Here, reader: Asker) -> TransactionBody | DroppedBody:
    """Show a transaction, or a trigger's run, to those it acts for and those it concerns, each its own part.

    One that was accepted and lately dropped is shown with status `dropped` and the rule that says why.
    """
    try:
        found = await on_thread(find_transaction, gateway, id_of(tx_id), reader)
    except NotFound:
        kept = gateway.drops.find(id_of(tx_id))
        if kept is None or not reader.may_read(kept.parties):
            raise
        return dropped_body(kept.drop)
    shown = await on_thread(Disclosure(gateway.ledger, reader).transaction, found)
    block = await on_thread(gateway.ledger.block, found.height)
    archived = gateway.ledger.archive_row(found.height + 1)
    asked = found.asked
    transaction = None if asked is None else asked.transaction
    error = ErrorOf(found.result.codespace, found.result.number, found.result.message) if found.result.number else None
    return TransactionBody(
        id=tx_id.lower(),
        kind="trigger" if asked is None else "transaction",
        status="committed" if archived is None else "provable",
        height=found.height,
        place=found.place,
        time_ms=block.time_ms,
        error=error,
        work=found.result.work,
        sponsor=None if transaction is None else transaction.sponsor,
        expires_at_ms=None if transaction is None else transaction.expires_at_ms,
        messages=shown.messages,
        events=[to_plain(event) for event in shown.events],
        signed=base64.b64encode(asked.signed).decode() if asked is not None and shown.is_whole else None,
    )


@get(f"{V1}/assets", opt={"access": Access.PUBLIC})
async def list_assets(gateway: Here, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE) -> Page[AssetBody]:
    """List assets in the order of their codes."""
    after = read_cursor(cursor, str)
    rows = gateway.ledger.assets(after[0] if after else "", limit)
    items = [_asset(gateway, code, asset) for code, asset in rows]
    return Page(items, write_cursor(items[-1].code) if len(items) == limit else None)


@get(f"{V1}/assets/{{code:str}}", opt={"access": Access.PUBLIC})
async def show_asset(code: CodeText, gateway: Here) -> AssetBody:
    """Show an asset and its supply."""
    asset = gateway.ledger.asset(code)
    if asset is None:
        raise NotFound(f"no asset has the code {code[:48]!r}")
    return _asset(gateway, code, asset)


@get(f"{V1}/members", opt={"access": Access.PUBLIC})
async def list_members(gateway: Here, cursor: Cursor = None, limit: Limit = DEFAULT_PAGE) -> Page[MemberBody]:
    """List the member institutions in the order of their ids."""
    after = read_cursor(cursor, str)
    rows = gateway.ledger.members(after[0] if after else "", limit)
    items = [MemberBody(member_id, to_plain(member)) for member_id, member in rows]
    return Page(items, write_cursor(items[-1].id) if len(items) == limit else None)


@get(f"{V1}/members/{{member_id:str}}", opt={"access": Access.PUBLIC})
async def show_member(member_id: MemberText, gateway: Here) -> MemberBody:
    """Show a member institution."""
    member = gateway.ledger.member(member_id)
    if member is None:
        raise NotFound(f"no member is called {member_id[:32]!r}")
    return MemberBody(member_id, to_plain(member))


def find_transaction(gateway: Gateway, tx_id: bytes, reader: Reader) -> FoundTransaction:
    """Return a transaction that this reader may read.

    Raises:
        NotFound: there is none, or this reader is not party to it.
        NoLongerHeld: it stood in a block that was given up.
    """
    found = gateway.ledger.transaction(tx_id)
    if found is None:
        store = gateway.ledger.store
        height = gateway.index.height_of(reader.scope, tx_id) if store.head.first_block > store.initial_height else None
        if height is not None:
            gateway.ledger.refuse_given_up(height, f"block {height}, in which this transaction stands,")
        raise NotFound(f"transaction: {NOT_YOURS}")
    if not reader.may_read(gateway.ledger.parties_to(found)):
        raise NotFound(f"transaction: {NOT_YOURS}")
    return found


def dropped_body(drop: Drop) -> DroppedBody:
    """Return what parties are told of a dropped transaction."""
    error = ErrorOf(drop.codespace, drop.number, drop.message)
    return DroppedBody(drop.tx_id.hex(), "transaction", "dropped", drop.at_ms, drop.sponsor, error)


def summary_of(row: TransactionRow) -> TransactionSummary:
    """Return the list form of an indexed result."""
    height, place = split_position(row.position)
    return TransactionSummary(
        id=row.id.hex(),
        kind="trigger" if row.is_trigger else "transaction",
        height=height,
        place=place,
        time_ms=row.time_ms,
        sponsor=row.sponsor,
        messages=row.kinds.split(" ") if row.kinds else [],
        work=row.work,
        error=ErrorOf(row.codespace, row.number, row.message) if row.number else None,
    )


def _asset(gateway: Gateway, code: str, asset: Any) -> AssetBody:
    issuance = get_balance(gateway.ledger.state(), asset.issuance_account, code)
    return AssetBody(code, -issuance.posted_minor, to_plain(asset))


ROUTES = (
    show_status,
    show_genesis,
    list_blocks,
    show_block,
    list_transactions,
    show_transaction,
    list_assets,
    show_asset,
    list_members,
    show_member,
)
