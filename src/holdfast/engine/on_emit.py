"""Chunks that a handler writes to streams of its invocation.

A stream is a sequence of ids from 1. Each chunk takes one, and so does the note that a *lane* is
lost. A lane is what one run of one writer wrote: the code of a branch of the handler has one run
for ever, because replay repeats what it wrote; a step has a new one each time its body runs again.

    first run of a writer            a lane of its own
    the same run, a known number     dropped: replay, which readers have had
    the same run, the next number    appended
    a later run                      the lanes of the earlier one are lost: their chunks are
                                     deleted, a note is appended for readers who had them

What a lane held stays in the numbers of the stream: ids are never used again.
"""

from __future__ import annotations

from typing import cast

import msgspec
from msgspec.structs import replace

from holdfast.domain.message import Emit, Emitted, FromHandler
from holdfast.domain.stream_name import is_stream_name
from holdfast.engine.command import Violation
from holdfast.engine.decision import DeleteLane, Forward, Publish
from holdfast.engine.limit import (
    CHUNK_SIZE_BYTES_MAX,
    STREAM_CHUNKS_MAX,
    STREAM_SIZE_BYTES_MAX,
    STREAMS_MAX,
)
from holdfast.engine.row import (
    AnnexRow,
    InvocationRow,
    Key,
    Lane,
    StreamHead,
    StreamRow,
    Table,
    Writer,
    slot_of_stream,
    slot_of_writer,
)
from holdfast.engine.view import Draft

_decode_json = msgspec.json.Decoder(msgspec.Raw).decode


def emit_keys(invocation_id: str, messages: tuple[FromHandler, ...]) -> list[Key]:
    """Return the rows that the chunks of a record need. They come first in it."""
    keys: dict[Key, None] = {}
    for message in messages:
        if type(message) is not Emit:
            break
        keys[Table.ANNEX, invocation_id, slot_of_writer(message.writer)] = None
        if message.chunks:
            keys[Table.ANNEX, invocation_id, slot_of_stream(message.stream)] = None
    return list(keys)


def on_emit(draft: Draft, row: InvocationRow, message: Emit) -> None:
    """Append the chunks of a message that are new, and tell readers and the handler.

    A message without chunks says that a run of a writer begins.

    Raises:
        Violation: HF2050, the message breaks the rules; HF2051, the stream is full.
    """
    writer_key: Key = (Table.ANNEX, row.id, slot_of_writer(message.writer))
    found = cast("AnnexRow | None", draft.fact(writer_key))
    known = found.writer if found is not None else None
    if known is not None and message.run > known.run:
        for lane in known.lanes:
            _lose(draft, row, lane)
    if known is None or message.run > known.run:
        writer = Writer(message.run)
    elif message.run == known.run:
        writer = known
    else:
        raise Violation(f"run {message.run} of a writer came after run {known.run} [HF2050]")
    if message.chunks:
        writer = _append(draft, row, writer, message)
        draft.act(Forward(row.id, row.attempt, Emitted(len(message.chunks))))
    # Of what has written nothing there is nothing to remember.
    if writer is not known and (known is not None or writer.lanes):
        draft.rows[writer_key] = AnnexRow(writer=writer)


def _append(draft: Draft, row: InvocationRow, writer: Writer, message: Emit) -> Writer:
    """Append chunks; return the writer as it is then."""
    stream = message.stream
    if not is_stream_name(stream):
        raise Violation(f"{stream[:80]!r} is no name of a stream [HF2050]")
    lane = next((lane for lane in writer.lanes if lane.stream == stream), None)
    next_number = 0 if lane is None else lane.next_number
    if message.first_number > next_number:
        raise Violation(
            f"chunk {message.first_number} of a writer came where {next_number} was next [HF2050]"
        )
    chunks = message.chunks[next_number - message.first_number :]
    if not chunks:
        return writer
    head_key: Key = (Table.ANNEX, row.id, slot_of_stream(stream))
    head = _head(draft, row, head_key)
    size_bytes = sum(map(len, chunks))
    _check_limits(row, stream, head, chunks, size_bytes)
    if lane is None:
        lane = Lane(stream, head.next_lane, head.next_id)
        head = replace(head, next_lane=head.next_lane + 1)
    first_id = head.next_id
    head = replace(
        head,
        next_id=first_id + len(chunks),
        chunk_count=head.chunk_count + len(chunks),
        size_bytes=head.size_bytes + size_bytes,
    )
    draft.rows[head_key] = AnnexRow(head=head)
    stored = StreamRow(lane.number, chunks)
    draft.rows[Table.STREAM, row.id, stream, first_id] = stored
    draft.act(Publish(row.id, stream, first_id, stored))
    grown = replace(
        lane,
        next_number=next_number + len(chunks),
        chunk_count=lane.chunk_count + len(chunks),
        size_bytes=lane.size_bytes + size_bytes,
    )
    others = tuple(other for other in writer.lanes if other.stream != stream)
    return Writer(writer.run, (*others, grown))


def _head(draft: Draft, row: InvocationRow, key: Key) -> StreamHead:
    found = cast("AnnexRow | None", draft.fact(key))
    if found is not None:
        assert found.head is not None, f"{key} is no stream"
        return found.head
    if row.stream_count >= STREAMS_MAX:
        raise Violation(
            f"the invocation has {STREAMS_MAX} streams, which is the limit [HF2051]",
            code=500,
            is_final=True,
        )
    row.stream_count += 1
    return StreamHead()


def _check_limits(
    row: InvocationRow, stream: str, head: StreamHead, chunks: tuple[bytes, ...], size_bytes: int
) -> None:
    for chunk in chunks:
        try:
            _decode_json(chunk)
            # It does not look into strings.
            chunk.decode()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Violation(f"a chunk is not JSON: {error} [HF2050]") from error
    largest = max(map(len, chunks))
    if largest > CHUNK_SIZE_BYTES_MAX:
        raise Violation(
            f"a chunk has {largest} bytes; at most {CHUNK_SIZE_BYTES_MAX} are allowed [HF2050]"
        )
    is_full = (
        head.chunk_count + len(chunks) > STREAM_CHUNKS_MAX
        or head.size_bytes + size_bytes > STREAM_SIZE_BYTES_MAX
    )
    if is_full:
        raise Violation(
            f"stream {stream!r} of {row.id} is full: it may hold {STREAM_CHUNKS_MAX} chunks and "
            f"{STREAM_SIZE_BYTES_MAX} bytes. Write less, or spread it over invocations of their "
            "own [HF2051]",
            code=500,
            is_final=True,
        )


def _lose(draft: Draft, row: InvocationRow, lane: Lane) -> None:
    """Delete what a lane holds, and note it in the stream."""
    head_key: Key = (Table.ANNEX, row.id, slot_of_stream(lane.stream))
    head = _head(draft, row, head_key)
    draft.delete_range(DeleteLane(row.id, lane.stream, lane.number, lane.first_id))
    lost_id = head.next_id
    draft.rows[head_key] = AnnexRow(
        head=replace(
            head,
            next_id=lost_id + 1,
            chunk_count=head.chunk_count - lane.chunk_count,
            size_bytes=head.size_bytes - lane.size_bytes,
        )
    )
    stored = StreamRow(lane.number, (), lane.first_id)
    draft.rows[Table.STREAM, row.id, lane.stream, lost_id] = stored
    draft.act(Publish(row.id, lane.stream, lost_id, stored))
