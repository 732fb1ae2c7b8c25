"""The verbs for streams: chunks for those who watch an invocation while it runs.

Writing a chunk is no durable call: nothing of it is in the journal, and it may be done in the body
of a step. What a branch of the handler writes is numbered, so that replay shows nobody anything
twice; what the body of a step wrote is replaced when the body runs again.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Generator
from typing import TYPE_CHECKING

import msgspec

from holdfast.domain.errors import UsageError
from holdfast.domain.stream_name import STREAM_DEFAULT, checked_stream_name
from holdfast.sdk.branch import Branch, Leaf, place, raise_misplaced
from holdfast.sdk.emitter import Emitter, Source
from holdfast.sdk.serde import SerdeError, serde_for
from holdfast.sdk.verb import Verbs

if TYPE_CHECKING:
    from holdfast.sdk.attempt import Attempt

CHUNK_SIZE_BYTES_MAX = 256 * 1024
"""Of a chunk as JSON. The server has the same limit."""

_encode_json = msgspec.json.Encoder().encode


class Emission:
    """A chunk that was written. Await it to wait while the server is behind; it need not be."""

    __slots__ = ("_emitter",)

    def __init__(self, emitter: Emitter | None) -> None:
        self._emitter = emitter

    def __await__(self) -> Generator[object, None, None]:
        if self._emitter is not None and not self._emitter.has_room:
            yield from self._emitter.room().__await__()


class Stream:
    """A stream of the running invocation, to write to."""

    __slots__ = ("_attempt", "name")

    def __init__(self, attempt: Attempt | None, name: str) -> None:
        self._attempt = attempt
        self.name = name

    def emit(self, chunk: object) -> Emission:
        """Write a chunk; see `Context.emit`."""
        return _emit(self._attempt, chunk, self.name)

    async def write(self, chunk: object) -> None:
        """Write a chunk, and wait while the server is behind."""
        await self.emit(chunk)


class StreamVerbs(Verbs):
    """Write to streams of the invocation."""

    __slots__ = ()

    def emit(self, chunk: object) -> Emission:
        """Write a chunk to the default stream; readers get it as soon as it is stored.

        Works in the handler and in the bodies of steps, also of those in threads. Emit what a model
        says in the step that calls it: then a repeated call replaces what the lost one wrote.

        Args:
            chunk: A str for text, any JSON value, what has JSON such as a pydantic model, or bytes.
                For chunks with a meaning see `holdfast.chunk`.

        Returns:
            What may be awaited, to wait while the server is behind. In a thread this call itself
            waits.

        Raises:
            UsageError: HF0560, the chunk has no JSON; HF0561, it is too large; HF0563, far too much
                waits to be stored.
        """
        return _emit(self._attempt, chunk, STREAM_DEFAULT)

    def stream(self, name: str) -> Stream:
        """Return a stream to write to; readers ask for it by name.

        Args:
            name: 1 to 64 letters, digits and `_.-`.

        Raises:
            UsageError: HF0562, no name for a stream.
        """
        return Stream(self._attempt, checked_stream_name(name))


def emit(chunk: object, *, stream: str = STREAM_DEFAULT) -> Emission:
    """Write a chunk to a stream of the running invocation, anywhere below a handler or in a step.

    Raises:
        UsageError: HF0502, outside of a handler; and as `Context.emit` and `Context.stream`.
    """
    return _emit(None, chunk, checked_stream_name(stream))


def _emit(expected: Attempt | None, chunk: object, stream: str) -> Emission:
    emitter, source = _source(expected)
    content = _encode(chunk)
    if emitter.is_here():
        emitter.add(stream, source, content)
        return Emission(emitter)
    asyncio.run_coroutine_threadsafe(
        _write(emitter, stream, source, content), emitter.loop
    ).result()
    return Emission(None)


async def _write(emitter: Emitter, stream: str, source: Source, content: bytes) -> None:
    emitter.add(stream, source, content)
    await emitter.room()


def _source(expected: Attempt | None) -> tuple[Emitter, Source]:
    """Return what takes the chunk, and who writes it.

    Args:
        expected: The attempt that must be running here; None: any.
    """
    found = place.get()
    if isinstance(found, Leaf):
        writer = found.writer
        if writer is not None and (expected is None or writer.emitter.is_of(expected)):
            writer.emitter.check_open()
            return writer.emitter, writer.source
        # It is not the place that is wrong, but whose.
        raise_misplaced("emit", Branch(expected, ""))
    if type(found) is Branch and found.attempt is not None and expected in (None, found.attempt):
        found.attempt.check_open()
        return found.attempt.emitter, Source(found.path, 0)
    raise_misplaced("emit", found)


def _encode(chunk: object) -> bytes:
    if type(chunk) is str:
        content = _encode_json(chunk)
    elif isinstance(chunk, bytes):
        text = base64.b64encode(chunk).decode()
        content = _encode_json({"type": "bytes", "base64": text})
    else:
        try:
            content = serde_for(type(chunk)).encode(chunk) or b"null"
        except SerdeError as error:
            raise _no_json(error) from error
    if len(content) > CHUNK_SIZE_BYTES_MAX:
        raise UsageError(
            f"A chunk has {len(content)} bytes as JSON; at most {CHUNK_SIZE_BYTES_MAX} are allowed",
            code="HF0561",
            hint="Write it in parts, or return it as the result.",
        )
    return content


def _no_json(error: UsageError) -> UsageError:
    return UsageError(
        f"The chunk has no JSON: {error.message}",
        code="HF0560",
        hint="Emit text, bytes, or plain data.",
    )
