"""Streams as UI messages of the Vercel AI SDK: what `useChat` reads.

Each lane begins a step of the message, so that one that is lost, if nothing else has come
meanwhile, is taken back with `reset-step`. Where lanes overlap that would take too much; then a
`data-replace` part names the lane, which stands in the provider metadata of its parts.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple, cast

from holdfast.domain.message import Failure, Outcome
from holdfast.domain.stream_chunk import (
    Chunk,
    Custom,
    Data,
    Reasoning,
    Text,
    ToolCall,
    ToolCallDelta,
    ToolResult,
)
from holdfast.ingress.stream_format import Header, State, outcome_json


class _Part(NamedTuple):
    """A part of the message that grows."""

    lane: int
    kind: str
    id: str


class _State(NamedTuple):
    """What must be known behind a chunk."""

    parts: tuple[_Part, ...] = ()
    """Those that are open: at most one of each lane."""
    last_lane: int = 0
    """The highest that was seen: lanes appear in ascending order."""
    step: frozenset[int] = frozenset()
    """Lanes that have begun parts in the current step."""
    fresh: int = 0
    """The lane that began the current step, all of whose parts are in it."""
    has_step: bool = False


class AiSdkMapper:
    """The UI message stream protocol, version 1.

    Args:
        message_id: Of the message that the stream is.
    """

    key: Hashable = "ai-sdk"
    headers: tuple[Header, ...] = ((b"x-vercel-ai-ui-message-stream", b"v1"),)
    last = b"data: [DONE]\n\n"

    def __init__(self, message_id: str) -> None:
        self._message_id = message_id

    def begin(self) -> list[Any]:
        """See `Mapper`."""
        return [{"type": "start", "messageId": self._message_id}]

    def chunk(
        self, chunk_id: int, lane: int, chunk: Chunk | Data, state: State
    ) -> tuple[list[Any], State]:
        """See `Mapper`."""
        events: list[Any] = []
        known = _begin_step(lane, _known(state), events)
        match chunk:
            case Text(delta=delta):
                part, known = _part("text", f"{lane}-{chunk_id}", lane, known, events)
                events.append({"type": "text-delta", "id": part.id, "delta": delta})
            case Reasoning(delta=delta):
                part, known = _part("reasoning", f"{lane}-{chunk_id}", lane, known, events)
                events.append({"type": "reasoning-delta", "id": part.id, "delta": delta})
            case ToolCallDelta(id=call_id, name=name, delta=delta):
                part, known = _part("tool", call_id, lane, known, events, name)
                event = {"toolCallId": call_id, "inputTextDelta": delta}
                events.append({"type": "tool-input-delta", **event})
            case ToolCall() | ToolResult() | Custom() | Data():
                known = _close(lane, known, events)
                known = known._replace(step=known.step | {lane})
                events.append(_event(chunk, lane))
        return events, known

    def lost(self, lane: int, state: State) -> tuple[list[Any], State]:
        """See `Mapper`."""
        known = _known(state)
        if known.fresh == lane and known.step == frozenset((lane,)):
            # It closes all parts; those of other lanes begin again with their next chunk.
            return [{"type": "reset-step"}], known._replace(parts=(), step=frozenset(), fresh=0)
        events: list[Any] = []
        known = _close(lane, known, events)
        return [*events, {"type": "data-replace", "data": {"lane": lane}}], known

    def end(self, outcome: Outcome, state: State) -> list[Any]:
        """See `Mapper`."""
        known = _known(state)
        events: list[Any] = []
        for part in known.parts:
            known = _close(part.lane, known, events)
        if known.has_step:
            events.append({"type": "finish-step"})
        if isinstance(outcome, Failure):
            return [*events, {"type": "error", "errorText": outcome.message}]
        return [*events, {"type": "finish", "messageMetadata": outcome_json(outcome)}]


def _known(state: State) -> _State:
    return _State() if state is None else cast("_State", state)


def _begin_step(lane: int, state: _State, events: list[Any]) -> _State:
    if lane <= state.last_lane:
        return state
    if state.step or not state.has_step:
        if state.has_step:
            events.append({"type": "finish-step"})
        events.append({"type": "start-step"})
    return state._replace(last_lane=lane, step=frozenset(), fresh=lane, has_step=True)


def _part(
    kind: str, new_id: str, lane: int, state: _State, events: list[Any], tool: str = ""
) -> tuple[_Part, _State]:
    """Return the open part of a lane if it is of this kind, else a new one."""
    part = next((part for part in state.parts if part.lane == lane), None)
    # The parts of tools have ids of their own.
    if part is not None and part.kind == kind and (not tool or part.id == new_id):
        return part, state
    state = _close(lane, state, events)
    part = _Part(lane, kind, new_id)
    if tool:
        events.append(_tool("tool-input-start", new_id, toolName=tool))
    else:
        events.append({"type": f"{kind}-start", "id": new_id, "providerMetadata": _mark(lane)})
    return part, state._replace(parts=(*state.parts, part), step=state.step | {lane})


def _close(lane: int, state: _State, events: list[Any]) -> _State:
    """Close the open part of a lane, if there is one."""
    part = next((part for part in state.parts if part.lane == lane), None)
    if part is None:
        return state
    if part.kind != "tool":
        events.append({"type": f"{part.kind}-end", "id": part.id})
    return state._replace(parts=tuple(other for other in state.parts if other is not part))


def _event(chunk: ToolCall | ToolResult | Custom | Data, lane: int) -> dict[str, Any]:
    match chunk:
        case ToolCall():
            fields = {"toolName": chunk.name, "input": chunk.arguments}
            mark = {"providerMetadata": _mark(lane)}
            return _tool("tool-input-available", chunk.id, **fields, **mark)
        case ToolResult(error=None):
            return _tool("tool-output-available", chunk.id, output=chunk.result)
        case ToolResult():
            return _tool("tool-output-error", chunk.id, errorText=chunk.error)
        case Custom():
            return {"type": f"data-{chunk.name}", "data": chunk.value}
        case Data():
            return {"type": "data-chunk", "data": chunk.value}


def _tool(kind: str, call_id: str, **fields: Any) -> dict[str, Any]:
    # Dynamic: the reader need not have been told the tool's types.
    return {"type": kind, "toolCallId": call_id, "dynamic": True, **fields}


def _mark(lane: int) -> dict[str, Any]:
    return {"holdfast": {"lane": lane}}
