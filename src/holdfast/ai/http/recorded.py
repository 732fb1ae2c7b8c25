"""One answer of a model provider, as it is recorded: enough to make the same response of it."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping

import msgspec

from holdfast.sdk.serde import Serde, SerdeError

CHUNK_SIZE_BYTES = 4096
"""A replayed body comes in pieces of this size, so that nobody learns to rely on whole ones."""

_HEADERS = ("content-type", "request-id", "x-request-id", "apim-request-id", "retry-after")
"""What is kept of the headers: clients read nothing else that matters for an answer."""

_NONE = msgspec.Raw()
"""No JSON."""


class Recorded(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Status, some headers and the body of an answer. One of the last three is the body."""

    status: int = 200
    headers: dict[str, str] = {}
    json: msgspec.Raw = _NONE
    """As it was sent, so that no number changes."""
    text: str | None = None
    """Of server-sent events, or whatever else is text."""
    data: str | None = None
    """Anything else, in base64."""

    @property
    def content(self) -> bytes:
        """The body."""
        if self.json:
            return bytes(self.json)
        if self.data is not None:
            return base64.b64decode(self.data)
        return (self.text or "").encode()

    @property
    def chunks(self) -> Iterator[bytes]:
        """The body, in pieces."""
        content = self.content
        for start in range(0, len(content), CHUNK_SIZE_BYTES):
            yield content[start : start + CHUNK_SIZE_BYTES]


def recorded(status: int, headers: Mapping[str, str], content: bytes) -> Recorded:
    """Return what is recorded of an answer.

    Args:
        headers: Names in lower case.
        content: The body, without its transfer and content encodings.
    """
    kept = {name: headers[name] for name in _HEADERS if name in headers}
    if _is_json(content):
        return Recorded(status=status, headers=kept, json=msgspec.Raw(content))
    try:
        return Recorded(status=status, headers=kept, text=content.decode())
    except UnicodeDecodeError:
        data = base64.b64encode(content).decode()
        return Recorded(status=status, headers=kept, data=data)


def _is_json(content: bytes) -> bool:
    try:
        content.decode()
        msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def is_event_stream(headers: Mapping[str, str]) -> bool:
    """Return whether an answer is a stream of server-sent events."""
    return headers.get("content-type", "").lower().startswith("text/event-stream")


class RecordedSerde(Serde[Recorded]):
    """Reads and writes answers. The one for structs refuses JSON that is kept as it is."""

    def encode(self, value: Recorded) -> bytes:
        """See `Serde`."""
        return msgspec.json.encode(value)

    def decode(self, content: bytes) -> Recorded:
        """See `Serde`."""
        try:
            return msgspec.json.decode(content, type=Recorded)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise SerdeError(
                f"this is no recorded answer of a model: {error}",
                hint="The step of this name was something else when it was recorded.",
            ) from error


RECORDED_SERDE = RecordedSerde()
