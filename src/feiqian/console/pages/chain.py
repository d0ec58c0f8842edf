"""Blocks and members to everyone; transactions to their parties."""

from typing import Any

import msgspec
from litestar import Request, Response, get

from feiqian.api.gateway import Gateway
from feiqian.api.routes import chain
from feiqian.api.routes.parameters import Asker, AtHeight, Cursor, Here, IdHex
from feiqian.api.shapes import DroppedBody, ErrorOf
from feiqian.console.frame import show
from feiqian.console.presenting import describe

PAGE = 50


@get("/blocks", opt=chain.list_blocks.opt, include_in_schema=False)
async def show_blocks(gateway: Here, request: Request[Any, Any, Any], cursor: Cursor = None) -> Response[str]:
    """Page: blocks, newest first."""
    page = await chain.list_blocks.fn(gateway, cursor, PAGE)
    return show(request, "blocks.html", page=page, is_first=cursor is None)


@get("/blocks/{height:int}", opt=chain.show_block.opt, include_in_schema=False)
async def show_block(height: AtHeight, gateway: Here, reader: Asker, request: Request[Any, Any, Any]) -> Response[str]:
    """Page: one block, its header and commit, and the reader's own transactions in it."""
    block = await chain.show_block.fn(height, gateway, reader)
    header = None if block.header is None else msgspec.json.decode(block.header)
    commit = None if block.commit is None else msgspec.json.decode(block.commit)
    return show(
        request,
        "block.html",
        block=block,
        header=header,
        commit=commit,
        last_height=gateway.ledger.store.height,
        rule_name=_rule_names(gateway),
    )


@get("/transactions", opt=chain.list_transactions.opt, include_in_schema=False)
async def show_transactions(
    gateway: Here, reader: Asker, request: Request[Any, Any, Any], cursor: Cursor = None
) -> Response[str]:
    """Page: the transactions that the reader is party to, newest first."""
    page = await chain.list_transactions.fn(gateway, reader, cursor, PAGE, None)
    return show(request, "transactions.html", page=page, is_first=cursor is None, rule_name=_rule_names(gateway))


@get("/transactions/{tx_id:str}", opt=chain.show_transaction.opt, include_in_schema=False)
async def show_transaction(
    tx_id: IdHex, gateway: Here, reader: Asker, request: Request[Any, Any, Any]
) -> Response[str]:
    """Page: one transaction, what it asked for and what came of it."""
    found = await chain.show_transaction.fn(tx_id, gateway, reader)
    if isinstance(found, DroppedBody):
        return show(request, "dropped.html", transaction=found, rule_name=_rule_names(gateway))
    ledger = gateway.ledger
    return show(
        request,
        "transaction.html",
        transaction=found,
        messages=[(message["type"], describe(ledger, message)) for message in found.messages],
        events=[(event["type"], describe(ledger, event)) for event in found.events],
        rule_name=_rule_names(gateway),
    )


@get("/members", opt=chain.list_members.opt, include_in_schema=False)
async def show_members(gateway: Here, request: Request[Any, Any, Any], cursor: Cursor = None) -> Response[str]:
    """Page: the member institutions."""
    page = await chain.list_members.fn(gateway, cursor, 200)
    return show(request, "members.html", page=page, is_first=cursor is None)


def _rule_names(gateway: Gateway) -> Any:
    """Return what gives the class of an error, for a catalogue that has no words for it."""
    errors = gateway.ledger.registry.errors

    def name(error: ErrorOf) -> str:
        found = errors.get((error.codespace, error.number))
        return f"{error.codespace} {error.number}" if found is None else found.__name__

    return name


PAGES = (show_blocks, show_block, show_transactions, show_transaction, show_members)
