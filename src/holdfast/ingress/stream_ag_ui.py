"""Streams as events of AG-UI, the protocol between agents and their user interfaces.

Each lane writes messages of its own. The protocol cannot take back a message, so when a lane is
lost the custom event `holdfast.replace` says which messages to forget.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple, cast

import msgspec

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


class _Open(NamedTuple):
    """What has started and not ended in a lane: a message, or a tool call."""

    lane: int
    kind: str
    """`TEXT_MESSAGE`, `REASONING_MESSAGE` or `TOOL_CALL`."""
    id: str


_State = tuple[_Open, ...]


class AgUiMapper:
    """The events of one run.

    Args:
        thread_id: The conversation.
        run_id: The run of the agent.
    """

    headers: tuple[Header, ...] = ()
    last = b""

    def __init__(self, thread_id: str, run_id: str) -> None:
        self.key: Hashable = ("ag-ui", run_id)
        self._run: dict[str, Any] = {"threadId": thread_id, "runId": run_id}

    def begin(self) -> list[Any]:
        """See `Mapper`."""
        return [{"type": "RUN_STARTED", **self._run}]

    def chunk(
        self, chunk_id: int, lane: int, chunk: Chunk | Data, state: State
    ) -> tuple[list[Any], State]:
        """See `Mapper`."""
        events: list[Any] = []
        known = _known(state)
        match chunk:
            case Text(delta="") | Reasoning(delta="") | ToolCallDelta(delta=""):
                # The protocol knows no empty parts.
                pass
            case Text(delta=delta):
                start = {"messageId": self._message_id(lane, chunk_id), "role": "assistant"}
                opened, known = _opened("TEXT_MESSAGE", start, lane, known, events)
                events.append(_content("TEXT_MESSAGE_CONTENT", opened.id, delta))
            case Reasoning(delta=delta):
                start = {"messageId": self._message_id(lane, chunk_id), "role": "reasoning"}
                opened, known = _opened("REASONING_MESSAGE", start, lane, known, events)
                events.append(_content("REASONING_MESSAGE_CONTENT", opened.id, delta))
            case ToolCallDelta():
                known = _tool_part(chunk.id, chunk.name, chunk.delta, lane, known, events)
            case ToolCall():
                if not any(o.lane == lane and o.id == chunk.id for o in known):
                    text = msgspec.json.encode(chunk.arguments).decode()
                    known = _tool_part(chunk.id, chunk.name, text, lane, known, events)
                known = _close(lane, known, events)
            case ToolResult() | Custom() | Data():
                known = _close(lane, known, events)
                events.append(self._event(chunk_id, lane, chunk))
        return events, known or None

    def lost(self, lane: int, state: State) -> tuple[list[Any], State]:
        """See `Mapper`."""
        events: list[Any] = []
        known = _close(lane, _known(state), events)
        value = {"lane": lane, "messageIdPrefix": f"{self._run['runId']}-{lane}-"}
        events.append({"type": "CUSTOM", "name": "holdfast.replace", "value": value})
        return events, known or None

    def end(self, outcome: Outcome, state: State) -> list[Any]:
        """See `Mapper`."""
        events: list[Any] = []
        known = _known(state)
        for opened in known:
            known = _close(opened.lane, known, events)
        if isinstance(outcome, Failure):
            error = {"message": outcome.message, "code": str(outcome.code)}
            return [*events, {"type": "RUN_ERROR", **error}]
        told = outcome_json(outcome)
        result = told.get("result", told)
        return [*events, {"type": "RUN_FINISHED", **self._run, "result": result}]

    def _message_id(self, lane: int, chunk_id: int) -> str:
        return f"{self._run['runId']}-{lane}-{chunk_id}"

    def _event(self, chunk_id: int, lane: int, chunk: ToolResult | Custom | Data) -> dict[str, Any]:
        match chunk:
            case ToolResult():
                value = chunk.result if chunk.error is None else {"error": chunk.error}
                is_text = isinstance(value, str)
                return {
                    "type": "TOOL_CALL_RESULT",
                    "messageId": self._message_id(lane, chunk_id),
                    "toolCallId": chunk.id,
                    "content": value if is_text else msgspec.json.encode(value).decode(),
                    "role": "tool",
                }
            case Custom():
                return {"type": "CUSTOM", "name": chunk.name, "value": chunk.value}
            case Data():
                return {"type": "CUSTOM", "name": "data", "value": chunk.value}


def _known(state: State) -> _State:
    return () if state is None else cast("_State", state)


def _opened(
    kind: str, start: dict[str, str], lane: int, state: _State, events: list[Any]
) -> tuple[_Open, _State]:
    """Return the open message of a lane if it is of this kind, else start one."""
    opened = next((o for o in state if o.lane == lane), None)
    if opened is not None and opened.kind == kind:
        return opened, state
    state = _close(lane, state, events)
    opened = _Open(lane, kind, start["messageId"])
    if kind == "REASONING_MESSAGE":
        events.append({"type": "REASONING_START", "messageId": opened.id})
    events.append({"type": f"{kind}_START", **start})
    return opened, (*state, opened)


def _tool_part(
    call_id: str, name: str, delta: str, lane: int, state: _State, events: list[Any]
) -> _State:
    if not any(o.lane == lane and o.id == call_id for o in state):
        state = _close(lane, state, events)
        fields = {"toolCallId": call_id, "toolCallName": name}
        events.append({"type": "TOOL_CALL_START", **fields})
        state = (*state, _Open(lane, "TOOL_CALL", call_id))
    events.append({"type": "TOOL_CALL_ARGS", "toolCallId": call_id, "delta": delta})
    return state


def _content(kind: str, message_id: str, delta: str) -> dict[str, str]:
    return {"type": kind, "messageId": message_id, "delta": delta}


def _close(lane: int, state: _State, events: list[Any]) -> _State:
    """End what is open in a lane."""
    opened = next((o for o in state if o.lane == lane), None)
    if opened is None:
        return state
    field = "toolCallId" if opened.kind == "TOOL_CALL" else "messageId"
    events.append({"type": f"{opened.kind}_END", field: opened.id})
    if opened.kind == "REASONING_MESSAGE":
        events.append({"type": "REASONING_END", "messageId": opened.id})
    return tuple(other for other in state if other is not opened)
