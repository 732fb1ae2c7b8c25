"""Known bugs of streams."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from holdfast.domain.message import Emit, Emitted
from holdfast.engine import on_emit
from holdfast.engine.decision import Forward, Publish
from holdfast.engine.row import InvocationRow, Writer
from holdfast.engine.view import Draft
from holdfast.sdk.emitter import Emitter
from holdfast.server import partition as partition_module
from holdfast.server.stream import Feeds

from .mutants import Patch, mutant

_is_early = partition_module._is_early


@mutant
def chunks_shown_before_commit() -> list[Patch]:
    """Readers get chunks before their commit is durable."""

    def is_early(action: Any) -> bool:
        return isinstance(action, Publish) or _is_early(action)

    return [(partition_module, "_is_early", is_early)]


@mutant
def chunks_acknowledged_before_commit() -> list[Patch]:
    """A handler is told that its chunks are stored before they are."""

    def is_early(action: Any) -> bool:
        is_ack = isinstance(action, Forward) and isinstance(action.notification, Emitted)
        return is_ack or _is_early(action)

    return [(partition_module, "_is_early", is_early)]


@mutant
def lost_text_stays() -> list[Patch]:
    """What a lost run of a step wrote is not replaced."""
    return [(on_emit, "_lose", lambda draft, row, lane: None)]


@mutant
def replay_is_shown() -> list[Patch]:
    """What handler code writes again at replay is appended again."""
    append = on_emit._append

    def append_all(draft: Draft, row: InvocationRow, writer: Writer, message: Emit) -> Writer:
        lanes = {lane.stream: lane for lane in writer.lanes}
        lane = lanes.get(message.stream)
        number = lane.next_number if lane else 0
        return append(draft, row, writer, replace(message, first_number=number))

    return [(on_emit, "_append", append_all)]


@mutant
def replacement_is_not_told() -> list[Patch]:
    """Readers who are there do not hear that a lane is lost."""
    publish = Feeds.publish

    def deaf(self: Feeds, action: Publish) -> None:
        if action.row.chunks:
            publish(self, action)

    return [(Feeds, "publish", deaf)]


@mutant
def chunks_after_the_result() -> list[Patch]:
    """Chunks are sent behind the messages that they should come before."""

    def put_behind(self: Emitter, messages: list[Any]) -> list[Any]:
        if messages:
            return [*messages, *self._take()]
        return list(self._take()) if self.is_due else []

    return [(Emitter, "put_before", put_behind)]
