"""Server-sent events as the gateway streams them, parsed line by line (WHATWG HTML, section 9.2.6)."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec


class ServerEvent(NamedTuple):
    """One event; `id` resumes after it, `data` is its JSON value."""

    id: str
    kind: str
    data: Any


def parse_event_stream(lines: Iterable[str]) -> Iterator[ServerEvent]:
    """Yield the events in a stream's lines; comments and events without data are passed over."""
    parser = EventParser()
    for line in lines:
        event = parser.feed(line)
        if event is not None:
            yield event


class EventParser:
    """Collects lines until an empty one ends an event."""

    def __init__(self) -> None:
        self._id = ""
        self._kind = "message"
        self._data: list[str] = []

    def feed(self, line: str) -> ServerEvent | None:
        """Take one line without its end; return the event that it completes."""
        if line:
            self._field(line)
            return None
        kind, data = self._kind, "\n".join(self._data)
        self._kind, self._data = "message", []
        return ServerEvent(self._id, kind, msgspec.json.decode(data)) if data else None

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._kind = value
        elif name == "id":
            self._id = value
