"""Live events (Server-Sent Events, WHATWG HTML): ticks for everyone, and to readers what they are party to.

The id of a tick is its height, that of an event `height.place`; `Last-Event-ID` goes on after either. What was accepted
and then dropped stands in no block: its parties are told as it happens, by a `dropped` without an id, never repeated.
"""

import re
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated, Any

import msgspec
from litestar import Request, get
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import Stream

from feiqian.api.access import Access, Reader
from feiqian.api.disclosure import Disclosure
from feiqian.api.drops import KeptDrop
from feiqian.api.feed import FeedPage
from feiqian.api.gateway import Gateway
from feiqian.api.problems import BadParameter, NotIndexed, TooBusy
from feiqian.api.routes.chain import dropped_body
from feiqian.api.routes.parameters import V1, Asker, Here
from feiqian.api.threads import on_thread
from feiqian.core.plain import to_plain
from feiqian.index.reading import BlockRow, EventRow, IndexAway
from feiqian.index.tables import MAX_PLACE, position, split_position

HEARTBEAT_S = 15
_EVENT_ID = re.compile(r"\A(\d{1,11})(?:\.(\d{1,8}))?\Z", re.ASCII)
_MAX_HEIGHT = 2**38


@get(f"{V1}/events", opt={"access": Access.PUBLIC})
async def stream_events(
    request: Request[Any, Any, Any],
    gateway: Here,
    reader: Asker,
    last_event_id: Annotated[
        str | None, HeaderParameter(name="Last-Event-ID", description="Go on after this id: `height` or `height.place`")
    ] = None,
    after: Annotated[str | None, QueryParameter(description="The same, for a first connection")] = None,
) -> Stream:
    """Follow the ledger: `block` ticks, and to those signed in the events that they are party to (a regulator: all).

    They are also told, by `dropped`, of transactions of theirs that were accepted and will stand in no block.
    """
    height = await gateway.feed.refresh()
    if height is None:
        raise NotIndexed("the index is not there yet; try again", retry_after_s=1)
    resume = last_event_id or after
    start = position(height + 1, 0) - 1 if resume is None else position_after(resume)
    if gateway.metrics.streams._value.get() >= gateway.settings.event_streams:
        raise TooBusy("as many event streams are open as this gateway carries", retry_after_s=10)
    session = gateway.sessions.session_of(request)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    token = None if session is None else session.token
    return Stream(follow(gateway, reader, token, start), media_type="text/event-stream", headers=headers)


async def follow(gateway: Gateway, reader: Reader, token: str | None, after: int) -> AsyncIterator[bytes]:
    """Yield frames until the client goes or the session ends."""
    gateway.metrics.streams.inc()
    try:
        yield b"retry: 1000\n\n"
        dropped = gateway.drops.count
        while True:
            height = split_position(after)[0] if (after & MAX_PLACE) == MAX_PLACE else split_position(after)[0] - 1
            has_dropped = partial(gateway.drops.has_since, dropped)
            reached = await gateway.feed.wait_beyond(height, HEARTBEAT_S, has_dropped)
            # Rights are looked up again each time: a suspended member or a changed role counts at once.
            session = gateway.sessions.find(token)
            if token is not None and session is None:
                yield b"event: session-ended\ndata: {}\n\n"
                return
            now = reader if session is None else session.reader
            is_signed_in = now.member is not None
            lost, dropped = gateway.drops.since(dropped), gateway.drops.count
            if reached == height:
                yield _dropped_frames(lost, now) or b": still here\n\n"
                continue
            if told := _dropped_frames(lost, now):
                yield told
            try:
                page = await gateway.feed.page(now.scope if is_signed_in else None, is_signed_in, after, reached)
            except IndexAway:
                # The client comes again with the last id; by then the index may be there.
                return
            frames = await on_thread(_frames, gateway, page, now)
            if frames:
                yield frames
            after = page.until
    finally:
        gateway.metrics.streams.dec()


def position_after(text: str) -> int:
    """Return the position that an event id stands for. Raises: BadParameter."""
    matched = _EVENT_ID.match(text)
    if matched is None or int(matched[1]) >= _MAX_HEIGHT or int(matched[2] or 0) > MAX_PLACE:
        raise BadParameter("Last-Event-ID: `height` or `height.place` as an event of this stream had it")
    height = int(matched[1])
    return position(height + 1, 0) - 1 if matched[2] is None else position(height, int(matched[2]))


def _frames(gateway: Gateway, page: FeedPage, reader: Reader) -> bytes:
    """Return events and ticks in order: a block's tick comes after the last of its events."""
    disclosure = Disclosure(gateway.ledger, reader)
    keyed: list[tuple[int, bytes]] = [(row.position, _event_frame(gateway, row, disclosure)) for row in page.events]
    keyed.extend((position(row.height + 1, 0) - 1, _tick(row)) for row in page.blocks)
    keyed.sort(key=lambda pair: pair[0])
    return b"".join(frame for _, frame in keyed)


def _dropped_frames(lost: list[KeptDrop], reader: Reader) -> bytes:
    return b"".join(
        b"event: dropped\ndata: %s\n\n" % msgspec.json.encode(dropped_body(kept.drop))
        for kept in lost
        if reader.member is not None and reader.may_read(kept.parties)
    )


def _event_frame(gateway: Gateway, row: EventRow, disclosure: Disclosure) -> bytes:
    event = disclosure.event(gateway.ledger.registry.event_codec.decode_trusted(row.body))
    height, place = split_position(row.position)
    data = {
        "height": height,
        "time_ms": row.time_ms,
        "tx_id": None if row.id is None else row.id.hex(),
        "kind": "genesis" if row.id is None else ("trigger" if row.is_trigger else "transaction"),
        **to_plain(event),
    }
    return b"id: %d.%d\nevent: %s\ndata: %s\n\n" % (height, place, row.tag.encode(), msgspec.json.encode(data))


def _tick(row: BlockRow) -> bytes:
    data = {
        "height": row.height,
        "time_ms": row.time_ms,
        "app_hash": row.app_hash.hex(),
        "transaction_count": row.transaction_count,
    }
    return b"id: %d\nevent: block\ndata: %s\n\n" % (row.height, msgspec.json.encode(data))


ROUTES = (stream_events,)
