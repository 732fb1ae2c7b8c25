"""The queue of frames and the signs of life that both sides of the worker socket use."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import pytest

from holdfast.protocol import frame as wire
from holdfast.transport import outbox as module
from holdfast.transport.outbox import Outbox, Pulse

pytestmark = pytest.mark.asyncio


class Sink:
    """Takes messages, when it is open."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.open = asyncio.Event()
        self.open.set()
        self.written = 0
        self.outbox = Outbox(self.write, self.count)
        self.task = asyncio.create_task(self.outbox.run())

    async def write(self, data: bytes) -> None:
        self.messages.append(data)
        await self.open.wait()

    def count(self) -> None:
        self.written += 1

    async def end(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


def closed(number: int) -> bytes:
    return wire.encode_frame(wire.Closed(number))


async def test_frames_wait_while_the_peer_does_not_read_and_then_travel_together() -> None:
    sink = Sink()
    sink.open.clear()
    sink.outbox.put(closed(1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for number in range(2, 30):
        sink.outbox.put(closed(number))
    assert sink.outbox.size_bytes == sum(len(closed(number)) for number in range(1, 30))
    sink.open.set()
    await sink.outbox.drained()
    frames = [wire.decode_to_server(data) for data in sink.messages]
    assert frames == [[wire.Closed(1)], [wire.Closed(number) for number in range(2, 30)]]
    assert sink.outbox.size_bytes == 0
    assert sink.written == 2
    await sink.end()


async def test_big_frames_travel_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH_SIZE_BYTES", 100)
    big = wire.encode_frame(wire.Closed(3, "x" * 200))
    sink = Sink()
    for frame in (closed(1), closed(2), big, closed(4)):
        sink.outbox.put(frame)
    await sink.outbox.drained()
    numbers = [
        [frame.stream for frame in wire.decode_to_server(data) if isinstance(frame, wire.Closed)]
        for data in sink.messages
    ]
    assert numbers == [[1, 2], [3], [4]]
    await sink.end()


@pytest.mark.parametrize("count", [0, 1, 15, 16, 65_535, 65_536])
async def test_joined_frames_are_one_array(count: int) -> None:
    frames = [wire.Closed(number) for number in range(count)]
    joined = wire.join_frames([wire.encode_frame(frame) for frame in frames])
    assert joined == wire.encode(frames)
    assert wire.decode_to_server(joined) == frames


async def test_a_beat_is_sent_only_when_nothing_else_was() -> None:
    sink = Sink()
    await asyncio.sleep(0)
    sink.outbox.put(closed(1))
    await sink.outbox.drained()
    sink.outbox.beat()
    await asyncio.sleep(0)
    assert len(sink.messages) == 1
    sink.outbox.beat()
    await asyncio.sleep(0)
    assert sink.messages[1:] == [wire.NO_FRAMES]
    assert msgspec.msgpack.decode(wire.NO_FRAMES) == []
    await sink.end()


async def test_a_silent_peer_is_noticed_and_a_talking_one_is_not() -> None:
    sink = Sink()
    talking, silent = Pulse(sink.outbox, interval_s=0.0), Pulse(sink.outbox, interval_s=0.0)
    ends = asyncio.create_task(talking.run())
    beats = 0

    async def talk() -> None:
        nonlocal beats
        while True:
            talking.heard()
            beats += 1
            await asyncio.sleep(0)

    speaker = asyncio.create_task(talk())
    await silent.run()
    while beats < 50:
        await asyncio.sleep(0)
    assert not ends.done()
    for task in (speaker, ends):
        task.cancel()
    await asyncio.gather(speaker, ends, return_exceptions=True)
    await sink.end()
