"""Server-Sent Events from a real gateway: what each reader gets, resuming without loss or repetition, odd ids."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from feiqian.client.events import EventParser, ServerEvent
from feiqian.testing.ledgers import ASSET
from feiqian.testing.processes import ANSWER_S

URL = "/api/v1/events"


@contextmanager
def follow(client: httpx.Client, after: str | None = None, **options: Any) -> Iterator[Iterator[ServerEvent]]:
    headers = {} if after is None else {"Last-Event-ID": after}
    with client.stream("GET", URL, headers=headers, **options) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        parser = EventParser()
        yield (event for line in answer.iter_lines() if (event := parser.feed(line)) is not None)


def take_until(events: Iterator[ServerEvent], height: int) -> list[ServerEvent]:
    """Return what comes up to this height's tick."""
    taken: list[ServerEvent] = []
    for event in events:
        taken.append(event)
        if event.kind == "block" and event.data["height"] >= height:
            break
    return taken


def at(world: Any) -> int:
    with world.client() as client:
        return client.get("/api/v1/status").json()["height"]


def test_everyone_gets_ticks_and_only_parties_get_events(world: Any) -> None:
    seen: dict[str, list[ServerEvent]] = {}
    height = at(world)
    for reader in ("anonymous", "other", "party", "regulator"):
        with world.client(reader) as client, follow(client, "0") as events:
            seen[reader] = take_until(events, height)
    for events in seen.values():
        ticks = [event.data["height"] for event in events if event.kind == "block"]
        assert ticks == list(range(1, height + 1))
    assert [event for event in seen["anonymous"] if event.kind != "block"] == []
    everything = [event.id for event in seen["regulator"]]
    for reader in ("other", "party"):
        assert [event.id for event in seen[reader]] == [
            id_ for id_ in everything if id_ in {e.id for e in seen[reader]}
        ]
    of_payment = [event.kind for event in seen["party"] if event.data.get("tx_id") == world.paid]
    assert of_payment == ["ledger.Posted", "assets.Transferred"]
    assert [event for event in seen["other"] if event.data.get("tx_id") == world.paid] == []
    lantern = world.address("lantern")
    assert all(lantern in json.dumps(event.data) for event in seen["other"] if event.kind != "block")


def test_a_live_stream_brings_what_happens_next(world: Any) -> None:
    with world.client("other") as client, follow(client) as events:
        (outcome,) = world.gateway.submit(world.ledger.transfer("treasury", "lantern", 9))
        taken = take_until(events, outcome["height"])
    posted = [event for event in taken if event.kind == "ledger.Posted"]
    assert [event.data["tx_id"] for event in posted] == [outcome["tx_id"]]
    assert posted[0].data["legs"] == [{"account": world.address("lantern"), "asset": ASSET, "amount_minor": 9}]
    assert posted[0].data["height"] == outcome["height"]


def test_resuming_after_any_event_loses_and_repeats_nothing(world: Any) -> None:
    height = at(world)
    with world.client("regulator") as client:
        with follow(client, "0") as events:
            whole = take_until(events, height)
        for place in range(0, len(whole) - 1, max(1, len(whole) // 12)):
            with follow(client, whole[place].id) as events:
                assert take_until(events, height) == whole[place + 1 :]
        with follow(client, None, params={"after": whole[2].id}) as events:
            assert take_until(events, height) == whole[3:]


@pytest.mark.parametrize(
    "odd",
    ["x", "-1", "1.", ".1", "1.2.3", "1 ", "0x1", "9" * 30, "1.99999999", "274877906944", "1;drop", "%00", "１"],
)
def test_odd_ids_are_refused(world: Any, odd: str) -> None:
    with world.client() as client:
        answer = client.get(URL, params={"after": odd})
    assert (answer.status_code, answer.json()["codespace"], answer.json()["number"]) == (400, "api", 4)


def test_an_id_of_the_future_waits_and_one_inside_a_block_goes_on(world: Any) -> None:
    height = at(world)
    with world.client("regulator") as client:
        with follow(client, f"{height}.16777215") as events:
            (outcome,) = world.gateway.submit(world.ledger.transfer("treasury", "lantern", 1))
            first = next(events)
            assert first.data["height"] == height + 1
        with follow(client, f"{outcome['height']}.0") as events:
            assert next(events).id == f"{outcome['height']}.1"


def test_a_stream_ends_when_its_session_does(world: Any) -> None:
    token = world.gateway.sign_in(world.ledger, "lantern")
    with world.gateway.client(token) as client, world.gateway.client(token) as other, follow(client) as events:
        assert other.delete("/api/v1/session").status_code == 204
        world.gateway.submit(world.ledger.transfer("treasury", "lantern", 1))
        kinds = [event.kind for event in events]
    assert kinds[-1] == "session-ended"
    assert "ledger.Posted" not in kinds


def test_streams_that_are_left_are_counted_out(world: Any) -> None:
    def open_streams() -> float:
        with world.client() as client:
            lines = client.get("/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("feiqian_event_streams "))

    for _ in range(5):
        with world.client() as client, follow(client, "0") as events:
            next(events)
            assert open_streams() >= 1
    deadline = time.monotonic() + ANSWER_S
    while open_streams() > 0:
        assert time.monotonic() < deadline
        world.gateway.submit(world.ledger.transfer("treasury", "lantern", 1))
