"""Server-sent events: bytes in, whole events out, however they were cut."""

from __future__ import annotations

from typing import NamedTuple

from holdfast.ai.provider.json_value import JsonObject, decoded, object_in


class Event(NamedTuple):
    """One event."""

    name: str
    """Empty if it has none."""
    data: str

    @property
    def body(self) -> JsonObject:
        """The data as a JSON object; an empty one if it is none."""
        return object_in(decoded(self.data))


class Scanner:
    """Finds the events in a stream that comes in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, content: bytes) -> list[Event]:
        """Take the next bytes. Returns the events that they complete."""
        self._rest = (self._rest + content).replace(b"\r\n", b"\n")
        if self._rest.endswith(b"\r"):
            # Half of a line end, perhaps.
            whole, held = self._rest[:-1], b"\r"
        else:
            whole, held = self._rest, b""
        *blocks, rest = whole.split(b"\n\n")
        self._rest = rest + held
        return [event for block in blocks if (event := _event(block)) is not None]

    def close(self) -> list[Event]:
        """Return an event that ended with the stream instead of with an empty line."""
        rest, self._rest = self._rest, b""
        event = _event(rest)
        return [] if event is None else [event]


def _event(block: bytes) -> Event | None:
    name = ""
    data: list[str] = []
    for line in block.decode(errors="replace").split("\n"):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
    return Event(name, "\n".join(data)) if data else None


def events_in(content: str) -> list[Event]:
    """Return the events of a whole stream."""
    scanner = Scanner()
    return [*scanner.feed(content.encode()), *scanner.close()]
