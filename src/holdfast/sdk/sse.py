"""Server-sent events, as a client reads them."""

from __future__ import annotations

from typing import NamedTuple


class SentEvent(NamedTuple):
    """One event."""

    id: str
    kind: str
    """`message` unless the event says otherwise."""
    data: bytes


class EventParser:
    """Pieces of a response to events, whatever the pieces are."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[SentEvent]:
        """Return the events that are complete now."""
        # A CR may be the first half of a line break whose second half is in the next piece.
        text = self._rest + piece
        held = b"\r" if text.endswith(b"\r") else b""
        text = text.removesuffix(held).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *blocks, rest = text.split(b"\n\n")
        self._rest = rest + held
        return [event for event in map(_parse, blocks) if event is not None]


def _parse(block: bytes) -> SentEvent | None:
    """Return the event of a block of lines; None for one without data, such as a comment."""
    event_id, kind = "", "message"
    data: list[bytes] = []
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"id":
            event_id = value.decode()
        elif name == b"event":
            kind = value.decode()
    return SentEvent(event_id, kind, b"\n".join(data)) if data else None
